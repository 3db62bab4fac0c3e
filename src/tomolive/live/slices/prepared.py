"""The projections of a scan as planes need them: kept raw, corrected, filtered as far as memory allows."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.live.slices.filtered import PIECE, FilteredPieces
from tomolive.live.slices.part import Part
from tomolive.live.slices.projections import ProjectionStore
from tomolive.recon.binning import binned_place, binned_shape
from tomolive.recon.filters import GUARDS, check_filter, filter_bands, filter_rows
from tomolive.recon.flat_field import AnyField, FlatField, FlatSeries
from tomolive.recon.fused import correct_and_filter
from tomolive.recon.half_acquisition import widen
from tomolive.recon.parallel import blocks, run
from tomolive.recon.pipeline import context_rows, correct_projections, correct_sinograms

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

PLAIN = CorrectionSettings()


class PreparedProjections:
    """Projections of one scan, in order of arrival.

    Parameters
    ----------
    rows, columns
        Shape of a projection as the camera gives it; of a part of a field, its own rows and all columns.
    store
        Where counts are kept.
    filtered_mb
        Megabytes for filtered projections, which make a change of centre or plane quick. What does not fit is
        filtered again from the counts when it is needed.
    threads
        How many correct and filter.
    part
        Which rows of a field these are; None: they are all there is.

    Attributes
    ----------
    rows, columns : int
        Shape of a projection after binning and widening: those of the volume.
    used : numpy.ndarray
        Which of all that were kept these are, (n,): those that are not left out.
    numbers : numpy.ndarray
        Their numbers within the scan, (n,).
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        store: ProjectionStore,
        filtered_mb: float,
        threads: int,
        part: Part | None = None,
    ) -> None:
        self._shape, self._part = (rows, columns), part
        self.rows, self.columns = rows, columns
        self._store, self._threads = store, threads
        self._all_numbers = self.numbers = self.used = np.empty(0, np.intp)
        self._left_out = np.empty(0, np.intp)
        self.filter = "ramp"
        self.corrections = PLAIN
        self._field: AnyField | None = None
        self._axis: float | None = None
        self._filtered = FilteredPieces(rows, columns, filtered_mb * 2**20)

    def __len__(self) -> int:
        return len(self.used)

    @property
    def ready(self) -> bool:
        """Whether there are projections, and what they are corrected with."""
        return self._field is not None and len(self) > 0

    @property
    def place(self) -> tuple[int, int]:
        """Row of the volume in which the first row lies, and how many rows the volume has; binned."""
        if self._part is None:
            return 0, self.rows
        binning = self.corrections.binning
        return self._part.own[0] // binning, self._part.mosaic.rows // binning

    @property
    def axis(self) -> float | None:
        """Rotation centre about which projections are widened, detector column; None if they are not."""
        return self._axis

    @property
    def is_widened(self) -> bool:
        """Whether this is a half acquisition."""
        return self._axis is not None

    # -- what comes in ---------------------------------------------------------------------------------

    def append(self, frames: npt.NDArray[np.generic], numbers: Sequence[int] | npt.NDArray) -> None:
        """Keep raw projections (n, rows, columns)."""
        self._store.append(frames)
        self._all_numbers = np.concatenate([self._all_numbers, np.asarray(numbers, np.intp)])
        self._select()

    def leave_out(self, numbers: npt.NDArray[np.integer]) -> bool:
        """Use all projections but those with these numbers, also of those to come; whether that is new.

        They stay where they are kept, and may be used again.
        """
        before, self._left_out = self.used, numbers.astype(np.intp)
        self._select()
        if np.array_equal(before, self.used):
            return False
        self._filtered.forget(self.rows, self.columns)
        return True

    def _select(self) -> None:
        self.used = np.flatnonzero(~np.isin(self._all_numbers, self._left_out))
        self.numbers = self._all_numbers[self.used]

    def first_counts(self) -> npt.NDArray[np.generic]:
        """Return the counts of the first projection, (rows, columns)."""
        return self._store.take(self.used[:1])[0]

    def counts_of(self, number: int) -> npt.NDArray[np.generic] | None:
        """Return the counts of the projection with this number within the scan; None if it is not there."""
        found = np.flatnonzero(self.numbers == number)
        return self._store.take(self.used[found[:1]])[0] if len(found) else None

    def set_up(
        self, field: AnyField | None, corrections: CorrectionSettings, filter_name: str, axis: float | None
    ) -> None:
        """Say how projections are prepared from now on; what was prepared otherwise is forgotten.

        Parameters
        ----------
        field
            Darks and flats, binned as ``corrections`` say; None: not known yet.
        axis
            Rotation centre of a half-acquisition scan, detector column, about which projections are widened;
            None for every other scan.
        """
        same = field is self._field and corrections == self.corrections and filter_name == self.filter
        if same and axis == self._axis:
            return
        self._field, self.corrections = field, corrections
        self.filter, self._axis = check_filter(filter_name), axis
        self.rows, columns = binned_shape(self._shape, corrections.binning)
        self.columns = self.widened(np.zeros((1, columns), np.float32)).shape[-1]
        self._filtered.forget(self.rows, self.columns)

    def place_of(self, center: float) -> float:
        """Return where a detector column lies among those of the prepared projections."""
        place = binned_place(center, self.corrections.binning)
        if self._axis is None:
            return place
        columns = self._shape[1] // self.corrections.binning
        axis = binned_place(self._axis, self.corrections.binning)
        return place + widen(np.zeros((1, columns), np.float32), axis)[1] - axis

    # -- what comes out --------------------------------------------------------------------------------

    def integrals(self, indices: Indices, rows: slice = slice(None)) -> Floats:
        """Return line integrals (n, rows, columns) of some projections, some or all (binned) rows."""
        assert self._field is not None  # noqa: S101  callers have asked whether it is ready
        times = self.numbers[indices] if isinstance(self._field, FlatSeries) else None
        around, binning, part = context_rows(self.corrections), self.corrections.binning, self._part
        first, last, _ = rows.indices(self.rows)
        above = part.above // binning if part else 0
        first, last, all_rows = first + above, last + above, len(self._field.gain)
        taken = slice(0, all_rows)
        if around is not None:
            taken = slice(max(0, first - around), min(all_rows, last + around))
        raw = self._store.take(self.used[indices], slice(taken.start * binning, taken.stop * binning))
        found = correct_projections(
            raw, self._field.part(taken), self.corrections, times=times, threads=self._threads,
            join=partial(part.join, rows=taken) if part and part.is_joined else None,
        )  # fmt: skip
        return found[:, first - taken.start : last - taken.start]

    def sinograms(self, rows: Sequence[int], count: int | None = None) -> Floats:
        """Return the line integrals (rows, projections, columns) of some (binned) rows."""
        every = np.arange(len(self) if count is None else count)
        if context_rows(self.corrections) is None:
            parts = [self.integrals(every[a:b])[:, rows] for a, b in blocks(len(every), PIECE)]
            return np.concatenate(parts).transpose(1, 0, 2)
        return np.stack([self.integrals(every, slice(row, row + 1))[:, 0] for row in rows])

    def clean_rows(self, row: int, order: Indices) -> Floats:
        """Return a row of all projections, without stripes, filtered and guarded: (n, columns + 3).

        ``order`` sorts the projections by their angles, as stripe removal wants them.
        """
        sinogram = self.sinograms([row])[0]
        clean = np.empty_like(sinogram)
        clean[order] = correct_sinograms(sinogram[order], self.corrections, threads=self._threads)
        return self._guarded(clean)

    def rows_of(self, row: int, pieces: Sequence[tuple[int, int]]) -> Floats:
        """Return a row of some projections, filtered and guarded: (n, columns + 3).

        ``pieces`` holds the first projection, and the one after the last, of pieces or parts of them.
        """
        if self._is_straight:
            return np.concatenate(run(partial(self._row_of, row), pieces, self._threads))
        # corrections bring threads of their own
        return np.concatenate([self._row_of(row, piece) for piece in pieces])

    def _row_of(self, row: int, piece: tuple[int, int]) -> Floats:
        first, last = piece
        if self.keeps(first, last):
            return self._filtered.row(row, first, last)
        if self._is_straight:
            return self._preparation(np.arange(first, last))((row, row + 1))[:, :, 0]
        return self._guarded(self.integrals(np.arange(first, last), slice(row, row + 1))[:, 0])

    def _guarded(self, integrals: Floats) -> Floats:
        filtered = filter_rows(self.widened(integrals), self.filter)
        guarded = np.zeros((len(filtered), filtered.shape[1] + GUARDS), np.float32)
        guarded[:, 1:-2] = filtered
        return guarded

    def keeps(self, first: int, last: int) -> bool:
        """Whether these projections of one piece are in memory, filtered."""
        return self._filtered.holds(first, last)

    def bands_of(self, first: int, last: int) -> Sequence[Floats]:
        """Return filtered projections of one piece, see `FilteredPieces.bands_of`."""
        return self._filtered.bands_of(first, last, self._preparation)

    @property
    def _is_straight(self) -> bool:
        """Whether filtered rows are made of counts in one pass."""
        more, part = self.corrections, self._part
        plain = not more.zingers and more.paganin is None and more.binning == 1
        joined = part is not None and part.is_joined
        return plain and isinstance(self._field, FlatField) and self._axis is None and not joined

    def _preparation(self, indices: Indices) -> Callable[..., Floats]:
        """Return what makes a band of some projections, from its rows and where to write it."""
        field = self._field
        if self._is_straight and isinstance(field, FlatField):
            raw, above = self._store.take(self.used[indices]), self._part.above if self._part else 0
            return lambda rows, out=None: correct_and_filter(
                raw, field, (rows[0] + above, rows[1] + above), self.filter, out=out
            )
        integrals = self.integrals(indices)
        return lambda rows, out=None: filter_bands(
            self.widened(integrals[:, slice(*rows)]), self.filter, out=out
        )

    def widened(self, integrals: Floats) -> Floats:
        """Return line integrals (..., columns) as wide as the volume: of a half acquisition with shares."""
        if self._axis is None:
            return np.ascontiguousarray(integrals)
        return widen(integrals, binned_place(self._axis, self.corrections.binning))[0]
