"""The Publisher's spool: documents on local disk until the hub has them.

A spool is a folder of its own for each Publisher: segments of records, the number of the last document
that the hub acknowledged, and a lock that tells whether the Publisher still lives. A folder without a living
owner is adopted and sent by the next Publisher for the same address, or by ``tomolive spool drain``.
"""

import fcntl
import json
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from tomolive.errors import JournalError
from tomolive.stream import records
from tomolive.stream.engines.address import EngineAddress, shown
from tomolive.stream.segments import SegmentFile, segment_name, segments_in, survey
from tomolive.stream.sockets import Address

SEGMENT_BYTES = 8 << 20
ENVIRONMENT = "TOMOLIVE_SPOOL"


class Batch(NamedTuple):
    """Consecutive records, as bytes."""

    first: int
    count: int
    data: bytes


def _state_folder() -> Path:
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else platformdirs.user_state_path("tomolive") / "spool"


def default_folder(address: str) -> Path:
    """Return the folder for the spools of ``address``, however it is spelt, in the user's state folder.

    Raises
    ------
    AddressError
        if the address cannot be understood.
    """
    return _state_folder() / re.sub(r"[^A-Za-z0-9.-]+", "_", _place(address))


def _place(address: str) -> str:
    scheme = address.partition("://")[0] if "://" in address else "tcp"
    if scheme in {"nats", "kafka"}:
        broker = EngineAddress.parse(address)
        return f"{broker.scheme}_{broker.hosts}_{broker.path}".rstrip("_")
    if scheme not in {"tcp", "stock"}:
        return shown(address)
    at = Address.parse(address)
    return f"{at.scheme}_{at.host}_{at.port}"


def all_folders() -> list[Path]:
    """Return the folders for all addresses that this user has published to."""
    return sorted(path for path in _state_folder().glob("*") if path.is_dir())


