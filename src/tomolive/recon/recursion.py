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

TERMS = 9
"""Exponentials."""
_NEAR, _NEAR_OTHERS = {"ramp": 9}, 25
"""Where the tail begins, odd: that of a smoother filter is not plain before its middle part has died away."""
_SLOWEST, _FASTEST = (0.2982, 0.0967), (4.102, -0.1176)
"""Decay of the slowest exponential over the columns of a row, and of the fastest until the tail begins; and
how the logarithm of either grows with each doubling of the row."""
_END, _END_GROWTH = 0.6693, -0.0621
"""How much farther the slowest lies from the others, in steps of their logarithms, and its growth likewise.
These numbers were found by trying, for rows of 64 to 8192 columns."""
_LIKE = 114
"""Columns of a row, over where the tail begins, that the numbers before their growth belong to."""
_AS_GOOD = 1e-6
"""Part of the largest singular value below which others do not count: rounding loses what they add."""
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

    The largest error of the response, relative to the frequency (above half a wave in a row), is about 5e-5
    for a thousand columns, 1e-4 for two and 2e-4 for four.
    """
    window, plain = WINDOWS[check_filter(name)], name == "ramp"
    begin = _NEAR.get(name, _NEAR_OTHERS)
    columns = max(columns, 2 * begin)
    # all that follows knows the rate as the recursion does: that of the slowest is rounded by a part of 4000
    rate = np.exp(-2 * _decays(columns, begin)).astype(np.float32)
    decay = -np.log(rate.astype(np.float64)) / 2
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
    numbers = (found * scale[0] / weight[0]).astype(np.float32).astype(np.float64)
    near = np.zeros(begin)
    # What makes the response to a constant zero. Rounding it is the largest error that a wide row would have,
    # and the smallest of the neighbours can be told finely enough to make up for that.
    wanted = -(at_zero @ numbers).item()
    near[0] = np.float32(wanted)
    numbers[len(lags) - 1] += (wanted - near[0]) / 2
    near[lags], odd, even = np.split(numbers, [len(lags), len(lags) + TERMS])
    settled = 1 / (1 - rate.astype(np.float64))
    return Recursion(*(part.astype(np.float32) for part in (near, rate, settled, odd, even)))


def _decays(columns: int, begin: int) -> Doubles:
    """Return the decay of each exponential for a lag of one.

    They are a geometric sequence but for its slow end: the sum over them stands for an integral over all
    decays, and the last of them stands for all that are slower.
    """
    doublings = np.log2(columns / begin / _LIKE)
    slowest, fastest = (first * np.exp(growth * doublings) for first, growth in (_SLOWEST, _FASTEST))
    slowest, fastest = slowest / columns, fastest / begin
    number = np.arange(TERMS)
    place = number - (_END + _END_GROWTH * doublings) * np.exp(-2 * number)
    place = (place - place[0]) / (place[-1] - place[0])
    return slowest * (fastest / slowest) ** place


@njit(nogil=True, cache=True)
def padded_length(columns):
    """Return to how many columns a row is filled up."""
    return -(-columns // _STEPS) * _STEPS


@njit(nogil=True, cache=True)
def convolve(lines, kernel, half, filtered, place, stride):
    """Convolve `WIDTH` rows at once, which lie beside each other in memory.

    Parameters
    ----------
    lines
        (begin + padded columns + begin, WIDTH), flat, where the tail begins at the lag ``begin``: the rows,
        and what is before and behind them, which goes on for ever with its first and its last value.
    kernel
        A `Recursion`.
    half
        Room for (padded columns, WIDTH), flat, on a cache line: what the columns on one side give.
    filtered
        Where the result goes, flat: column c to ``place + c * stride``, padded columns too.
    """
    begin = kernel.near.size * WIDTH
    p = q = multiples(kernel.settled, load(lines, 0), TERMS)
    for here in range(0, half.size, _STEPS * WIDTH):
        p, y = _tail(p, q, load(lines, here), _near(lines, begin + here, kernel), kernel)
        store(half, here, y)
        next_ = here + WIDTH
        q, y = _tail(q, p, load(lines, next_), _near(lines, begin + next_, kernel), kernel)
        store(half, next_, y)
    # and the same from behind
    p = q = multiples(kernel.settled, load(lines, lines.size - WIDTH), TERMS)
    place += (half.size // WIDTH - 1) * stride
    for here in range(half.size - WIDTH, 0, -_STEPS * WIDTH):
        p, y = _tail(p, q, load(lines, here + 2 * begin), load(half, here), kernel)
        store(filtered, place, y)
        next_ = here - WIDTH
        q, y = _tail(q, p, load(lines, next_ + 2 * begin), load(half, next_), kernel)
        store(filtered, place - stride, y)
        place -= _STEPS * stride


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
