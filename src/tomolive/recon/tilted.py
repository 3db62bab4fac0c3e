"""Backprojection into a plane that is tilted against the rotation axis, one band of detector rows at a time.

Each line of the picture is horizontal, so all its pixels lie between the same two detector rows: a line is
the mean of two lines across the axis, weighted by its height between them. As that is linear, each band of
rows adds what its own rows give, and rows of two bands need not lie side by side in memory.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.recon.backproject import fixed_point
from tomolive.recon.filters import GUARDS
from tomolive.recon.memory import aligned_floats
from tomolive.recon.vectors import FRACTION, WIDTH, advance, interpolate, load, places, store

_MARGIN = 2 * WIDTH
"""Zeros at both ends of a row: a vector may lie across an end of the detector."""

Triple = tuple[float, float, float]


def add_to_tilted(
    turned: npt.NDArray[np.float32],
    first_row: int,
    rows: int,
    weights: npt.NDArray[np.float64],
    angles: npt.NDArray[np.float64],
    center: float,
    origin: Triple,
    down: Triple,
    right: Triple,
    image: npt.NDArray[np.float32],
    first: int = 0,
) -> None:
    """Add filtered projections to the plane ``origin + i down + j right``, in place.

    Parameters
    ----------
    turned
        What `tomolive.recon.backproject.lanes` returns for a band of detector rows, (n, columns + 3, rows of
        the band).
    first_row
        Detector row of the first one of the band.
    rows
        Detector rows of all bands: a plane is zero above and below them.
    weights
        What each projection weighs, (n,).
    angles
        Radians, (n,).
    center
        Column on which the rotation axis is projected.
    origin, down, right
        Places in the volume as (z, y, x), as `tomolive.recon.reconstruct_plane` has them; ``right`` is
        horizontal, its z is 0.
    image
        float32 lines of the picture.
    first
        Number of its first line.
    """
    middle = (turned.shape[1] - GUARDS - 1) / 2
    lines = first + np.arange(image.shape[0])
    heights = origin[0] + lines * down[0]
    cosines, sines = np.cos(angles), np.sin(angles)
    y, x = origin[1] + lines * down[1] - middle, origin[2] + lines * down[2] - middle
    starts = center + 1 + x[:, np.newaxis] * cosines + y[:, np.newaxis] * sines
    steps = right[2] * cosines + right[1] * sines
    _add_to_lines(turned, first_row, rows, weights.astype(np.float32), starts, steps, heights, image)


@njit(nogil=True, cache=True)
def _add_to_lines(turned, first_row, rows, weights, starts, steps, heights, image):
    count, width, here = turned.shape
    pixels = image.shape[1]
    rows_first = np.empty((here, width), np.float32)
    padded = -(-(width + 2 * _MARGIN) // (2 * WIDTH)) * 2 * WIDTH
    row, rises = aligned_floats(padded), aligned_floats(padded)
    row[:] = 0
    rises[:] = 0
    end = (row.size - 2 * WIDTH) << FRACTION
    total = np.zeros((image.shape[0], pixels + WIDTH), np.float32)
    # one projection at a time: its band stays in the cache for all lines that lie in it
    for a in range(count):
        turned_yet = False
        step, stride = fixed_point(steps[a]), fixed_point(WIDTH * steps[a])
        for line in range(image.shape[0]):
            z = heights[line]
            if z < 0 or z > rows - 1:
                continue
            top = min(np.int64(z), max(rows - 2, 0))
            beneath = np.float32(z - top)
            upper, lower = top - first_row, min(top + 1, rows - 1) - first_row
            share_upper = (np.float32(1) - beneath) * weights[a] if 0 <= upper < here else np.float32(0)
            share_lower = beneath * weights[a] if 0 <= lower < here else np.float32(0)
            if share_upper == 0 and share_lower == 0:
                continue
            if not turned_yet:
                for column in range(width):
                    for r in range(here):
                        rows_first[r, column] = turned[a, column, r]
                turned_yet = True
            above, below = rows_first[min(max(upper, 0), here - 1)], rows_first[min(max(lower, 0), here - 1)]
            for column in range(width):
                row[_MARGIN + column] = share_upper * above[column] + share_lower * below[column]
            for column in range(_MARGIN - 1, _MARGIN + width):
                rises[column] = (row[column + 1] - row[column]) * np.float32(2.0**-FRACTION)
            sums = total[line]
            place = fixed_point(starts[line, a] + _MARGIN)
            lowest, these = place + min(0, (WIDTH - 1) * step), places(place, step)
            for x in range(0, pixels, WIDTH):
                if 0 <= lowest <= end:
                    store(sums, x, load(sums, x) + interpolate(row, rises, lowest, these))
                lowest, these = lowest + stride, advance(these, stride)
    for line in range(image.shape[0]):
        for x in range(pixels):
            image[line, x] += total[line, x]
