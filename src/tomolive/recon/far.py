"""What the columns far away give to a filtered row: the slow part of a kernel, at every sixteenth column.

The slow exponentials of `tomolive.recon.recursion` hardly change from one column to the next. So they are
worked out at *nodes*, `STEP` columns apart: each column is shared between the two nodes that it lies between
(the weights of linear interpolation, transposed), the nodes are convolved by recursion, and in between the
result is interpolated. That is the idea of the fast multipole method (Greengard and Rokhlin, J. Comput. Phys.
73, 325 (1987)) in one dimension. A row that is constant, or a slope, loses nothing by it.

Even and odd columns have nodes of their own, as they have recursions of their own.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.recon.vectors import WIDTH, add_up, decayed, load, multiples, splat, spread, store

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

STEP = 16
"""Columns between nodes."""
TERMS = 5
"""Exponentials that are slow."""
_EACH = STEP // 2
"""Columns of one kind, even or odd, between nodes."""


class Far(NamedTuple):
    """The slow part of a filter's kernel; all float32."""

    rate: Floats
    """Of each exponential, from node to node."""
    settled: Floats
    """The recursion of each exponential after a constant of one for ever."""
    odd: Floats
    """What each exponential weighs at the next node, for columns at an odd distance."""
    even: Floats
    """The same at an even distance; empty for the plain ramp."""
    here: Floats
    """What all of them weigh at the node itself: at an odd, and at an even distance."""


def slow_terms(rate: Doubles, odd: Doubles, even: Doubles) -> Far:
    """Return a `Far`; ``odd`` and ``even`` are what each exponential weighs at the node itself."""
    next_odd, next_even = odd * rate, even * rate[: even.size]
    here = odd.sum(), even.sum()
    parts = rate, _EACH / (1 - rate), next_odd, next_even, here
    return Far(*(np.asarray(part, np.float32) for part in parts))


def responses(wave: npt.NDArray[np.complex128], rate: Doubles) -> tuple[Doubles, Doubles]:
    """Return how exponentials answer a wave: those of columns at odd, and at even distances.

    Parameters
    ----------
    wave
        What it is multiplied by from column to column, (frequencies, 1).
    rate
        From node to node, (terms,).

    Returns
    -------
    Two times (frequencies, terms); averages, for it matters a little where between nodes a column lies.
    """
    distance = np.arange(1 - STEP, STEP)
    shares = (1 - np.abs(distance) / STEP) * np.real(wave**distance)
    to_odd, to_even = shares[:, distance % 2 == 1].sum(axis=1), shares[:, distance % 2 == 0].sum(axis=1)
    onward = rate * wave**STEP
    nodes = np.real((1 + onward) / (1 - onward))
    between, within = to_odd * to_even / _EACH, (to_odd**2 + to_even**2) / STEP
    return between[:, np.newaxis] * nodes, within[:, np.newaxis] * nodes


@njit(nogil=True, cache=True)
def node_count(padded):
    """Return how many nodes rows of so many columns have, those of even and of odd columns together."""
    return 2 * (padded // STEP + 1)


@njit(nogil=True, cache=True)
def convolve(lines, margin, kernel, sums, nodes):
    """Write to ``nodes`` what the slow part of a kernel gives there to even and to odd columns, by turns.

    Parameters
    ----------
    lines
        (margin + padded columns + margin, WIDTH), flat: the first node is at the column ``margin``.
    kernel
        A `Far`.
    sums, nodes
        (`node_count`, WIDTH), flat, on a cache line; the former is room.
    """
    _share(lines, margin, sums)
    _recur(sums, kernel, load(lines, 0), 0, 2 * WIDTH, nodes, True)
    _recur(sums, kernel, load(lines, lines.size - WIDTH), sums.size - 2 * WIDTH, -2 * WIDTH, nodes, False)


@njit(inline="always")
def _share(lines, margin, sums):
    """Share each column between the nodes around it."""
    place = (margin - STEP) * WIDTH
    even, odd = _shares(lines, place)[2:]
    for node in range(0, sums.size, 2 * WIDTH):
        place += STEP * WIDTH
        even_here, odd_here, even_next, odd_next = _shares(lines, place)
        store(sums, node, even + even_here)
        store(sums, node + WIDTH, odd + odd_here)
        even, odd = even_next, odd_next


@njit(inline="always")
def _shares(lines, place):
    """Return what the even and the odd columns of one step give to the node before, and to that behind."""
    even = odd = even_next = odd_next = splat(np.float32(0))
    for column in range(0, STEP, 2):
        value, next_ = load(lines, place + column * WIDTH), load(lines, place + (column + 1) * WIDTH)
        even, odd = even + value, odd + next_
        even_next += np.float32(column / STEP) * value
        odd_next += np.float32((column + 1) / STEP) * next_
    return even - even_next, odd - odd_next, even_next, odd_next


@njit(inline="always")
def _recur(sums, kernel, edge, place, step, nodes, first):
    """Add what the nodes on one side give, and the first time the node itself."""
    p = q = multiples(spread(kernel.settled, TERMS), edge)
    rate, weight = spread(kernel.rate, TERMS), spread(kernel.odd, TERMS)
    for _ in range(0, sums.size, 2 * WIDTH):
        even, odd = load(sums, place), load(sums, place + WIDTH)
        if first:
            for_even, for_odd = kernel.here[0] * odd, kernel.here[0] * even
        else:
            for_even, for_odd = load(nodes, place), load(nodes, place + WIDTH)
        for_even, for_odd = add_up(for_even, q, weight), add_up(for_odd, p, weight)
        if kernel.even.size:
            if first:
                for_even, for_odd = for_even + kernel.here[1] * even, for_odd + kernel.here[1] * odd
            own = spread(kernel.even, TERMS)
            for_even, for_odd = add_up(for_even, p, own), add_up(for_odd, q, own)
        store(nodes, place, for_even)
        store(nodes, place + WIDTH, for_odd)
        p, q = decayed(p, rate, even), decayed(q, rate, odd)
        place += step
