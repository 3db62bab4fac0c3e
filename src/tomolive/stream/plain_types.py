"""What a pickle of plain data may make: numpy arrays, their dtypes and scalars, times, and a few containers.

Arrays and dtypes get their state after they were made, so they are :class:`Pending` until
:func:`finished` puts the value in their place. A dtype is never given the state that a pickle holds (a forged
one makes numpy read bytes as pointers); it is put together anew from the parts that are data.
"""

import datetime as dt
import math
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from tomolive.errors import CodecError
from tomolive.stream.codec import dtype_from


class Name(NamedTuple):
    """The name of something that a pickle refers to; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Pending:
    """Something whose value is known once it got its state."""

    value: Any = None

    def build(self, state: Any) -> None:
        """Take the state that the pickle holds."""
        raise NotImplementedError


class PendingDtype(Pending):
    """A dtype: first its kind and size, then byte order, fields or unit."""

    def __init__(self, kind: str, align: bool = False, copy: bool = True) -> None:
        del align, copy
        self._kind = kind

    def build(self, state: Any) -> None:
        """Put the dtype together."""
        _, order, part, names, fields, itemsize, _, _, *metadata = state
        if names:
            self.value = _structure(names, fields, itemsize)
        elif part:
            base, shape = part
            self.value = np.dtype((_value_of(base, np.dtype), _shape(shape)))
        elif metadata:
            unit, count, *_ = metadata[0][1]
            self.value = dtype_from(f"{order}{self._kind}[{count}{unit.decode()}]")
        else:
            self.value = dtype_from(f"{order}{self._kind}")


def _structure(names: Any, fields: Any, itemsize: Any) -> np.dtype:
    # Only text may reach numpy's tables: hashing deep tuples overflows the C stack.
    parts = [fields[_text(name)] for name in names]
    return np.dtype(
        {
            "names": list(names),
            "formats": [_value_of(part[0], np.dtype) for part in parts],
            "offsets": [part[1] for part in parts],
            "titles": [_text(part[2]) if len(part) > 2 else None for part in parts],
            "itemsize": itemsize,
        }
    )


def _text(value: Any) -> str:
    if type(value) is not str:
        raise CodecError("a pickle with a field whose name is no text")
    return value


class PendingArray(Pending):
    """An array: first nothing, then shape, dtype, order and bytes."""

    def __init__(self, of: Any, shape: Any, kind: Any) -> None:
        del of, shape, kind

    def build(self, state: Any) -> None:
        """Make the array, a view of the bytes."""
        _, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    dtype, shape = _value_of(dtype, np.dtype), _shape(shape)
    if not isinstance(raw, bytes):
        raise CodecError("a pickle with an array of objects; only numbers, times and text travel")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise CodecError(f"an array of shape {shape} and {dtype} in {len(raw)} bytes")
    return np.ndarray(shape, dtype, raw, order="F" if order == "F" else "C")


def _scalar(dtype: Any, raw: Any) -> Any:
    return _array(raw, dtype, (), "C")[()]


def _shape(shape: Any) -> tuple[int, ...]:
    shape = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise CodecError("an array whose shape is not made of numbers")
    return shape


def _value_of(pending: Any, kind: type) -> Any:
    value = pending.value if isinstance(pending, Pending) else None
    if not isinstance(value, kind):
        raise CodecError(f"a pickle that has something else where a {kind.__name__} must be")
    return value


def _encoded(text: str, codec: str) -> bytes:
    """Return bytes as protocol 2 holds them."""
    if codec != "latin1":
        raise CodecError(f"a pickle that encodes text as {codec!r:.20}")
    return text.encode("latin1")


def _bytes(content: Any = b"") -> bytes:
    if not isinstance(content, bytes):
        raise CodecError("a pickle that asks for empty memory")
    return content


def _listed(values: tuple | list = ()) -> list[Any]:
    return list(values)


BUILDERS: dict[Name, Callable[..., Any]] = {
    Name("numpy", "dtype"): PendingDtype,
    Name("collections", "OrderedDict"): dict,
    Name("builtins", "set"): _listed,
    Name("builtins", "frozenset"): _listed,
    Name("builtins", "complex"): complex,
    Name("builtins", "bytes"): _bytes,
    Name("builtins", "bytearray"): _bytes,
    Name("_codecs", "encode"): _encoded,
    Name("datetime", "datetime"): dt.datetime,
    Name("datetime", "date"): dt.date,
    Name("datetime", "time"): dt.time,
    Name("datetime", "timedelta"): dt.timedelta,
    Name("datetime", "timezone"): dt.timezone,
    Name("pathlib", "PosixPath"): lambda *parts: str(PurePosixPath(*parts)),
}
for _name in ("bytes", "bytearray", "complex", "set", "frozenset"):  # as protocol 2 calls them
    BUILDERS[Name("__builtin__", _name)] = BUILDERS[Name("builtins", _name)]
for _package in ("numpy.core", "numpy._core"):  # before and since numpy 2
    BUILDERS[Name(f"{_package}.multiarray", "_reconstruct")] = PendingArray
    BUILDERS[Name(f"{_package}.multiarray", "scalar")] = _scalar
    BUILDERS[Name(f"{_package}.numeric", "_frombuffer")] = _array


def finished(value: Any, budget: int) -> Any:
    """Return a copy of ``value`` with everything in its place, of no more than ``budget`` bytes.

    A pickle can name the same list a thousand times; whoever walks or encodes it then does a thousand times
    the work, and a list that holds itself never ends.
    """
    return _Finisher(budget).finish(value)


class _Finisher:
    def __init__(self, budget: int) -> None:
        self._budget = budget

    def finish(self, value: Any) -> Any:
        kind = type(value)
        self._budget -= len(value) + 1 if kind in _SIZED else getattr(value, "nbytes", 1)
        if self._budget < 0:
            raise CodecError("a pickle that repeats its parts until they are many times its size")
        if kind in _LEAVES or isinstance(value, (np.ndarray, np.generic)):
            return value
        if kind is dict:
            return {key: self.finish(item) for key, item in value.items()}
        if kind is list:
            return [self.finish(item) for item in value]
        if kind is tuple:
            return tuple([self.finish(item) for item in value])
        if isinstance(value, PendingArray) and value.value is not None:
            return self.finish(value.value)
        raise CodecError(
            f"a pickle with {value if isinstance(value, Name) else kind.__name__} in it, no plain data"
        )


_LEAVES = frozenset(
    [
        str,
        float,
        int,
        bool,
        type(None),
        bytes,
        complex,
        dt.datetime,
        dt.date,
        dt.time,
        dt.timedelta,
        dt.timezone,
    ]
)
_SIZED = frozenset([str, bytes, list, dict, tuple])
