"""The ramp filter by recursion: that of the Fourier transform to two parts in ten thousand, but quicker.

Live slices need every row of every projection filtered, which by Fourier transform is most of the work. The
kernel of a reconstruction filter is a few numbers around its middle and a long tail, ``-1 / (pi n)**2`` for
the odd n of the ramp, and such a tail is a sum of few decaying exponentials (Beylkin and Monzon, Appl.
Comput. Harmon. Anal. 19, 17 (2005))::

    h[n] = slow[n] + near[n]                                  for |n| < N
    h[n] = slow[n] + sum over j of odd[j] rate[j]**m          for n = +-(N + 2 m)
    h[n] = slow[n] + sum over j of even[j] rate[j]**m         for n = +-(N + 1 + 2 m)

A convolution with an exponential is a recursion, ``S[t] = rate S[t - 2] + x[t - N]``, once forwards and
once backwards (Deriche, IEEE Trans. Pattern Anal. Mach. Intell. 12, 78 (1990)): the work for a sample does
not grow with the length of the row, and a row that goes on for ever with its last value is nothing but the
value that the recursion begins with. The exponentials that are slow, at all distances, are left to
`tomolive.recon.far`: what is near is what they leave of the kernel.

The numbers are found by least squares on the response of the filter, relative to the frequency: structures of
any size have the right contrast, and a constant is answered by zero.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.recon import far
from tomolive.recon.memory import aligned_floats
from tomolive.recon.vectors import WIDTH, add_up, decayed, load, multiples, spread, store
from tomolive.recon.windows import WINDOWS, check_filter

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

FAST = 4
"""Exponentials that are worked out at every column."""
_NEAR_RAMP, _NEAR_OTHERS = 4, 12
"""Odd lags before the tail begins: that of a smoother filter is plain once its middle part has died away."""
_SLOWEST, _FASTEST = (0.3617, 0.0967), (3.243, -0.1176)
"""Decay of the slowest exponential over the columns of a row, and of the fastest until the tail begins; and
how the logarithm of either grows with each doubling of the row."""
_END, _END_GROWTH = 0.5453, -0.0621
"""How much farther the slowest lies from the others, in steps of their logarithms, and its growth likewise.
These numbers were found by trying, for rows of 64 to 8192 columns."""
_LIKE = 455
"""Columns of a row, over where the tail begins, that the numbers before their growth belong to."""
_NARROW = 4096
"""Columns of the narrowest row that has numbers of its own. For narrower ones they would be more exact on the
average, but slow terms less slow, and what lies between nodes less exact."""
_AS_GOOD = 1e-6
"""Part of the largest singular value below which others do not count: rounding loses what they add."""


class Recursion(NamedTuple):
    """A filter's kernel in the form that the module describes; all float32, never written."""

    near_odd: tuple[np.float32, ...]
    """What is near at the lags 1, 3 and so on until the tail begins."""
    near_even: tuple[np.float32, ...]
    """The same at the lags 0, 2 and so on; of the plain ramp only that of 0. Its length tells the compiler
    which of two loops to compile: that of the plain ramp, or that of the others."""
    rate: Floats
    settled: Floats
    """The recursion of each exponential after a one for ever."""
    odd: Floats
    """What each exponential weighs where the tail begins."""
    even: Floats
    """The same one column on; empty for the plain ramp."""
    slow: far.Far
    """The terms that are left to `tomolive.recon.far`."""


class _Numbers(NamedTuple):
    """What is found by least squares, or how each of it answers a wave."""

    near: Doubles
    """At the lags of `_lags`."""
    slow_odd: Doubles
    odd: Doubles
    slow_even: Doubles
    """With ``even``: empty for the plain ramp."""
    even: Doubles


@lru_cache(maxsize=32)
def recursion(name: str, columns: int) -> Recursion:
    """Find the form of a filter for rows of so many columns.

    The largest error of the response, relative to the frequency, is about 2e-4 in rows of up to four thousand
    columns for waves of up to two thousand, wherever between nodes a column lies.
    """
    plain = check_filter(name) == "ramp"
    begin = 2 * (_NEAR_RAMP if plain else _NEAR_OTHERS) + 1
    # all that follows knows the rates as the recursions do, which is rounded
    slow, fast = np.split(_decays(max(columns, _NARROW), begin), [far.TERMS])
    slow, fast = _rounded(np.exp(-far.STEP * slow)), _rounded(np.exp(-2 * fast))
    middle, found = _fit(name, max(columns, _NARROW), begin, slow, fast)
    near_odd, near_even = (found.near, found.near[:0]) if plain else (found.near[::2], found.near[1::2])
    parts = near_odd, np.append(middle, near_even), fast, 1 / (1 - fast), found.odd, found.even
    singles = [part.astype(np.float32) for part in parts]
    slow_terms = far.slow_terms(slow, found.slow_odd, found.slow_even)
    return Recursion(tuple(singles[0]), tuple(singles[1]), *singles[2:], slow=slow_terms)


