"""Sixteen float32 numbers as one value in kernels, for the few loops that the compiler leaves scalar.

Inside a ``numba.njit`` function::

    total = load(row, 0)                        # row[0:16], float32, contiguous, one-dimensional
    total = total + weight * load(row, 16)      # a number times a vector; fused where the processor can
    store(row, 32, total)                       # row[32:48] = total

A kernel with many pointers, or with a recursion across its loop, is not turned into vector operations by the
compiler, which cannot prove that it may; written so, there is nothing to prove. The code is that of any
processor: LLVM cuts the vectors into registers of the size at hand (one of AVX-512, two of AVX2, four of
NEON). Nothing checks bounds.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import config
from numba.core.cgutils import get_or_insert_function
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

# pyright: reportArgumentType=false, reportCallIssue=false

WIDTH = 16
"""Numbers in a vector."""
FRACTION = 27
"""Bits behind the point of fixed-point places: five of 32 are left, for 2 WIDTH neighbours."""

_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
_INT32 = ir.IntType(32)
_INTEGERS = ir.VectorType(_INT32, WIDTH)
# who lets numba compile for another processor than this one gets code for any
_HAS_AVX512 = not getattr(config, "CPU_NAME", None) and bool(binding.get_host_cpu_features().get("avx512f"))


class VectorType(types.Type):
    """The type of a vector, as numba knows it."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


vector = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type) -> None:
        super().__init__(manager, numba_type, _VECTOR)


