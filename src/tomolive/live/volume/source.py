"""Line integrals out of rows of counts: by bands for the volume, by frames and rows for the centre."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.live.slices.centring import Centring
from tomolive.live.volume.rows import BAND, Empty, RowLayout, Rows
from tomolive.recon.flat_field import AnyField, FlatField, FlatSeries
from tomolive.recon.pipeline import correct_projections

Floats = npt.NDArray[np.float32]

ARRAYS = "arrays.npz"


@dataclass(frozen=True, eq=False)
class ScanArrays:
    """Arrays that every block needs."""

    angles: npt.NDArray[np.float64]
    """Radians (n,), of the projections that are used, in increasing order."""
    frames: npt.NDArray[np.int64]
    """Which frames of the store these are."""
    numbers: npt.NDArray[np.int64]
    """Their numbers within the scan, the clock of the flats."""
    field: AnyField

    def save(self, folder: Path) -> None:
        """Write them into the job's folder."""
        with (folder / ARRAYS).open("wb") as file:
            np.savez(file, **self._named())  # pyright: ignore[reportArgumentType]

    @classmethod
    def load(cls, folder: Path) -> "ScanArrays":
        """Read what `save` has written."""
        with np.load(folder / ARRAYS) as arrays:
            fields = [FlatField(*pair) for pair in zip(arrays["darks"], arrays["gains"], strict=True)]
            field = FlatSeries(tuple(fields), arrays["times"]) if len(fields) > 1 else fields[0]
            return cls(arrays["angles"], arrays["frames"], arrays["numbers"], field)

    def same_as(self, other: "ScanArrays") -> bool:
        """Whether all of it is equal."""
        theirs = other._named()
        return all(np.array_equal(array, theirs[name]) for name, array in self._named().items())

    def _named(self) -> dict[str, npt.NDArray[Any]]:
        fields, times = (self.field,), np.empty(0)
        if isinstance(self.field, FlatSeries):
            fields, times = self.field.fields, self.field.times
        return {
            "angles": self.angles,
            "frames": self.frames,
            "numbers": self.numbers,
            "darks": np.stack([f.dark for f in fields]),
            "gains": np.stack([f.gain for f in fields]),
            "times": times,
        }


def read_band(
    band: int,
    stored: npt.NDArray[Any],
    layout: RowLayout,
    arrays: ScanArrays,
    corrections: CorrectionSettings,
    *,
    corrected: bool,
    threads: int,
    empty: Empty = np.empty,
) -> Floats:
    """Return the sinograms of a band, (rows, angles, columns), before stripes are removed.

    Parameters
    ----------
    stored
        What the store holds of the band.
    corrected
        Whether these are line integrals already.
    empty
        Makes the array of line integrals.
    """
    values = stored
    if not np.array_equal(arrays.frames, np.arange(len(stored))):
        values = values[arrays.frames]
    if not corrected:
        field = arrays.field.part(slice(*layout.stored_rows_of(band)))
        times = arrays.numbers if isinstance(field, FlatSeries) else None
        out = empty(values.shape, np.dtype(np.float32))
        values = correct_projections(values, field, corrections, times=times, threads=threads, out=out)
    (first, last), (begin, _) = layout.rows_of(band), layout.stored_rows_of(band)
    return values[:, first - begin : last - begin].transpose(1, 0, 2)


class StoredProjections:
    """The projections of a store as `centring` asks for them, in the order of their angles."""

    ready = True
    is_widened = False

    def __init__(
        self,
        store: Rows,
        arrays: ScanArrays,
        corrections: CorrectionSettings,
        *,
        corrected: bool,
        threads: int,
    ) -> None:
        self._store, self._arrays, self._corrected, self._threads = store, arrays, corrected, threads
        self.corrections = corrections

    def __len__(self) -> int:
        return len(self._arrays.frames)

    @property
    def rows(self) -> int:
        """Rows of a projection."""
        return self._store.layout.rows

    def integrals(self, indices: npt.NDArray[np.intp], rows: slice) -> Floats:
        """Return line integrals (n, rows, columns) of some projections."""
        arrays = self._arrays
        stored = np.stack([self._store.read_frame(int(arrays.frames[i])) for i in indices])
        if not self._corrected:
            times = arrays.numbers[indices] if isinstance(arrays.field, FlatSeries) else None
            stored = correct_projections(stored, arrays.field, self.corrections, times=times)
        return stored[:, rows]

    def sinograms(self, rows: Sequence[int]) -> Floats:
        """Return the line integrals (rows, projections, columns) of some rows."""
        layout = self._store.layout
        found = []
        for row in rows:
            band, line = divmod(row, BAND)
            stored = self._store.read(band)
            whole = read_band(
                band, stored, layout, self._arrays, self.corrections,
                corrected=self._corrected, threads=self._threads,
            )  # fmt: skip
            found.append(np.ascontiguousarray(whole[line]))
        return np.stack(found)

    def center(self, columns: int) -> tuple[float, str]:
        """Return the rotation centre, a column of the detector, found as the live reconstruction finds it.

        ``columns`` are those of the detector.
        """
        centring, angles = Centring(columns, None, None), self._arrays.angles
        view: Any = self  # what centring uses of prepared projections
        centring.from_pair(view, angles)
        if question := centring.refinement(view, angles, self._threads):
            centring.take(question())
        return centring.center, centring.source
