"""A file of records that only grows, and never keeps half of what was appended."""

import contextlib
import mmap
import os
from pathlib import Path

from tomolive.errors import JournalError
from tomolive.stream.records import Buffer, Stretch, stretches


class SegmentFile:
    """One file of records, open for appending and reading.

    An append is whole or not there: what a full disk cut short is taken back before the error is raised.
    """

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        try:
            self._fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"cannot open {path}: {error.strerror}") from None
        self.size = os.fstat(self._fd).st_size

    def append(self, data: Buffer, *, durable: bool = False) -> None:
        """Write ``data`` behind the end; if ``durable``, return when it is on the disk.

        Raises
        ------
        JournalError
            if the disk is full or fails; the file is then as it was.
        """
        end, size = self.size, len(data)
        try:
            written = os.pwrite(self._fd, data, end)
            while written < size:
                written += os.pwrite(self._fd, memoryview(data)[written:], end + written)
            if durable:
                os.fdatasync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):  # what remains there is written over, or cut off at opening
                os.ftruncate(self._fd, end)
            raise JournalError(f"cannot write {self.path}: {error.strerror}") from None
        self.size = end + size

    def read(self, position: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``position``, of those that were appended."""
        return os.pread(self._fd, max(0, min(size, self.size - position)), position)

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        os.ftruncate(self._fd, size)
        self.size = size

    def sync(self) -> None:
        """Return when everything is on the disk.

        Raises
        ------
        JournalError
            if the disk fails.
        """
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise JournalError(f"cannot write {self.path}: {error.strerror}") from None

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def survey(path: Path) -> list[Stretch]:
    """Check every record of a segment; one stretch without a fault means that all are sound."""
    if path.stat().st_size == 0:
        return [Stretch(0, 0, 0, "")]
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        return list(stretches(view))


def segment_name(first: int) -> str:
    """Name a segment after the number of its first record, so that names sort by age."""
    return f"{first:020d}.log"


def segments_in(folder: Path) -> list[tuple[int, Path]]:
    """Return the segments of a folder as (number of the first record, path), oldest first."""
    return sorted((int(path.stem), path) for path in folder.glob("*.log") if path.stem.isdigit())
