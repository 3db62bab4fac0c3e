"""Filtered projections by bands of rows: made when they are asked for, kept while there is room."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.live.slices.planes import BAND, bands
from tomolive.recon.backproject import pick_row
from tomolive.recon.filters import GUARDS
from tomolive.recon.memory import aligned_empty, spare_memory

Floats = npt.NDArray[np.float32]
Prepare = Callable[..., Floats]
"""Makes a band of some projections from its rows, and, if that is given, where to write it."""

PIECE = 16
"""Projections that are filtered and drawn at once: a band of them fits the cache."""


class FilteredPieces:
    """The filtered projections of a scan, cut into pieces of `PIECE`.

    Parameters
    ----------
    rows, columns
        Shape of a projection.
    limit
        Bytes that may be kept; less, if the machine has no more to spare.
    """

    def __init__(self, rows: int, columns: int, limit: float) -> None:
        self._rows, self._columns = rows, columns
        self._limit = limit
        self._kept: dict[int, KeptPiece] = {}
        """By the first projection of each."""

    def forget(self, rows: int, columns: int) -> None:
        """Forget what is kept, since projections are prepared otherwise from now on."""
        if (rows, columns) != (self._rows, self._columns):
            self._rows, self._columns = rows, columns
            self._kept.clear()
        for piece in self._kept.values():
            piece.forget()

    def holds(self, first: int, last: int) -> bool:
        """Whether these projections of one piece are in memory."""
        begin = first - first % PIECE
        return begin in self._kept and self._kept[begin].complete >= last - begin

    def row(self, row: int, first: int, last: int) -> Floats:
        """Return a row, guarded, of projections that are in memory: (n, columns + 3)."""
        begin = first - first % PIECE
        return pick_row(self._kept[begin].bands[row // BAND][first - begin : last - begin], row % BAND)

    def bands_of(
        self, first: int, last: int, preparation: Callable[[npt.NDArray[np.intp]], Prepare]
    ) -> Sequence[Floats]:
        """Return projections of one piece, by bands of rows: (n, columns + 3, rows of the band).

        A band is made when it is asked for, best by the thread that then finds it in its cache; one that is
        not kept is made anew each time.
        """
        begin = first - first % PIECE
        if begin not in self._kept:
            if not self._has_room():
                return _BandsWhenAsked(preparation(np.arange(first, last)), bands(self._rows))
            self._kept[begin] = KeptPiece(self._rows, self._columns)
        kept = self._kept[begin]
        missing = np.arange(begin + kept.complete, last)
        return _KeptBands(kept, first - begin, last - begin, preparation(missing) if len(missing) else None)

    def _has_room(self) -> bool:
        size = PIECE * self._rows * (self._columns + GUARDS) * 4
        return (len(self._kept) + 1) * size <= self._limit and size <= spare_memory()


class KeptPiece:
    """A piece that stays, by bands; each fills up by itself."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = bands(rows)
        # in one go, so that the system gives large pages
        memory = aligned_empty((PIECE * (columns + GUARDS) * rows,))
        shape = PIECE, columns + GUARDS
        cuts = [PIECE * (columns + GUARDS) * last for _, last in self.rows[:-1]]
        parts = zip(np.split(memory, cuts), self.rows, strict=True)
        self.bands: list[Floats] = [part.reshape(*shape, last - first) for part, (first, last) in parts]
        self._filled = [0] * len(self.bands)

    @property
    def complete(self) -> int:
        """Projections that are in all bands."""
        return min(self._filled)

    def forget(self) -> None:
        """Hold nothing; the memory stays, which the system takes its time to give."""
        self._filled = [0] * len(self.bands)

    def fill(self, band: int, first: int, last: int, prepare: Prepare) -> None:
        """Make projections of a band, unless they are in it."""
        if self._filled[band] < last:
            prepare(self.rows[band], self.bands[band][first:last])
            self._filled[band] = last


class _BandsWhenAsked(Sequence[Floats]):
    """Bands that are made when they are asked for."""

    def __init__(self, prepare: Prepare, rows: list[tuple[int, int]]) -> None:
        self._prepare, self._rows = prepare, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, band: Any) -> Any:
        return self._prepare(self._rows[band])


class _KeptBands(Sequence[Floats]):
    """Projections of a piece that stays, made when they are first asked for."""

    def __init__(self, kept: KeptPiece, first: int, last: int, prepare: Prepare | None) -> None:
        self._kept, self._first, self._last, self._prepare = kept, first, last, prepare
        self._missing = kept.complete

    def __len__(self) -> int:
        return len(self._kept.bands)

    def __getitem__(self, band: Any) -> Any:
        if self._prepare is not None:
            self._kept.fill(band, self._missing, self._last, self._prepare)
        return self._kept.bands[band][self._first : self._last]