def _place(context, builder, array_type, array, index):
    """Return the address of ``array[index]`` as that of a vector."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def _load(typing_context, array, index):  # noqa: ARG001
    """Return ``array[index : index + WIDTH]``."""

    def generate(context, builder, signature, arguments):
        value = builder.load(_place(context, builder, signature.args[0], *arguments))
        value.align = 4
        return value

    return vector(array, types.intp), generate


@intrinsic
def _store(typing_context, array, index, value):  # noqa: ARG001
    """Write ``array[index : index + WIDTH] = value``."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], place).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def _fetch(typing_context, array, index):  # noqa: ARG001
    """Have the cache line of ``array[index]``, of any type, fetched from memory to the second cache.

    The first one is small, and what is being worked on lies there.
    """

    def generate(context, builder, signature, arguments):
        array_type = signature.args[0]
        data = context.make_array(array_type)(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        function = ir.FunctionType(ir.VoidType(), [place.type, _INT32, _INT32, _INT32])
        prefetch = get_or_insert_function(builder.module, function, "llvm.prefetch.p0i8")
        reading, second_cache, of_data = _INT32(0), _INT32(2), _INT32(1)
        builder.call(prefetch, [place, reading, second_cache, of_data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def _splat(typing_context, number):  # noqa: ARG001
    """Return a vector that holds ``number`` everywhere."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), arguments[0], _INT32(0))
        return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_INT32, WIDTH), [0] * WIDTH))

    return vector(types.float32), generate


def _arithmetic(instruction):
    """Make an operation on two vectors; a product and a sum may become one fused operation."""

    @intrinsic
    def operate(typing_context, a, b):  # noqa: ARG001
        def generate(context, builder, signature, arguments):  # noqa: ARG001
            return getattr(builder, instruction)(*arguments, flags=("contract",))

        return vector(vector, vector), generate

    return operate


_add, _subtract, _multiply = map(_arithmetic, ("fadd", "fsub", "fmul"))


@overload(operator.add)
@overload(operator.iadd)
def _overload_add(a, b):
    return (lambda a, b: _add(a, b)) if a is vector and b is vector else None


@overload(operator.sub)
def _overload_subtract(a, b):
    return (lambda a, b: _subtract(a, b)) if a is vector and b is vector else None


@overload(operator.mul)
def _overload_multiply(a, b):
    if b is not vector:
        return None
    if a is types.float32:
        return lambda a, b: _multiply(_splat(a), b)
    return (lambda a, b: _multiply(a, b)) if a is vector else None


@intrinsic
def _transpose(typing_context, source, at, stride, target, to, target_stride):  # noqa: ARG001
    """Write the block ``source[at + i stride + j]`` to ``target[to + j target_stride + i]``, i, j < WIDTH.

    Four rounds exchange ever smaller off-diagonal blocks (Eklundh, IEEE Trans. Comput. C-21, 801 (1972)).
    """

    def generate(context, builder, signature, arguments):
        source, at, stride, target, to, target_stride = arguments
        size = ir.IntType(64)

        def address(array_type, array, start, step, number):
            index = builder.add(start, builder.mul(step, size(number)))
            return _place(context, builder, array_type, array, index)

        rows = [builder.load(address(signature.args[0], source, at, stride, i)) for i in range(WIDTH)]
        for row in rows:
            row.align = 4
        block = WIDTH // 2
        while block:
            low = [j if not j & block else WIDTH + (j ^ block) for j in range(WIDTH)]
            high = [j | block if not j & block else WIDTH + j for j in range(WIDTH)]
            for i in range(WIDTH):
                if not i & block:
                    pair = rows[i], rows[i | block]
                    for k, order in ((i, low), (i | block, high)):
                        mask = ir.Constant(ir.VectorType(_INT32, WIDTH), order)
                        rows[k] = builder.shuffle_vector(*pair, mask)
            block //= 2
        for j, row in enumerate(rows):
            builder.store(row, address(signature.args[3], target, to, target_stride, j)).align = 4
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, target, index, index), generate


def _all_integers(builder, number):
    """Return a vector of integers that holds the lower half of a long one everywhere."""
    first = builder.insert_element(
        ir.Constant(_INTEGERS, ir.Undefined), builder.trunc(number, _INT32), _INT32(0)
    )
    return builder.shuffle_vector(first, first, ir.Constant(_INTEGERS, [0] * WIDTH))


@intrinsic
def _places(typing_context, first, step):  # noqa: ARG001
    """Return `WIDTH` places, ``step`` after ``step``, for `interpolate`: the bits of fixed-point numbers.

    Of what is before the point they keep what tells ``2 * WIDTH`` neighbours apart.
    """

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        first, step = (_all_integers(builder, number) for number in arguments)
        steps = builder.mul(step, ir.Constant(_INTEGERS, list(range(WIDTH))))
        return builder.bitcast(builder.add(first, steps), _VECTOR)

    return vector(types.int64, types.int64), generate


@intrinsic
def _advance(typing_context, places, stride):  # noqa: ARG001
    """Return places that lie ``stride`` further on."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        here = builder.bitcast(arguments[0], _INTEGERS)
        return builder.bitcast(builder.add(here, _all_integers(builder, arguments[1])), _VECTOR)

    return vector(vector, types.int64), generate


@intrinsic
def _interpolate(typing_context, array, rises, lowest, places):  # noqa: ARG001
    """Return ``array`` at `places`, linear between neighbours.

    ``rises`` is how much the next value is above each, times ``2**-FRACTION``. Both begin on a cache line;
    ``lowest`` is the least of the places, in full; the others are not more than ``WIDTH - 1`` further.
    """

    def generate(context, builder, signature, arguments):
        array, rises, lowest, places = arguments

        def constant(number):
            return ir.Constant(_INTEGERS, [number] * WIDTH)

        column = builder.ashr(lowest, lowest.type(FRACTION))
        block = builder.and_(column, column.type(-WIDTH))
        places = builder.bitcast(places, _INTEGERS)
        index = builder.lshr(places, constant(FRACTION))
        pick = partial(_pick, context, builder, block=block, index=index)
        share = builder.sitofp(builder.and_(places, constant(2**FRACTION - 1)), _VECTOR)
        rise = builder.fmul(share, pick(signature.args[1], rises), flags=("contract",))
        return builder.fadd(pick(signature.args[0], array), rise, flags=("contract",))

    return vector(array, rises, types.int64, vector), generate


def _pick(context, builder, array_type, array, block, index):
    """Return what lies at each index, a column but for a multiple of 2 WIDTH, in the 2 WIDTH from a block on.

    AVX-512 picks from two registers, four times as fast as numbers are read from memory one by one.
    """
    size = block.type
    if _HAS_AVX512:
        # blocks of even number first, of odd number second, as the index has them
        even = builder.and_(builder.add(block, size(WIDTH)), size(-2 * WIDTH))
        odd = builder.or_(builder.and_(block, size(-2 * WIDTH)), size(WIDTH))
        both = [builder.load(_place(context, builder, array_type, array, at)) for at in (even, odd)]
        for each in both:
            each.align = 4 * WIDTH
        function = ir.FunctionType(_VECTOR, [_VECTOR, _INTEGERS, _VECTOR])
        name = "llvm.x86.avx512.vpermi2var.ps.512"
        return builder.call(get_or_insert_function(builder.module, function, name), [both[0], index, both[1]])
    offset = builder.sub(index, _all_integers(builder, block))
    offset = builder.and_(offset, ir.Constant(_INTEGERS, [2 * WIDTH - 1] * WIDTH))
    data = builder.gep(context.make_array(array_type)(context, builder, array).data, [block])
    picked = ir.Constant(_VECTOR, ir.Undefined)
    for lane in range(WIDTH):
        number = builder.load(builder.gep(data, [builder.extract_element(offset, _INT32(lane))]))
        picked = builder.insert_element(picked, number, _INT32(lane))
    return picked


@intrinsic(prefer_literal=True)
def _spread(typing_context, numbers, count):  # noqa: ARG001
    """Return a tuple of the first ``count`` numbers of an array, each everywhere in a vector.

    They are read once, where a loop that writes would read those of an array each time.
    """

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        result = ir.Constant(ir.ArrayType(_VECTOR, count.literal_value), ir.Undefined)
        for j in range(count.literal_value):
            number = builder.load(builder.gep(data, [ir.IntType(64)(j)]))
            first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, _INT32(0))
            everywhere = builder.shuffle_vector(first, first, ir.Constant(_INTEGERS, [0] * WIDTH))
            result = builder.insert_value(result, everywhere, j)
        return result

    return types.UniTuple(vector, count.literal_value)(numbers, count), generate


@intrinsic
def _multiples(typing_context, factors, value):  # noqa: ARG001
    """Return a tuple of vectors, ``factors[j] value``."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        result = arguments[0]
        for j in range(factors.count):
            product = builder.fmul(builder.extract_value(arguments[0], j), arguments[1])
            result = builder.insert_value(result, product, j)
        return result

    return factors(factors, vector), generate


@intrinsic
def _decayed(typing_context, state, rate, value):  # noqa: ARG001
    """Return ``rate[j] state[j] + value`` for each vector of a tuple."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        result = arguments[0]
        for j in range(state.count):
            old, factor = builder.extract_value(arguments[0], j), builder.extract_value(arguments[1], j)
            left = builder.fmul(factor, old, flags=("contract",))
            result = builder.insert_value(result, builder.fadd(left, arguments[2], flags=("contract",)), j)
        return result

    return state(state, rate, vector), generate


@intrinsic
def _add_up(typing_context, value, state, factors):  # noqa: ARG001
    """Return ``value`` plus the sum of ``factors[j] state[j]``."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        # two sums: neither waits for the other
        sums = [arguments[0], ir.Constant(_VECTOR, [0.0] * WIDTH)]
        for j in range(state.count):
            old, factor = (builder.extract_value(each, j) for each in arguments[1:])
            more = builder.fmul(factor, old, flags=("contract",))
            sums[j % 2] = builder.fadd(sums[j % 2], more, flags=("contract",))
        return builder.fadd(*sums, flags=("contract",))

    return vector(vector, state, factors), generate


# as kernels call them: without the context that the compiler passes
load: Callable[..., Any] = _load
store: Callable[..., Any] = _store
places: Callable[..., Any] = _places
advance: Callable[..., Any] = _advance
interpolate: Callable[..., Any] = _interpolate
spread: Callable[..., Any] = _spread
multiples: Callable[..., Any] = _multiples
decayed: Callable[..., Any] = _decayed
add_up: Callable[..., Any] = _add_up
splat: Callable[..., Any] = _splat
fetch: Callable[..., Any] = _fetch
transpose: Callable[..., Any] = _transpose
