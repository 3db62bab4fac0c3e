"""The hub's journal: every accepted document, in one order, on disk.

A folder of segments (see ``records``), each named after the number (offset) of its first record. A sealed
segment has an index beside it, so that opening a long journal reads only its last segment. The format is
described in docs/reference/journal.md.
"""

import bisect
import contextlib
import fcntl
import itertools
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tomolive.errors import JournalError
from tomolive.stream import records
from tomolive.stream.codec import decode
from tomolive.stream.derived import is_result
from tomolive.stream.epochs import Epochs
from tomolive.stream.index import Batch, Publishers, Segment, index_path, read_index, scan, write_index
from tomolive.stream.messages import Position
from tomolive.stream.segments import SegmentFile, segment_name, segments_in

log = logging.getLogger(__name__)

Fsync = Literal["always", "interval", "never"]
SEGMENT_BYTES = 64 << 20
SYNC_SECONDS = 2.0


class Chunk(NamedTuple):
    """Records as read."""

    offset: int
    count: int
    data: bytes


class Journal:
    """An append-only log of documents; one process has it open."""

    def __init__(
        self,
        folder: Path,
        *,
        fsync: Fsync = "interval",
        segment_bytes: int = SEGMENT_BYTES,
        keep_bytes: int | None = None,
        keep_seconds: float | None = None,
    ) -> None:
        """Open or make the journal in ``folder``, and cut off what a crash left of the last record.

        Raises
        ------
        JournalError
            if the folder cannot be written, another process has it, or a record in the middle is damaged.
        """
        self.folder = folder
        self._fsync: Fsync = fsync
        self._keep_bytes, self._keep_seconds = keep_bytes, keep_seconds
        if keep_bytes is not None:  # whole segments are let go of, so they must be small beside what is kept
            segment_bytes = min(segment_bytes, keep_bytes // 8)
        self._segment_bytes = segment_bytes
        self._lock_fd = lock(folder)
        try:
            self.publishers = Publishers()
            self.epochs = Epochs.open(folder)
            self._segments = self._open_segments()
            self._file = SegmentFile(self._segments[-1].path)
            self.epochs.begin(self.head, durable=fsync == "always")
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._newest_run: tuple[int, int | None] = 0, None
        """Up to which offset it was looked for, and what was found."""
        self._dirty = False
        self._turning = threading.Lock()  # a segment is not closed while it is being synced
        self._closed = threading.Event()
        self._syncer = threading.Thread(target=self._sync_regularly, name="journal-sync", daemon=True)
        if fsync == "interval":
            self._syncer.start()

    # ---- what it holds

    @property
    def first(self) -> int:
        """Offset of the oldest document that is kept."""
        return self._segments[0].first

    @property
    def head(self) -> int:
        """One past the offset of the newest document."""
        return self._segments[-1].end

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._segments)

    @property
    def position(self) -> Position:
        """The place of the next document."""
        return Position(self.epochs.current, self.head)

    def newest_run(self) -> int | None:
        """Return the offset of the newest start document that is of no result."""
        searched, found = self._newest_run  # a start document is read once, however many consumers ask
        segments = (segment for segment in reversed(self._segments) if segment.end > searched)
        offsets = (at for segment in segments for at in sorted(segment.runs.values(), reverse=True))
        later = itertools.takewhile(lambda at: at >= searched, offsets)
        found = next((at for at in later if not is_result(self._document(at))), found)
        self._newest_run = self.head, found
        return found if found is not None and found >= self.first else None

    def _document(self, offset: int) -> dict[str, Any]:
        reader = self.reader(offset)
        try:
            data = reader.read(1, 0).data
        finally:
            reader.close()
        return decode(records.frames(data, next(records.walk(data))))[1]

    def find_run(self, uid: str) -> int | None:
        """Return the offset of the start document whose uid is, or uniquely begins with, ``uid``."""
        for segment in reversed(self._segments):
            if uid in segment.runs:
                return segment.runs[uid]
        found = [o for s in self._segments for u, o in s.runs.items() if u.startswith(uid)]
        return found[0] if len(found) == 1 else None

    def resume(self, position: Position) -> tuple[int, int]:
        """Return where a consumer that was at ``position`` goes on, and how many documents it lost."""
        wanted, lost = self.epochs.translate(position, self.head)
        start = min(max(wanted, self.first), self.head)
        return start, lost + max(0, start - wanted)

    # ---- append

    def append(self, batch: Batch) -> None:
        """Add documents; they are safe, as far as the fsync policy says, when this returns.

        Raises
        ------
        JournalError
            if the disk is full or fails; the journal is then as it was.
        """
        segment = self._segments[-1]
        if segment.size and segment.size + batch.size > self._segment_bytes:
            segment = self._turn()
        data = b"".join(batch.parts) if len(batch.parts) > 1 else batch.parts[0]
        self._file.append(data, durable=self._fsync == "always")
        self._dirty = True
        segment.extend(batch)
        self._note(batch.publishers)

    def _turn(self) -> Segment:
        """Seal the last segment, begin a new one, and let go of those that need not be kept."""
        sealed = self._segments[-1]
        fresh = Segment(sealed.end, self.folder / "segments" / segment_name(sealed.end))
        file = SegmentFile(fresh.path)
        try:
            self._seal(sealed)
        except JournalError:
            file.close()
            with contextlib.suppress(OSError):  # an empty segment does no harm
                fresh.path.unlink()
            raise
        with self._turning:
            self._file.close()
            self._file = file
        self._segments.append(fresh)
        self.retain()
        return fresh

    def _seal(self, segment: Segment) -> None:
        """Write the index of the last segment, once the disk has what it promises."""
        if self._fsync != "never":
            self.sync()
        try:
            write_index(segment, self.publishers)
        except OSError as error:
            raise JournalError(f"cannot write the index of {segment.path}: {error.strerror}") from None

    def retain(self) -> None:
        """Let go of the oldest segments beyond the size or age that is kept; what cannot go stays."""
        try:
            self._let_go()
        except OSError as error:
            log.error("journal: cannot remove %s: %s", error.filename, error.strerror)

    def _let_go(self) -> None:
        oldest_wanted = time.time() - self._keep_seconds if self._keep_seconds else 0.0
        while len(self._segments) > 1:
            oldest = self._segments[0]
            too_much = self._keep_bytes is not None and self.size > self._keep_bytes
            if not too_much and oldest.path.stat().st_mtime >= oldest_wanted:
                return
            log.info("journal: documents %d to %d are no longer kept", oldest.first, oldest.end - 1)
            oldest.path.unlink(missing_ok=True)
            del self._segments[0]
            index_path(oldest.path).unlink(missing_ok=True)

    # ---- read

    def locate(self, offset: int) -> tuple[Segment, int]:
        """Return the segment that holds ``offset`` and the byte where this record begins."""
        at = bisect.bisect_right(self._segments, offset, key=lambda s: s.first) - 1
        segment = self._segments[max(at, 0)]
        known, position = segment.first, 0
        mark = bisect.bisect_right(segment.marks, offset, key=lambda m: m[0]) - 1
        if mark >= 0:
            known, position = segment.marks[mark]
        if offset > known:
            end = segment.marks[mark + 1][1] if mark + 1 < len(segment.marks) else segment.size
            with segment.path.open("rb") as file:
                file.seek(position)
                data = file.read(end - position)
            wanted = offset - known
            try:
                position += records.span(data, wanted, verify=False, least=wanted)[1]
            except records.DamagedRecordError as error:
                raise self.damage(segment, position + error.position, error.reason) from None
        return segment, position

    def damage(self, segment: Segment, position: int, reason: str) -> JournalError:
        """Return the error that says where a record is damaged."""
        return JournalError(
            f"journal {segment.path}: the record at byte {position} {reason}; "
            f"see `tomolive journal check {self.folder}`"
        )

    def reader(self, offset: int) -> "Reader":
        """Return a reader that begins at ``offset``."""
        return Reader(self, offset)

    # ---- open, sync, close

    def sync(self) -> None:
        """Return when everything appended is on the disk."""
        with self._turning:
            self._dirty = False
            try:
                self._file.sync()
            except JournalError:
                self._dirty = True
                raise

    def close(self) -> None:
        """Seal the journal, so that the next opening need not read it."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._syncer.ident:
            self._syncer.join()
        try:
            self._seal(self._segments[-1])
            self.epochs.end()
        except (OSError, JournalError) as error:
            log.warning("journal: not closed cleanly (%s); it will be checked when it is opened", error)
        self._file.close()
        os.close(self._lock_fd)

    def _sync_regularly(self) -> None:
        while not self._closed.wait(SYNC_SECONDS):
            if self._dirty:
                try:
                    self.sync()
                except JournalError as error:
                    log.error("journal: %s", error)

    def _open_segments(self) -> list[Segment]:
        folder = self.folder / "segments"
        folder.mkdir(exist_ok=True)
        segments: list[Segment] = []
        found = segments_in(folder)
        for first, path in found:
            if segments and first != segments[-1].end:
                raise JournalError(
                    f"journal {self.folder}: documents {segments[-1].end} to {first - 1} are missing "
                    f"before {path.name}"
                )
            known = read_index(first, path) or scan(first, path, last=path == found[-1][1])
            segments.append(known[0])
            self._note(known[1])
        if not segments:
            segments.append(Segment(0, folder / segment_name(0)))
        index_path(segments[-1].path).unlink(missing_ok=True)  # it grows again from here
        return segments

    def _note(self, publishers: Publishers) -> None:
        for publisher, last in publishers.items():
            self.publishers.pop(publisher, None)
            self.publishers[publisher] = last


class Reader:
    """Reads a journal in order, from one offset on."""

    def __init__(self, journal: Journal, offset: int) -> None:
        self._journal = journal
        self.offset = offset
        self._segment: Segment | None = None
        self._file: SegmentFile | None = None
        self._position = 0

    def read(self, documents: int, size: int) -> Chunk:
        """Return the next records: at least one if there is one, at most ``documents``, about ``size`` bytes.

        A reader that the retention has overtaken goes on at the oldest document that is kept.

        Raises
        ------
        JournalError
            if a record is damaged, with its offset and position.
        """
        journal = self._journal
        self.offset = max(self.offset, journal.first)
        if self.offset >= journal.head:
            return Chunk(self.offset, 0, b"")
        segment = self._segment
        if segment is None or not segment.first <= self.offset < segment.end:
            segment = self._move()
        try:
            data = self._bytes(segment, size)
            count, end = records.span(data, min(documents, segment.end - self.offset), verify=True, least=1)
        except records.DamagedRecordError as error:
            where = f"{error.reason} (document {self.offset} or one after it)"
            raise journal.damage(segment, self._position + error.position, where) from None
        chunk = Chunk(self.offset, count, data[:end])
        self.offset += count
        self._position += end
        return chunk

    def seek(self, offset: int) -> None:
        """Go on at ``offset``."""
        if offset != self.offset:
            self.offset = offset
            self.close()

    def close(self) -> None:
        """Close the segment that is read."""
        if self._file:
            self._file.close()
        self._segment = self._file = None

    def _move(self) -> Segment:
        self.close()
        self._segment, self._position = self._journal.locate(self.offset)
        self._file = SegmentFile(self._segment.path, writable=False)
        return self._segment

    def _bytes(self, segment: Segment, size: int) -> bytes:
        assert self._file is not None  # noqa: S101  # _move has opened it
        self._file.size = segment.size  # it grows while it is read
        data = self._file.read(self._position, max(size, records.PREFIX_SIZE))
        if len(data) >= records.PREFIX_SIZE and (whole := records.size_at(data, 0)) > len(data):
            data = self._file.read(self._position, whole)
        return data


def lock(folder: Path) -> int:
    """Make ``folder`` this process's until the file descriptor is closed.

    Raises
    ------
    JournalError
        if it cannot be written, or another process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(
            f"cannot write the journal in {folder}: {error.strerror}; choose another with --journal"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise JournalError(
            f"the journal in {folder} is in use by another hub; stop it, or choose another with --journal"
        ) from None
    return fd
