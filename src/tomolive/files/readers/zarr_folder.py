"""Frames of a Zarr array in a folder, also while it grows."""

import itertools
import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from tomolive.errors import UnknownLayoutError
from tomolive.files.readers.base import Array, NotReadyError, Source, ends_unwritten, stamp

_METADATA = ("zarr.json", ".zarray")


class ZarrReader:
    """Frames of one array, of version 2 or 3 of the format: all axes but the last two count them.

    ``parameters["dataset"]`` names an array in a group; without it the folder is the array. Zarr has no lock
    and no mark for an array that grows; chunks that nobody has written are files that do not exist. The
    writer must write chunks of nothing but zeros too (``write_empty_chunks``), or they count as missing.
    Zarr itself refuses codecs that unpickle, so no file can run code.
    """

    mimetypes = ("application/x-zarr",)

    def __init__(self, source: Source) -> None:
        self._source = source
        self._folder = source.path / str(source.parameters.get("dataset", "")).strip("/")
        self._array: Any = None

    def read(self, first: int, last: int) -> Array:
        """See `FrameReader.read`."""
        array = self._array
        if array is None or array.shape[0] * self._each < last:
            array = self._array = self._open()
        each = self._each
        frame_bytes = (
            math.prod(array.shape[-2:] if array.ndim > 2 else array.shape[1:]) * array.dtype.itemsize
        )
        last = min(last, array.shape[0] * each, first + self._source.frames_per_block(frame_bytes))
        there = min(last, each * self._written(first // each, -(-last // each)))
        if there <= first:
            more = first < array.shape[0] * each
            raise NotReadyError(f"{self._folder} has no frame {first} so far", only=more)
        top = first // each
        try:
            rows = array[top : -(-there // each)]
        # A chunk that is half written; which codec notices it, and how, is not known here.
        except Exception as error:
            raise NotReadyError(f"{self._folder}: {error}", only=True) from error
        frames = rows.reshape(-1, *rows.shape[-2:]) if rows.ndim > 3 else rows
        return frames[first - top * each : there - top * each]

    @property
    def _each(self) -> int:
        """Frames in each entry of the first axis."""
        return math.prod(self._array.shape[1:-2])

    def sign_of_life(self, frame: int) -> Hashable:
        """Return what changes when the array is made longer or the frame's first chunk is written."""
        files = [self._folder / name for name in _METADATA]
        if self._array is not None:
            deep, *tile = self._array.shards or self._array.chunks
            files.append(self._chunk(frame // self._each // deep, *(0 for _ in tile)))
        return tuple(stamp(path) for path in files)

    def close(self) -> None:
        """Forget the array; nothing is open."""
        self._array = None

    def _open(self) -> Any:
        import zarr

        folder = self._source.confine(self._folder)
        if not any(self._source.confine(folder / name).is_file() for name in _METADATA):
            raise NotReadyError(f"{folder} is no Zarr array so far")
        # Of an array in a group, the group's consolidated metadata may be older than the array's own.
        try:
            array = zarr.open_array(folder, mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise NotReadyError(f"{folder}: {error}") from error
        if array.ndim == 0:
            raise UnknownLayoutError(f"{folder} is not an array of frames")
        return array

    def _written(self, first: int, last: int) -> int:
        """Return the end of the entries of the first axis from ``first`` on of which all chunks exist."""
        deep, *tile = self._array.shards or self._array.chunks
        grid = [range(-(-size // step)) for size, step in zip(self._array.shape[1:], tile, strict=True)]
        for row in range(first // deep, -(-last // deep)):
            for rest in itertools.product(*grid):
                path = self._source.confine(self._chunk(row, *rest))
                if not path.is_file() or ends_unwritten(path, [(0, path.stat().st_size)]):
                    return max(row * deep, first)
        return last

    def _chunk(self, *index: int) -> Path:
        return self._folder / self._array.metadata.encode_chunk_key(index)
