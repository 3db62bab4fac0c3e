"""Backprojection of filtered projections into planes, one batch at a time, in place.

The inversion of the Radon transform by filtered backprojection (Kak and Slaney 1988, eq. 39 of chapter 3):
``f(x, y) = sum over angles of w q_t(center + x cos t + y sin t)``, where ``q_t`` is the filtered row at the
angle ``t`` and the weights add up to pi. Between columns ``q_t`` is interpolated linearly; beyond the
detector it is zero.

Every kernel samples the same positions with the same interpolation, so that a pixel has the same value in
whichever plane, batch or block it is computed. They run without the GIL and use no threads of their own.

Layout
------
*Guarded* rows carry one zero in front and two behind, so that a position clipped to the guard reads zero and
the kernels need no branch. Planes along the rotation axis, and blocks of slices, have the detector row as the
contiguous axis: the position is then the same for a whole vector of rows.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.recon.filters import GUARDS
from tomolive.recon.memory import aligned_empty, aligned_floats
from tomolive.recon.vectors import FRACTION, WIDTH, advance, interpolate, load, places, store

_FLOAT = np.float32
_TILE = 32
_MARGIN = 2 * WIDTH
"""Zeros before and, at least, behind a row."""
_GROUP = 4
"""Projections that are added to a vector of pixels before the next vector."""
_LINES = 32
_STREAMS = 8
"""Projections that are read beside each other; of more, processors do not fetch ahead what comes next."""


def guarded(rows: npt.NDArray[np.float32], weights: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return rows (n, columns) times weights (n,), with guards: (n, columns + 3)."""
    count, columns = rows.shape
    out = np.zeros((count, columns + GUARDS), np.float32)
    np.multiply(rows, np.asarray(weights, np.float32)[:, np.newaxis], out=out[:, 1:-2])
    return out


