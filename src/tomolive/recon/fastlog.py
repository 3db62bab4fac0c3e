"""A natural logarithm that the compiler can vectorise: one polynomial, no branches, no library call.

``x = 2**e * (1 + m)`` with ``m`` in [-1/3, 1/3): ``ln x = e ln 2 + ln(1 + m)``, and ``ln(1 + m) / m`` is a
polynomial to float32 rounding. The exponent is read from the bits of the number (IEEE 754).
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.polynomial import Chebyshev, Polynomial

_TWO_THIRDS_BITS = np.int32(0x3F2AAAAB)
_LN2 = np.float32(np.log(2.0))


def _log1p_over_m(degree: int) -> tuple[np.float32, ...]:
    fit = Chebyshev.interpolate(
        lambda m: np.log1p(m) / np.where(m == 0, 1, m) + (m == 0), degree, domain=[-1 / 3, 1 / 3]
    )
    return tuple(np.float32(c) for c in fit.convert(kind=Polynomial).coef)


_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8 = _log1p_over_m(8)


@intrinsic
def _bits_of(typing_context, number):  # noqa: ARG001
    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _number_of(typing_context, bits):  # noqa: ARG001
    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@njit(inline="always")
def log32(x):
    """Return ln(x) of a positive, normal float32, to 1e-6 absolute or 2e-7 relative."""
    bits = _bits_of(x)  # pyright: ignore[reportCallIssue]  the compiler passes the context
    # each step is cut to 32 bits, or half as many pixels fit a vector
    exponent = np.int32(np.int32(bits - _TWO_THIRDS_BITS) >> np.int32(23))
    mantissa = np.int32(bits - np.int32(exponent << np.int32(23)))
    m = _number_of(mantissa) - np.float32(1)  # pyright: ignore[reportCallIssue]
    # Horner's scheme
    p = _C8
    p = p * m + _C7
    p = p * m + _C6
    p = p * m + _C5
    p = p * m + _C4
    p = p * m + _C3
    p = p * m + _C2
    p = p * m + _C1
    p = p * m + _C0
    return p * m + np.float32(exponent) * _LN2
