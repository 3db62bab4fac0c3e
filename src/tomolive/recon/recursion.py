"""The ramp filter by recursion: that of the Fourier transform to two parts in ten thousand, but quicker.

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
value that the recursion begins with. Those exponentials that are slow are left to `tomolive.recon.far`.

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
_SLOWEST, _FASTEST = (0.2982, 0.0967), (4.102, -0.1176)
"""Decay of the slowest exponential over the columns of a row, and of the fastest until the tail begins; and
how the logarithm of either grows with each doubling of the row."""
_END, _END_GROWTH = 0.6693, -0.0621
"""How much farther the slowest lies from the others, in steps of their logarithms, and its growth likewise.
These numbers were found by trying, for rows of 64 to 8192 columns."""
_NARROW = 114
"""Columns, over where the tail begins, of the narrowest row that has numbers of its own: without growth."""
_AS_GOOD = 1e-6
"""Part of the largest singular value below which others do not count: rounding loses what they add."""


class Recursion(NamedTuple):
    """A filter's kernel in the form that the module describes, fast terms and slow ones; all float32."""

    near_odd: tuple[np.float32, ...]
    """The kernel at the lags 1, 3 and so on until the tail begins. Its length tells the compiler which of two
    loops it compiles: that of the plain ramp, or that of the others."""
    near_even: Floats
    """At the lags 0, 2 and so on; of the plain ramp only that of 0, others are zero."""
    rate: Floats
    settled: Floats
    """The recursion of each exponential after a one for ever."""
    odd: Floats
    even: Floats
    """Empty for the plain ramp."""
    slow: far.Far
    """The terms that are left to `tomolive.recon.far`."""


@lru_cache(maxsize=32)
def recursion(name: str, columns: int) -> Recursion:
    """Find the form of a filter for rows of so many columns.

    The largest error of the response, relative to the frequency (above half a wave in a row), is about 5e-5
    for a thousand columns, 1e-4 for two and 2e-4 for four.
    """
    window, plain = WINDOWS[check_filter(name)], name == "ramp"
    begin = 2 * (_NEAR_RAMP if plain else _NEAR_OTHERS) + 1
    columns = max(columns, _NARROW * begin)
    # all that follows knows the rates as the recursions do, which is rounded
    slow, fast = np.split(_decays(columns, begin), [far.TERMS])
    slow, fast = _rounded(np.exp(-far.STEP * slow)), _rounded(np.exp(-2 * fast))
    frequency = np.concatenate([np.geomspace(0.1 / columns, 0.02, 200), np.linspace(0.02, 0.5, 400)[1:]])
    wave = np.exp(2j * np.pi * frequency)[:, np.newaxis]
    at_zero = _responses(np.ones((1, 1), complex), begin, slow, fast, plain)
    matrix = _responses(wave, begin, slow, fast, plain) - at_zero
    weight = 1 / np.maximum(frequency, 0.5 / columns)
    scale = weight[:, np.newaxis] / np.abs(matrix * weight[:, np.newaxis]).max(axis=0)
    goal = frequency * window(frequency) * weight
    # many combinations do nearly as well: the smallest of them, or float32 would not be enough
    found = np.linalg.lstsq(matrix * scale, goal, rcond=_AS_GOOD)[0]
    numbers = _rounded(found * scale[0] / weight[0])
    # What makes the response to a constant zero. Rounding it is the largest error that a wide row would have,
    # and the smallest of the neighbours can be told finely enough to make up for that.
    wanted = -(at_zero @ numbers).item()
    middle = np.float32(wanted)
    neighbours = begin // 2 if plain else begin - 1
    numbers[neighbours - 1] += (wanted - middle) / 2
    ends = neighbours + np.cumsum([0, far.TERMS, FAST, 0 if plain else far.TERMS])
    near, slow_odd, odd, slow_even, even = np.split(numbers, ends)
    near_odd, near_even = (near, near[:0]) if plain else (near[::2], near[1::2])
    parts = np.append(middle, near_even), fast, 1 / (1 - fast), odd, even
    singles = [part.astype(np.float32) for part in parts]
    slow_terms = far.slow_terms(slow, slow_odd, slow_even)
    return Recursion(tuple(near_odd.astype(np.float32)), *singles, slow=slow_terms)