class Spool:
    """The unacknowledged documents of one Publisher.

    One thread appends, one other reads and acknowledges.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.publisher = bytes.fromhex(path.name)
        self._lock_fd = lock
        self._turning = threading.Lock()  # guards the list of segments
        self._segments = [(first, SegmentFile(file)) for first, file in segments_in(path)]
        self._acknowledged_fd = os.open(path / "acknowledged", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.acknowledged = int.from_bytes(os.pread(self._acknowledged_fd, 8, 0), "little")
        self.last = self._find_last()
        self._next: tuple[int, SegmentFile, int] | None = None

    @classmethod
    def create(cls, folder: Path, address: str, name: str) -> "Spool":
        """Make an empty spool with a publisher id of its own.

        Raises
        ------
        JournalError
            if the folder cannot be written.
        """
        path = folder / uuid.uuid4().hex
        try:
            path.mkdir(parents=True, mode=0o700)
            lock = _lock(path)
            about = {"format": 1, "address": address, "name": name, "host": socket.gethostname()}
            about |= {"pid": os.getpid(), "made": time.time()}
            (path / "publisher.json").write_text(json.dumps(about))
            spool = cls(path, lock)
            spool._turn()
        except OSError as error:
            raise JournalError(
                f"cannot make a spool in {folder}: {error.strerror}; choose another folder with spool="
            ) from None
        return spool

    @classmethod
    def adopt(cls, path: Path) -> "Spool | None":
        """Take over what a dead Publisher of this machine left; None if its owner lives or there is nothing.

        In a folder that machines share, only the owner's own can tell whether it lives.

        Raises
        ------
        JournalError
            if a record in the middle is damaged.
        """
        if not _is_ours(path):
            return None
        try:
            lock = _lock(path)
        except OSError:
            return None
        try:
            mend(path)
            return cls(path, lock)
        except FileNotFoundError:
            os.close(lock)
            return None
        except BaseException:
            os.close(lock)
            raise

    @property
    def waiting(self) -> int:
        """Documents that the hub has not acknowledged."""
        return self.last - self.acknowledged

    def append(self, frames: Sequence[records.Buffer], flags: int = 0) -> int:
        """Write one document and return its number.

        Raises
        ------
        JournalError
            if the disk is full or fails.
        """
        segment = self._segments[-1][1]
        if segment.size >= SEGMENT_BYTES:
            segment = self._turn()
        segment.append(records.pack(self.publisher, self.last + 1, frames, flags))
        self.last += 1
        return self.last

    def read(self, seq: int, documents: int, size: int) -> Batch:
        """Return records from number ``seq`` on, at least one if there is one."""
        if self._next is None or self._next[0] != seq:
            self._next = self._locate(seq)
        _, segment, position = self._next
        documents = min(documents, self.last - seq + 1)
        if documents <= 0:
            return Batch(seq, 0, b"")
        data = segment.read(position, size)
        if not data:  # this segment is read to its end
            self._next = self._locate(seq)
            return self.read(seq, documents, size)
        if len(data) >= records.PREFIX_SIZE and (whole := records.size_at(data, 0)) > len(data):
            data = segment.read(position, whole)
        count, end = records.span(data, documents, verify=False)
        self._next = (seq + count, segment, position + end)
        return Batch(seq, count, data[:end])

    def acknowledge(self, seq: int) -> None:
        """Forget the documents up to number ``seq``; the hub has them."""
        if seq <= self.acknowledged:
            return
        os.pwrite(self._acknowledged_fd, seq.to_bytes(8, "little"), 0)
        self.acknowledged = seq
        while len(self._segments) > 1 and self._segments[1][0] <= seq + 1:
            with self._turning:
                _, done = self._segments.pop(0)
            if self._next is not None and self._next[1] is done:
                self._next = None  # read to its end
            done.close()
            done.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the spool; an empty one is removed."""
        if self._lock_fd < 0:
            return
        empty = self.waiting <= 0
        self.abandon(remove=empty)

    def abandon(self, *, remove: bool = False) -> None:
        """Close all files; in a child after ``fork`` this leaves the lock with the parent."""
        for _, segment in self._segments:
            segment.close()
        os.close(self._acknowledged_fd)
        if remove:  # while the lock is held, so that nobody adopts half a folder
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)
        self._lock_fd = -1

    def _turn(self) -> SegmentFile:
        segment = SegmentFile(self.path / segment_name(self.last + 1))
        with self._turning:
            self._segments.append((self.last + 1, segment))
        return segment

    def _locate(self, seq: int) -> tuple[int, SegmentFile, int]:
        with self._turning:
            first, segment = max((s for s in self._segments if s[0] <= seq), key=lambda s: s[0])
        _, end = records.span(segment.read(0, segment.size), seq - first, verify=False)
        return seq, segment, end

    def _find_last(self) -> int:
        if not self._segments:
            return self.acknowledged
        first, segment = self._segments[-1]
        count, _ = records.span(segment.read(0, segment.size), segment.size, verify=False)
        return first + count - 1


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield the spools in ``folder``, oldest first; their owners may live."""
    found = []
    for path in folder.glob("*/publisher.json"):
        if re.fullmatch("[0-9a-f]{32}", path.parent.name):
            try:
                found.append((path.stat().st_mtime, path.parent))
            except FileNotFoundError:  # its owner has just finished
                continue
    for _, path in sorted(found):
        yield path


def orphans(folder: Path) -> Iterator[Path]:
    """Yield the spools in ``folder`` whose owner, of this machine, is dead."""
    for path in filter(_is_ours, leftovers(folder)):
        try:
            os.close(_lock(path))
        except OSError:
            continue
        yield path


def describe_all(folder: Path) -> Iterator[str]:
    """Say in one line for each spool in ``folder`` what waits, whose it is, and for which hub."""
    dead = set(orphans(folder))
    for path in leftovers(folder):
        about = _about(path)
        size = sum(file.stat().st_size for _, file in segments_in(path))
        owner = "left behind" if path in dead else "in use" if _is_ours(path) else "of another machine"
        address, name, host = (about.get(key, "unknown") for key in ("address", "name", "host"))
        yield f"{path}  {size} bytes  {address}  {name} on {host}  {owner}"
    for path in folder.glob("damaged-*"):
        yield f"{path}  damaged, set aside"


def _about(path: Path) -> dict[str, Any]:
    """Return what a spool says of its Publisher; nothing if a crash has torn it."""
    try:
        about = json.loads((path / "publisher.json").read_text())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _is_ours(path: Path) -> bool:
    here = socket.gethostname()
    return _about(path).get("host", here) == here


def mend(path: Path) -> None:
    """Cut off what a power cut left of the last record.

    Raises
    ------
    JournalError
        if whole records follow the damage; nothing is changed then.
    """
    for _, file in segments_in(path):
        sound, *after = survey(file)
        if after:
            raise JournalError(
                f"spool {file}: the record at byte {sound.end} {sound.fault}, and "
                f"{sum(stretch.count for stretch in after)} whole records follow it"
            )
        if sound.fault:
            os.truncate(file, sound.end)


def _lock(path: Path) -> int:
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
