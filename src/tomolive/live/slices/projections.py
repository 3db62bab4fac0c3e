"""A bounded store of a scan's projections: in memory up to a limit, beyond it in a temporary file.

Nothing is dropped: the limit says where frames lie, not how many there are.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError

_CHUNK_BYTES = 64 * 2**20


class ProjectionStore:
    """Frames of one shape and type, in order of arrival.

    Parameters
    ----------
    memory_mb
        Megabytes of frames that are kept in memory.
    folder
        Where the temporary file lies if they do not fit; default: the system's folder for such files. The
        file has no name there and vanishes with the store, however the process ends.
    """

    def __init__(self, memory_mb: float = 2048, folder: Path | None = None) -> None:
        self._memory = int(memory_mb * 2**20)
        self._folder = folder
        self._chunks: list[npt.NDArray[np.generic]] = []
        self._count = 0
        self._per_chunk = 0

    def __len__(self) -> int:
        return self._count

    def append(self, frames: npt.NDArray[np.generic]) -> None:
        """Keep a copy of ``frames`` (n, rows, columns).

        Raises
        ------
        ReconstructionError
            if they do not fit the memory, and the temporary file cannot be made or its disk is full.
        """
        if not self._per_chunk:
            self._per_chunk = max(1, _CHUNK_BYTES // max(frames[0].nbytes, 1))
        while len(frames):
            room = len(self._chunks) * self._per_chunk - self._count
            if not room:
                self._chunks.append(self._new_chunk(frames))
                room = self._per_chunk
            taken = min(room, len(frames))
            place = self._per_chunk - room
            self._chunks[-1][place : place + taken] = frames[:taken]
            self._count += taken
            frames = frames[taken:]

    def _new_chunk(self, frames: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        shape = (self._per_chunk, *frames.shape[1:])
        size = int(np.prod(shape)) * frames.dtype.itemsize
        if (len(self._chunks) + 1) * size <= self._memory:
            return np.empty(shape, frames.dtype)
        folder = self._folder or Path(tempfile.gettempdir())
        try:
            with tempfile.TemporaryFile(dir=folder, prefix="tomolive-projections-") as file:
                # Not truncate: writing through a map to a disk that is full would kill the process.
                os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, frames.dtype, "r+", shape=shape)
        except OSError as error:
            raise ReconstructionError(
                f"no room for more projections: {size / 2**20:.0f} MB in {folder}: {error.strerror}; "
                "make room there, or set live.spill to a folder with room, or live.memory_mb to more memory"
            ) from None

    def take(self, indices: npt.NDArray[np.intp], rows: slice = slice(None)) -> npt.NDArray[np.generic]:
        """Return the frames at ``indices``, all rows or some."""
        if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
            chunk, place = divmod(int(indices[0]), self._per_chunk)
            if place + len(indices) <= self._per_chunk:
                return self._chunks[chunk][place : place + len(indices), rows]
        return np.stack([self._chunks[i // self._per_chunk][i % self._per_chunk, rows] for i in indices])
