"""What a segment of the journal holds: where its records are, which runs begin in it, who published.

Known in memory for every segment, and kept beside a sealed one, so that it need not be read again.
"""

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from tomolive.errors import CodecError, JournalError
from tomolive.stream import records
from tomolive.stream.atomic import write_atomically
from tomolive.stream.codec import decode
from tomolive.stream.segments import survey

log = logging.getLogger(__name__)

_MARK_EVERY = 256
_KNOWN_PUBLISHERS = 65536

Publishers = dict[bytes, int]
"""id of a Publisher -> number of its last document; who published last stands last."""


@dataclass
class Batch:
    """Documents that are appended together."""

    parts: list[records.Buffer] = field(default_factory=list)
    count: int = 0
    size: int = 0
    publishers: dict[bytes, int] = field(default_factory=dict)
    """Number of the last document of each publisher."""
    runs: list[tuple[int, str]] = field(default_factory=list)
    """(position in the batch, uid) of each start document."""

    def add(self, part: records.Buffer, count: int, publisher: bytes, last: int) -> None:
        """Add the bytes of ``count`` records of one publisher."""
        self.parts.append(part)
        self.size += len(part)
        self.count += count
        self.publishers[publisher] = last


@dataclass
class Segment:
    """What is known of one segment without reading it."""

    first: int
    path: Path
    count: int = 0
    size: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)
    """(offset, byte) of some records, ascending."""
    runs: dict[str, int] = field(default_factory=dict)
    """uid -> offset of the start document."""

    @property
    def end(self) -> int:
        """One past its last record."""
        return self.first + self.count

    def extend(self, batch: Batch) -> None:
        """Note that ``batch`` was appended."""
        if not self.marks or self.end - self.marks[-1][0] >= _MARK_EVERY:
            self.marks.append((self.end, self.size))
        for at, uid in batch.runs:
            self.runs[uid] = self.end + at
        self.count += batch.count
        self.size += batch.size


def scan(first: int, path: Path, *, last: bool) -> tuple[Segment, Publishers]:
    """Read a segment from end to end; cut off a torn record if it is the ``last`` one.

    Raises
    ------
    JournalError
        if a record in the middle is damaged, with the document's number and the position.
    """
    sound, *after = survey(path)
    if sound.fault and (after or not last):
        raise JournalError(
            f"journal {path}: document {first + sound.count} at byte {sound.end} {sound.fault}, and "
            f"{sum(stretch.count for stretch in after)} whole records follow it; "
            f"see `tomolive journal check {path.parents[1]}`"
        )
    if sound.fault:
        cut = path.stat().st_size - sound.end
        log.warning("journal %s: the last record %s; its %d bytes are cut off", path, sound.fault, cut)
        os.truncate(path, sound.end)
    segment, publishers = Segment(first, path), Publishers()
    data = path.read_bytes()
    for record in records.walk(data, verify=False):
        batch = Batch(count=1, size=record.end - record.start)
        if uid := _run_that_begins(data, record):
            batch.runs.append((0, uid))
        segment.extend(batch)
        publishers.pop(record.publisher, None)
        publishers[record.publisher] = record.seq
    return segment, publishers


def _run_that_begins(data: records.Buffer, record: records.Record) -> str:
    if not record.flags & records.STARTS_RUN:
        return ""
    try:
        return str(decode(records.frames(data, record))[1].get("uid", ""))
    except CodecError:
        return ""


def index_path(segment: Path) -> Path:
    """Return where the index of a sealed segment lies."""
    return segment.with_suffix(".index")


def write_index(segment: Segment, publishers: Publishers) -> None:
    """Keep what is known of a segment beside it, and of all Publishers until then."""
    recent = list(publishers.items())[-_KNOWN_PUBLISHERS:]
    index = {
        "format": 1,
        "first": segment.first,
        "count": segment.count,
        "size": segment.size,
        "marks": segment.marks,
        "runs": segment.runs,
        "publishers": {publisher.hex(): last for publisher, last in recent},
    }
    write_atomically(index_path(segment.path), index)


def read_index(first: int, path: Path) -> tuple[Segment, Publishers] | None:
    """Return what is kept beside a segment; None if there is nothing that fits it."""
    try:
        index = json.loads(index_path(path).read_text())
        if index["format"] != 1 or index["first"] != first or index["size"] != path.stat().st_size:
            return None
        marks = [(offset, byte) for offset, byte in index["marks"]]
        publishers = {bytes.fromhex(publisher): last for publisher, last in index["publishers"].items()}
        return Segment(first, path, index["count"], index["size"], marks, index["runs"]), publishers
    except (OSError, ValueError, LookupError, TypeError):  # it can be made again from the segment
        return None
