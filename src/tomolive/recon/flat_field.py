"""Darks and flats, averaged: what turns counts into transmission."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.recon.defects import bad_pixels

Average = Literal["mean", "median"]
Floats = npt.NDArray[np.float32]

_LOW_HIGH, _AS_FAR = (10, 99), 8
"""Percentiles of the pixels, and how much farther from zero the upper one is where there is a beam. Noise
that lies half a standard deviation too high has 4; the upper one is high since a slit lights few pixels."""
_SIDE = 512
"""Pixels a side from which on only some are looked at."""


@dataclass(frozen=True, eq=False)
class FlatField:
    """What turns counts into transmission: ``(counts - dark) * gain``; float32 (rows, columns)."""

    dark: Floats
    gain: Floats
    """1 / (flat - dark); zero for a pixel of no use."""

    def part(self, rows: slice) -> "FlatField":
        """Return the field of some rows."""
        return replace(self, dark=self.dark[rows], gain=self.gain[rows])


@dataclass(frozen=True, eq=False)
class FlatSeries:
    """Flats taken at several times of a scan, and interpolated linearly between them.

    The darks of all are the same. Before the first and after the last, the nearest holds.
    """

    fields: tuple[FlatField, ...]
    """At least two, in order of their times."""
    times: npt.NDArray[np.float64]
    """When each was taken: frame numbers, seconds, or any other clock; increasing."""

    @property
    def dark(self) -> Floats:
        """The dark that all of them have."""
        return self.fields[0].dark

    @property
    def gain(self) -> Floats:
        """The gain of the first; what has none there has none at all."""
        return self.fields[0].gain

    def part(self, rows: slice) -> "FlatSeries":
        """Return the series of some rows."""
        return replace(self, fields=tuple(field.part(rows) for field in self.fields))

    def around(self, time: float) -> tuple[int, float]:
        """Return i and the share w of flats i + 1 at ``time``; flats i have the rest, 1 - w."""
        place = float(np.interp(time, self.times, np.arange(len(self.times))))
        before = min(int(place), len(self.times) - 2)
        return before, place - before


AnyField = FlatField | FlatSeries


def flat_field(
    flats: npt.ArrayLike,
    darks: npt.ArrayLike | None = None,
    *,
    average: Average = "mean",
    bad: npt.NDArray[np.bool_] | None = None,
) -> FlatField:
    """Average the references.

    Parameters
    ----------
    flats, darks
        Counts, (frames, rows, columns) or one frame (rows, columns). Without ``darks`` the detector is taken
        to count nothing without beam. Pixels of single frames that are not finite are left out.
    average
        The median ignores single zingers.
    bad
        True for pixels of no use, (rows, columns); default: what `tomolive.recon.defects.bad_pixels` finds.

    Raises
    ------
    ReconstructionError
        if the shapes do not fit together, or if the flats are no brighter than the darks but for noise.
    """
    flat = averaged(flats, average, "flats")
    dark = np.zeros_like(flat) if darks is None else averaged(darks, average, "darks")
    if dark.shape != flat.shape:
        raise ReconstructionError(f"darks have frames of {dark.shape} pixels, but flats of {flat.shape}")
    beam = flat - dark
    alive = np.isfinite(beam) & (beam > 0)
    if not is_lit(beam):
        raise ReconstructionError(
            f"flats (mean {np.nanmean(flat):.6g}) are no brighter than darks ({np.nanmean(dark):.6g}); "
            "expected counts with beam and counts without: were they exchanged, or was there no beam?"
        )
    alive &= ~(bad_pixels(flat, dark) if bad is None else bad)
    gain = np.divide(1.0, beam, out=np.zeros_like(beam), where=alive)
    return FlatField(np.where(alive, dark, 0).astype(np.float32), gain.astype(np.float32))


def is_lit(beam: npt.NDArray[np.floating]) -> bool:
    """Whether counts, flat minus dark, are those of a beam: noise lies about as far below zero as above."""
    some = beam[tuple(slice(None, None, max(1, size // _SIDE)) for size in beam.shape)]
    some = some[np.isfinite(some)]
    if not some.size:
        return False
    low, high = np.percentile(some, _LOW_HIGH)
    return bool(high > max(0.0, -_AS_FAR * low))


def flat_series(
    flats: Sequence[npt.ArrayLike],
    darks: npt.ArrayLike | None = None,
    *,
    times: npt.ArrayLike,
    average: Average = "mean",
    bad: npt.NDArray[np.bool_] | None = None,
) -> FlatSeries:
    """Average references that were taken several times during a scan.

    Parameters
    ----------
    flats
        For each time, counts as `flat_field` takes them.
    darks
        Counts without beam, those of all times together.
    times
        When the flats were taken, (len(flats),), increasing, by the clock that the projections will be given
        with.

    Raises
    ------
    ReconstructionError
        as `flat_field`, and if ``times`` are not increasing, or fewer than two or not as many as ``flats``.
    """
    when = np.asarray(times, np.float64)
    if when.shape != (len(flats),) or len(flats) < 2 or not (np.diff(when) > 0).all():
        raise ReconstructionError(
            f"times={np.array2string(when, threshold=4)} of {len(flats)} sets of flats; expected as many, at "
            "least two, increasing"
        )
    sizes = {np.shape(one)[-2:] for one in flats}
    if len(sizes) > 1:
        raise ReconstructionError(f"flats have frames of {' and '.join(map(str, sorted(sizes)))} pixels")
    found = [flat_field(one, darks, average=average, bad=bad) for one in flats]
    # a pixel that is of no use once cannot be interpolated
    alive = np.logical_and.reduce([field.gain > 0 for field in found])
    fields = (
        FlatField(np.where(alive, f.dark, np.float32(0)), np.where(alive, f.gain, np.float32(0)))
        for f in found
    )
    return FlatSeries(tuple(fields), when)


def averaged(frames: npt.ArrayLike, average: Average, name: str) -> npt.NDArray[np.float64]:
    """Return the mean or median over frames, without what is not finite; ``name`` is for the error."""
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