def _fit(name: str, columns: int, begin: int, slow: Doubles, fast: Doubles) -> tuple[float, _Numbers]:
    """Return the kernel's middle, and all other numbers, single precision."""
    plain, window = name == "ramp", WINDOWS[name]
    frequency = np.concatenate([np.geomspace(0.1 / columns, 0.02, 200), np.linspace(0.02, 0.5, 400)[1:]])
    at_zero = _responses(np.ones((1, 1), complex), begin, slow, fast, plain)
    wave = np.exp(2j * np.pi * frequency)[:, np.newaxis]
    matrix = np.hstack(_responses(wave, begin, slow, fast, plain)) - np.hstack(at_zero)
    weight = 1 / np.maximum(frequency, 0.5 / columns)
    scale = weight[:, np.newaxis] / np.abs(matrix * weight[:, np.newaxis]).max(axis=0)
    goal = frequency * window(frequency) * weight
    # many combinations do nearly as well: the smallest of them, or float32 would not be enough
    found = np.linalg.lstsq(matrix * scale, goal, rcond=_AS_GOOD)[0]
    numbers = _rounded(found * scale[0] / weight[0])
    # What makes the response to a constant zero. Rounding it is the largest error that a wide row would have,
    # and the smallest of the neighbours can be told finely enough to make up for that.
    wanted = -(np.hstack(at_zero) @ numbers).item()
    middle = float(np.float32(wanted))
    ends = np.cumsum([part.shape[1] for part in at_zero])
    numbers[ends[0] - 1] += (wanted - middle) / 2
    return middle, _Numbers(*np.split(numbers, ends[:-1]))


def _responses(
    wave: npt.NDArray[np.complex128], begin: int, slow: Doubles, fast: Doubles, plain: bool
) -> _Numbers:
    """Return how each number answers a wave, (frequencies, numbers) of each kind.

    ``wave`` (frequencies, 1) is what it is multiplied by from column to column.
    """
    near = 2 * wave ** np.arange(1, begin, 2 if plain else 1)
    slow_odd, slow_even = far.responses(wave, slow)
    tail = 2 * wave**begin / (1 - fast * wave**2)
    none = 0 if plain else None
    return _Numbers(near.real, slow_odd, tail.real, slow_even[:, :none], (wave * tail).real[:, :none])


def _rounded(numbers: Doubles) -> Doubles:
    """Return numbers as they are in single precision."""
    return numbers.astype(np.float32).astype(np.float64)


def _decays(columns: int, begin: int) -> Doubles:
    """Return the decay of each exponential for a lag of one.

    They are a geometric sequence but for its slow end: the sum over them stands for an integral over all
    decays, and the last of them stands for all that are slower.
    """
    doublings = np.log2(columns / begin / _LIKE)
    slowest, fastest = (first * np.exp(growth * doublings) for first, growth in (_SLOWEST, _FASTEST))
    slowest, fastest = slowest / columns, fastest / begin
    number = np.arange(far.TERMS + FAST)
    place = number - (_END + _END_GROWTH * doublings) * np.exp(-2 * number)
    place = (place - place[0]) / (place[-1] - place[0])
    return slowest * (fastest / slowest) ** place


