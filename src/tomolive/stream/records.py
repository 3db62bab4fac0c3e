"""Records: the unit that is spooled, sent, journaled and delivered, always as the same bytes.

A record holds one encoded document. It is checksummed once, by the Publisher that made it, and never
rewritten, so the checksum that a consumer verifies guards the document all the way from the RunEngine.
Layout, little-endian::

    magic      4 bytes  b"TLR1"
    length     uint32   bytes that follow the checksum
    checksum   uint32   CRC-32 of these bytes
    flags      uint8    1: a start document; 2: void, a document stood here that damage has taken
    publisher  16 bytes id of the Publisher
    seq        uint64   1, 2, 3, ... for each publisher
    count      uint16   number of frames
    lengths    uint32 each
    frames     the frames of ``codec.encode``, one after the other
"""

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple
from zlib import crc32

from tomolive.errors import JournalError

MAGIC = b"TLR1"
STARTS_RUN = 1
VOID = 2
_PREFIX = struct.Struct("<4sII")
_HEAD = struct.Struct("<4sIIB16sQH")
_BODY = struct.Struct("<B16sQH")
_LENGTH = struct.Struct("<I")
PREFIX_SIZE = _PREFIX.size
Buffer = bytes | bytearray | memoryview


@cache
def _head_of(count: int) -> struct.Struct:
    return struct.Struct(f"<B16sQH{count}I")


_HEAD_OF_ONE = _head_of(1)
_ONE_SIZE = _HEAD_OF_ONE.size
_pack_one, _pack_prefix = _HEAD_OF_ONE.pack, _PREFIX.pack


class Record(NamedTuple):
    """One record inside a buffer."""

    start: int
    """Position of its first byte in the buffer."""
    end: int
    """One past its last byte."""
    flags: int
    publisher: bytes
    seq: int
    count: int
    """Its frames."""


def pack(publisher: bytes, seq: int, frames: Sequence[Buffer], flags: int = 0) -> bytes:
    """Make a record of the frames of one document."""
    if len(frames) == 1:  # nearly all documents, and the RunEngine waits for this
        frame = frames[0]
        size = len(frame)
        head = _pack_one(flags, publisher, seq, 1, size)
        checksum = crc32(frame, crc32(head))
        return _pack_prefix(MAGIC, _ONE_SIZE + size, checksum) + head + frame
    lengths = [len(frame) for frame in frames]
    head = _head_of(len(lengths)).pack(flags, publisher, seq, len(lengths), *lengths)
    checksum = crc32(head)
    for frame in frames:
        checksum = crc32(frame, checksum)
    return b"".join((_PREFIX.pack(MAGIC, len(head) + sum(lengths), checksum), head, *frames))


def walk(buffer: Buffer, position: int = 0, *, verify: bool = True) -> Iterator[Record]:
    """Yield the whole records of ``buffer`` from ``position`` on; a piece of one at the end is left alone.

    Raises
    ------
    JournalError
        at the first record whose magic, length or checksum is wrong, with its position.
    """
    view = memoryview(buffer)
    size = len(view)
    while position + PREFIX_SIZE <= size:
        magic, length, checksum = _PREFIX.unpack_from(view, position)
        start, body = position, position + PREFIX_SIZE
        position = body + length
        if magic != MAGIC or length < _BODY.size:
            raise DamagedRecordError(start, "does not begin like a record")
        if position > size:
            return
        if verify and crc32(view[body:position]) != checksum:
            raise DamagedRecordError(start, "has a wrong checksum")
        _, _, _, flags, publisher, seq, count = _HEAD.unpack_from(view, start)
        yield Record(start, position, flags, publisher, seq, count)


def frames(buffer: Buffer, record: Record) -> list[memoryview]:
    """Return the frames of ``record``, without a copy."""
    view, count = memoryview(buffer), record.count
    position = record.start + _HEAD.size
    if count == 1 and position + 4 <= record.end:  # nearly all documents
        position += 4
        if position + _LENGTH.unpack_from(view, position - 4)[0] != record.end:
            raise DamagedRecordError(record.start, "announces a frame of another size than it holds")
        return [view[position : record.end]]
    if position + 4 * count > record.end:
        raise DamagedRecordError(record.start, "announces more frames than it holds")
    lengths = struct.unpack_from(f"<{count}I", view, position)
    position += 4 * count
    if position + sum(lengths) != record.end:
        raise DamagedRecordError(record.start, "announces frames of another size than it holds")
    parts = []
    for length in lengths:
        parts.append(view[position : position + length])
        position += length
    return parts


def size_at(buffer: Buffer, position: int) -> int:
    """Return the size of the record whose first ``PREFIX_SIZE`` bytes are at ``position``."""
    magic, length, _ = _PREFIX.unpack_from(buffer, position)
    if magic != MAGIC:
        raise DamagedRecordError(position, "does not begin like a record")
    return PREFIX_SIZE + length


class DamagedRecordError(JournalError):
    """Bytes that should be a record and are not."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"the record at byte {position} {reason}")
        self.position = position
        self.reason = reason


class Stretch(NamedTuple):
    """Whole records, one after the other."""

    start: int
    end: int
    count: int
    fault: str
    """What is wrong with the record at ``end``; empty if the buffer ends there."""


def stretches(buffer: Buffer) -> Iterator[Stretch]:
    """Yield what can be read of ``buffer``; between two stretches, or behind the last, lies damage.

    A write that was torn leaves one stretch with a fault; damage in the middle leaves several. A length that
    was damaged hides the record that follows, so whole records are looked for at every byte.
    """
    position, raw = 0, b""
    while position >= 0:
        start, count, fault = position, 0, ""
        try:
            for record in walk(buffer, position):
                count, position = count + 1, record.end
        except DamagedRecordError as error:
            fault = error.reason
        if not fault and position < len(buffer):
            fault = "is cut off"
        yield Stretch(start, position, count, fault)
        if not fault:
            return
        raw = raw or bytes(buffer)
        position = _next_whole_record(raw, position + 1)


def _next_whole_record(raw: bytes, position: int) -> int:
    while (position := raw.find(MAGIC, position)) >= 0:
        try:
            if next(walk(raw, position), None):
                return position
        except DamagedRecordError:
            pass
        position += 1
    return -1


def span(buffer: Buffer, most: int, *, verify: bool, least: int = 0) -> tuple[int, int]:
    """Count up to ``most`` whole records at the beginning of ``buffer``; return count and end.

    Raises
    ------
    DamagedRecordError
        if one is damaged, or fewer than ``least`` are whole.
    """
    view = memoryview(buffer)
    size = len(view)
    count = end = 0
    while count < most and end + PREFIX_SIZE <= size:
        magic, length, checksum = _PREFIX.unpack_from(view, end)
        if magic != MAGIC:
            raise DamagedRecordError(end, "does not begin like a record")
        following = end + PREFIX_SIZE + length
        if following > size:
            break
        if verify and crc32(view[end + PREFIX_SIZE : following]) != checksum:
            raise DamagedRecordError(end, "has a wrong checksum")
        count, end = count + 1, following
    if count < least:
        raise DamagedRecordError(end, "announces more bytes than there are")
    return count, end
