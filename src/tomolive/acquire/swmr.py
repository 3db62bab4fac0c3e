"""HDF5 files that others read while they grow (single writer, multiple readers)."""

import threading
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from tomolive.errors import FileAccessError


class Recorder:
    """Appends to one dataset of a file; a reader sees a block once ``append`` has returned.

    Parameters
    ----------
    dataset
        path inside the file, for instance '/entry/data/data'.
    shape, dtype
        of one element along the first axis: ``(rows, columns)`` for a frame, ``()`` for a number.
    chunk
        elements in one chunk.
    """

    def __init__(self, dataset: str, shape: tuple[int, ...], dtype: npt.DTypeLike, chunk: int = 1) -> None:
        self.dataset, self.shape, self.dtype, self.chunk = dataset, shape, np.dtype(dtype), chunk
        self._file: h5py.File | None = None
        # A thread may still be writing its last block when an aborted scan closes the file.
        self._lock = threading.Lock()

    def open(self, path: Path) -> None:
        """Begin a new file.

        Raises
        ------
        FileAccessError
            if it exists or cannot be written.
        """
        self.close()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = h5py.File(path, "x", libver="latest")
        except OSError as error:
            raise FileAccessError(f"cannot write {path}: {error.strerror or error}") from None
        data = file.create_dataset(
            self.dataset,
            (0, *self.shape),
            self.dtype,
            maxshape=(None, *self.shape),
            chunks=(self.chunk, *self.shape),
        )
        file.swmr_mode = True
        with self._lock:
            self._file, self._data = file, data

    def append(self, block: npt.NDArray) -> int:
        """Write ``block``, (n, *shape), flush it, and return how many elements the file holds.

        After ``close`` nothing is written.
        """
        with self._lock:
            if self._file is None:
                return 0
            last = len(self._data) + len(block)
            self._data.resize(last, axis=0)
            self._data[last - len(block) :] = block
            self._data.flush()
            return last

    def close(self) -> None:
        """Close the file, if one is open."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
