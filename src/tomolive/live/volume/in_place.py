"""The rows of a scan where its detector has written them: no copy is made of frames that are plain numbers.

For files on disks of this machine, where a part of a frame costs no more than its share of the whole. Over a
network each part would be a question of its own, and a decompressed frame exists nowhere: such a scan is
copied once, see `tomolive.live.volume.rows`.
"""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.config import FilesSettings
from tomolive.errors import FileAccessError
from tomolive.files.announcements import Track
from tomolive.files.locate import Locator
from tomolive.files.places import Places, find_places, is_local
from tomolive.files.readers.base import stamp
from tomolive.live.documents.run import Scan
from tomolive.live.volume.rows import Empty, RowLayout, Rows, RowStore, read_all

IN_PLACE = "rows.npz"
_MOST_FILES = 64
"""More are not kept open."""

Document = tuple[str, dict[str, Any]]


class MovedError(Exception):
    """A file does not hold at a place what its reader has found there; its rows must be copied."""


class RowsInPlace:
    """The rows of frames in their files, read like a `RowStore`; any number of threads may read.

    Parameters
    ----------
    layout
        Of the rows, as if they were copied.
    paths
        The files.
    files, offsets
        For each frame which of them, and where in it the frame begins; a place of -1: nowhere.
    stamps
        What the files were like; default: what they are like now.
    """

    descriptor = -1

    def __init__(
        self,
        layout: RowLayout,
        paths: Sequence[str],
        files: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.int64],
        stamps: Sequence[Any] | None = None,
    ) -> None:
        self.layout = layout
        self._paths, self._files, self._offsets = list(paths), files, offsets
        self._stamps = _stamps(paths) if stamps is None else list(stamps)
        self._descriptors: list[int] = []
        try:
            for path in paths:
                self._descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self.close()
            raise

    def save(self, folder: Path) -> None:
        """Write down where the rows are, whole or not at all."""
        about = {"layout": asdict(self.layout), "paths": self._paths, "stamps": self._stamps}
        partial = folder / f"{IN_PLACE}.partial"
        with partial.open("wb") as file:
            np.savez(file, about=json.dumps(about), files=self._files, offsets=self._offsets)
        partial.replace(folder / IN_PLACE)

    @classmethod
    def load(cls, folder: Path) -> "RowsInPlace":
        """Return what `save` has written down.

        Raises
        ------
        FileAccessError
            if a file was changed since.
        """
        with np.load(folder / IN_PLACE) as arrays:
            about = json.loads(str(arrays["about"]))
            files, offsets = arrays["files"], arrays["offsets"]
        _require_unchanged(about["paths"], about["stamps"])
        return cls(RowLayout(**about["layout"]), about["paths"], files, offsets, about["stamps"])

    def read(self, band: int, empty: Empty = np.empty) -> npt.NDArray[Any]:
        """See `Rows.read`; of a frame that is nowhere the rows are zeros.

        Raises
        ------
        FileAccessError
            if a file was changed.
        """
        layout = self.layout
        first, last = layout.stored_rows_of(band)
        out = empty((layout.frames, last - first, layout.columns), np.dtype(layout.dtype))
        out[self._offsets < 0] = 0
        for frame in np.flatnonzero(self._offsets >= 0).tolist():
            self._read(frame, first, out[frame])
        _require_unchanged(self._paths, self._stamps)
        return out

    def read_frame(self, frame: int) -> npt.NDArray[Any]:
        """Return one frame, (rows, columns)."""
        out = np.empty((self.layout.rows, self.layout.columns), np.dtype(self.layout.dtype))
        self._read(frame, 0, out)
        return out

    def _read(self, frame: int, row: int, out: npt.NDArray[Any]) -> None:
        line = self.layout.columns * out.itemsize
        read_all(self._descriptors[self._files[frame]], out, int(self._offsets[frame]) + row * line)

    def write(self, first: int, frames: npt.NDArray[np.generic]) -> None:
        """Write nothing: see that the frames are where they should be.

        Raises
        ------
        MovedError
            if they are not.
        """
        lines = np.empty((2, self.layout.columns), np.dtype(self.layout.dtype))
        for frame, seen in enumerate(frames, first):
            if self._offsets[frame] < 0 or seen.dtype != lines.dtype:
                raise MovedError
            # not the first, which may be masked as the one before it is
            some = [len(seen) // 2, len(seen) - 1]
            for line, row in zip(lines, some, strict=True):
                self._read(frame, row, line[np.newaxis])
            if lines.tobytes() != seen[some].tobytes():
                raise MovedError

    def release(self, band: int) -> None:
        """Do nothing: they are the detector's files."""

    def is_changed(self) -> bool:
        """Whether one of the files was written to, or replaced."""
        return _stamps(self._paths) != self._stamps

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


def find_rows(
    documents: Iterable[Document],
    scan: Scan,
    files: FilesSettings,
    layout: RowLayout,
    numbers: npt.NDArray[np.int64],
) -> RowsInPlace | None:
    """Return the rows of a scan in place, if all its projections lie in files of this machine as they are.

    Parameters
    ----------
    layout
        That copies of the rows would have.
    numbers
        Of the projections within the scan, (frames,), increasing.
    """
    roots = files.roots or files.mounts.values()
    images = {
        (uid, stream.image_key): stream
        for uid, stream in scan.streams.items()
        if stream.kind in (None, "projection")
    }
    form = (layout.rows, layout.columns), np.dtype(layout.dtype)
    found: dict[Path, list[Places]] = {}
    locator = Locator(files.mounts, roots)
    with closing(find_places(documents, locator, lambda track: _key(track) in images)) as parts:
        for places in parts:
            if places is None or (places.shape, places.dtype) != form:
                return None
            if places.path not in found and (len(found) == _MOST_FILES or not is_local(places.path)):
                return None
            found.setdefault(places.path, []).append(places)
    if not found:
        return None
    which, offsets = np.zeros(len(numbers), np.int64), np.full(len(numbers), -1, np.int64)
    for file, path in enumerate(found):
        for places in found[path]:
            stream = images[_key(places.track)]
            for first, last, number in stream.numbers(places.first, places.first + len(places.offsets)):
                wanted = number + np.arange(last - first)
                at = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
                # what was announced first counts, as it does for frames that come twice
                new = (numbers[at] == wanted) & (offsets[at] < 0)
                found_at = places.offsets[first - places.first : last - places.first]
                which[at[new]], offsets[at[new]] = file, found_at[new]
    try:
        return RowsInPlace(layout, [str(path) for path in found], which, offsets)
    except OSError:  # reading the frames says why
        return None


def _key(track: Track) -> tuple[str, str]:
    return track.descriptor_uid, track.data_key


def open_rows(folder: Path, layout: RowLayout) -> Rows:
    """Open the rows of the job in a folder, for reading.

    Raises
    ------
    FileAccessError
        if a file of the detector has changed.
    """
    if (folder / IN_PLACE).exists():
        return RowsInPlace.load(folder)
    return RowStore.open(folder / "rows", layout)


def _stamps(paths: Iterable[str]) -> list[Any]:
    """Return what changes with the files, as it comes back out of JSON."""
    return json.loads(json.dumps([stamp(Path(path)) for path in paths]))


def _require_unchanged(paths: Iterable[str], stamps: Iterable[Any]) -> None:
    for path, before in zip(paths, stamps, strict=True):
        if _stamps([path]) != [before]:
            raise FileAccessError(
                f"{path} was changed while a volume was being made of it; asked for again, the volume begins "
                "anew"
            )
