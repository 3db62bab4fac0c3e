"""Frames of an HDF5 dataset, also while another process writes it."""

import itertools
import math
import time
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tomolive.errors import UnknownLayoutError
from tomolive.files.readers.base import Array, BeingWrittenError, NotReadyError, Source, stamp
from tomolive.files.readers.decompress import Decode, decoder_for
from tomolive.files.readers.hdf5_state import Hdf5State, examine

CLOSE_FIRST = "images become readable when the detector closes the file"
_EDGE = 64
"""Bytes at either end of a frame that are looked at; all zero, they may be invented."""
_SETTLED_S = 5.0
"""An unmarked file that nobody has changed for so long holds what it will hold."""


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
        self._file: h5py.File | None = None
        self._dataset: h5py.Dataset | None = None
        self._state = Hdf5State.INCOMPLETE
        self._opened: Hashable = None

    def read(self, first: int, last: int) -> Array:
        """See `FrameReader.read`."""
        try:
            dataset = self._dataset if self._dataset is not None else self._reopen()
            if self._frames(dataset) < last:
                dataset = self._renew(dataset)
            there = min(last, self._frames(dataset))
            if there <= first:
                raise NotReadyError(f"{self._source.path}: {self._name} holds {there} frames so far")
            frame_bytes = math.prod(dataset.shape[1:][-2:]) * dataset.dtype.itemsize
            return self._read(dataset, first, min(there, first + self._source.frames_per_block(frame_bytes)))
        except FileNotFoundError:
            self.close()
            raise
        except (OSError, RuntimeError, KeyError) as error:
            # A file that is caught half way, or a network file system that has lost it: begin anew next time.
            self.close()
            raise NotReadyError(f"{self._source.path}: {error}") from error

    def sign_of_life(self, frame: int) -> Hashable:  # noqa: ARG002 (all frames share the file)
        """Return what changes when the file or the dataset grows."""
        return stamp(self._source.path), None if self._dataset is None else len(self._dataset)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = self._dataset = None
        # Taken out of the cache, so that another read makes new threads.
        if (threads := self.__dict__.pop("_threads", None)) is not None:
            threads.shutdown()

    def _reopen(self) -> h5py.Dataset:
        self.close()
        try:
            return self._open()
        except Exception:
            self.close()
            raise

    def _open(self) -> h5py.Dataset:
        path = self._source.confine(self._source.path)
        self._opened = stamp(path)
        self._state = _require_readable(path)
        self._file = _open_file(path)
        dataset = self._file.get(self._name)
        if dataset is None:
            raise KeyError(f"no dataset {self._name} so far")
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim == 0:
            raise UnknownLayoutError(f"{path}: {self._name} is not a dataset of frames")
        for other in _files_behind(dataset, path):
            state = _require_readable(self._source.confine(other))
            if dataset.is_virtual and state is Hdf5State.SWMR:
                # What a source has not written yet reads as fill values there, without a word.
                raise BeingWrittenError(f"{path}: {CLOSE_FIRST} (virtual dataset, {other} is being written)")
        self._dataset = dataset
        return dataset

    def _renew(self, dataset: h5py.Dataset) -> h5py.Dataset:
        """Look at the dataset again; a file that was closed and has changed since is opened again."""
        if self._state is not Hdf5State.SWMR and stamp(self._source.path) != self._opened:
            return self._reopen()
        dataset.refresh()
        return dataset

    def _frames(self, dataset: h5py.Dataset) -> int:
        rows = len(range(*self._slices[0].indices(len(dataset))))
        return rows * _frames_per_row(dataset)

    def _read(self, dataset: h5py.Dataset, first: int, last: int) -> Array:
        each = _frames_per_row(dataset)
        top = first // each
        rows = self._read_rows(dataset, top, -(-last // each))
        frames = rows.reshape(-1, *rows.shape[-2:]) if rows.ndim > 3 else rows
        return frames[first - top * each : last - top * each]

    def _read_rows(self, dataset: h5py.Dataset, first: int, last: int) -> Array:
        if self._slices != _ALL:
            lead = self._slices[0]
            rows = range(*lead.indices(len(dataset)))[first:last]
            _require_written(dataset, rows[0], rows[-1] + 1)
            return dataset[(slice(rows[0], rows[-1] + 1, rows.step), *self._slices[1:])]
        if dataset.chunks is not None and dataset.chunks[1:] == dataset.shape[1:]:
            if _filters(dataset) and self._source.threads > 1 and (decode := decoder_for(dataset)):
                return self._decompress(dataset, decode, first, last)
            if dataset.chunks[0] == 1 and not _filters(dataset):
                return self._read_chunks(dataset, first, last)
        _require_written(dataset, first, last)
        out = self._source.empty((last - first, *dataset.shape[1:]), dataset.dtype)
        dataset.read_direct(out, np.s_[first:last])
        if self._state is Hdf5State.UNMARKED and dataset.chunks is None:
            self._refuse_unwritten(dataset, out)
        return out

    def _read_chunks(self, dataset: h5py.Dataset, first: int, last: int) -> Array:
        """Read frame by frame past HDF5's selections: faster, and a chunk that is not there is noticed."""
        out = self._source.empty((last - first, *dataset.shape[1:]), dataset.dtype)
        corner = (0,) * (dataset.ndim - 1)
        for row, place in enumerate(out.reshape(len(out), -1).view(np.uint8)):
            try:
                dataset.id.read_direct_chunk((first + row, *corner), out=place)
                suspect = not (place[:_EDGE].any() and place[-_EDGE:].any())
            except (RuntimeError, ValueError):  # what HDF5 makes of a chunk that its old index does not have
                dataset.refresh()
                suspect = True
            if suspect:
                if not _is_written(dataset, (first + row, *corner)):
                    if row == 0:
                        raise NotReadyError(_unwritten(dataset, first), only=True)
                    return out[:row]
                dataset.id.read_direct_chunk((first + row, *corner), out=place)
        return out

    def _decompress(self, dataset: h5py.Dataset, decode: Decode, first: int, last: int) -> Array:
        """Fetch chunks of whole frames one after the other, and decompress them side by side."""
        deep, *tile = dataset.id.get_create_plist().get_chunk()
        out = self._source.empty((last - first, *dataset.shape[1:]), dataset.dtype)

        def place(top: int, stored: bytes, mask: int) -> None:
            chunk = decode(stored, mask).view(dataset.dtype).reshape(deep, *tile)
            a, b = max(top, first), min(top + deep, last)
            out[a - first : b - first] = chunk[a - top : b - top]

        jobs: list[Future[None]] = []
        there = last
        for top in range(first // deep * deep, last, deep):
            corner = (top, *(0 for _ in tile))
            if not _is_written(dataset, corner):
                there = max(top, first)
                break
            mask, stored = dataset.id.read_direct_chunk(corner)
            jobs.append(self._threads.submit(place, top, stored, mask))
        for job in jobs:
            job.result()
        if there == first:
            dataset.refresh()
            raise NotReadyError(_unwritten(dataset, first), only=True)
        return out[: there - first]

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._source.threads, thread_name_prefix="decompress")

    def _refuse_unwritten(self, dataset: h5py.Dataset, block: Array) -> None:
        """Refuse fill values out of a file that has no mark, lock or chunks to say that it is unfinished."""
        settled = time.time() - self._source.path.stat().st_mtime > _SETTLED_S
        if not settled and any((frame == dataset.fillvalue).all() for frame in block):
            raise NotReadyError(f"{self._source.path}: {self._name} holds nothing but fill values there")


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


_ALL = (slice(None),)


def _parse_slices(text: str | list[str] | tuple[str, ...] | None) -> tuple[slice, ...]:
    """Return the ``slice`` parameter as slices, one for each axis named.

    >>> _parse_slices("3:,:,0:5")
    (slice(3, None, None), slice(None, None, None), slice(0, 5, None))
    """
    if not text:
        return _ALL
    parts = text.strip("()[] ").split(",") if isinstance(text, str) else text
    try:
        slices = tuple(slice(*(int(n) if n.strip() else None for n in part.split(":"))) for part in parts)
    except (ValueError, TypeError, AttributeError):
        raise UnknownLayoutError(
            f"cannot understand the slice {text!r}; expected such as '3:,:,0:5'"
        ) from None
    if any((s.step or 1) < 1 or (s.start or 0) < 0 for s in slices):
        raise UnknownLayoutError(f"the slice {text!r} runs backwards or counts from the end")
    return _ALL if all(s == slice(None) for s in slices) else slices


def _open_file(path: Path) -> h5py.File:
    # No chunk cache: a chunk of several frames that was read half full would stay half full in it.
    options: dict[str, Any] = {"swmr": True, "libver": "latest", "rdcc_nbytes": 0}
    try:
        return h5py.File(path, "r", locking=False, **options)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
    # This very process has it open already, with a lock; HDF5 wants both the same, and nobody is hurt more.
    return h5py.File(path, "r", **options)


def _require_readable(path: Path) -> Hdf5State:
    state = examine(path)
    if state is Hdf5State.INCOMPLETE:
        raise NotReadyError(f"{path}: {state.value}")
    if state is Hdf5State.EXCLUSIVE:
        raise BeingWrittenError(f"{path}: {CLOSE_FIRST}")
    return state


def _files_behind(dataset: h5py.Dataset, path: Path) -> Iterator[Path]:
    """Yield the files other than ``path`` from which the dataset's values come."""
    target = Path(dataset.file.filename)
    if target != path:
        yield target
    if dataset.is_virtual:
        for name in {source.file_name for source in dataset.virtual_sources()} - {"."}:
            yield target.parent / name
    for name, _, _ in dataset.external or ():
        yield target.parent / name


def _frames_per_row(dataset: h5py.Dataset) -> int:
    return math.prod(dataset.shape[1:-2]) if dataset.ndim > 3 else 1


def _filters(dataset: h5py.Dataset) -> int:
    return dataset.id.get_create_plist().get_nfilters()


def _is_written(dataset: h5py.Dataset, corner: tuple[int, ...]) -> bool:
    """Whether a chunk has its place in the file, and the file reaches that far.

    In SWMR mode HDF5 reads zeros past the end of a file: of one that is still being copied, or one of
    which a network file system has not told the new size yet.
    """
    chunk = dataset.id.get_chunk_info_by_coord(corner)
    return chunk.byte_offset is not None and _reaches(dataset, chunk.byte_offset + chunk.size)


def _reaches(dataset: h5py.Dataset, end: int) -> bool:
    return Path(dataset.file.filename).stat().st_size >= end


def _require_written(dataset: h5py.Dataset, first: int, last: int) -> None:
    """Refuse rows whose storage was never allocated; they would read as fill values."""
    if dataset.chunks is None:
        if dataset.is_virtual or dataset.external:
            return
        offset = dataset.id.get_offset()
        if offset is None or not _reaches(dataset, offset + dataset.id.get_storage_size()):
            raise NotReadyError(_unwritten(dataset, first))
        return
    deep, *tile = dataset.chunks
    grid = [range(0, size, step) for size, step in zip(dataset.shape[1:], tile, strict=True)]
    for row in range(first // deep * deep, last, deep):
        for corner in itertools.product((row,), *grid):
            if not _is_written(dataset, corner):
                raise NotReadyError(_unwritten(dataset, first), only=True)


def _unwritten(dataset: h5py.Dataset, first: int) -> str:
    return f"{dataset.file.filename}: {dataset.name} has no frame {first} so far"