@njit(nogil=True, cache=True)
def padded_length(columns):
    """Return to how many columns a row is filled up."""
    return -(-columns // far.STEP) * far.STEP


@njit(nogil=True, cache=True)
def margin_of(kernel):
    """Return how many columns before and behind a row `convolve` wants."""
    return padded_length(_begin(kernel))


@njit(inline="always")
def _begin(kernel):
    """Return the lag at which the tail begins."""
    return 2 * len(kernel.near_odd) + 1


@njit(inline="always")
def _plain(kernel):
    """Return whether it is the plain ramp, whose kernel is zero at even lags: known when compiled."""
    return len(kernel.near_even) == 1


@njit(nogil=True, cache=True)
def convolve(lines, kernel, work, columns, filtered, place, stride):
    """Convolve `WIDTH` rows at once, which lie beside each other in memory.

    Parameters
    ----------
    lines
        (margin + padded columns + margin, WIDTH), flat: the rows, and what is before and behind them, which
        goes on for ever with its first and its last value.
    kernel
        A `Recursion`.
    work
        Room, see `room`.
    columns
        Of the rows.
    filtered
        Where the result goes, flat: column c to ``place + c * stride``; one more if they are of odd number.
    """
    sums, nodes = work
    margin = margin_of(kernel)
    far.convolve(lines, margin, kernel.slow, sums, nodes)
    columns += columns % 2
    _forwards(lines, margin, kernel, nodes, columns, filtered, place, stride)
    _backwards(lines, margin, kernel, columns, filtered, place, stride)


@njit(nogil=True, cache=True)
def room(columns):
    """Return the room that `convolve` works in for rows of so many columns."""
    size = far.node_count(padded_length(columns)) * WIDTH
    return aligned_floats(size), aligned_floats(size)


@njit(inline="always")
def _forwards(lines, margin, kernel, nodes, columns, filtered, place, stride):
    """Write what the columns far away, those near, and those on the left give."""
    even_state = odd_state = multiples(spread(kernel.settled, FAST), load(lines, 0))
    rate, odd = spread(kernel.rate, FAST), spread(kernel.odd, FAST)
    here = margin * WIDTH
    entering = here - _begin(kernel) * WIDTH
    for first in range(0, columns, far.STEP):
        node = 2 * WIDTH * (first // far.STEP + 1)
        y_even, rise_even, bend_even = far.between(nodes, node, 0)
        y_odd, rise_odd, bend_odd = far.between(nodes, node + WIDTH, 0.5)
        for _ in range(first, min(first + far.STEP, columns), 2):
            y = _near(y_even, lines, here, kernel)
            even_state, y = _tail(even_state, odd_state, load(lines, entering), y, kernel, rate, odd)
            store(filtered, place, y)
            y = _near(y_odd, lines, here + WIDTH, kernel)
            odd_state, y = _tail(odd_state, even_state, load(lines, entering + WIDTH), y, kernel, rate, odd)
            store(filtered, place + stride, y)
            y_even, y_odd = y_even + rise_even, y_odd + rise_odd
            rise_even, rise_odd = rise_even + bend_even, rise_odd + bend_odd
            here, entering, place = here + 2 * WIDTH, entering + 2 * WIDTH, place + 2 * stride


@njit(inline="always")
def _backwards(lines, margin, kernel, columns, filtered, place, stride):
    """Add what the columns on the right give."""
    even_state = odd_state = multiples(spread(kernel.settled, FAST), load(lines, lines.size - WIDTH))
    rate, odd = spread(kernel.rate, FAST), spread(kernel.odd, FAST)
    entering = (margin + columns - 1 + _begin(kernel)) * WIDTH
    place += (columns - 1) * stride
    for _ in range(0, columns, 2):
        y = load(filtered, place)
        odd_state, y = _tail(odd_state, even_state, load(lines, entering), y, kernel, rate, odd)
        store(filtered, place, y)
        y = load(filtered, place - stride)
        even_state, y = _tail(even_state, odd_state, load(lines, entering - WIDTH), y, kernel, rate, odd)
        store(filtered, place - stride, y)
        entering, place = entering - 2 * WIDTH, place - 2 * stride


@njit(inline="always")
def _near(y, lines, here, kernel):
    """Return ``y`` with what a column and its neighbours give, those nearer than the tail."""
    y += kernel.near_even[0] * load(lines, here)
    for i in range(len(kernel.near_odd)):
        lag = (2 * i + 1) * WIDTH
        y += kernel.near_odd[i] * (load(lines, here - lag) + load(lines, here + lag))
    for i in range(1, len(kernel.near_even)):
        lag = 2 * i * WIDTH
        y += kernel.near_even[i] * (load(lines, here - lag) + load(lines, here + lag))
    return y


@njit(inline="always")
def _tail(own, other, x, y, kernel, rate, odd):
    """Return the recursion after ``x``, and ``y`` with what the columns farther away on one side give."""
    if not _plain(kernel):
        y = add_up(y, other, spread(kernel.even, FAST))
    own = decayed(own, rate, x)
    return own, add_up(y, own, odd)
