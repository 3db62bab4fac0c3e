"""From counts to line integrals: dark and flat correction, -log, and pixels that say nothing.

Beer-Lambert: a pixel that counts ``I`` with the sample, ``F`` without it and ``D`` without beam has seen the
attenuation ``p = -ln((I - D) / (F - D))``, the line integral of the attenuation coefficient (Kak and Slaney,
Principles of Computerized Tomographic Imaging, 1988, eq. 4.12).

Two kinds of pixels have no such value. One that is dead, or whose count is not finite, says *nothing*: it is
bridged from its neighbours in the same row. One that is *starved* of photons, no brighter than the dark
behind much material, says that hardly anything came through: it takes the largest attenuation that can be
told, half a count. Its neighbours would be too bright: of a row that noise carries around zero, only the
positive values have a logarithm. A pixel without counts that stands alone, or nearly, among bright ones is a
lost reading, and bridged.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.errors import ReconstructionError
from tomolive.recon.fastlog import log32
from tomolive.recon.flat_field import AnyField, Average, FlatField, FlatSeries, flat_field, flat_series

__all__ = [
    "FLOOR",
    "FlatField",
    "FlatSeries",
    "flat_field",
    "flat_series",
    "line_integrals",
    "normalize",
]

FLOOR = np.float32(1e-6)
"""Lowest transmission that is believed; -ln of it is 13.8."""
_LARGEST = np.finfo(np.float32).max
"""A bound that one comparison tells from infinity, where asking for infinity takes several operations."""
_FAINT = np.float32(4.6)
"""A line integral from which on a neighbour may be starved: one photon of a hundred comes through."""
_LONE = 3
"""As many pixels beside each other can be lost readings; more without counts are in a shadow."""


def line_integrals(
    projections: npt.NDArray[np.generic],
    field: AnyField,
    out: npt.NDArray[np.float32] | None = None,
    *,
    times: npt.ArrayLike | None = None,
    quantum: float | None = None,
) -> npt.NDArray[np.float32]:
    """Correct ``projections`` (n, rows, columns) with ``field``.

    Parameters
    ----------
    times
        When each projection was taken, (n,), by the clock of ``field.times``; only for a `FlatSeries`.
    quantum
        The smallest step of the counts, so that a starved pixel is taken to have counted half of it. Default:
        1 for whole numbers; for others it is not known, and `FLOOR` is what a starved pixel transmits.

    Raises
    ------
    ReconstructionError
        if shapes do not fit together, or times are missing.
    """
    if projections.shape[1:] != field.gain.shape:
        raise ReconstructionError(
            f"projections have frames of {projections.shape[1:]} pixels, but flats of {field.gain.shape}"
        )
    if out is None:
        out = np.empty(projections.shape, np.float32)
    if quantum is None:
        quantum = 1.0 if projections.dtype.kind in "ui" else 0.0
    counts, half = native(projections), np.float32(quantum / 2)
    if isinstance(field, FlatField):
        _correct(counts, field.dark, field.gain, half, out)
        return out
    for number, time in enumerate(_checked_times(times, len(projections))):
        i, share = field.around(time)
        first, second = field.fields[i].gain, field.fields[i + 1].gain
        one = slice(number, number + 1)
        _correct_between(counts[one], field.dark, first, second, np.float32(share), half, out[one])
    return out


def _checked_times(times: npt.ArrayLike | None, count: int) -> npt.NDArray[np.float64]:
    if times is None:
        raise ReconstructionError(
            "flats were taken at several times, so times of the projections are needed; got None"
        )
    when = np.asarray(times, np.float64)
    if when.shape != (count,) or not np.isfinite(when).all():
        raise ReconstructionError(
            f"times has shape {when.shape} for {count} projections; expected ({count},), all finite"
        )
    return when


def native(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return ``array`` as the kernels are compiled for it: native byte order, a number type they know."""
    if array.dtype.kind not in "uif" or array.dtype.itemsize > 4 or array.dtype == np.float16:
        return np.ascontiguousarray(array, np.float32)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def _correct(projections, dark, gain, half, out):
    for frame in range(projections.shape[0]):
        for row in range(projections.shape[1]):
            correct_row(projections[frame, row], dark[row], gain[row], half, out[frame, row])


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def _correct_between(projections, dark, gain, later, share, half, out):
    """Correct with the flats between two; it is their counts that are interpolated, not the gains."""
    now = np.empty(gain.shape[1], np.float32)
    for frame in range(projections.shape[0]):
        for row in range(projections.shape[1]):
            for column in range(now.size):
                first, second = gain[row, column], later[row, column]
                sum_of_both = second + share * (first - second)
                now[column] = first * second / sum_of_both if sum_of_both > np.float32(0) else np.float32(0)
            correct_row(projections[frame, row], dark[row], now, half, out[frame, row])


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp", "reassoc"})
def correct_row(counts, dark, gain, half, line):
    """Write the line integrals of one row; ``half`` is what a starved pixel is taken to have counted."""
    # Not full fastmath: the compiler must not assume that there are no NaN and no infinities.
    nothing = np.float32(np.nan)
    # One plain loop for the many pixels that have a value; a row with others is gone through again. A sum
    # tells them, which the compiler does fastest.
    total = np.float32(0)
    for column in range(counts.size):
        transmission = (np.float32(counts[column]) - dark[column]) * gain[column]
        known = (transmission > np.float32(0)) & (transmission <= _LARGEST)
        value = -log32(max(transmission, FLOOR)) if known else nothing
        line[column] = value
        total += value
    if not np.isfinite(total):
        _tell_apart(counts, dark, gain, line)
        _complete(line, gain, half)


