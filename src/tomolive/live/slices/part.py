"""The rows of a field of view that one reconstruction of several has."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.live.documents.references import averaged
from tomolive.recon.flat_field import AnyField, FlatField, FlatSeries
from tomolive.recon.stitching import Joining, Mosaic, Rows

Counts = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]


class Part:
    """Some rows of a field, and the rows beside them that corrections need.

    Counts are kept for the rows that are taken, those of detectors beside each other side by side; line
    integrals and slices are of its own rows, as wide as the field.

    Parameters
    ----------
    mosaic
        The field.
    own
        Rows that are reconstructed.
    taken
        Rows that are kept: those and their neighbours.

    Attributes
    ----------
    which : tuple of int
        The tiles that have any of these rows.
    beams : dict
        Number of a tile -> counts of the beam in it, for scans without flats.
    """

    def __init__(self, mosaic: Mosaic, own: Rows, taken: Rows) -> None:
        self.mosaic, self.own, self.taken = mosaic, own, taken
        self.which = mosaic.covering(taken)
        self.beams: dict[int, float] = {}
        self._joining = Joining(mosaic, self.which, taken)
        self.shape = self._joining.shape
        """Rows and columns of the counts that are kept."""

    @property
    def rows(self) -> int:
        """Rows that are its own."""
        return self.own[1] - self.own[0]

    @property
    def above(self) -> int:
        """Rows that are taken above its own."""
        return self.own[0] - self.taken[0]

    @property
    def is_joined(self) -> bool:
        """Whether it is of several detectors."""
        return len(self.which) > 1

    def cut(self, which: int, frames: Counts) -> Counts:
        """Return a copy of the rows that are kept of whole frames (n, rows, columns) of a tile."""
        return self._joining.cut(self.which.index(which), frames)

    def counts(self, frames: Sequence[Counts]) -> Counts:
        """Return what is kept of whole frames (n, rows, columns), one array for each tile of `which`."""
        return self._joining.beside(frames)

    def join(self, beside: Floats, rows: slice = slice(None)) -> Floats:
        """Return (n, rows, columns of the field) of what lies side by side, some of the rows taken."""
        return self._joining.join(beside, rows) if self.is_joined else beside

    def picture(self, beside: Floats) -> Floats:
        """Return its own rows of one frame of what lies side by side."""
        return self.join(beside[np.newaxis])[0, self.above : self.above + self.rows]

    def averaged(
        self,
        darks: Sequence[Counts] | None,
        flats: Sequence[Sequence[Counts]],
        times: Sequence[float] | None,
        corrections: CorrectionSettings,
        first: object,
    ) -> tuple[AnyField | None, list[str]]:
        """Return what corrects the counts that are kept; see `tomolive.live.documents.references.averaged`.

        Darks, and flats of each time, are those of whole frames, one for each tile: which pixels are of no
        use does not depend on the rows that somebody has.
        """
        found: list[AnyField] = []
        assumed: list[str] = []
        for i, which in enumerate(self.which):
            tile = self.mosaic.tiles[which]
            beam = None if first is None else np.full((tile.rows, tile.columns), self.beams[which])
            field, words = averaged(
                None if darks is None else darks[i], [one[i] for one in flats], times, corrections, beam
            )
            if field is None:
                return None, words
            found.append(field)
            assumed += [word for word in words if word not in assumed]
        return self._beside(found, corrections.binning), assumed

    def _beside(self, fields: Sequence[AnyField], binning: int) -> AnyField:
        if isinstance(fields[0], FlatSeries):
            series = [field for field in fields if isinstance(field, FlatSeries)]
            each = zip(*(one.fields for one in series), strict=True)
            return replace(series[0], fields=tuple(self._side_by_side(one, binning) for one in each))
        return self._side_by_side([field for field in fields if isinstance(field, FlatField)], binning)

    def _side_by_side(self, fields: Sequence[FlatField], binning: int) -> FlatField:
        if not self.is_joined:  # rows of a tile may be binned, those of several detectors are not
            first, last = (row // binning for row in self.taken)
            return fields[0].part(slice(first, last))
        dark = self._joining.beside([field.dark for field in fields])
        gain = self._joining.beside([field.gain for field in fields])
        return FlatField(np.ascontiguousarray(dark, np.float32), np.ascontiguousarray(gain, np.float32))
