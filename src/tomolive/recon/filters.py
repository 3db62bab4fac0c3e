"""How line integrals are filtered for backprojection: rows alone, or bands of them turned into lanes.

The work is done by recursion, see `tomolive.recon.recursion`; every picture that is backprojected, live or
not, is filtered here, so that the same projections give the same picture whichever way they come.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.recon.memory import aligned_empty, aligned_floats
from tomolive.recon.recursion import convolve, margin_of, padded_length, recursion, room
from tomolive.recon.vectors import WIDTH, load, splat, store, transpose
from tomolive.recon.windows import FILTERS, WINDOWS, check_filter, check_padding, response

__all__ = [
    "FILTERS",
    "GUARDS",
    "WINDOWS",
    "check_filter",
    "check_padding",
    "filter_bands",
    "filter_rows",
    "response",
]

Floats = npt.NDArray[np.float32]

GUARDS = 3
"""Columns of zeros that backprojection wants: one before a row, two behind it."""


def filter_rows(rows: Floats, name: str = "ramp", *, padding: str = "edge") -> Floats:
    """Filter each row (last axis) of line integrals.

    Parameters
    ----------
    rows
        float32 (..., columns).
    name
        One of `FILTERS`.
    padding
        "edge": beyond its ends a row goes on with its first and last value, which removes the bright rim
        and the cupping of an object wider than the detector; "zero": beyond its ends there is nothing.

    Returns
    -------
    float32, same shape, 1/pixel.
    """
    flat = np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]), np.float32)
    kernel = recursion(name, flat.shape[1])
    out = np.empty(flat.shape, np.float32)
    _filter_rows(flat, kernel, check_padding(padding) == "edge", out)
    return out.reshape(rows.shape)


def filter_bands(
    rows: Floats, name: str = "ramp", *, padding: str = "edge", out: Floats | None = None
) -> Floats:
    """Filter projections, and turn them so that the detector row is the contiguous axis.

    Parameters
    ----------
    rows
        Line integrals of some detector rows, float32 (n, rows, columns).
    name, padding
        As for `filter_rows`.
    out
        Where to write, float32, contiguous.

    Returns
    -------
    float32 (n, columns + 3, rows), 1/pixel, with the zeros that `GUARDS` tells of; ``out``, or a new array.
    """
    count, height, columns = rows.shape
    if out is None:
        out = aligned_empty((count, columns + GUARDS, height))
    kernel = recursion(name, columns)
    _filter_bands(np.ascontiguousarray(rows, np.float32), kernel, check_padding(padding) == "edge", out)
    return out


@njit(nogil=True, cache=True)
def _filter_rows(rows, kernel, edges, out):
    count, columns = rows.shape
    lines, work, filtered = scratch(columns, kernel)
    margin = margin_of(kernel)
    for first in range(0, count, WIDTH):
        last = min(first + WIDTH, count)
        to_lanes(rows[first:last], columns, margin, edges, lines)
        convolve(lines, kernel, work, columns, filtered, 0, WIDTH)
        whole = columns - columns % WIDTH if last - first == WIDTH else 0
        flat = out[first:last].reshape(-1)
        for column in range(0, whole, WIDTH):
            transpose(filtered, column * WIDTH, WIDTH, flat, column, columns)
        for row in range(first, last):
            for column in range(whole, columns):
                out[row, column] = filtered[column * WIDTH + row - first]


@njit(nogil=True, cache=True)
def _filter_bands(rows, kernel, edges, out):
    count, height, columns = rows.shape
    work = scratch(columns, kernel)
    for number in range(count):
        for first in range(0, height, WIDTH):
            last = min(first + WIDTH, height)
            to_lanes(rows[number, first:last], columns, margin_of(kernel), edges, work[0])
            filter_lanes(work, kernel, first, last, out[number])


@njit(nogil=True, cache=True)
def scratch(columns, kernel):
    """Return the lines that `to_lanes` writes and `convolve` reads, its room, and lines for the result."""
    padded = padded_length(columns)
    lines = aligned_floats((padded + 2 * margin_of(kernel)) * WIDTH)
    return lines, room(columns), aligned_floats(padded * WIDTH)


@njit(nogil=True, cache=True)
def filter_lanes(work, kernel, first, last, projection):
    """Filter the lines of a `scratch`, into the rows from first to last of (columns + guards, rows)."""
    lines, inner, filtered = work
    width, height = projection.shape
    # without rows for all lanes they go a way about; one call, or it would be compiled twice
    all_lanes = last - first == WIDTH
    target, place, stride = filtered, 0, WIDTH
    if all_lanes:
        target, place, stride = projection.reshape(-1), height + first, height
    convolve(lines, kernel, inner, width - GUARDS, target, place, stride)
    if not all_lanes:
        for column in range(width - GUARDS):
            for row in range(last - first):
                projection[1 + column, first + row] = filtered[column * WIDTH + row]
    # a column that was filled up lies there, too
    projection[0, first:last] = 0
    projection[-2:, first:last] = 0


@njit(nogil=True, cache=True)
def to_lanes(rows, columns, margin, edges, lines):
    """Write rows (up to WIDTH, columns or more) as columns of WIDTH numbers, ``margin`` more at both ends."""
    height, stride = rows.shape
    whole = columns - columns % WIDTH if height == WIDTH else 0
    flat = rows.reshape(-1)
    for column in range(0, whole, WIDTH):
        transpose(flat, column, stride, lines, (margin + column) * WIDTH, WIDTH)
    for column in range(whole, columns):
        for row in range(WIDTH):
            lines[(margin + column) * WIDTH + row] = rows[row, column] if row < height else np.float32(0)
    left, right = load(lines, margin * WIDTH), load(lines, (margin + columns - 1) * WIDTH)
    if not edges:
        left = right = splat(np.float32(0))
    for column in range(margin):
        store(lines, column * WIDTH, left)
    for column in range(margin + columns, lines.size // WIDTH):
        store(lines, column * WIDTH, right)
