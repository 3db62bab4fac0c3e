"""Frames that must be together, or wait, in a bounded part of the memory: beyond it they lie in a file."""

import tempfile
import weakref
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Gathering:
    """Arrays joined along their first axis.

    Parameters
    ----------
    limit
        Bytes in memory. Beyond it all of them lie in a file of the system's folder for such files (TMPDIR),
        which has no name there and vanishes with the last array on it, however the process ends.

    Examples
    --------
    >>> gathering = Gathering(limit=100)
    >>> for number in range(3):
    ...     gathering.add(np.full((2, 10), number))
    >>> gathering.array().shape, gathering.array()[3:, 0].tolist()
    ((6, 10), [1, 2, 2])
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[Array] = []
        self._file: IO[bytes] | None = None
        self._length = self._bytes = 0
        self._form: tuple[tuple[int, ...], np.dtype] | None = None

    def __len__(self) -> int:
        return self._length

    def add(self, array: Array) -> None:
        """Add an array; it is kept as it is as long as there is room in memory.

        Raises
        ------
        ValueError
            if it has another shape or type than those before.
        OSError
            if it does not fit into memory, and there is no room for the file.
        """
        form = array.shape[1:], array.dtype
        if self._form not in (None, form):
            raise ValueError(f"frames of {form} after others of {self._form}")
        self._form = form
        self._bytes += array.nbytes
        if self._file is None and self._bytes > self._limit:
            self._file = tempfile.TemporaryFile(prefix="tomolive-frames-")  # noqa: SIM115 (stays open)
            weakref.finalize(self, self._file.close)
            for part in self._parts:
                self._write(self._file, part)
            self._parts.clear()
        if self._file is None:
            self._parts.append(array)
        else:
            self._write(self._file, array)
        self._length += len(array)

    def array(self) -> Array:
        """Return all of it; of what lies in a file, only what is looked at takes memory."""
        if self._form is None:
            raise ValueError("nothing was gathered")
        if self._file is None:
            return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        self._file.flush()
        shape, dtype = self._form
        return np.asarray(np.memmap(self._file, dtype, "r+", shape=(self._length, *shape)))

    @staticmethod
    def _write(file: IO[bytes], array: Array) -> None:
        # Written rather than mapped: a full disk is an error then, and no signal that ends the process.
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