def _rounded(numbers: Doubles) -> Doubles:
    """Return numbers as they are in single precision."""
    return numbers.astype(np.float32).astype(np.float64)


def _responses(
    wave: npt.NDArray[np.complex128], begin: int, slow: Doubles, fast: Doubles, plain: bool
) -> Doubles:
    """Return how near columns, slow and fast exponentials answer a wave, (frequencies, numbers to be found).

    ``wave`` (frequencies, 1) is what it is multiplied by from column to column.
    """
    odd, even = far.responses(wave, slow)
    tail = 2 * wave**begin / (1 - fast * wave**2)
    parts = [2 * wave ** np.arange(1, begin, 2 if plain else 1), odd, tail]
    return np.real(np.hstack(parts if plain else [*parts, even, wave * tail]))


def _decays(columns: int, begin: int) -> Doubles:
    """Return the decay of each exponential for a lag of one.

    They are a geometric sequence but for its slow end: the sum over them stands for an integral over all
    decays, and the last of them stands for all that are slower.
    """
    doublings = np.log2(columns / begin / _NARROW)
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
    """Return whether it is the plain ramp, whose tail is zero at every other lag: known when compiled."""
    return len(kernel.near_odd) == _NEAR_RAMP


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
    """Write what the columns far away, those near, and those before give."""
    p = q = multiples(spread(kernel.settled, FAST), load(lines, 0))
    rate, odd = spread(kernel.rate, FAST), spread(kernel.odd, FAST)
    here = margin * WIDTH
    behind = here - _begin(kernel) * WIDTH
    share = np.float32(2 / far.STEP)
    for first in range(0, columns, far.STEP):
        node = 2 * WIDTH * (first // far.STEP)
        far_p, far_q = load(nodes, node), load(nodes, node + WIDTH)
        rise_p = share * (load(nodes, node + 2 * WIDTH) - far_p)
        rise_q = share * (load(nodes, node + 3 * WIDTH) - far_q)
        far_q += np.float32(0.5) * rise_q
        for _ in range(first, min(first + far.STEP, columns), 2):
            y = _near(far_p, lines, here, kernel)
            p, y = _tail(p, q, load(lines, behind), y, kernel, rate, odd)
            store(filtered, place, y)
            y = _near(far_q, lines, here + WIDTH, kernel)
            q, y = _tail(q, p, load(lines, behind + WIDTH), y, kernel, rate, odd)
            store(filtered, place + stride, y)
            far_p, far_q = far_p + rise_p, far_q + rise_q
            here, behind, place = here + 2 * WIDTH, behind + 2 * WIDTH, place + 2 * stride


@njit(inline="always")
def _backwards(lines, margin, kernel, columns, filtered, place, stride):
    """Add what the columns behind give."""
    p = q = multiples(spread(kernel.settled, FAST), load(lines, lines.size - WIDTH))
    rate, odd = spread(kernel.rate, FAST), spread(kernel.odd, FAST)
    ahead = (margin + columns - 1 + _begin(kernel)) * WIDTH
    place += (columns - 1) * stride
    for _ in range(0, columns, 2):
        p, y = _tail(p, q, load(lines, ahead), load(filtered, place), kernel, rate, odd)
        store(filtered, place, y)
        y = load(filtered, place - stride)
        q, y = _tail(q, p, load(lines, ahead - WIDTH), y, kernel, rate, odd)
        store(filtered, place - stride, y)
        ahead, place = ahead - 2 * WIDTH, place - 2 * stride


@njit(inline="always")
def _near(y, lines, here, kernel):
    """Return ``y`` with what a column and its neighbours give, those nearer than the tail."""
    y += kernel.near_even[0] * load(lines, here)
    for i in range(len(kernel.near_odd)):
        lag = (2 * i + 1) * WIDTH
        y += kernel.near_odd[i] * (load(lines, here - lag) + load(lines, here + lag))
    if not _plain(kernel):
        for i in range(1, kernel.near_even.size):
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
