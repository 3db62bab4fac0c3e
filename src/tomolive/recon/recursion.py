"""The ramp filter by recursion: that of the Fourier transform to one part in ten thousand, but quicker.

Live slices need every row of every projection filtered, which by Fourier transform is most of the work. The
kernel of a reconstruction filter is a few numbers around its middle and a long tail, ``-1 / (pi n)**2`` for
the odd n of the ramp, and such a tail is a sum of few decaying exponentials (Beylkin and Monzon, Appl.
Comput. Harmon. Anal. 19, 17 (2005))::

    h[n] = near[n]                                  for |n| < N
    h[n] = sum over j of odd[j] rate[j]**m          for n = +-(N + 2 m)
    h[n] = sum over j of even[j] rate[j]**m         for n = +-(N + 1 + 2 m)

A convolution with an exponential is a recursion, ``S[t] = rate S[t - 2] + x[t - N]``, once forwards and
once backwards (Deriche, IEEE Trans. Pattern Anal. Mach. Intell. 12, 78 (1990)): the work for a sample does
not grow with the length of the row, and a row that goes on for ever with its last value is nothing but the
value that the recursion begins with.

The numbers are found by least squares on the response of the filter, relative to the frequency: structures of
any size have the right contrast, and a constant is answered by zero.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.recon.vectors import WIDTH, load, store
from tomolive.recon.windows import WINDOWS, check_filter

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

TERMS = 10
"""Exponentials."""
_NEAR = {"ramp": 9}
_NEAR_OTHERS = 25
"""Where the tail begins, odd: that of a smoother filter is not plain before its middle part has died away."""
_SLOWEST, _FASTEST = 0.24, 3.6
"""Decay of the slowest over the columns of a row, and of the fastest until the tail of the ramp begins; those
between are a geometric sequence. Found by trying, for rows of 512 to 4096 columns."""
_AS_GOOD = 1e-7
"""Part of the largest singular value below which others do not count."""
_STEPS = 4
"""Columns that are filtered at once: the recursion reads and writes its state once for all of them."""
STATE = 2 * TERMS * WIDTH
"""Numbers of state: columns of even and of odd number have recursions of their own."""


class Recursion(NamedTuple):
    """A filter's kernel in the form that the module describes; all float32."""

    near: Floats
    rate: Floats
    odd: Floats
    even: Floats
    """Empty for the plain ramp, whose kernel is zero there."""


@lru_cache(maxsize=32)
def recursion(name: str, columns: int) -> Recursion:
    """Find the form of a filter for rows of so many columns.

    The largest error of the response, relative to the frequency (above half a wave in a row), is about 1e-4,
    and 2e-4 at 4096 columns.
    """
    window, plain = WINDOWS[check_filter(name)], name == "ramp"
    begin = _NEAR.get(name, _NEAR_OTHERS)
    columns = max(columns, 2 * begin)
    decay = np.geomspace(_SLOWEST / columns, _FASTEST / _NEAR["ramp"], TERMS)
    frequency = np.concatenate([np.geomspace(0.1 / columns, 0.02, 200), np.linspace(0.02, 0.5, 400)[1:]])
    lags = np.arange(1, begin, 2 if plain else 1)

    def responses(wave: npt.NDArray[np.complex128]) -> npt.NDArray[np.float64]:
        tail = 1 / (1 - np.exp(-2 * decay) * wave**2)
        parts = [wave**lags, wave**begin * tail] + ([] if plain else [wave ** (begin + 1) * tail])
        return 2 * np.real(np.hstack(parts))

    at_zero = responses(np.ones((1, 1), complex))
    matrix = responses(np.exp(2j * np.pi * frequency)[:, np.newaxis]) - at_zero
    weight = 1 / np.maximum(frequency, 0.5 / columns)
    scale = weight[:, np.newaxis] / np.abs(matrix * weight[:, np.newaxis]).max(axis=0)
    goal = frequency * window(frequency) * weight
    # many combinations do nearly as well: the smallest of them, or float32 would not be enough
    found = np.linalg.lstsq(matrix * scale, goal, rcond=_AS_GOOD)[0]
    numbers = found * scale[0] / weight[0]
    near = np.zeros(begin)
    # what makes the response to a constant zero
    near[0] = -(at_zero @ numbers).item()
    near[lags], odd, even = np.split(numbers, [len(lags), len(lags) + TERMS])
    single = (part.astype(np.float32) for part in (near, np.exp(-2 * decay), odd, even))
    return Recursion(*single)


