"""Frames of an HDF5 dataset, also while another process writes it."""

import time
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomolive.errors import UnknownLayoutError
from tomolive.files.readers.base import SETTLED_S, Array, NotReadyError, Source, stamp
from tomolive.files.readers.hdf5_links import CLOSE_FIRST as CLOSE_FIRST
from tomolive.files.readers.hdf5_links import Trail, confine_sources
from tomolive.files.readers.hdf5_state import Hdf5State, examine
from tomolive.files.readers.hdf5_storage import ALL, FrameStorage


class Hdf5Reader:
    """Frames of one dataset: images (n, rows, columns) or (events, n, rows, columns), or scalars (n,).

    The path from which frames come is followed through external links and virtual datasets only as far as
    the allowed roots: a file inside them may lead to a file outside, which is refused.
    """

    mimetypes = ("application/x-hdf5",)

    def __init__(self, source: Source) -> None:
        self._source = source
        parameters = source.parameters
        self._name = str(parameters.get("dataset") or parameters.get("path") or "/entry/data/data")
        self._slices = _parse_slices(parameters.get("slice"))
        self._trail = Trail(source.confine)
        self._storage: FrameStorage | None = None
        self._state = Hdf5State.INCOMPLETE
        self._files: tuple[Path, ...] = ()
        """The file, and those to which its links lead."""
        self._opened: Hashable = None

    def read(self, first: int, last: int) -> Array:
        """See `FrameReader.read`."""
        try:
            storage = self._current()
            if len(storage) < last:
                storage.refresh()
            there = min(last, len(storage))
            if there <= first:
                raise NotReadyError(f"{self._source.path}: {self._name} holds {there} frames so far")
            there = min(there, first + self._source.frames_per_block(storage.frame_bytes))
            frames = self._only_written(storage, first, storage.read(first, there))
        except FileNotFoundError:
            self.close()
            raise
        except (OSError, RuntimeError, KeyError) as error:
            # A file that is caught half way, or a network file system that has lost it: begin anew next time.
            self.close()
            raise NotReadyError(f"{self._source.path}: {error}") from error
        return frames

    def places(
        self, first: int, last: int
    ) -> tuple[Path, tuple[int, ...], np.dtype, npt.NDArray[np.int64]] | None:
        """Return where the frames lie as plain numbers: file, shape and type of a frame, and bytes (n,).

        None if they do not, or their writer still has the file open; a place of -1 is that of a frame that
        was not written.
        """
        storage = self._current()
        if self._state is Hdf5State.SWMR:
            return None
        offsets = storage.offsets(first, min(last, len(storage)))
        return None if offsets is None else (storage.path, storage.frame_shape, storage.dtype, offsets)

    def sign_of_life(self, frame: int) -> Hashable:  # noqa: ARG002 (all frames share the file)
        """Return what changes when the file or the dataset grows."""
        return (
            self._stamps() or stamp(self._source.path),
            None if self._storage is None else len(self._storage),
        )

    def close(self) -> None:
        """Close the file."""
        self._trail.close()
        self._storage = None
        # Taken out of the cache, so that another read makes new threads.
        if (threads := self.__dict__.pop("_threads", None)) is not None:
            threads.shutdown()

    def _reopen(self) -> FrameStorage:
        self.close()
        try:
            self._storage = self._open()
        except Exception:
            self.close()
            raise
        return self._storage

    def _open(self) -> FrameStorage:
        path = self._source.confine(self._source.path)
        self._files = (path,)
        self._opened = self._stamps()
        dataset = self._trail.dataset(path, self._name)
        self._state = self._trail.state
        if self._trail.paths != self._files:
            self._files = self._trail.paths
            self._opened = self._stamps()
        confine_sources(dataset, self._source.confine)
        threads = self._threads if self._source.threads > 1 else None
        swmr = self._state is Hdf5State.SWMR
        return FrameStorage(dataset, self._slices, self._source.empty, threads, swmr=swmr)

    def _current(self) -> FrameStorage:
        """Return the dataset; a file that was closed and has changed since is opened again."""
        swmr = self._state is Hdf5State.SWMR
        if self._storage is None or (not swmr and self._stamps() != self._opened):
            return self._reopen()
        return self._storage

    def _stamps(self) -> Hashable:
        return tuple(map(stamp, self._files))

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._source.threads, thread_name_prefix="decompress")

    def _only_written(self, storage: FrameStorage, first: int, frames: Array) -> Array:
        """Leave out fill values that the writer may not have replaced yet."""
        if self._state is Hdf5State.CLOSED or storage.frames_per_chunk == 1:
            return frames
        if storage.chunks is None:
            # No mark, lock or chunks say that the file is unfinished.
            doubt = self._state is Hdf5State.UNMARKED and any(map(storage.is_fill, frames))
            proven = 0 if doubt else len(frames)
        elif storage.is_fill(frames[-1]):
            proven = storage.proven(first, frames)
            if proven == len(frames):
                # Read before the proof was seen, they may be invented all the same.
                return storage.read(first, first + proven)
        else:
            return frames
        if proven == len(frames) or time.time() - storage.path.stat().st_mtime > SETTLED_S:
            return frames
        if self._state is Hdf5State.SWMR and examine(storage.path) is Hdf5State.CLOSED:
            return self._reopen().read(first, first + len(frames))
        if not proven:
            raise NotReadyError(f"{storage.path}: {self._name} holds nothing but fill values there so far")
        return frames[:proven]


class TimestampReader:
    """Times of areaDetector's frames, (n,) float64 seconds since 1990, out of two datasets."""

    mimetypes = ("application/x-hdf5;areadetector-timestamps",)

    def __init__(self, source: Source) -> None:
        group = "/entry/instrument/NDAttributes/NDArrayEpicsTS"
        self._seconds, self._nanoseconds = (
            Hdf5Reader(replace(source, parameters={"dataset": group + part})) for part in ("Sec", "nSec")
        )

    def read(self, first: int, last: int) -> Array:
        """See `FrameReader.read`."""
        nanoseconds = self._nanoseconds.read(first, last)
        seconds = self._seconds.read(first, first + len(nanoseconds))
        return seconds + nanoseconds[: len(seconds)] * 1e-9

    def sign_of_life(self, frame: int) -> Hashable:
        """Return what changes when the file or a dataset grows."""
        return self._nanoseconds.sign_of_life(frame)

    def close(self) -> None:
        """Close the file."""
        self._seconds.close()
        self._nanoseconds.close()


def _parse_slices(text: str | list[str] | tuple[str, ...] | None) -> tuple[slice, ...]:
    """Return the ``slice`` parameter as slices, one for each axis named.

    >>> _parse_slices("3:,:,0:5")
    (slice(3, None, None), slice(None, None, None), slice(0, 5, None))
    """
    if not text:
        return ALL
    parts = text.strip("()[] ").split(",") if isinstance(text, str) else text
    try:
        slices = tuple(slice(*(int(n) if n.strip() else None for n in part.split(":"))) for part in parts)
    except (ValueError, TypeError, AttributeError):
        raise UnknownLayoutError(
            f"cannot understand the slice {text!r}; expected such as '3:,:,0:5'"
        ) from None
    if any((s.step or 1) < 1 or (s.start or 0) < 0 for s in slices):
        raise UnknownLayoutError(f"the slice {text!r} runs backwards or counts from the end")
    return ALL if all(s == slice(None) for s in slices) else slices
