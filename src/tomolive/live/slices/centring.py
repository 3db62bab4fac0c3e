"""Where the rotation axis is taken to be, and how that was found: better and better as projections come."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tomolive import geometry
from tomolive.live.slices.prepared import PreparedProjections
from tomolive.recon.binning import binned_place, unbinned_place
from tomolive.recon.center import check_angles, from_opposite, refined
from tomolive.recon.slices import check_center

Found = tuple[float, str]
"""A centre, detector column, and how it was found."""
Question = Callable[[], Found | None]
"""Finds a centre from arrays of its own, so that any thread may ask it; None: it cannot be trusted."""

_MOVED = 0.02
"""Columns; a centre that moved less is the same."""
_ROWS = 128
_FEW_ROWS = 4
_EARLY_ROWS = 8
_EARLY_COLUMNS, _EARLY_ANGLES = 256, 180
"""What is finer tells no more of a centre that is right to a few columns only."""
_EARLY_DEG = 90.0
"""Degrees from which on a centre can be found without an opposite pair."""
_AGREE = 1.0
"""Columns within which the two halves of the detector must agree."""
_UNCERTAIN, _UNCERTAIN_PART = 2.0, 0.01
"""Columns, and part of all columns: an early estimate is not nearer to the truth than that."""


class Centring:
    """The rotation centre of one scan.

    Parameters
    ----------
    columns
        Of the detector.
    given
        A centre that is known; None: it is estimated.
    provisional
        Where it is taken to be until then; None: the middle of the detector.

    Attributes
    ----------
    center : float
        Detector column.
    source : str
        How it was found.
    """

    def __init__(self, columns: int, given: float | None, provisional: float | None) -> None:
        self._columns = columns
        self.center, self.source = (columns - 1) / 2, "provisional: the middle of the detector"
        if given is not None:
            self.center, self.source = check_center(given, columns), "given"
        elif provisional is not None:
            self.center = check_center(provisional, columns)
            self.source = "provisional: that of the scan before"
        self.is_given = given is not None
        self._uncertain = max(_UNCERTAIN, _UNCERTAIN_PART * columns)
        self._early_found = False
        self._deviation: float | None = None
        """By how much the best pair so far misses 180 degrees, radians."""

    def give(self, center: float) -> None:
        """Take a centre that someone knows."""
        self.center, self.source = check_center(center, self._columns), "given"
        self.is_given = True

    def forget(self) -> None:
        """Estimate the centre again; until there is enough to do so, it stays where it is."""
        self.is_given = False
        self.source = "provisional: that of before, until it can be estimated"
        self._deviation = None

    def reconsider(self) -> None:
        """Estimate the centre again from the next pair: what the last one told no longer holds."""
        self._deviation = None

    def take(self, found: Found | None, *, early: bool = False) -> bool:
        """Take what was found, unless a better one is known by now; return whether it moved."""
        if early and found is not None:
            self._early_found = True
            if self._deviation is not None or abs(found[0] - self.center) < self._uncertain:
                return False
        if found is None or self.is_given or not 0 <= found[0] <= self._columns - 1:
            return False
        moved = abs(found[0] - self.center) > _MOVED
        if moved:
            self.center = float(found[0])
        self.source = found[1]
        return moved

    def from_pair(self, projections: PreparedProjections, angles: npt.NDArray[np.float64]) -> bool:
        """Estimate the centre from the best opposite pair so far; return whether it moved."""
        if self.is_given or not projections.ready:
            return False
        if self._deviation is not None and self._deviation < 1e-6:
            return False
        pair = geometry.opposite_pair(angles)
        if pair is None or (self._deviation is not None and pair[2] > 0.5 * self._deviation):
            return False
        first, second, self._deviation = pair
        rows = projections.rows
        middle = slice(max(0, (rows - _ROWS) // 2), (rows + _ROWS + 1) // 2)
        both = projections.integrals(np.array([first, second]), middle)
        found = unbinned_place(from_opposite(both[0], both[1]), projections.corrections.binning)
        apart = np.degrees(abs(angles[second] - angles[first]))
        return self.take((found, f"estimated from two projections {apart:.4g} degrees apart"))

    def refinement(
        self, projections: PreparedProjections, angles: npt.NDArray[np.float64], threads: int
    ) -> Question | None:
        """Return what finds the centre from all projections, by candidates; None if it cannot be refined."""
        count = len(projections)
        if self.is_given or not projections.ready or count < 3 or projections.is_widened:
            return None
        if not 0 < self.center < self._columns - 1:
            return None
        sinograms = projections.sinograms(_spread(projections.rows, _FEW_ROWS))
        radians, binning = check_angles(angles), projections.corrections.binning
        start = None if self._deviation is None else binned_place(self.center, binning)
        deviation = self._deviation

        def ask() -> Found:
            found = refined(sinograms, radians, start, deviation, threads=threads)
            how = "estimated by scanning candidates" if start is None else "estimated and refined"
            return unbinned_place(found, binning), f"{how}, {count} projections"

        return ask

    def early(
        self, projections: PreparedProjections, angles: npt.NDArray[np.float64], threads: int
    ) -> Question | None:
        """Return what finds the centre before any two projections are opposite; None if it is too early.

        It is trusted if the upper and the lower half of the detector agree. Of less than half a turn it is
        right to a few columns only, so it is taken if the centre was further off than that.
        """
        if self.is_given or self._early_found or self._deviation is not None or not projections.ready:
            return None
        covered = np.degrees(geometry.covered(angles))
        if covered < _EARLY_DEG or projections.rows < 2 or projections.is_widened:
            return None
        some = slice(None, None, max(1, len(angles) // _EARLY_ANGLES))
        sinograms = projections.sinograms(_spread(projections.rows, _EARLY_ROWS))[:, some]
        coarse = max(1, sinograms.shape[2] // _EARLY_COLUMNS)
        columns = sinograms.shape[2] // coarse * coarse
        sinograms = sinograms[:, :, :columns].reshape(*sinograms.shape[:2], -1, coarse).mean(axis=3)
        radians, binning = check_angles(angles)[some], coarse * projections.corrections.binning
        half = len(sinograms) // 2

        def ask() -> Found | None:
            both = [refined(s, radians, None, threads=threads) for s in (sinograms[:half], sinograms[half:])]
            if abs(both[0] - both[1]) > _AGREE:
                return None
            how = f"estimated from {covered:.3g} degrees, provisional until 180"
            return unbinned_place((both[0] + both[1]) / 2, binning), how

        return ask


def _spread(rows: int, count: int) -> list[int]:
    """Return up to ``count`` rows, spread over the height."""
    picked = np.linspace(0, rows - 1, min(rows, count) + 2)[1:-1].round().astype(int)
    return [int(row) for row in np.unique(picked)]