def lanes(filtered: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return projections (n, rows, columns) guarded and with rows last: (n, columns + 3, rows)."""
    count, rows, columns = filtered.shape
    out = np.empty((count, columns + GUARDS, rows), np.float32)
    _turn(filtered, out)
    return out


@njit(nogil=True, cache=True)
def _turn(filtered, out):
    count, rows, columns = filtered.shape
    for a in range(count):
        out[a, 0] = 0
        out[a, columns + 1 :] = 0
        # by tiles, so that reading and writing both stay in the cache
        for first in range(0, columns, _TILE):
            for row in range(rows):
                for column in range(first, min(first + _TILE, columns)):
                    out[a, column + 1, row] = filtered[a, row, column]


class SliceRows(NamedTuple):
    """What `add_to_slice` draws with: filtered rows of one slice, ready to be interpolated."""

    values: npt.NDArray[np.float32]
    """Guarded rows with zeros at both ends, in whole groups of projections."""
    rises: npt.NDArray[np.float32]
    """How much the next value is above each, as `tomolive.recon.vectors.interpolate` wants it."""
    count: int
    """Of projections; the rest of the last group is nothing."""
    columns: int
    """Of the detector."""


def slice_rows(rows: npt.NDArray[np.float32]) -> SliceRows:
    """Return one guarded row for each angle, (n, columns + 3), as `add_to_slice` wants them."""
    count, width = rows.shape
    # Projections that are nothing fill up the last group. Zeros at both ends: a vector may lie across an end
    # of the detector, and one beyond it reads nothing but them.
    shape = _whole(count, _GROUP), _whole(width + 2 * _MARGIN, 2 * WIDTH)
    values, rises = aligned_empty(shape), aligned_empty(shape)
    values[:] = 0
    values[:count, _MARGIN : _MARGIN + width] = rows
    np.subtract(values[:, 1:], values[:, :-1], out=rises[:, :-1])
    rises[:, -1] = 0
    rises *= _FLOAT(2.0**-FRACTION)
    return SliceRows(values, rises, count, width - GUARDS)


def add_to_slice(
    rows: SliceRows,
    angles: npt.NDArray[np.float64],
    center: float,
    image: npt.NDArray[np.float32],
    first: int | npt.NDArray[np.integer] = 0,
) -> None:
    """Add projections to a slice across the rotation axis (an xy plane), in place.

    Parameters
    ----------
    rows
        What `slice_rows` returns.
    angles
        Radians, (n,).
    center
        Column on which the rotation axis is projected.
    image
        float32 (y, x), or some rows of it.
    first
        Index y of the first row of ``image``, or of each of its rows.
    """
    middle = (rows.columns - 1) / 2
    lines = first + np.arange(len(image)) if np.ndim(first) == 0 else np.asarray(first)
    steps, slopes = np.zeros((2, len(rows.values)))
    steps[: rows.count], slopes[: rows.count] = np.cos(angles), np.sin(angles)
    starts = center + 1 + _MARGIN - middle * (steps + slopes)
    _add_to_slice(rows.values, rows.rises, starts, slopes, steps, lines.astype(np.intp), image)


def _whole(number: int, of: int) -> int:
    return -(-number // of) * of


@njit(nogil=True, cache=True)
def _add_to_slice(rows, rises, starts, slopes, steps, lines, image):
    count, width = rows.shape
    pixels = -(-image.shape[1] // WIDTH) * WIDTH
    values, rises = rows.reshape(-1), rises.reshape(-1)
    # Some lines, and few projections, stay in the cache while they are added to each other.
    total = aligned_floats(_LINES * pixels)
    for top in range(0, lines.size, _LINES):
        bottom = min(top + _LINES, lines.size)
        total[:] = 0
        for a in range(0, count, _GROUP):
            begin0, end0, stride0 = _ends(a, width, steps)
            begin1, end1, stride1 = _ends(a + 1, width, steps)
            begin2, end2, stride2 = _ends(a + 2, width, steps)
            begin3, end3, stride3 = _ends(a + 3, width, steps)
            for line in range(top, bottom):
                lowest0, places0 = _first_places(begin0, a, lines[line], starts, slopes, steps)
                lowest1, places1 = _first_places(begin1, a + 1, lines[line], starts, slopes, steps)
                lowest2, places2 = _first_places(begin2, a + 2, lines[line], starts, slopes, steps)
                lowest3, places3 = _first_places(begin3, a + 3, lines[line], starts, slopes, steps)
                first = (line - top) * pixels
                for pixel in range(first, first + pixels, WIDTH):
                    value0 = interpolate(values, rises, min(max(lowest0, begin0), end0), places0)
                    value1 = interpolate(values, rises, min(max(lowest1, begin1), end1), places1)
                    value2 = interpolate(values, rises, min(max(lowest2, begin2), end2), places2)
                    value3 = interpolate(values, rises, min(max(lowest3, begin3), end3), places3)
                    store(total, pixel, load(total, pixel) + ((value0 + value1) + (value2 + value3)))
                    lowest0, places0 = lowest0 + stride0, advance(places0, stride0)
                    lowest1, places1 = lowest1 + stride1, advance(places1, stride1)
                    lowest2, places2 = lowest2 + stride2, advance(places2, stride2)
                    lowest3, places3 = lowest3 + stride3, advance(places3, stride3)
        for line in range(top, bottom):
            for x in range(image.shape[1]):
                image[line, x] += total[(line - top) * pixels + x]


@njit(inline="always")
def fixed_point(number):
    """Return a number as `tomolive.recon.vectors.interpolate` wants it."""
    return np.int64(np.floor(number * 2**FRACTION + 0.5))


@njit(inline="always")
def _ends(a, width, steps):
    """Return where vectors of a padded row may begin, first and last, and how far apart they lie."""
    begin, end = (a * width) << FRACTION, ((a + 1) * width - 2 * WIDTH) << FRACTION
    return begin, end, fixed_point(WIDTH * steps[a])


@njit(inline="always")
def _first_places(begin, a, line, starts, slopes, steps):
    """Return the lowest place of the first vector of a line, and all of them."""
    first = begin + fixed_point(starts[a] + line * slopes[a])
    step = fixed_point(steps[a])
    return first + min(0, (WIDTH - 1) * step), places(first, step)


class UprightLine(NamedTuple):
    """Where each pixel of a horizontal line of a plane along the rotation axis looks: all its lines alike."""

    weights: npt.NDArray[np.float32]
    """What each projection weighs, (n,)."""
    places: npt.NDArray[np.int32]
    """Guarded columns, counted on through all projections, (columns, n)."""
    above: npt.NDArray[np.float32]
    """Share of the next column, times the weight, (columns, n)."""


def upright_line(
    weights: npt.NDArray[np.float64],
    angles: npt.NDArray[np.float64],
    center: float,
    plane: str,
    position: float,
    columns: int,
) -> UprightLine:
    """Return what `add_to_line` draws a plane along the rotation axis with.

    Parameters
    ----------
    weights
        What each projection weighs, (n,).
    angles
        Radians, (n,).
    center
        Column on which the rotation axis is projected.
    plane
        "xz" (at y = ``position``) or "yz" (at x = ``position``).
    columns
        Of the detector, and of the plane.
    """
    middle = (columns - 1) / 2
    along, across = (np.cos, np.sin) if plane == "xz" else (np.sin, np.cos)
    steps = along(angles)
    starts = center + 1 - middle * steps + (position - middle) * across(angles)
    line = UprightLine(
        weights.astype(np.float32),
        np.empty((columns, len(angles)), np.int32),
        np.empty((columns, len(angles)), np.float32),
    )
    _find_places(starts, steps, columns + GUARDS, line)
    return line


@njit(nogil=True, cache=True)
def _find_places(starts, steps, width, line):
    end = float(width - 2)
    for k in range(line.places.shape[0]):
        for a in range(starts.size):
            position = min(max(starts[a] + k * steps[a], 0.0), end)
            i = np.int64(position)
            line.places[k, a] = a * width + i
            line.above[k, a] = np.float32(position - i) * line.weights[a]


@njit(nogil=True, cache=True)
def add_to_line(turned, line, image):
    """Add to ``image[k, z]`` the sum over a of what projection a holds at the place of pixel k, in row z.

    ``turned`` is what `tomolive.recon.filters.filter_bands` returns, (n, columns + 3, rows); ``line`` an
    `UprightLine`; ``image`` float32 (columns, rows): for planes along the rotation axis x or y first, z last.
    """
    count, _, rows = turned.shape
    values, pixels = turned.reshape(-1), image.reshape(-1)
    pairs, whole = rows - rows % (2 * WIDTH), rows - rows % WIDTH
    for first in range(0, count, _STREAMS):
        last = min(first + _STREAMS, count)
        for z in range(0, pairs, 2 * WIDTH):
            # two pixels and two vectors at once, whose sums do not wait for each other; of an odd number of
            # pixels the last one is its own neighbour
            for k in range(0, image.shape[0], 2):
                next_ = min(k + 1, image.shape[0] - 1)
                pixel, neighbour = k * rows + z, next_ * rows + z
                sum0, sum1 = load(pixels, pixel), load(pixels, pixel + WIDTH)
                sum2, sum3 = load(pixels, neighbour), load(pixels, neighbour + WIDTH)
                for a in range(first, last):
                    sum0, sum1 = _add_both(values, line, k, a, rows, z, sum0, sum1)
                    sum2, sum3 = _add_both(values, line, next_, a, rows, z, sum2, sum3)
                store(pixels, pixel, sum0)
                store(pixels, pixel + WIDTH, sum1)
                store(pixels, neighbour, sum2)
                store(pixels, neighbour + WIDTH, sum3)
        for z in range(pairs, whole, WIDTH):
            for k in range(image.shape[0]):
                total = load(pixels, k * rows + z)
                for a in range(first, last):
                    place = np.int64(line.places[k, a]) * rows + z
                    above = line.above[k, a]
                    total += (line.weights[a] - above) * load(values, place)
                    total += above * load(values, place + rows)
                store(pixels, k * rows + z, total)
        for z in range(whole, rows):
            for k in range(image.shape[0]):
                for a in range(first, last):
                    place = np.int64(line.places[k, a]) * rows + z
                    above = line.above[k, a]
                    image[k, z] += (line.weights[a] - above) * values[place] + above * values[place + rows]


@njit(inline="always")
def _add_both(values, line, k, a, rows, z, first, second):
    """Return two vectors of a pixel's column plus what projection a holds there, from row z on."""
    place = np.int64(line.places[k, a]) * rows + z
    above = line.above[k, a]
    below = line.weights[a] - above
    first = first + below * load(values, place) + above * load(values, place + rows)
    place += WIDTH
    return first, second + below * load(values, place) + above * load(values, place + rows)


@njit(nogil=True, cache=True)
def pick_row(turned, row):
    """Return a row of filtered projections (n, columns + 3, rows): (n, columns + 3)."""
    count, width, _ = turned.shape
    out = np.empty((count, width), np.float32)
    for a in range(count):
        for column in range(width):
            out[a, column] = turned[a, column, row]
    return out


def add_to_block(
    turned: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float64],
    angles: npt.NDArray[np.float64],
    center: float,
    block: npt.NDArray[np.float32],
    first: int = 0,
) -> None:
    """Add projections to neighbouring slices across the axis at once, in place.

    Parameters
    ----------
    turned
        What `lanes` returns, (n, columns + 3, rows).
    block
        float32 (y, x, rows), or some y of it.
    first
        Index y of the first image row in ``block``.
    """
    middle = (turned.shape[1] - GUARDS - 1) / 2
    steps, slopes = np.cos(angles), np.sin(angles)
    origins = center + 1 - middle * steps + (first - middle) * slopes
    _add_to_block(turned, weights.astype(np.float32), origins, steps, slopes, block)


@njit(nogil=True, cache=True, fastmath=True)
def _add_to_block(turned, weights, origins, steps, slopes, block):
    count, width, rows = turned.shape
    end = float(width - 2)
    ys, xs = block.shape[0], block.shape[1]
    # A tile sees few columns of each projection, so that these and the tile stay in the cache.
    for top in range(0, ys, _TILE):
        for left in range(0, xs, _TILE):
            for a in range(count):
                for y in range(top, min(top + _TILE, ys)):
                    start = origins[a] + y * slopes[a]
                    for x in range(left, min(left + _TILE, xs)):
                        position = min(max(start + x * steps[a], 0.0), end)
                        i = np.int64(position)
                        above = np.float32(position - i) * weights[a]
                        below = weights[a] - above
                        lower, upper, pixel = turned[a, i], turned[a, i + 1], block[y, x]
                        for z in range(rows):
                            pixel[z] += below * lower[z] + above * upper[z]
