"""The numbers that answer "should I stop this scan?", over the projections or the degrees covered.

What is told of frames is summed up as they come, from a part of their pixels. What is told of the slice takes
longer: it is a question that another thread answers, asked again only after many times as long as the answer
took, so that it costs a few percent of one core.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomolive import geometry
from tomolive.config import QualitySettings
from tomolive.live.beam import Brightness, thinned
from tomolive.live.documents.ranges import Ranges
from tomolive.live.documents.run import in_words
from tomolive.live.slices.accumulate import SliceAccumulator
from tomolive.live.snapshot import Trend
from tomolive.recon import quality
from tomolive.recon.flat_field import FlatField

Floats = npt.NDArray[np.float32]
Points = list[tuple[int, float]]

_ROWS = 32
"""Rows of a projection in which saturated pixels are counted, at most."""
_SIDE = 512
"""Pixels a side of what is looked at of a slice, or of a projection."""
_LEAST_DEG = 20.0
_COST = 20
_EVERY_S = 2.0
_TOLD_EVERY_S = 0.3
_FEW = 10
"""Projections between which a sample is not expected to move."""


@dataclass(frozen=True)
class SliceNumbers:
    """What is told of the slice at one moment."""

    degrees: float
    noise: float
    """Part of its range."""
    sharpness: float
    resolution: float | None
    """Pixels of the detector."""
    drift: tuple[int, int, float] | None
    """Two projections that saw the sample at the same height, and by how many pixels it had moved."""
    seconds: float
    """What it took to find out."""


class Trends:
    """The trends of one scan.

    Parameters
    ----------
    settings
        From where on a number is a warning.
    """

    def __init__(self, settings: QualitySettings) -> None:
        self._settings = settings
        self._brightness = Brightness(settings.transmission_drop)
        self._numbers: list[int] = []
        self._saturated: list[float] = []
        self._field: FlatField | None = None
        self._flats: Points = []
        self._slices: list[SliceNumbers] = []
        self._drifts: list[tuple[int, int, float]] = []
        self._due = 0.0
        self._told: tuple[Trend, ...] = ()
        self._told_at = 0.0
        self._news = True

    # -- what comes in ---------------------------------------------------------------------------------

    def add(self, first: int, frames: npt.NDArray[np.generic]) -> None:
        """Take raw projections (n, rows, columns) numbered from ``first`` on."""
        self._brightness.add(first, frames)
        if np.issubdtype(frames.dtype, np.integer):
            some = frames[:, :: -(-frames.shape[1] // _ROWS)]
            self._numbers += range(first, first + len(frames))
            self._saturated += quality.saturated_fraction(some).tolist()
        self._news = True

    def without_beam(self, least: float) -> npt.NDArray[np.int64]:
        """Return the numbers of the projections darker than ``least`` times the usual one."""
        return self._brightness.without_beam(self._field, least)

    def set_references(
        self, field: FlatField | None, flats: Sequence[npt.NDArray[np.float64]], times: Sequence[float]
    ) -> None:
        """Take the flat field of all flats, and the mean flats (1, rows, columns) of several times."""
        self._field, self._news = field, True
        self._flats = [
            (int(time), quality.flat_drift(flats[0][0], flat[0]))
            for time, flat in zip(times[1:], flats[1:], strict=True)
        ]

    def question(self, slices: SliceAccumulator, *, last: bool = False) -> Callable[[], SliceNumbers] | None:
        """Return what tells of the slice in the middle, for any thread; None: it is not time yet."""
        projections, angles = slices.projections, slices.angles
        if not projections.ready or len(projections) < 4 or slices.coverage < _LEAST_DEG:
            return None
        if not last and time.monotonic() < self._due:
            return None
        self._due = float("inf")
        row = slices.positions["xy"]
        image = _middle(slices.picture(("xy", (float(row),))))
        sinogram = None if projections.is_widened else projections.sinograms([row])[0]
        radians, degrees = angles.copy(), slices.coverage
        center, binning = projections.place_of(slices.center), projections.corrections.binning
        pair = _same_height(angles, projections.numbers)
        both = projections.integrals(np.array(pair[:2])) if pair and projections.rows >= _ROWS else None
        numbers = projections.numbers

        def ask() -> SliceNumbers:
            began = time.thread_time()
            low, high = np.percentile(image, [1, 99])
            noise = quality.noise(image) / float(high - low) if high > low else 0.0
            resolution = drift = None
            if sinogram is not None:
                resolution = binning * quality.even_odd_resolution(sinogram, radians, center, threads=1)
            if pair and both is not None:
                moved = binning * _moved(both, opposite=pair[2])
                drift = (int(numbers[pair[0]]), int(numbers[pair[1]]), moved)
            took = time.thread_time() - began
            return SliceNumbers(degrees, noise, quality.sharpness(image), resolution, drift, took)

        return ask

    def take(self, found: SliceNumbers | None) -> None:
        """Take what was found out about the slice."""
        took = found.seconds if found else 0.0
        self._due = time.monotonic() + max(_EVERY_S, _COST * took)
        if found is not None and found not in self._slices[-1:]:
            self._slices.append(found)
            if found.drift:
                self._drifts.append(found.drift)
            self._news = True

    # -- what comes out --------------------------------------------------------------------------------

    def told(self, *, now: bool = False) -> tuple[Trend, ...]:
        """Return the trends; unless it must be ``now``, they may be a moment old."""
        clock = time.monotonic()
        if self._told and (not self._news or (not now and clock < self._told_at + _TOLD_EVERY_S)):
            return self._told
        self._told_at, self._news = clock, False
        found = [
            self._brightness.trend(self._field), self._saturation(), self._bad(), self._flat_drift(),
            self._sample_drift(), *self._of_slice(),
        ]  # fmt: skip
        self._told = tuple(trend for trend in found if trend.points)
        return self._told

    def _saturation(self) -> Trend:
        order = np.argsort(self._numbers, kind="stable")
        numbers, values = np.array(self._numbers, int)[order], np.array(self._saturated)[order]
        high, warning = self._settings.saturated, ""
        if high is not None and (over := numbers[values > high]).size:
            which = in_words(Ranges((n, n + 1) for n in over.tolist()))
            warning = f"projections {which} have saturated pixels: take them with less light"
        points = thinned(numbers, values, highest=True)
        return Trend("Saturated pixels", "part of all", points, warning, high=high)

    def _bad(self) -> Trend:
        part = quality.bad_fraction(self._field) if self._field else 0.0
        points = ((0, float(f"{part:.4g}")),) if self._field else ()
        high = self._settings.bad_pixels
        warning = "" if high is None or part <= high else f"{100 * part:.3g} % of the pixels are dead or hot"
        return Trend("Dead and hot pixels", "part of all", points, warning, high=high)

    def _flat_drift(self) -> Trend:
        high, warning = self._settings.flat_drift, ""
        if self._flats and high is not None and (most := max(drift for _, drift in self._flats)) > high:
            warning = f"the beam profile moved by {100 * most:.3g} % between flats: expect rings and streaks"
        return Trend("Flat-field drift", "part of the mean", tuple(self._flats), warning, high=high)

    def _sample_drift(self) -> Trend:
        high, warning = self._settings.sample_drift_px, ""
        points = tuple((second, float(f"{moved:.4g}")) for _, second, moved in self._drifts)
        if self._drifts and high is not None:
            first, second, moved = max(self._drifts, key=lambda drift: drift[2])
            if moved > high:
                warning = f"the sample moved by {moved:.3g} pixels between projections {first} and {second}"
        return Trend("Sample drift", "pixels", points, warning, high=high)

    def _of_slice(self) -> list[Trend]:
        limits = self._settings
        told = [
            ("Noise of the slice", "part of its range", "noise", limits.noise, "the slice is noisy"),
            ("Sharpness of the slice", "1/pixel", "sharpness", None, ""),
            ("Resolution", "pixels", "resolution", limits.resolution_px, "the resolution is coarse"),
        ]
        found = []
        for name, units, number, high, words in told:
            values = [(round(n.degrees), getattr(n, number)) for n in self._slices]
            points = tuple((at, float(f"{value:.4g}")) for at, value in values if value is not None)
            bad = high is not None and bool(points) and points[-1][1] > high
            warning = f"{words}: {points[-1][1]:.3g} {units}" if bad else ""
            found.append(Trend(name, units, points, warning, high=high, over="degrees"))
        return found


def _middle(image: Floats) -> Floats:
    top, left = ((size - min(size, _SIDE)) // 2 for size in image.shape)
    return image[top : top + _SIDE, left : left + _SIDE].copy()


def _same_height(
    angles: npt.NDArray[np.float64], numbers: npt.NDArray[np.intp]
) -> tuple[int, int, bool] | None:
    """Return a projection at the angle of the newest one, or opposite: (it, the newest, is it opposite)."""
    newest = len(angles) - 1
    apart = np.abs(numbers[:newest] - numbers[newest]) >= _FEW
    away = np.mod(angles[:newest] - angles[newest] + 0.5 * np.pi, np.pi) - 0.5 * np.pi
    away = np.where(apart, np.abs(away), np.inf)
    if not away.size:
        return None
    partner = int(np.argmin(away))
    turns = (angles[partner] - angles[newest]) / np.pi
    opposite = round(turns) % 2 == 1
    step = geometry.typical_step(angles)
    # opposite ones are compared in height only, which an angle that is not quite the same does not change
    if away[partner] > (1.5 if opposite else 0.1) * step:
        return None
    return partner, newest, opposite


def _moved(both: Floats, *, opposite: bool) -> float:
    """Return by how many pixels the sample moved between two projections."""
    rows = both.shape[1]
    part = slice((rows - min(rows, _SIDE)) // 2, (rows + min(rows, _SIDE)) // 2)
    before, after = both[0, part], both[1, part, ::-1] if opposite else both[1, part]
    down, across = quality.shift(before, after)
    return abs(down) if opposite else float(np.hypot(down, across))