@njit(nogil=True, cache=True, error_model="numpy")
def _tell_apart(counts, dark, gain, line):
    """Write infinity where a pixel is starved, and NaN where it says nothing."""
    infinite = np.float32(np.inf)
    for column in range(counts.size):
        transmission = (np.float32(counts[column]) - dark[column]) * gain[column]
        if not (transmission > np.float32(0) and transmission < infinite):
            starved = transmission > -infinite and gain[column] > np.float32(0)
            line[column] = infinite if starved and transmission <= np.float32(0) else np.float32(np.nan)


@njit(nogil=True, cache=True)
def _complete(line, gain, half):
    """Give values to what is NaN, which says nothing, and to what is infinite, which is starved or lost."""
    column = 0
    while column < line.size:
        if np.isfinite(line[column]):
            column += 1
            continue
        first = column
        empty = 0
        while column < line.size and not np.isfinite(line[column]):
            empty += np.isinf(line[column])
            column += 1
        beside = np.float32(0)
        if first > 0:
            beside = line[first - 1]
        if column < line.size:
            beside = max(beside, line[column])
        if empty > _LONE or (empty and beside > _FAINT):
            for starved in range(first, column):
                if np.isinf(line[starved]):
                    line[starved] = -np.log(max(half * gain[starved], FLOOR))
        else:
            line[first:column] = np.float32(np.nan)
    _bridge(line)


@njit(nogil=True, cache=True)
def _bridge(line):
    """Replace runs of NaN by a straight line between their neighbours; a row without any value by zeros."""
    last = -1
    for column in range(line.size):
        if np.isnan(line[column]):
            continue
        if last < 0:
            line[:column] = line[column]
        elif column - last > 1:
            slope = (line[column] - line[last]) / np.float32(column - last)
            for missing in range(last + 1, column):
                line[missing] = line[last] + slope * np.float32(missing - last)
        last = column
    if last < 0:
        line[:] = 0
    else:
        line[last + 1 :] = line[last]


def normalize(
    projections: npt.ArrayLike,
    flats: npt.ArrayLike,
    darks: npt.ArrayLike | None = None,
    *,
    flats_after: npt.ArrayLike | None = None,
    at: npt.ArrayLike | None = None,
    average: Average = "mean",
    bad: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float32]:
    """Turn counts into line integrals of the attenuation, ``-ln((I - D) / (F - D))``.

    A pixel that is not finite, dead or hot, or that lost its reading, says nothing about the sample: it is
    bridged from its neighbours in the same row, so that the filter cannot spread it. One that is starved of
    photons takes the attenuation of half a count; see `tomolive.recon.correct`.

    Parameters
    ----------
    projections
        Counts, (angles, rows, columns).
    flats
        Counts with beam and without sample, (frames, rows, columns) or one frame.
    darks
        Counts without beam, likewise; none: zero.
    flats_after
        Flats taken after the projections; a projection is then corrected with flats interpolated linearly.
    at
        When each projection was taken, (angles,): 0 with ``flats``, 1 with ``flats_after``. Default: evenly
        from 0 to 1. Only with ``flats_after``; for flats in between see `tomolive.recon.pipeline.references`.
    average
        How frames of references are averaged; the median ignores single zingers.
    bad
        True for pixels of no use, (rows, columns); default: what `tomolive.recon.defects.bad_pixels` finds.

    Returns
    -------
    float32 (angles, rows, columns), dimensionless.

    Raises
    ------
    ReconstructionError
        if the shapes do not fit together, or the flats are no brighter than the darks.
    """
    counts = np.asarray(projections)
    if counts.ndim != 3 or 0 in counts.shape:
        raise ReconstructionError(f"projections has shape {counts.shape}; expected (angles, rows, columns)")
    if flats_after is None:
        if at is not None:
            raise ReconstructionError("at is given without flats_after; expected both, or neither")
        return line_integrals(counts, flat_field(flats, darks, average=average, bad=bad))
    both = flat_series([flats, flats_after], darks, times=(0.0, 1.0), average=average, bad=bad)
    return line_integrals(counts, both, times=np.linspace(0, 1, len(counts)) if at is None else at)
