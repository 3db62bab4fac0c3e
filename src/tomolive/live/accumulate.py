"""Three orthogonal slices that grow with every projection, right in grey level at every moment.

Backprojection is a sum over projections, so slices can be drawn as frames arrive. What an early projection
weighs changes as its neighbours come in: slices are drawn with the weights known at the time and scaled to
the angles seen so far; when weights have drifted apart, and at the end, the differences are drawn too. After
`SliceAccumulator.finish` the slices are those of ``tomolive.recon.reconstruct(..., method="backprojection")``
on the same frames.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tomolive import geometry
from tomolive.errors import ReconstructionError
from tomolive.live.ortho import OrthoSlices
from tomolive.live.projections import ProjectionStore
from tomolive.recon.center import check_angles, from_opposite, refined
from tomolive.recon.correct import FlatField, flat_field, line_integrals
from tomolive.recon.filters import check_filter
from tomolive.recon.parallel import blocks
from tomolive.recon.slices import check_center

PLANES = ("xy", "xz", "yz")

_BATCH = 16
"""Projections that are drawn at once: their filtered rows fit the cache."""
_DRIFT = 0.05
"""Part of the picture that may carry a wrong weight before it is drawn again."""
_EXACT = 1e-6
_MOVED = 0.02
"""Columns; a centre that moved less is the same."""
_CENTER_ROWS = 128


class SliceAccumulator:
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
    positions
        Index of each plane in the volume, {"xy": z, "xz": y, "yz": x}; default: the middle.
    store
        Where projections are kept.
    filtered_mb
        Megabytes for filtered projections, which make a change of centre or plane quick. What does not fit is
        filtered again from the store when it is needed.
    threads
        Threads of the kernels.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        center: float | None = None,
        provisional: float | None = None,
        filter: str = "ramp",  # noqa: A002  the field's word
        positions: dict[str, int] | None = None,
        store: ProjectionStore | None = None,
        filtered_mb: float = 1024,
        threads: int = 2,
    ) -> None:
        self.rows, self.columns = rows, columns
        self.filter = check_filter(filter)
        self.positions = {"xy": rows // 2, "xz": columns // 2, "yz": columns // 2}
        for plane, position in (positions or {}).items():
            self.positions[plane] = self._checked_position(plane, position)
        self.notes: list[str] = []
        """What was assumed, in plain sentences."""
        self.duplicates = 0
        """Projections that came again and were left out."""
        self.center, self.center_source = (columns - 1) / 2, "provisional: the middle of the detector"
        if center is not None:
            self.center, self.center_source = check_center(center, columns), "given"
        elif provisional is not None:
            self.center = check_center(provisional, columns)
            self.center_source = "provisional: that of the scan before"
        self._center_given = center is not None
        self._pair_deviation: float | None = None
        self._store = store if store is not None else ProjectionStore()
        self._angles = np.empty(0)
        self._numbers: set[int] = set()
        self._dtype: np.dtype | None = None
        self._field: FlatField | None = None
        self._darks: npt.NDArray[np.generic] | None = None
        self._threads = threads
        self._slices = OrthoSlices(rows, columns, self.positions, threads)
        self._drawn = np.empty(0)
        """Weight with which each projection is in the slices, radians; a common factor is left open."""
        self._redrawn_at = 0
        self._pieces: list[tuple[int, int]] = []
        """Ranges of projections that are drawn together."""
        self._filtered: dict[int, list[npt.NDArray[np.float32]]] = {}
        """Filtered projections of pieces, by their first one, as far as memory was allowed for them."""
        self._filtered_room = int(filtered_mb * 2**20)

    # -- what comes in ---------------------------------------------------------------------------------

    def set_references(
        self, darks: npt.NDArray[np.generic] | None, flats: npt.NDArray[np.generic] | None
    ) -> None:
        """Correct with these darks and flats (n, rows, columns) from now on; what is there is drawn again.

        Raises
        ------
        ReconstructionError
            if they do not fit the projections, or the flats are nowhere brighter than the darks.
        """
        darks = darks if darks is not None and len(darks) else None
        flats = flats if flats is not None and len(flats) else None
        for name, frames in (("darks", darks), ("flats", flats)):
            if frames is not None and frames.shape[-2:] != (self.rows, self.columns):
                raise ReconstructionError(
                    f"{name} have frames of {frames.shape[-2:]} pixels; expected {(self.rows, self.columns)}"
                )
        self.notes = []
        if darks is None:
            self.notes.append("No darks: the camera is taken to count nothing without beam.")
        if flats is None:
            self._field = None
            if len(self._store):
                self._assume_even_beam(darks)
        else:
            self._field = flat_field(flats, darks)
        self._darks = darks
        if self._field is not None and not self._center_given:
            self._estimate_center()
        self._redraw()

    def _assume_even_beam(self, darks: npt.NDArray[np.generic] | None) -> None:
        brightest = float(np.percentile(self._store.take(np.arange(1)).astype(np.float64), 99.9))
        flat = np.full((self.rows, self.columns), brightest)
        self._field = flat_field(flat, darks)
        self.notes.append(
            f"No flats: the beam is taken to be even, {brightest:.6g} counts, the brightest of the first "
            "projection. Grey levels are not absolute."
        )

    def add(
        self,
        projections: npt.NDArray[np.generic],
        angles: npt.ArrayLike,
        numbers: Sequence[int] | npt.NDArray[np.integer],
    ) -> None:
        """Add raw projections (n, rows, columns) at ``angles`` (n,), radians.

        In any order; ``numbers`` (n,) tells them apart, and one that is there already is counted and left
        out.
        """
        projections = np.asarray(projections)
        radians = np.atleast_1d(np.asarray(angles, np.float64))
        if projections.shape != (len(radians), self.rows, self.columns) or len(numbers) != len(radians):
            raise ReconstructionError(
                f"projections has shape {projections.shape} with {len(radians)} angles and {len(numbers)} "
                f"numbers; expected ({len(radians)}, {self.rows}, {self.columns})"
            )
        if not np.isfinite(radians).all():
            raise ReconstructionError(f"angles of projections {list(numbers)} are not all finite")
        fresh = self._fresh(numbers)
        if not fresh.any():
            return
        self._check_type(projections.dtype)
        self._store.append(projections[fresh])
        self._angles = np.concatenate([self._angles, radians[fresh]])
        if self._field is None:
            return
        if not self._center_given and self._estimate_center():
            self._redraw(refilter=False)
        else:
            self._draw_new()

    def _check_type(self, dtype: np.dtype) -> None:
        if self._dtype is None:
            self._dtype = dtype
        elif not np.can_cast(dtype, self._dtype, "safe"):
            raise ReconstructionError(f"projections are {dtype}, but those before were {self._dtype}")

    def _fresh(self, numbers: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        fresh = np.zeros(len(numbers), bool)
        for i, number in enumerate(map(int, numbers)):
            fresh[i] = number not in self._numbers
            self._numbers.add(number)
        self.duplicates += int(np.count_nonzero(~fresh))
        return fresh

    def finish(self) -> None:
        """Refine the centre and the weights with all that came; more may follow, and be finished again."""
        if not len(self._store):
            return
        if self._field is None:
            self._assume_even_beam(self._darks)
            self._redraw()
        if not self._center_given and self._refine_center():
            self._redraw(refilter=False)
        self._settle_weights()

    # -- what a user changes ---------------------------------------------------------------------------

    def restart(self, center: float | None = None, filter: str | None = None) -> None:  # noqa: A002
        """Draw everything again with another centre or filter; None leaves it as it is."""
        if center is not None:
            self.center = check_center(center, self.columns)
            self.center_source = "given"
            self._center_given = True
        if filter is not None:
            self.filter = check_filter(filter)
        self._redraw(refilter=filter is not None)

    def estimate_center(self) -> None:
        """Forget a given centre; estimate it from what is there and draw everything again.

        Until there is enough to estimate it from, it stays where it is.
        """
        self._center_given = False
        self.center_source = "provisional: that of before, until it can be estimated"
        self._pair_deviation = None
        if self._field is not None and len(self._store) > 1:
            self._estimate_center()
            self._refine_center()
        self._redraw(refilter=False)

    def retarget(self, plane: str, position: int) -> None:
        """Move a plane to another position in the volume and draw it again."""
        self.positions[plane] = self._checked_position(plane, position)
        self._redraw(refilter=False)

    def _checked_position(self, plane: str, position: int) -> int:
        if plane not in PLANES:
            raise ReconstructionError(f"plane={plane!r} is not known; expected one of {', '.join(PLANES)}")
        count = self.rows if plane == "xy" else self.columns
        if not 0 <= int(position) < count:
            raise ReconstructionError(f"position={position} of plane {plane} is outside 0 to {count - 1}")
        return int(position)

    # -- what comes out --------------------------------------------------------------------------------

    @property
    def received(self) -> int:
        """Projections that are kept."""
        return len(self._store)

    @property
    def coverage(self) -> float:
        """Degrees of the half turn that the projections cover."""
        return float(np.degrees(geometry.covered(self._angles)))

    def slices(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return copies of the slices, 1/pixel: xy (columns, columns), xz and yz (rows, columns)."""
        total = self._drawn.sum()
        return self._slices.images(np.pi / total if total > 0 else 0.0)

    def slices_at(self, positions: Mapping[str, int]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the slices of planes that lie elsewhere; those that grow stay where they are."""
        if positions == self.positions:
            return self.slices()
        here = self.positions, self._slices, self._drawn, self._redrawn_at
        try:
            self.positions = dict(positions)
            self._redraw(refilter=False)
            return self.slices()
        finally:
            self.positions, self._slices, self._drawn, self._redrawn_at = here

    # -- the centre ------------------------------------------------------------------------------------

    def _corrected(self, indices: npt.NDArray[np.intp], rows: slice) -> npt.NDArray[np.float32]:
        assert self._field is not None  # noqa: S101  callers have checked it
        field = FlatField(self._field.dark[rows], self._field.gain[rows])
        return line_integrals(self._store.take(indices, rows), field)

    def _estimate_center(self) -> bool:
        """Estimate the centre from the best opposite pair so far; True if it moved."""
        if self._pair_deviation is not None and self._pair_deviation < 1e-6:
            return False
        pair = geometry.opposite_pair(self._angles)
        if pair is None or (self._pair_deviation is not None and pair[2] > 0.5 * self._pair_deviation):
            return False
        first, second, self._pair_deviation = pair
        middle = slice(max(0, (self.rows - _CENTER_ROWS) // 2), (self.rows + _CENTER_ROWS + 1) // 2)
        both = self._corrected(np.array([first, second]), middle)
        found = from_opposite(both[0], both[1])
        apart = np.degrees(abs(self._angles[second] - self._angles[first]))
        return self._take_center(found, f"estimated from two projections {apart:.4g} degrees apart")

    def _refine_center(self) -> bool:
        """Refine the centre by a scan over a few rows; True if it moved."""
        if len(self._store) < 3 or not 0 < self.center < self.columns - 1:
            return False
        picked = np.unique(np.linspace(0, self.rows - 1, min(self.rows, 4) + 2)[1:-1].round().astype(int))
        indices = np.arange(len(self._store))
        sinograms = np.stack([self._corrected(indices, slice(row, row + 1))[:, 0] for row in picked])
        angles = check_angles(self._angles)
        start = None if self._pair_deviation is None else self.center
        found = refined(sinograms, angles, start, self._pair_deviation, threads=self._threads)
        how = "estimated by scanning candidates" if start is None else "estimated and refined"
        return self._take_center(found, f"{how}, {len(self._store)} projections")

    def _take_center(self, found: float, source: str) -> bool:
        if not 0 <= found <= self.columns - 1:
            return False
        moved = abs(found - self.center) > _MOVED
        if moved:
            self.center = float(found)
        self.center_source = source
        return moved

    # -- drawing ---------------------------------------------------------------------------------------

    def _redraw(self, *, refilter: bool = True) -> None:
        """Draw everything again; ``refilter`` unless the filtered projections are still right."""
        if refilter:
            self._filtered_room += sum(map(_size, self._filtered.values()))
            self._filtered.clear()
        self._slices = OrthoSlices(self.rows, self.columns, self.positions, self._threads)
        self._drawn = np.zeros(0)
        if self._field is not None and len(self._store):
            self._drawn = np.zeros(len(self._store))
            self._draw(np.arange(len(self._store)), geometry.angle_weights(self._angles))
            self._redrawn_at = len(self._store)

    def _draw_new(self) -> None:
        """Draw what has been added, with weights that fit those already drawn."""
        count, old = len(self._store), len(self._drawn)
        cells = geometry.angle_cells(self._angles)
        self._drawn = np.concatenate([self._drawn, np.zeros(count - old)])
        scale = self._drawn.sum() / cells[:old].sum() if old else 1.0
        self._draw(np.arange(old, count), cells[old:] * scale)
        if count >= 1.5 * self._redrawn_at:
            self._settle_weights(_DRIFT)

    def _settle_weights(self, tolerance: float = _EXACT) -> None:
        """Draw the differences to the right weights, if they matter."""
        right = geometry.angle_weights(self._angles)
        # a common factor costs nothing; the one that most projections agree on
        factor = np.median(self._drawn / right)
        lacking = right * factor - self._drawn
        if np.abs(lacking).sum() <= tolerance * self._drawn.sum():
            return
        wrong = np.flatnonzero(np.abs(lacking) > _EXACT * right * factor)
        self._redrawn_at = len(self._store)
        if len(wrong) > len(right) // 2:
            self._redraw(refilter=False)
        else:
            self._draw(wrong, lacking[wrong])

    def _draw(self, indices: npt.NDArray[np.intp], weights: npt.NDArray[np.float64]) -> None:
        every = np.zeros(len(self._store))
        every[indices] = weights
        drawn = self._pieces[-1][1] if self._pieces else 0
        self._pieces += [(drawn + a, drawn + b) for a, b in blocks(len(self._store) - drawn, _BATCH)]
        for first, last in self._pieces:
            part = every[first:last]
            if part.any():
                filtered = self._filtered_piece(first, last)
                self._slices.add(filtered, self._angles[first:last], part, self.center)
        self._drawn += every

    def _filtered_piece(self, first: int, last: int) -> list[npt.NDArray[np.float32]]:
        """Return the filtered projections of a piece, and keep them if there is room."""
        assert self._field is not None  # noqa: S101  callers have checked it
        kept = self._filtered.get(first)
        if kept is not None:
            return kept
        raw = self._store.take(np.arange(first, last))
        filtered = self._slices.filtered(raw, self._field, self.filter)
        if _size(filtered) <= self._filtered_room:
            self._filtered_room -= _size(filtered)
            self._filtered[first] = filtered
        return filtered


def _size(arrays: list[npt.NDArray[np.float32]]) -> int:
    return sum(array.nbytes for array in arrays)
