"""One scan's pictures as they grow: references, slices, the newest projection, and the figures about them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings, LiveSettings
from tomolive.errors import ReconstructionError
from tomolive.live.beam import without_beam_in_words
from tomolive.live.controls import Wish
from tomolive.live.documents.references import UNUSABLE, References, Stack
from tomolive.live.documents.run import Batch, Scan
from tomolive.live.slices.accumulate import SliceAccumulator
from tomolive.live.slices.centring import Found, Question
from tomolive.live.slices.part import Part
from tomolive.live.slices.planes import Place
from tomolive.live.slices.prepared import PLAIN
from tomolive.live.slices.projections import ProjectionStore
from tomolive.live.slices.sinograms import Sinograms
from tomolive.live.slices.tile_references import TileReferences
from tomolive.live.snapshot import Plane, Trend
from tomolive.live.trends import SliceNumbers, Trends
from tomolive.recon.binning import binned
from tomolive.recon.correct import FlatField, flat_field

Pixels = npt.NDArray[np.float32]

SLICES: tuple[Plane, ...] = ("xy", "xz", "yz")


class Tomogram:
    """The reconstruction of one scan.

    Parameters
    ----------
    scan
        What is known of the run; only read here.
    shape
        (rows, columns) of a projection.
    references
        Where darks and flats are found: the scan's own, else those of the runs that it names.
    settings
        Centre, filter, threads.
    positions
        Where the slices lie; positions that this volume does not have are left out.
    provisional
        Rotation centre of the scan before, to begin with.
    part
        Which rows of a field these are, see `Part`; ``references`` are `TileReferences` then, and projections
        have its ``shape``.
    """

    def __init__(
        self,
        scan: Scan,
        shape: tuple[int, int],
        references: References | TileReferences,
        settings: LiveSettings,
        positions: Mapping[str, int],
        provisional: float | None = None,
        part: Part | None = None,
    ) -> None:
        self.shape, self._part = shape, part
        rows, columns = shape
        across = columns // settings.corrections.binning
        sizes = {"xy": rows // settings.corrections.binning, "xz": across, "yz": across}
        self.scan = scan
        self._references = references
        self._slices = SliceAccumulator(
            rows,
            columns,
            center=settings.center,
            provisional=provisional,
            filter=settings.filter,
            corrections=settings.corrections,
            turn=scan.turn,
            positions={plane: p for plane, p in positions.items() if p < sizes[plane]},
            # Filtered projections, which make changes quick, take twice as much as the counts of a camera.
            store=ProjectionStore(settings.memory_mb / 3, Path(settings.spill) if settings.spill else None),
            filtered_mb=settings.memory_mb * 2 / 3,
            threads=settings.threads,
            part=part,
        )
        self._newest: tuple[int, npt.NDArray[np.generic]] | None = None
        self._sinograms = Sinograms(self._slices)
        self._field: FlatField | None = None
        """Of whole pixels, for what is told of raw counts."""
        self._references_changed = True
        self._unusable = ""
        """Why darks and flats are not used that are there."""
        self._shut: list[str] = []
        """Which flats are left out, in words."""
        self._unfinished = False
        self._center_by = ""
        self._trends = Trends(settings.quality)
        self.without_beam = np.empty(0, np.int64)
        """Numbers of the projections that are left out."""
        self._without_beam: npt.NDArray[np.int64] | None = None
        """Those that somebody else has found."""

    # -- what comes in --------------------------------------------------------------------------------------

    def references_changed(self) -> None:
        """Darks or flats came; they are used from the next picture on, for all projections."""
        self._references_changed = True

    def add(self, batch: Batch) -> None:
        """Add projections.

        Raises
        ------
        ReconstructionError
            if they do not fit what came before.
        """
        if batch.angles is None:
            return
        self._apply_references()
        numbers = np.arange(batch.first, batch.first + len(batch.array))
        self._slices.arrivals.checked(batch.array, batch.angles, numbers)
        self._trends.add(batch.first, batch.array)
        self._leave_out()
        first = self._slices.received == 0
        self._slices.add(batch.array, batch.angles, numbers, estimate=False)
        if first and self._field is None:
            # Without flats the beam is guessed from the first projection, which is there only now.
            self._references_changed = True
            self._apply_references()
        self._newest = (batch.first + len(batch.array) - 1, batch.array[-1].copy())
        self._unfinished = True

    def recentre(self) -> bool:
        """Estimate the centre from the best opposite pair; return whether it moved, and slices with it."""
        return self._slices.recentre()

    def _apply_references(self) -> None:
        if not self._references_changed:
            return
        self._references_changed = False
        runs = (self.scan.run_uid, *self.scan.references)
        self._unusable = ""
        try:
            if isinstance(self._references, TileReferences):
                of_tiles, times, self._shut = self._references.lit_flats(runs)
                self._correct_tiles_with(self._references.darks(runs), of_tiles, times)
            else:
                flats, times, self._shut = self._references.lit_flats(runs)
                self._correct_with(self._references.dark(runs), flats, times)
        except ReconstructionError as error:
            # Others may come; until then, grey levels that are not absolute are better than no pictures.
            self._unusable = UNUSABLE.format(error)
            if self._part is None:
                self._correct_with(None, [], [])
            else:
                self._correct_tiles_with(None, [], [])
        self._leave_out()
        self._unfinished = True

    def leave_out(self, numbers: npt.NDArray[np.int64]) -> None:
        """Leave these projections out: who sees other rows has found that they saw no beam."""
        self._without_beam = numbers
        self._leave_out()

    def _leave_out(self) -> None:
        """Leave projections that saw no beam out of the slices."""
        found, told = self._trends.without_beam(self.corrections.least_beam), self._without_beam
        self.without_beam = found if told is None else told
        self._slices.leave_out(self.without_beam)

    def _correct_with(self, darks: Stack | None, flats: list[Stack], times: list[float]) -> None:
        if len(flats) > 1:
            self._slices.set_references(darks, flats, times)
        else:
            self._slices.set_references(darks, flats[0] if flats else None)
        self._field = flat_field(np.concatenate(flats), darks) if flats else None
        self._trends.set_references(self._field, flats, times)

    def _correct_tiles_with(
        self, darks: list[Stack] | None, flats: list[list[Stack]], times: list[float]
    ) -> None:
        assert self._part is not None  # noqa: S101  of a field
        self._slices.set_references_of_tiles(darks, flats, times)
        all_flats = [[np.concatenate(of_tile) for of_tile in zip(*flats, strict=True)]] if flats else []
        field, _ = self._part.averaged(darks, all_flats, None, PLAIN, None)
        self._field = field if isinstance(field, FlatField) else None
        beside = [np.asarray(self._part.counts(one), np.float64) for one in flats]
        self._trends.set_references(self._field, beside, times)

    def finish(self, *, refine: bool = True) -> bool:
        """Make the slices final with all that came; return whether they changed."""
        self._apply_references()
        changed, self._unfinished = self._unfinished, False
        if changed:
            self._slices.finish(refine=refine)
        return changed

    def refinement(self) -> Question | None:
        """Return what refines the centre with all that came, for any thread; see `take_center`."""
        return self._slices.refinement()

    def early_estimate(self) -> Question | None:
        """Return what estimates the centre before 180 degrees, for any thread; None: too early, or late."""
        return self._slices.early_estimate()

    def take_center(self, found: Found | None, *, early: bool = False) -> bool:
        """Take a centre that was found, unless a better one is known; return whether slices changed."""
        return self._slices.take_center(found, early=early)

    def quality_question(self, *, last: bool = False) -> Callable[[], SliceNumbers] | None:
        """Return what tells how good the slice is, for any thread; None: it is not time yet."""
        return self._trends.question(self._slices, last=last)

    def take_quality(self, found: SliceNumbers | None) -> None:
        """Take what was found out about the slice."""
        self._trends.take(found)

    def change(self, wish: Wish) -> None:
        """Do what someone at the page asks for.

        Raises
        ------
        ReconstructionError
            if it cannot be done; the text says why.
        """
        if wish.estimate_center:
            self._slices.estimate_center(refine=False)
            self._center_by = ""
        if wish.center is not None or wish.filter is not None or wish.corrections is not None:
            self._slices.restart(wish.center, wish.filter, wish.corrections)
            self._leave_out()
        if wish.center is not None:
            self._center_by = f"set by {wish.who}" if wish.who else "set on the page"
        if wish.plane in SLICES and wish.position is not None:
            self._slices.retarget(wish.plane, wish.position)

    def look(self, places: Iterable[Place]) -> None:
        """Have these planes grow beside those of the results, and no others."""
        self._slices.look(places)

    # -- what comes out -------------------------------------------------------------------------------------

    def grows(self, place: Place) -> bool:
        """Whether a plane grows, and holds all projections."""
        return self._slices.grows(place)

    @property
    def received(self) -> int:
        """Projections that the slices hold."""
        return self._slices.received

    @property
    def coverage(self) -> float:
        """Degrees of the half turn that they cover."""
        return self._slices.coverage

    @property
    def coverage_wanted(self) -> float:
        """Degrees that the complete scan covers."""
        whole_turn = self._slices.coverage_wanted > 180
        return self._slices.coverage_wanted if whole_turn else self.scan.coverage_wanted

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Rows, columns, columns of the volume that slices are of."""
        return self._slices.volume_shape

    @property
    def corrections(self) -> CorrectionSettings:
        """Corrections in force."""
        return self._slices.corrections

    @property
    def slices_of(self) -> SliceAccumulator:
        """What holds the projections, for questions about them."""
        return self._slices

    @property
    def center(self) -> float:
        """Rotation centre in force, detector column."""
        return self._slices.center

    @property
    def center_source(self) -> str:
        """How it was found."""
        return self._center_by or self._slices.center_source

    @property
    def filter(self) -> str:
        """Name of the filter in force."""
        return self._slices.filter

    @property
    def positions(self) -> dict[str, int]:
        """Where the slices lie: z, y, x."""
        return dict(self._slices.positions)

    @property
    def notes(self) -> list[str]:
        """What was assumed, in plain sentences."""
        unusable = [self._unusable] if self._unusable else self._shut
        phase = self.corrections.paganin
        doubts = self.scan.pixel_size_doubts(phase.pixel_size_um if phase else None)
        return [*unusable, *without_beam_in_words(self.without_beam), *self._slices.notes, *doubts]

    def trends(self, *, now: bool = False) -> tuple[Trend, ...]:
        """Return what tells whether the scan is worth going on with; unless ``now``, of a moment ago."""
        return self._trends.told(now=now)

    @property
    def pixel(self) -> float:
        """Size of a pixel of a slice, in the unit of which `units` are the inverse."""
        return (self.scan.pixel_size_um or 0) * self.corrections.binning * 1e-4 or 1.0

    @property
    def units(self) -> str:
        """Of a pixel of a slice."""
        return "1/cm" if self.scan.pixel_size_um else "1/pixel"

    def slices(self, positions: Mapping[str, int] | None = None) -> dict[str, Pixels]:
        """Return the slices: xy (columns, columns), xz and yz (rows, columns), in `units`.

        They lie at ``positions``, by default at `positions`.
        """
        return {
            plane: self.picture((plane, (float(at),))) for plane, at in (positions or self.positions).items()
        }

    def picture(self, place: Place) -> Pixels:
        """Return one plane in `units`; one that does not grow is drawn for this."""
        self._apply_references()
        pixels = self._slices.picture(place)
        if self.scan.pixel_size_um:
            pixels /= np.float32(self.pixel)
        return pixels

    def sinogram(self, row: int) -> Pixels | None:
        """Return the line integrals of a row, a line for each projection; None if there are none yet."""
        return self._sinograms.picture(row, self.scan.planned)

    def keep_sinograms(self, rows: set[int]) -> None:
        """Forget the sinograms of all rows but these."""
        self._sinograms.keep(rows)

    def projection(self, at: int | None = None) -> tuple[int, Pixels, str] | None:
        """Return number, pixels and units of the newest projection: transmission, or counts without flats.

        With a number ``at`` it is that one, if it is there. Pixels are binned as those of slices are.
        """
        if self._newest is None:
            return None
        number, counts = self._newest
        if at is not None and (of_that := self._slices.projections.counts_of(at)) is not None:
            number, counts = at, of_that
        if self._field is None:
            pixels, units = counts.astype(np.float32), "counts"
        else:
            pixels, units = (counts.astype(np.float32) - self._field.dark) * self._field.gain, "transmission"
        if self._part is not None:
            pixels = self._part.picture(pixels)
        return number, np.asarray(binned(pixels[np.newaxis], self.corrections.binning)[0], np.float32), units

    def about(self) -> dict[str, Any]:
        """Return what else there is to say in summary.json: nothing."""
        return {}
