"""How the frames of an HDF5 dataset lie in its file, which were written, and the fastest way to them."""

import contextlib
import itertools
import math
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from tomolive.errors import UnknownLayoutError
from tomolive.files.readers.base import Array, NotReadyError
from tomolive.files.readers.decompress import Decode, decoder_for
from tomolive.files.readers.hdf5_shared import require_alone

ALL = (slice(None),)
_EDGE = 64
"""Bytes at either end of a frame that are looked at; all zero, they may be invented."""


def _filters(dataset: h5py.Dataset) -> list[int]:
    """Return the codes of the dataset's filters, all of which can be used.

    Raises
    ------
    UnknownLayoutError
        if one of them is not installed.
    """
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if not all(h5py.h5z.filter_avail(code) for code in codes):
        with contextlib.suppress(ImportError):
            import_module("hdf5plugin")  # registers its filters
    for code in codes:
        if not h5py.h5z.filter_avail(code):
            raise UnknownLayoutError(
                f"{dataset.file.filename}: {dataset.name} is compressed by HDF5 filter {code}, which is not "
                "installed; pip install 'tomolive[formats]' brings the common ones"
            )
    return codes


class FrameStorage:
    """The frames of one dataset, numbered through all its axes but the last two.

    Parameters
    ----------
    dataset
        Of one axis or more; the first counts rows of one or more frames.
    slices
        Part of the dataset that counts, for each of its first axes.
    empty
        Makes arrays to read into.
    threads
        May decompress chunks; None leaves that to HDF5.
    swmr
        Whether the dataset may grow while it is open. HDF5 crashes where a file of the old format that is
        open twice is refreshed, so others are opened anew instead.
    """

    def __init__(
        self,
        dataset: h5py.Dataset,
        slices: tuple[slice, ...],
        empty: Callable[[tuple[int, ...], np.dtype], Array],
        threads: ThreadPoolExecutor | None,
        *,
        swmr: bool,
    ) -> None:
        self._dataset = dataset
        self.path = Path(dataset.file.filename)
        self._slices = slices
        self._empty = empty
        self._threads = threads
        self._swmr = swmr
        self._row_shape = tuple(dataset.shape[1:])
        self.dtype = dataset.dtype
        self._each = math.prod(self._row_shape[:-2])
        self.frame_shape = self._row_shape[-2:]
        self.frame_bytes = math.prod(self.frame_shape) * self.dtype.itemsize
        self.chunks: tuple[int, ...] | None = dataset.chunks
        self.frames_per_chunk = math.prod(self.chunks[: max(dataset.ndim - 2, 1)]) if self.chunks else 0
        self.fill_value = dataset.fillvalue
        deep, *tile = self.chunks or (0,)
        whole_rows = self.chunks is not None and tuple(tile) == self._row_shape and slices == ALL
        filters = _filters(dataset)
        self._row_by_row = whole_rows and deep == 1 and not filters
        self._decode: Decode | None = None
        if whole_rows and filters and threads is not None:
            self._decode = decoder_for(dataset)

    def __len__(self) -> int:
        """Return the frames that the dataset has room for."""
        return len(range(*self._slices[0].indices(len(self._dataset)))) * self._each

    def refresh(self) -> None:
        """See what the writer has done since."""
        if self._swmr:
            require_alone(self._dataset)
            self._dataset.refresh()

    def read(self, first: int, last: int) -> Array:
        """Return frames ``[first, last)``, or as many from ``first`` on as were written, at least one.

        Raises
        ------
        NotReadyError
            if the first was not written yet.
        """
        top, bottom = first // self._each, -(-last // self._each)
        rows = self._read_rows(top, bottom)
        frames = rows.reshape(-1, *rows.shape[-2:]) if rows.ndim > 3 else rows
        return frames[first - top * self._each : last - top * self._each]

    def offsets(self, first: int, last: int) -> npt.NDArray[np.int64] | None:
        """Return the bytes of the file at which frames begin, -1 for one that was not written.

        None if they do not lie there as plain numbers, each in one piece.
        """
        if self._slices != ALL or self._dataset.is_virtual or self._dataset.external:
            return None
        frames = np.arange(first, last)
        if self.chunks is None:
            start = self._dataset.id.get_offset()
            return None if start is None else start + frames * self.frame_bytes
        if not self._row_by_row:
            return None
        rows, inside = np.divmod(frames, self._each)
        corner = (0,) * len(self._row_shape)
        starts = {
            row: self._dataset.id.get_chunk_info_by_coord((row, *corner)).byte_offset
            for row in np.unique(rows).tolist()
        }
        places = np.array([-1 if starts[row] is None else starts[row] for row in rows.tolist()], np.int64)
        return np.where(places < 0, -1, places + inside * self.frame_bytes)

    def is_fill(self, frame: Array) -> bool:
        """Whether a frame holds nothing but the fill value."""
        edge = np.ravel(frame[..., :_EDGE] if frame.ndim else frame)[:_EDGE]
        return self._equals_fill(edge) and self._equals_fill(frame)

    def proven(self, first: int, frames: Array) -> int:
        """Return how many of ``frames``, read before, were certainly written; their writer may be at work.

        A chunk of several frames has its place in the file as soon as one of them was written, and the others
        read as fill values. Frames are written in their order, so what was written after a frame proves it.
        """
        doubtful = len(list(itertools.takewhile(self.is_fill, frames[::-1])))
        last = first + len(frames)
        if not doubtful or self.frames_per_chunk == 1:
            return len(frames)
        self.refresh()
        deep = (self.chunks or (1,))[0]
        rows = range(*self._slices[0].indices(len(self._dataset)))
        top = rows[(last - 1) // self._each] // deep * deep
        begin, end = (bisect_left(rows, row) * self._each for row in (top, top + deep))
        if top + deep < len(self._dataset) and self._written(top + deep, top + deep + 1) > top + deep:
            return len(frames)
        if last < end and not all(map(self.is_fill, self.read(last, end))):
            return len(frames)
        return max(begin - first, len(frames) - doubtful)

    def _equals_fill(self, values: Array) -> bool:
        if self.fill_value != self.fill_value:
            return bool(np.isnan(values).all())
        return bool((values == self.fill_value).all())

    def _read_rows(self, first: int, last: int) -> Array:
        if self._row_by_row:
            return self._read_row_by_row(first, last)
        lead = range(*self._slices[0].indices(len(self._dataset)))[first:last]
        there = self._written(lead[0], lead[-1] + 1)
        if there <= lead[0]:
            # The index of chunks that is in memory may be older than the file.
            self.refresh()
            there = self._written(lead[0], lead[-1] + 1)
        if there <= lead[0]:
            raise self._unwritten(lead[0])
        if self._slices != ALL:
            return self._dataset[(slice(lead[0], there, lead.step), *self._slices[1:])]
        out = self._empty((there - first, *self._row_shape), self.dtype)
        if self._decode is not None and self._threads is not None:
            self._decompress(self._decode, self._threads, first, there, out)
        else:
            self._dataset.read_direct(out, np.s_[first:there])
        return out

    def _read_row_by_row(self, first: int, last: int) -> Array:
        """Read chunks as they are, past HDF5's selections: faster, and one that is not there is noticed."""
        out = self._empty((last - first, *self._row_shape), self.dtype)
        corner = (0,) * len(self._row_shape)
        for row, place in enumerate(out.reshape(len(out), -1).view(np.uint8)):
            try:
                self._dataset.id.read_direct_chunk((first + row, *corner), out=place)
                suspect = not (place[:_EDGE].any() and place[-_EDGE:].any())
            except (RuntimeError, ValueError):  # what HDF5 makes of a chunk that its old index does not have
                self.refresh()
                suspect = True
            if suspect:
                if not self._is_written((first + row, *corner)):
                    if row == 0:
                        raise self._unwritten(first)
                    return out[:row]
                self._dataset.id.read_direct_chunk((first + row, *corner), out=place)
        return out

    def _decompress(
        self, decode: Decode, threads: ThreadPoolExecutor, first: int, last: int, out: Array
    ) -> None:
        """Fetch chunks of whole rows one after the other, and decompress them side by side."""
        deep, *tile = self.chunks or (1,)

        def place(top: int, stored: bytes, mask: int) -> None:
            chunk = decode(stored, mask).view(self.dtype).reshape(deep, *tile)
            a, b = max(top, first), min(top + deep, last)
            out[a - first : b - first] = chunk[a - top : b - top]

        jobs: list[Future[None]] = []
        for top in range(first // deep * deep, last, deep):
            mask, stored = self._dataset.id.read_direct_chunk((top, *(0 for _ in tile)))
            jobs.append(threads.submit(place, top, stored, mask))
        for job in jobs:
            job.result()

    def _written(self, first: int, last: int) -> int:
        """Return the end of the rows from ``first`` on whose storage is there; others read as fill values."""
        if self.chunks is None:
            if self._dataset.is_virtual or self._dataset.external:
                return last
            offset = self._dataset.id.get_offset()
            there = offset is not None and self._reaches(offset + self._dataset.id.get_storage_size())
            return last if there else first
        deep, *tile = self.chunks
        grid = [range(0, size, step) for size, step in zip(self._row_shape, tile, strict=True)]
        for row in range(first // deep * deep, last, deep):
            if not all(self._is_written((row, *rest)) for rest in itertools.product(*grid)):
                return max(row, first)
        return last

    def _is_written(self, corner: tuple[int, ...]) -> bool:
        """Whether a chunk has its place in the file, and the file reaches that far.

        In SWMR mode HDF5 reads zeros past the end of a file: of one that is still being copied, or one of
        which a network file system has not told the new size yet.
        """
        chunk = self._dataset.id.get_chunk_info_by_coord(corner)
        return chunk.byte_offset is not None and self._reaches(chunk.byte_offset + chunk.size)

    def _reaches(self, end: int) -> bool:
        return self.path.stat().st_size >= end

    def _unwritten(self, row: int) -> NotReadyError:
        name = f"{self.path}: {self._dataset.name}"
        return NotReadyError(f"{name} has no frame {row * self._each} so far", only=True)
