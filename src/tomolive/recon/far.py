"""What the columns far away give to a filtered row: the slow part of a kernel, at every sixteenth column.

The slow exponentials of `tomolive.recon.recursion` hardly change from one column to the next. So they are
worked out at *nodes*, `STEP` columns apart: each column is shared between the two nodes that it lies between,
the nodes are convolved by recursion, and in between the result is interpolated. That is the idea of the fast
multipole method (Greengard and Rokhlin, J. Comput. Phys. 73, 325 (1987)) in one dimension.

A wave of few columns is lost on its way to the nodes: it is summed up. So a column is shared linearly. A long
wave arrives, and what is wrong with it in between shows as rings, in every projection at the same columns. So
the result is interpolated by parabolas.

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
_OF_A_KIND = STEP // 2
"""Columns of one kind, even or odd, between nodes."""


class Far(NamedTuple):
    """The slow part of a filter's kernel; all float32, never written."""

    rate: Floats
    """Of each exponential, from node to node."""
    settled: Floats
    """The recursion of each exponential after a constant of one for ever."""
    next_odd: Floats
    """What each exponential weighs at the next node, for columns at an odd distance."""
    next_even: Floats
    """The same at an even distance; empty for the plain ramp."""
    at_node: Floats
    """What all of them weigh at the node itself: at an odd, and at an even distance."""


def slow_terms(rate: Doubles, odd: Doubles, even: Doubles) -> Far:
    """Return a `Far`; ``odd`` and ``even`` are what each exponential weighs at the node itself."""
    next_odd, next_even = odd * rate, even * rate[: even.size]
    parts = rate, _OF_A_KIND / (1 - rate), next_odd, next_even, (odd.sum(), even.sum())
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
    column, node = np.arange(STEP), STEP * np.arange(-1, 3)[:, np.newaxis]
    seen = np.real(_node_weights(column / STEP) * wave[..., np.newaxis] ** (node - column)).sum(axis=1)
    from_even, from_odd = seen[:, ::2].mean(axis=1), seen[:, 1::2].mean(axis=1)
    other_kind, same_kind = to_odd * from_even + to_even * from_odd, to_odd * from_odd + to_even * from_even
    onward = rate * wave**STEP
    nodes = np.real((1 + onward) / (1 - onward)) / 2
    return other_kind[:, np.newaxis] * nodes, same_kind[:, np.newaxis] * nodes


def _node_weights(place: Doubles) -> Doubles:
    """Return what the nodes -1, 0, 1 and 2 weigh at places from 0 to 1, (4, places), as in `between`."""
    bend = place * (1 - place) / 4
    return np.stack([-bend, 1 - place + bend, place + bend, -bend])


@njit(nogil=True, cache=True)
def node_count(padded):
    """Return how many nodes rows of so many columns have, those of even and of odd columns together.

    One more lies before the row, and one behind the node where it ends.
    """
    return 2 * (padded // STEP + 3)


@njit(nogil=True, cache=True)
def convolve(lines, margin, slow, sums, nodes):
    """Write to ``nodes`` what the slow part of a kernel gives there to even and to odd columns, by turns.

    Parameters
    ----------
    lines
        (margin + padded columns + margin, WIDTH), flat: the second node is at the column ``margin``.
    slow
        A `Far`.
    sums, nodes
        (`node_count`, WIDTH), flat, on a cache line; the former is room.
    """
    first, last = load(lines, 0), load(lines, lines.size - WIDTH)
    _share(lines, margin, first, last, sums)
    _recur(sums, slow, first, 0, 2 * WIDTH, nodes, True)
    _recur(sums, slow, last, sums.size - 2 * WIDTH, -2 * WIDTH, nodes, False)


@njit(inline="always")
def _share(lines, margin, first, last, sums):
    """Share each column between the nodes around it; the outermost nodes see nothing but the edges."""
    outermost = sums.size - 2 * WIDTH
    for kind in range(0, 2 * WIDTH, WIDTH):
        store(sums, kind, np.float32(_OF_A_KIND) * first)
        store(sums, outermost + kind, np.float32(_OF_A_KIND) * last)
    place = (margin - STEP) * WIDTH
    even, odd = _shares(lines, place)[2:]
    for node in range(2 * WIDTH, outermost, 2 * WIDTH):
        place += STEP * WIDTH
        even_here, odd_here, even_next, odd_next = _shares(lines, place)
        store(sums, node, even + even_here)
        store(sums, node + WIDTH, odd + odd_here)
        even, odd = even_next, odd_next


@njit(inline="always")
def _shares(lines, place):
    """Return what the even and the odd columns of one step give to its node, and to the next one."""
    even = odd = even_next = odd_next = splat(np.float32(0))
    for column in range(0, STEP, 2):
        value, next_ = load(lines, place + column * WIDTH), load(lines, place + (column + 1) * WIDTH)
        even, odd = even + value, odd + next_
        even_next += np.float32(column / STEP) * value
        odd_next += np.float32((column + 1) / STEP) * next_
    return even - even_next, odd - odd_next, even_next, odd_next


@njit(inline="always")
def _recur(sums, slow, edge, place, step, nodes, first):
    """Add what the nodes on one side give, and the first time the node itself."""
    even_state = odd_state = multiples(spread(slow.settled, TERMS), edge)
    rate, next_odd = spread(slow.rate, TERMS), spread(slow.next_odd, TERMS)
    for _ in range(0, sums.size, 2 * WIDTH):
        even, odd = load(sums, place), load(sums, place + WIDTH)
        if first:
            for_even, for_odd = slow.at_node[0] * odd, slow.at_node[0] * even
        else:
            for_even, for_odd = load(nodes, place), load(nodes, place + WIDTH)
        for_even, for_odd = add_up(for_even, odd_state, next_odd), add_up(for_odd, even_state, next_odd)
        if slow.next_even.size:
            if first:
                for_even, for_odd = for_even + slow.at_node[1] * even, for_odd + slow.at_node[1] * odd
            next_even = spread(slow.next_even, TERMS)
            for_even, for_odd = add_up(for_even, even_state, next_even), add_up(for_odd, odd_state, next_even)
        store(nodes, place, for_even)
        store(nodes, place + WIDTH, for_odd)
        even_state, odd_state = decayed(even_state, rate, even), decayed(odd_state, rate, odd)
        place += step


@njit(inline="always")
def between(nodes, node, start):
    """Return a parabola behind a node: its value, its rise to the next column of its kind, the rise of that.

    With the nodes a, b, c, d the place s between b and c has the value
    ``b + s (c - b) - s (1 - s) (a - b - c + d) / 4``: exact for parabolas, and the same from either side.

    Parameters
    ----------
    nodes
        What `convolve` writes.
    node
        Where that of the even columns begins, or that of the odd ones.
    start
        Where the first column lies behind it, in units of two columns: 0 or 0.5.
    """
    each = np.float32(1 / _OF_A_KIND)
    here, next_ = load(nodes, node), load(nodes, node + 2 * WIDTH)
    outside = load(nodes, node - 2 * WIDTH) + load(nodes, node + 4 * WIDTH)
    bend = np.float32(0.25) * each * each * (outside - (here + next_))
    slope = each * (next_ - here) - np.float32(_OF_A_KIND) * bend
    value = here + np.float32(start) * slope + np.float32(start**2) * bend
    return value, slope + np.float32(2 * start + 1) * bend, np.float32(2) * bend