@njit(nogil=True, cache=True)
def padded_length(columns):
    """Return to how many columns a row is filled up."""
    return -(-columns // _STEPS) * _STEPS


@njit(nogil=True, cache=True)
def convolve(lines, kernel, state, filtered):
    """Convolve `WIDTH` rows at once, which lie beside each other in memory.

    Parameters
    ----------
    lines
        (begin + padded columns + begin, WIDTH), flat, where the tail begins at the lag ``begin``: the rows,
        and what is before and behind them, which goes on for ever with its first and its last value.
    kernel
        A `Recursion`.
    state
        Scratch, `STATE` numbers.
    filtered
        The result, (padded columns, WIDTH), flat.
    """
    _middle(lines, kernel.near, kernel.even.size == 0, filtered)
    _settle(state, kernel.rate, load(lines, 0))
    _tail(lines, 0, 1, kernel.rate, kernel.odd, kernel.even, state, filtered)
    _settle(state, kernel.rate, load(lines, lines.size - WIDTH))
    last = lines.size // WIDTH - 1
    _tail(lines, last, -1, kernel.rate, kernel.odd, kernel.even, state, filtered)


@njit(nogil=True, cache=True)
def _middle(lines, near, only_odd, filtered):
    """Write what the neighbours of each column give, those nearer than the tail."""
    for column in range(filtered.size // WIDTH):
        here = (near.size + column) * WIDTH
        total = near[0] * load(lines, here)
        for lag in range(1, near.size, 2 if only_odd else 1):
            total += near[lag] * (load(lines, here - lag * WIDTH) + load(lines, here + lag * WIDTH))
        store(filtered, column * WIDTH, total)


@njit(nogil=True, cache=True)
def _settle(state, rate, value):
    """Set the state to that after ``value`` for ever."""
    for term in range(TERMS):
        settled = np.float32(1) / (np.float32(1) - rate[term]) * value
        store(state, 2 * term * WIDTH, settled)
        store(state, (2 * term + 1) * WIDTH, settled)


@njit(nogil=True, cache=True)
def _tail(lines, first, step, rate, odd, even, state, filtered):
    """Add what the columns before (step 1) or behind (step -1) give, from the line ``first`` on."""
    columns = filtered.size // WIDTH
    stride = step * WIDTH
    target = 0 if step > 0 else (columns - 1) * WIDTH
    source = first * WIDTH
    for _ in range(0, columns, _STEPS):
        x0, x1 = load(lines, source), load(lines, source + stride)
        x2, x3 = load(lines, source + 2 * stride), load(lines, source + 3 * stride)
        y0, y1 = load(filtered, target), load(filtered, target + stride)
        y2, y3 = load(filtered, target + 2 * stride), load(filtered, target + 3 * stride)
        for term in range(TERMS):
            p, q = load(state, 2 * term * WIDTH), load(state, (2 * term + 1) * WIDTH)
            if even.size:
                y0 += even[term] * q
            p = rate[term] * p + x0
            y0 += odd[term] * p
            if even.size:
                y1 += even[term] * p
            q = rate[term] * q + x1
            y1 += odd[term] * q
            if even.size:
                y2 += even[term] * q
            p = rate[term] * p + x2
            y2 += odd[term] * p
            if even.size:
                y3 += even[term] * p
            q = rate[term] * q + x3
            y3 += odd[term] * q
            store(state, 2 * term * WIDTH, p)
            store(state, (2 * term + 1) * WIDTH, q)
        store(filtered, target, y0)
        store(filtered, target + stride, y1)
        store(filtered, target + 2 * stride, y2)
        store(filtered, target + 3 * stride, y3)
        source += _STEPS * stride
        target += _STEPS * stride
