"""From counts to line integrals: dark and flat correction, -log, and pixels that say nothing.

Beer-Lambert: a pixel that counts ``I`` with the sample, ``F`` without it and ``D`` without beam has seen the
attenuation ``p = -ln((I - D) / (F - D))``, the line integral of the attenuation coefficient (Kak and Slaney,
Principles of Computerized Tomographic Imaging, 1988, eq. 4.12).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.errors import ReconstructionError
from tomolive.recon.fastlog import log32

FLOOR = np.float32(1e-6)
"""Lowest transmission that is believed; -ln of it is 13.8."""


@dataclass(frozen=True, eq=False)
class FlatField:
    """What turns counts into transmission: ``(counts - dark) * gain``; float32 (rows, columns)."""

    dark: npt.NDArray[np.float32]
    gain: npt.NDArray[np.float32]
    """1 / (flat - dark); zero where the flat is no brighter than the dark, that is, for a dead pixel."""


def flat_field(
    flats: npt.ArrayLike,
    darks: npt.ArrayLike | None = None,
    *,
    average: Literal["mean", "median"] = "mean",
    bad: npt.NDArray[np.bool_] | None = None,
) -> FlatField:
    """Average the references.

    Parameters
    ----------
    flats, darks
        Counts, (frames, rows, columns) or one frame (rows, columns). Without ``darks`` the detector is taken
        to count nothing without beam. Pixels of single frames that are not finite are left out.
    bad
        True for pixels of no use, (rows, columns); see `tomolive.recon.defects.bad_pixels`.

    Raises
    ------
    ReconstructionError
        if the shapes do not fit together, or if no pixel of the flats is brighter than the darks.
    """
    flat = _average(flats, average, "flats")
    dark = np.zeros_like(flat) if darks is None else _average(darks, average, "darks")
    if dark.shape != flat.shape:
        raise ReconstructionError(f"darks have frames of {dark.shape} pixels, but flats of {flat.shape}")
    beam = flat - dark
    alive = np.isfinite(beam) & (beam > 0)
    if bad is not None:
        alive &= ~bad
    if not alive.any():
        raise ReconstructionError(
            f"flats (mean {np.nanmean(flat):.6g}) are nowhere brighter than darks ({np.nanmean(dark):.6g}); "
            "expected counts with beam and counts without: were they exchanged, or was there no beam?"
        )
    gain = np.divide(1.0, beam, out=np.zeros_like(beam), where=alive)
    return FlatField(np.where(alive, dark, 0).astype(np.float32), gain.astype(np.float32))


def _average(frames: npt.ArrayLike, average: str, name: str) -> npt.NDArray[np.float64]:
    frames = np.asarray(frames)
    frames = frames[np.newaxis] if frames.ndim == 2 else frames
    if frames.ndim != 3 or 0 in frames.shape:
        raise ReconstructionError(
            f"{name} has shape {frames.shape}; expected at least one frame as (frames, rows, columns)"
        )
    if average not in ("mean", "median"):
        raise ReconstructionError(f"average={average!r}; expected 'mean' or 'median'")
    counts = frames.astype(np.float64)
    values = counts.mean(axis=0) if average == "mean" else np.median(counts, axis=0)
    if np.isfinite(values).all():
        return np.asarray(values)
    known = np.ma.masked_invalid(counts)
    partial = known.mean(axis=0) if average == "mean" else np.ma.median(known, axis=0)
    return np.asarray(np.ma.filled(np.ma.asarray(partial), np.nan))


def line_integrals(
    projections: npt.NDArray[np.generic], field: FlatField, out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Correct ``projections`` (n, rows, columns) with ``field``; see `normalize`."""
    if projections.shape[1:] != field.gain.shape:
        raise ReconstructionError(
            f"projections have frames of {projections.shape[1:]} pixels, but flats of {field.gain.shape}"
        )
    if out is None:
        out = np.empty(projections.shape, np.float32)
    _correct(_native(projections), field.dark, field.gain, FLOOR, out)
    return out


def _native(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return ``array`` as the kernels are compiled for it: native byte order, a number type they know."""
    if array.dtype.kind not in "uif" or array.dtype.itemsize > 4 or array.dtype == np.float16:
        return np.ascontiguousarray(array, np.float32)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def _correct(projections, dark, gain, floor, out):
    # Not full fastmath: the compiler must not assume that there are no NaN and no infinities.
    nan = np.float32(np.nan)
    for frame in range(projections.shape[0]):
        for row in range(projections.shape[1]):
            counts, dark_row = projections[frame, row], dark[row]
            gain_row, line = gain[row], out[frame, row]
            unknown = 0
            for column in range(counts.size):
                transmission = (np.float32(counts[column]) - dark_row[column]) * gain_row[column]
                known = (transmission > np.float32(0)) & (transmission < np.float32(np.inf))
                value = -log32(max(transmission if known else floor, floor))
                line[column] = value if known else nan
                unknown += not known
            if unknown:
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
    average: Literal["mean", "median"] = "mean",
) -> npt.NDArray[np.float32]:
    """Turn counts into line integrals of the attenuation, ``-ln((I - D) / (F - D))``.

    A pixel that is not finite, counts nothing, or is dead in the flats says nothing about the sample: it is
    bridged from its neighbours in the same row, so that the filter cannot spread it.

    Parameters
    ----------
    projections
        Counts, (angles, rows, columns).
    flats
        Counts with beam and without sample, (frames, rows, columns) or one frame.
    darks
        Counts without beam, likewise; none: zero.
    average
        How frames of references are averaged; the median ignores single zingers.

    Returns
    -------
    float32 (angles, rows, columns), dimensionless.

    Raises
    ------
    ReconstructionError
        if the shapes do not fit together, or the flats are nowhere brighter than the darks.
    """
    counts = np.asarray(projections)
    if counts.ndim != 3 or 0 in counts.shape:
        raise ReconstructionError(f"projections has shape {counts.shape}; expected (angles, rows, columns)")
    return line_integrals(counts, flat_field(flats, darks, average=average))
