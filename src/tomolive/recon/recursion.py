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

from tomolive.recon.vectors import WIDTH, add_up, decayed, load, multiples, store
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
_STEPS = 2
"""Columns that are filtered at once: those of even and of odd number have recursions of their own."""


class Recursion(NamedTuple):
    """A filter's kernel in the form that the module describes; all float32."""

    near: Floats
    rate: Floats
    settled: Floats
    """The recursion of each exponential after a one for ever."""
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
    rate = np.exp(-2 * decay)
    # as the recursion itself would have it, which knows the rounded rate
    settled = 1 / (1 - rate.astype(np.float32).astype(np.float64))
    return Recursion(*(part.astype(np.float32) for part in (near, rate, settled, odd, even)))


@njit(nogil=True, cache=True)
def padded_length(columns):
    """Return to how many columns a row is filled up."""
    return -(-columns // _STEPS) * _STEPS


@njit(nogil=True, cache=True)
def convolve(lines, kernel, filtered):
    """Convolve `WIDTH` rows at once, which lie beside each other in memory.

    Parameters
    ----------
    lines
        (begin + padded columns + begin, WIDTH), flat, where the tail begins at the lag ``begin``: the rows,
        and what is before and behind them, which goes on for ever with its first and its last value.
    kernel
        A `Recursion`.
    filtered
        The result, (padded columns, WIDTH), flat.
    """
    begin = kernel.near.size * WIDTH
    p = q = multiples(kernel.settled, load(lines, 0), TERMS)
    for place in range(0, filtered.size, _STEPS * WIDTH):
        y = _near(lines, begin + place, kernel)
        p, y = _tail(p, q, load(lines, place), y, kernel)
        store(filtered, place, y)
        y = _near(lines, begin + place + WIDTH, kernel)
        q, y = _tail(q, p, load(lines, place + WIDTH), y, kernel)
        store(filtered, place + WIDTH, y)
    # and the same from behind
    p = q = multiples(kernel.settled, load(lines, lines.size - WIDTH), TERMS)
    for place in range(filtered.size - WIDTH, 0, -_STEPS * WIDTH):
        source = place + 2 * begin
        p, y = _tail(p, q, load(lines, source), load(filtered, place), kernel)
        store(filtered, place, y)
        q, y = _tail(q, p, load(lines, source - WIDTH), load(filtered, place - WIDTH), kernel)
        store(filtered, place - WIDTH, y)


@njit(inline="always")
def _near(lines, here, kernel):
    """Return what a column and its neighbours give, those nearer than the tail."""
    total = kernel.near[0] * load(lines, here)
    for lag in range(1, kernel.near.size, 1 if kernel.even.size else 2):
        total += kernel.near[lag] * (load(lines, here - lag * WIDTH) + load(lines, here + lag * WIDTH))
    return total


@njit(inline="always")
def _tail(own, other, x, y, kernel):
    """Return the recursion after ``x``, and ``y`` with what the columns farther away on one side give."""
    if kernel.even.size:
        y = add_up(y, other, kernel.even)
    own = decayed(own, kernel.rate, x)
    return own, add_up(y, own, kernel.odd)
