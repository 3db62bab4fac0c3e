"""Projections drawn into planes, each with the weight that its angle deserves."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tomolive import geometry
from tomolive.live.slices.filtered import PIECE
from tomolive.live.slices.planes import Filtered, Place, PlaneSet
from tomolive.live.slices.prepared import PreparedProjections
from tomolive.recon.half_acquisition import of_half_turn
from tomolive.recon.parallel import blocks

Angles = npt.NDArray[np.float64]

_DRIFT = 0.05
"""Part of the picture that may carry a wrong weight before it is drawn again."""
_EXACT = 1e-6
_TOGETHER = 64
"""Pieces of projections that are handed out to the threads at once."""


class Drawing:
    """Planes, and what of the projections is in them: all planes hold the same with the same weights.

    ``angles`` are always those of all projections, radians, in order of arrival; ``center`` is the detector
    column on which the rotation axis is projected.

    Attributes
    ----------
    striped : int
        Projections that have been drawn across the axis since rings were removed there.
    """

    def __init__(self, projections: PreparedProjections, threads: int) -> None:
        self._projections, self._threads = projections, threads
        self._planes = PlaneSet(projections.rows, projections.columns, threads, projections.place)
        self._weights = np.empty(0)
        """Weight with which each projection is in the planes, radians; a common factor is left open."""
        self._redrawn_at = 0
        self.striped = 0

    @property
    def places(self) -> list[Place]:
        """The planes that grow."""
        return list(self._planes)

    def drop(self, place: Place) -> None:
        """Forget a plane."""
        self._planes.drop(place)

    def picture(self, place: Place) -> npt.NDArray[np.float32]:
        """Return a copy of a plane, 1/pixel."""
        total = self._weights.sum()
        return self._planes.picture(place, np.pi / total if total > 0 else 0.0)

    def redraw(self, angles: Angles, center: float, more: Iterable[Place] = ()) -> None:
        """Draw everything again, and ``more`` planes; those that the volume has no more are dropped."""
        places = self.places
        shape = self._projections.rows, self._projections.columns
        if shape != (self._planes.rows, self._planes.columns):
            # places mean something else in a volume of another size
            self._planes, places = PlaneSet(*shape, self._threads, self._projections.place), []
        places = list(dict.fromkeys([*places, *more]))
        for place in places:
            self._planes.begin(place)
        self._weights = np.zeros(0)
        self.striped = 0
        if self._projections.ready:
            self._weights = geometry.angle_weights(self._folded(angles))
            self._redrawn_at = len(angles)
            self._draw(self._weights, places, angles, center)

    def draw(self, place: Place, angles: Angles, center: float) -> None:
        """Draw a plane, unless it is there, with what the others hold."""
        if place not in self._planes:
            self._planes.begin(place)
            self._draw(self._weights, [place], angles, center)

    def draw_new(self, angles: Angles, center: float) -> None:
        """Draw what has been added, with weights that fit those already drawn."""
        old = len(self._weights)
        cells = geometry.angle_cells(self._folded(angles))
        scale = self._weights.sum() / cells[:old].sum() if old else 1.0
        weights = np.concatenate([np.zeros(old), cells[old:] * scale])
        self._weights = np.concatenate([self._weights, weights[old:]])
        self._add(weights, self.places, angles, center, old)
        if self._projections.corrections.rings != "none":
            self.striped += len(angles) - old
        if len(angles) >= 1.5 * self._redrawn_at:
            self._settle(angles, center, _DRIFT)

    def settle(self, angles: Angles, center: float) -> None:
        """Make planes final with what is there."""
        self._settle(angles, center, _EXACT)
        if self.striped:
            self._clean(self.places, angles, center)

    def _settle(self, angles: Angles, center: float, tolerance: float) -> None:
        """Draw the differences to the right weights, if they matter."""
        right = geometry.angle_weights(self._folded(angles))
        # a common factor costs nothing; the one that most projections agree on
        factor = np.median(self._weights / right)
        lacking = right * factor - self._weights
        if np.abs(lacking).sum() <= tolerance * self._weights.sum():
            return
        wrong = np.abs(lacking) > _EXACT * right * factor
        self._redrawn_at = len(angles)
        if np.count_nonzero(wrong) > len(right) // 2:
            self.redraw(angles, center)
            return
        lacking[~wrong] = 0
        self._weights = self._weights + lacking
        self._add(lacking, self.places, angles, center)

    def _folded(self, angles: Angles) -> Angles:
        """Return the angles that say what each projection weighs."""
        return of_half_turn(angles) if self._projections.is_widened else angles

    def _draw(self, weights: Angles, places: Sequence[Place], angles: Angles, center: float) -> None:
        """Draw all projections into planes that have just begun."""
        if self._projections.corrections.rings != "none" and self._projections.ready:
            self._clean(places, angles, center)
            places = [place for place in places if place[0] != "xy"]
        self._add(weights, places, angles, center)

    def _add(
        self, weights: Angles, places: Sequence[Place], angles: Angles, center: float, first: int = 0
    ) -> None:
        """Add each projection, from ``first`` on, times its weight."""
        if not places or not len(weights):
            return
        axis = self._projections.place_of(center)
        start = first - first % PIECE
        pieces = [(max(start + a, first), start + b) for a, b in blocks(len(weights) - start, PIECE)]
        pieces = [(a, b) for a, b in pieces if weights[a:b].any()]
        if all(plane == "xy" for plane, _ in places):
            for some in blocks(len(pieces), _TOGETHER):
                chosen = pieces[slice(*some)]
                part = np.concatenate([np.arange(a, b) for a, b in chosen])
                for place in places:
                    rows = self._projections.rows_of(int(place[1][0]), chosen)
                    self._planes.add_rows(place, rows, angles[part], weights[part], axis)
            return
        parts: list[Filtered] = []
        for a, b in pieces:
            at_hand = self._projections.keeps(a, b)
            parts.append(Filtered(self._projections.bands_of(a, b), angles[a:b], weights[a:b]))
            # what is made of counts comes with corrected projections of its own
            if len(parts) == _TOGETHER or not at_hand:
                self._planes.add(parts, axis, places)
                parts = []
        if parts:
            self._planes.add(parts, axis, places)

    def _clean(self, places: Iterable[Place], angles: Angles, center: float) -> None:
        """Draw planes across the axis again, without rings."""
        axis = self._projections.place_of(center)
        order = np.argsort(angles, kind="stable")
        for place in places:
            if place[0] == "xy":
                rows = self._projections.clean_rows(int(place[1][0]), order)
                self._planes.begin(place)
                self._planes.add_rows(place, rows, angles, self._weights, axis)
        self.striped = 0
