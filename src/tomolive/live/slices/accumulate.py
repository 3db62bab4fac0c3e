"""Slices that grow with every projection, right in grey level at every moment.

Backprojection is a sum over projections, so slices can be drawn as frames arrive. What an early projection
weighs changes as its neighbours come in: slices are drawn with the weights known at the time and scaled to
the angles seen so far; when weights have drifted apart, and at the end, the differences are drawn too. After
`SliceAccumulator.finish` the slices are those of ``tomolive.recon.reconstruct(..., method="backprojection")``
on the same frames.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.errors import ReconstructionError
from tomolive.live.slices.arrivals import Arrivals
from tomolive.live.slices.centring import Centring, Found, Question
from tomolive.live.slices.drawing import Drawing
from tomolive.live.slices.part import Part
from tomolive.live.slices.planes import Place, check_place
from tomolive.live.slices.prepared import PLAIN, PreparedProjections
from tomolive.live.slices.projections import ProjectionStore
from tomolive.live.slices.references_in_force import ReferencesInForce
from tomolive.live.slices.result_planes import ResultPlanes
from tomolive.live.slices.state import SliceState
from tomolive.recon.filters import check_filter
from tomolive.recon.half_acquisition import is_half_acquisition
from tomolive.recon.slices import check_center

Counts = npt.NDArray[np.generic]
Pixels = npt.NDArray[np.float32]


class SliceAccumulator(SliceState):
    """The slices of one scan.

    Not thread-safe: one thread owns it. Its kernels use ``threads`` threads of a shared pool.

    Parameters
    ----------
    rows, columns
        Shape of a projection.
    center
        Column on which the rotation axis is projected; None: estimated.
    provisional
        Where the centre is taken to be until it can be estimated; None: the middle of the detector.
    filter
        One of `tomolive.recon.FILTERS`.
    corrections
        What is done beside darks and flats.
    turn
        Degrees that the scan will turn through, if that is known; those that it has turned count as well. A
        whole turn about an axis near the edge of the detector is a half acquisition: slices are nearly twice
        as wide.
    positions
        Index of each plane in the volume, {"xy": z, "xz": y, "yz": x}; default: the middle.
    store
        Where projections are kept.
    filtered_mb
        Megabytes for filtered projections, see `PreparedProjections`.
    threads
        Threads of the kernels.
    part
        Which rows of a field these are: ``rows`` are its own then, and projections have its ``shape``.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        center: float | None = None,
        provisional: float | None = None,
        filter: str = "ramp",  # noqa: A002  the field's word
        corrections: CorrectionSettings = PLAIN,
        turn: float | None = None,
        positions: Mapping[str, int] | None = None,
        store: ProjectionStore | None = None,
        filtered_mb: float = 1024,
        threads: int = 2,
        part: Part | None = None,
    ) -> None:
        shape = part.shape if part else (rows, columns)
        store = store if store is not None else ProjectionStore()
        projections = PreparedProjections(rows, columns, store, filtered_mb, threads, part)
        super().__init__(
            columns, Arrivals(shape), ReferencesInForce(shape, part), projections,
            Centring(columns, center, provisional), Drawing(projections, threads),
            ResultPlanes((rows, columns, columns), 1),
        )  # fmt: skip
        self._threads = threads
        self._turn = turn
        self._set_up(check_filter(filter), corrections)
        for plane, position in (positions or {}).items():
            self._planes.move(plane, position)

    # -- what comes in ---------------------------------------------------------------------------------

    def set_references(
        self,
        darks: Counts | None,
        flats: Counts | Sequence[Counts] | None,
        times: Sequence[float] | None = None,
    ) -> None:
        """Correct with these darks and flats (n, rows, columns) from now on; what is there is drawn again.

        With ``times``, ``flats`` is a sequence of such arrays, and ``times`` are the numbers of the
        projections before which they were taken; between them flats are interpolated.

        Raises
        ------
        ReconstructionError
            if they do not fit the projections, or the flats are no brighter than the darks.
        """
        self._take_references(*self._references.checked(darks, flats, times))

    def set_references_of_tiles(
        self,
        darks: Sequence[Counts] | None,
        flats: Sequence[Sequence[Counts]],
        times: Sequence[float] | None,
    ) -> None:
        """As `set_references`, for a part of a field: whole frames, of each time one for each tile."""
        self._take_references(darks, flats, times)

    def _take_references(self, darks: Any, sets: Sequence[Any], times: Sequence[float] | None) -> None:
        before = self._references.given
        self._references.given = darks, sets, times if len(sets) > 1 else None
        try:
            self._set_up(self.filter, self.corrections, new_references=True)
        except ReconstructionError:
            self._references.given = before
            raise
        self._centring.reconsider()
        self._centring.from_pair(self._projections, self.angles)
        self._redraw()

    def add(
        self,
        projections: Counts,
        angles: npt.ArrayLike,
        numbers: Sequence[int] | npt.NDArray[np.integer],
        *,
        estimate: bool = True,
    ) -> None:
        """Add raw projections (n, rows, columns) at ``angles`` (n,), radians.

        In any order; ``numbers`` (n,) tells them apart, and one that is there already is counted and left
        out. Without ``estimate`` the centre stays where it is until `recentre`.
        """
        projections, radians = self.arrivals.checked(projections, angles, numbers)
        fresh = self.arrivals.take(radians, numbers)
        if not fresh.any():
            return
        self._projections.append(projections[fresh], np.asarray(numbers)[fresh])
        if self.field is None or not self.received:
            return
        if estimate and self.recentre():
            return
        if self._axis(self.corrections) == self._projections.axis:
            self._drawing.draw_new(self.angles, self.center)
        else:  # it has turned so far by now that it is seen to be a half acquisition
            self._redraw()

    def leave_out(self, numbers: npt.NDArray[np.integer]) -> None:
        """Have slices hold all projections but those with these numbers, also of those to come."""
        if self._projections.leave_out(numbers):
            self._centring.reconsider()
            self._centring.from_pair(self._projections, self.angles)
            self._redraw()

    def recentre(self) -> bool:
        """Estimate the centre from the best opposite pair; return whether it moved, and slices with it."""
        moved = self._centring.from_pair(self._projections, self.angles)
        if moved:
            self._redraw()
        return moved

    def finish(self, *, refine: bool = True) -> None:
        """Refine the weights, and the centre, with all that came; more may follow, and be finished again."""
        if not self.received:
            return
        if self.field is None:
            self._set_up(self.filter, self.corrections, new_references=True)
            self._redraw()
        self.recentre()
        if refine and (question := self.refinement()):
            self.take_center(question())
        self._drawing.settle(self.angles, self.center)

    # -- what a user changes ---------------------------------------------------------------------------

    def restart(
        self,
        center: float | None = None,
        filter: str | None = None,  # noqa: A002  the field's word
        corrections: CorrectionSettings | None = None,
    ) -> None:
        """Draw everything again with another centre, filter or corrections; None leaves it as it is.

        Raises
        ------
        ReconstructionError
            if that cannot be done; nothing is changed then.
        """
        if center is not None:
            check_center(center, self._columns)
        before = self._centring.center
        if center is not None:
            self._centring.center = center
        try:
            self._set_up(check_filter(filter or self.filter), corrections or self.corrections)
        except ReconstructionError:
            self._centring.center = before
            raise
        if center is not None:
            self._centring.give(center)
        self._redraw()

    def estimate_center(self, *, refine: bool = True) -> None:
        """Forget a given centre; estimate it from what is there and draw everything again.

        Until there is enough to estimate it from, it stays where it is.
        """
        self._centring.forget()
        self._centring.from_pair(self._projections, self.angles)
        if refine and (question := self.refinement()):
            self._centring.take(question())
        self._redraw()

    def refinement(self) -> Question | None:
        """Return what refines the centre with all that came, for any thread; see `take_center`."""
        return self._centring.refinement(self._projections, self.angles, self._threads)

    def early_estimate(self, threads: int = 1) -> Question | None:
        """Return what estimates the centre before 180 degrees, for any thread; None: too early, or late."""
        return self._centring.early(self._projections, self.angles, threads)

    def take_center(self, found: Found | None, *, early: bool = False) -> bool:
        """Take a centre that was found, unless a better one is known; return whether slices changed."""
        if not self._centring.take(found, early=early):
            return False
        self._redraw()
        return True

    def retarget(self, plane: str, position: int) -> None:
        """Move a plane of the results to another position in the volume."""
        before = self._planes.places
        self._planes.move(plane, position)
        for here in set(before).difference(self._planes.places):
            self._drawing.drop(here)
        self._draw(self._planes.place(plane))

    def look(self, places: Iterable[Place]) -> None:
        """Have these planes grow, beside those of the results, and no others; new ones are drawn at once.

        Raises
        ------
        ReconstructionError
            if one lies outside the volume; the others grow.
        """
        rows, columns = self.volume_shape[:2]
        wanted = [*self._planes.places, *places]
        for place in self._drawing.places:
            if place not in wanted:
                self._drawing.drop(place)
        wrong = None
        for place in wanted:
            try:
                self._draw(check_place(place, rows, columns))
            except ReconstructionError as error:
                wrong = error
        if wrong is not None:
            raise wrong

    # -- what comes out --------------------------------------------------------------------------------

    def slices(self) -> dict[str, Pixels]:
        """Return copies of the slices, 1/pixel: xy (columns, columns), xz and yz (rows, columns)."""
        return {place[0]: self.picture(place) for place in self._planes.places}

    def picture(self, place: Place) -> Pixels:
        """Return a copy of a plane, 1/pixel; one that does not grow is drawn for this, and forgotten."""
        place = check_place(place, *self.volume_shape[:2])
        grows = self.grows(place)
        self._draw(place)
        try:
            return self._drawing.picture(place)
        finally:
            if not grows:
                self._drawing.drop(place)

    # -- geometry and corrections ----------------------------------------------------------------------

    def _set_up(self, filter_: str, corrections: CorrectionSettings, *, new_references: bool = False) -> None:
        """Have projections prepared in this way; slices are behind until `_redraw`."""
        field, assumed = self._references.field, self._references.assumed
        if new_references or corrections.binning != self.corrections.binning:
            first = self._projections.first_counts() if self.received else None
            field, assumed = self._references.come_to(corrections, first)
        before = self.volume_shape
        self._projections.set_up(field, corrections, filter_, self._axis(corrections))
        self._references.field, self._references.assumed = field, assumed
        if before != self.volume_shape:
            self._planes.fit(self.volume_shape, corrections.binning)

    def _axis(self, corrections: CorrectionSettings) -> float | None:
        """Return the centre about which a half acquisition is widened; None if the scan is none."""
        angles = self.angles
        if self._turn is None and not angles.size:
            return None
        turned = float(np.degrees(np.ptp(angles))) if angles.size else 0.0
        turn, said = max(self._turn or 0.0, turned), corrections.half_acquisition
        wide = is_half_acquisition(self.center, self._columns, turn, said, binning=corrections.binning)
        return self.center if wide else None

    # -- drawing ---------------------------------------------------------------------------------------

    def _redraw(self) -> None:
        # a centre that moved may have made a half acquisition wider
        self._set_up(self.filter, self.corrections)
        for place in self._drawing.places:
            if place[0] == "oblique":
                # It takes as long as all slices together, which are shown before: `look` draws it again.
                self._drawing.drop(place)
        self._drawing.redraw(self.angles, self.center, self._planes.places)

    def _draw(self, place: Place) -> None:
        self._drawing.draw(place, self.angles, self.center)
