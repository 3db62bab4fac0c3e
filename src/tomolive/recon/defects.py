"""Pixels that lie: zingers in single frames, dead and hot pixels of the detector."""

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.errors import ReconstructionError

_SPREAD = 1.4826
"""Median absolute deviation to standard deviation, for normal noise."""
_SIDE = 512
"""Pixels a side from which on only some are looked at for a median."""


def bad_pixels(
    flats: npt.ArrayLike, darks: npt.ArrayLike | None = None, *, sigmas: float = 8.0, least_beam: float = 0.05
) -> npt.NDArray[np.bool_]:
    """Find dead and hot pixels.

    Dead: the beam, flat minus dark, is below ``least_beam`` of its median over the detector, or not finite.
    Hot: the mean dark is more than ``sigmas`` robust standard deviations over the median dark, and by more
    than ``least_beam`` of the median beam; one that is merely warm is right once its dark is subtracted.

    Parameters
    ----------
    flats, darks
        Counts, (frames, rows, columns) or one frame.

    Returns
    -------
    bool (rows, columns), True where a pixel is of no use. Give it to `tomolive.recon.correct.flat_field`.
    """
    flat = _mean(flats, "flats")
    dark = np.zeros_like(flat) if darks is None else _mean(darks, "darks")
    if flat.shape != dark.shape:
        raise ReconstructionError(f"darks have frames of {dark.shape} pixels, but flats of {flat.shape}")
    beam = flat - dark
    # a part of the pixels knows the medians as well as all of them
    some = tuple(slice(None, None, max(1, size // _SIDE)) for size in flat.shape)
    middle, usual = np.nanmedian(dark[some]), np.nanmedian(beam[some])
    # at least one count, or a perfectly quiet dark would make every pixel hot
    spread = max(_SPREAD * float(np.nanmedian(np.abs(dark[some] - middle))), 1.0)
    hot = dark > middle + max(sigmas * spread, least_beam * usual)
    dead = ~(beam > least_beam * usual)
    return hot | dead


def _mean(frames: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    values = np.asarray(frames, np.float64)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ReconstructionError(f"{name} has shape {values.shape}; expected (frames, rows, columns)")
    return values if values.ndim == 2 else values.mean(axis=0)


def remove_zingers(
    projections: npt.NDArray[np.generic], factor: float = 1.5
) -> tuple[npt.NDArray[np.generic], int]:
    """Replace pixels hit by stray radiation.

    A zinger is brighter than ``factor`` times the brightest of all but two of its eight neighbours (a hit can
    spill into those two), and takes the median of the neighbours.

    Parameters
    ----------
    projections
        Counts, (n, rows, columns).
    factor
        How much brighter; greater than 1.

    Returns
    -------
    (clean, count): a copy of the same type, and how many pixels were replaced.
    """
    if not factor > 1:
        raise ReconstructionError(f"factor={factor!r}; expected a number greater than 1")
    if projections.ndim != 3:
        raise ReconstructionError(f"projections has shape {projections.shape}; expected (n, rows, columns)")
    clean = np.ascontiguousarray(projections, projections.dtype.newbyteorder("=")).copy()
    return clean, int(_remove_zingers(clean.copy(), np.float64(factor), clean))


def remove_zingers_of_integrals(
    integrals: npt.NDArray[np.float32], factor: float = 1.5, least: float = 0.02
) -> int:
    """Replace, in place, pixels hit by stray radiation, after dark, flat and -log.

    The same rule as `remove_zingers` has, on transmissions, where the pattern of the camera is gone. A
    zinger also exceeds its neighbours by ``least`` of the beam, or the noise behind much material would be
    full of them.

    Parameters
    ----------
    integrals
        Line integrals, float32 (n, rows, columns); finite.

    Returns
    -------
    How many pixels were replaced.
    """
    if not factor > 1:
        raise ReconstructionError(f"factor={factor!r}; expected a number greater than 1")
    seen = integrals.copy()
    return int(_remove_low(seen, np.float32(np.log(factor)), np.float32(least), integrals))


@njit(nogil=True, cache=True)
def _neighbours(image, row, column, around):
    """Put the pixels beside one into ``around``, at most eight; return how many there are."""
    rows, columns = image.shape
    found = 0
    for r in range(max(row - 1, 0), min(row + 2, rows)):
        for c in range(max(column - 1, 0), min(column + 2, columns)):
            if r != row or c != column:
                around[found] = image[r, c]
                found += 1
    return found


@njit(nogil=True, cache=True)
def _remove_low(frames, drop, least, out):
    """Replace what attenuates less than its neighbours: brighter by a factor is lower by its logarithm."""
    count = 0
    _, rows, columns = frames.shape
    around = np.empty(8, np.float32)
    for frame in range(frames.shape[0]):
        image = frames[frame]
        for row in range(rows):
            above = image[row - 1 if row else 1 % rows]
            if not _may_have_low(image[row], above, drop):
                continue
            for column in range(columns):
                value = image[row, column]
                if value >= image[row, column - 1 if column else 1 % columns] - drop:
                    continue
                if value >= above[column] - drop:
                    continue
                found = _neighbours(image, row, column, around)
                ordered = np.sort(around[:found])
                limit = ordered[min(2, found - 1)]
                if found > 2 and value < limit - drop and np.exp(-value) > np.exp(-limit) + least:
                    out[frame, row, column] = ordered[(found - 1) // 2]
                    count += 1
    return count


@njit(nogil=True, cache=True)
def _may_have_low(line, above, drop):
    """Whether a pixel is lower than what lies left of it and above it; no branches, for most are not."""
    count = np.int32(line[0] < above[0] - drop)
    for column in range(1, line.size):
        value = line[column]
        count += np.int32((value < line[column - 1] - drop) & (value < above[column] - drop))
    return count > 0


@njit(nogil=True, cache=True)
def _remove_zingers(frames, factor, out):
    count = 0
    _, rows, columns = frames.shape
    around = np.empty(8, np.float64)
    for frame in range(frames.shape[0]):
        image = frames[frame]
        for row in range(rows):
            for column in range(columns):
                value = image[row, column]
                # nearly all pixels are no brighter than what lies beside them
                beside = image[row, column - 1 if column else 1 % columns]
                if value <= factor * beside and value <= factor * image[row - 1 if row else 1 % rows, column]:
                    continue
                found = _neighbours(image, row, column, around)
                ordered = np.sort(around[:found])
                if found > 2 and value > factor * ordered[found - 3]:
                    out[frame, row, column] = out.dtype.type(ordered[found // 2])
                    count += 1
    return count
