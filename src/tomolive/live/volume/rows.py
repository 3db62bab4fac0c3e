"""The frames of a scan turned by rows: written frame by frame, read back as the rows of all frames.

Detectors write frame by frame, slices need one row of all frames, and to read a row of a compressed frame
costs the whole frame. So frames are read once, and laid down in bands of neighbouring rows, each band in one
piece. The store is a file, or memory that is used like a file and that child processes inherit.
"""

import ctypes
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tomolive.errors import FileAccessError

log = logging.getLogger(__name__)

Empty = Callable[[tuple[int, ...], np.dtype], npt.NDArray[Any]]

BAND = 16
"""Rows in a band: as many slices as are reconstructed together."""
_fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
"""Of Linux; Python has only the one that makes files larger."""
_PUNCH_HOLE = 0x02 | 0x01
"""FALLOC_FL_PUNCH_HOLE, which must come with FALLOC_FL_KEEP_SIZE."""


@dataclass(frozen=True)
class RowLayout:
    """Where the pixels of a scan lie in a store."""

    frames: int
    rows: int
    columns: int
    dtype: str
    """As numpy writes it, ``<u2``."""
    context: int = 0
    """Rows of the neighbouring bands that each band repeats at both ends."""

    @property
    def bands(self) -> int:
        """Number of bands; the last one may have fewer rows."""
        return -(-self.rows // BAND)

    @property
    def nbytes(self) -> int:
        """Size of the store."""
        return self.bands * self._stride

    @property
    def _stride(self) -> int:
        return self.frames * (BAND + 2 * self.context) * self._line

    @property
    def _line(self) -> int:
        return self.columns * np.dtype(self.dtype).itemsize

    def rows_of(self, band: int) -> tuple[int, int]:
        """Return the half-open range of rows that a band is for."""
        return band * BAND, min((band + 1) * BAND, self.rows)

    def stored_rows_of(self, band: int) -> tuple[int, int]:
        """Return the half-open range of rows that a band holds, context included."""
        first, last = self.rows_of(band)
        return max(first - self.context, 0), min(last + self.context, self.rows)

    def place(self, band: int, frame: int = 0, row: int = 0) -> int:
        """Return the byte at which a row of a frame begins; rows count from the first that the band holds."""
        first, last = self.stored_rows_of(band)
        return band * self._stride + (frame * (last - first) + row) * self._line


class Rows(Protocol):
    """The rows of a scan, wherever they are."""

    layout: RowLayout
    descriptor: int
    """Of memory that processes inherit, or of a file."""

    def write(self, first: int, frames: npt.NDArray[np.generic]) -> None:
        """Take consecutive frames (n, rows, columns), the first of which has this number."""
        ...

    def read(self, band: int, empty: Empty = np.empty) -> npt.NDArray[Any]:
        """Return the rows of a band in all frames, (frames, rows, columns), context included.

        ``empty`` makes the array; it may be memory that was used before.
        """
        ...

    def read_frame(self, frame: int) -> npt.NDArray[Any]:
        """Return one frame, (rows, columns)."""
        ...

    def release(self, band: int) -> None:
        """Let go of what only this band needs; it is not read again."""
        ...

    def is_changed(self) -> bool:
        """Whether somebody else has written to them since."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class RowStore:
    """An open store; any number of threads may read and write different places at once.

    Parameters
    ----------
    descriptor
        Of the open file; closed with the store.
    """

    def __init__(self, descriptor: int, layout: RowLayout) -> None:
        self.descriptor = descriptor
        self.layout = layout

    @classmethod
    def in_memory(cls, layout: RowLayout) -> "RowStore":
        """Make a store in memory, which vanishes with the last process that has inherited it."""
        descriptor = os.memfd_create("tomolive-rows")
        os.ftruncate(descriptor, layout.nbytes)
        return cls(descriptor, layout)

    @classmethod
    def create(cls, path: Path, layout: RowLayout) -> "RowStore":
        """Make a store as a file, with its room reserved.

        Raises
        ------
        FileAccessError
            if there is no room for it.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            os.posix_fallocate(descriptor, 0, layout.nbytes)
        except OSError as error:
            os.close(descriptor)
            path.unlink()
            raise FileAccessError(
                f"no room for the projections, {layout.nbytes / 2**20:.0f} MB in {path.parent}: "
                f"{error.strerror}; make room there, or have the volume written elsewhere"
            ) from None
        return cls(descriptor, layout)

    @classmethod
    def open(cls, path: Path, layout: RowLayout) -> "RowStore":
        """Open an existing store."""
        return cls(os.open(path, os.O_RDWR), layout)

    def is_changed(self) -> bool:
        """Return False: they are nobody else's."""
        return False

    def close(self) -> None:
        """Let go of the file or the memory."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def write(self, first: int, frames: npt.NDArray[np.generic]) -> None:
        """Write consecutive frames (n, rows, columns), the first of which has this number."""
        layout = self.layout
        for band in range(layout.bands):
            top, bottom = layout.stored_rows_of(band)
            part = np.ascontiguousarray(frames[:, top:bottom], np.dtype(layout.dtype))
            write_all(self.descriptor, part, layout.place(band, first))

    def read(self, band: int, empty: Empty = np.empty) -> npt.NDArray[Any]:
        """See `Rows.read`."""
        first, last = self.layout.stored_rows_of(band)
        out = empty((self.layout.frames, last - first, self.layout.columns), np.dtype(self.layout.dtype))
        read_all(self.descriptor, out, self.layout.place(band))
        return out

    def release(self, band: int) -> None:
        """Give back the room of a band, whose rows are lost; where the file system cannot, it stays taken."""
        hole = self.layout.place(band), self.layout.nbytes // self.layout.bands
        if _fallocate is None or _fallocate(self.descriptor, _PUNCH_HOLE, *map(ctypes.c_int64, hole)):
            log.debug("the room of band %d stays taken: %s", band, os.strerror(ctypes.get_errno()))

    def read_frame(self, frame: int) -> npt.NDArray[Any]:
        """Return one frame, (rows, columns)."""
        layout = self.layout
        out = np.empty((layout.rows, layout.columns), np.dtype(layout.dtype))
        for band in range(layout.bands):
            (top, bottom), (stored, _) = layout.rows_of(band), layout.stored_rows_of(band)
            read_all(self.descriptor, out[top:bottom], layout.place(band, frame, top - stored))
        return out


def _bytes_of(array: npt.NDArray[np.generic]) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))  # pyright: ignore[reportArgumentType]


def write_all(descriptor: int, array: npt.NDArray[np.generic], place: int) -> None:
    """Write an array's bytes from this place of a file on, which other threads may do elsewhere in it."""
    left = _bytes_of(array)
    while len(left):
        count = os.pwrite(descriptor, left, place)
        left, place = left[count:], place + count


def read_all(descriptor: int, array: npt.NDArray[np.generic], place: int) -> None:
    """Fill an array with the bytes from this place of a file on.

    Raises
    ------
    FileAccessError
        if the file ends before.
    """
    left = _bytes_of(array)
    while len(left):
        count = os.preadv(descriptor, [left], place)
        if not count:
            raise FileAccessError("the projections are cut off: a file with their rows was changed meanwhile")
        left, place = left[count:], place + count
