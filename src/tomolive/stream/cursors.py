"""Named cursors: how far each consumer with a name has come, and when it last said so.

Each turn of the hub appends the cursors that moved to a log, so that a hub that is killed knows every
acknowledgement that it has taken in; now and then the log is folded into ``cursors.json``.
"""

import json
import logging
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tomolive.errors import JournalError
from tomolive.stream.atomic import set_aside, write_atomically
from tomolive.stream.messages import Position

log = logging.getLogger(__name__)

_LOG_BYTES = 1 << 20
_TOUCH_SECONDS = 3600.0


@dataclass
class Cursor:
    """How far one consumer has come."""

    position: Position
    used: float
    """When it was last connected, or moved; seconds since 1970."""


class Cursors:
    """The cursors of one journal, kept in its folder."""

    def __init__(self, folder: Path) -> None:
        self._path, self._log_path = folder / "cursors.json", folder / "cursors.log"
        self._moved: set[str] = set()
        self._changed = False
        self._cursors = self._read()
        try:
            self._log_fd = os.open(self._log_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"cannot write {self._log_path}: {error.strerror}") from None
        kept = os.pread(self._log_fd, os.fstat(self._log_fd).st_size, 0)
        for name, cursor in _replay(kept):
            self._cursors[name], self._changed = cursor, True
        self._log_size = kept.rfind(b"\n") + 1
        self._cut_log()

    def _read(self) -> dict[str, Cursor]:
        try:
            return read_snapshot(self._path)
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            aside = set_aside(self._path)
            log.error(
                "%s is damaged (%s) and set aside as %s: consumers with names begin at the oldest document, "
                "unless they still run", self._path, error, aside.name,
            )  # fmt: skip
            return {}
        except OSError as error:
            raise JournalError(f"cannot read {self._path}: {error.strerror}") from None

    def get(self, name: str) -> Position | None:
        """Return where the consumer ``name`` goes on; None if it never was here, or too long ago."""
        cursor = self._cursors.get(name)
        return cursor.position if cursor else None

    def set(self, name: str, position: Position) -> None:
        """Remember where a consumer goes on; ``keep`` makes it outlive the hub."""
        known = self._cursors.get(name)
        if known is None or known.position != position:
            self._cursors[name] = Cursor(position, time.time())
            self._moved.add(name)

    def items(self) -> list[tuple[str, Position]]:
        """Return all cursors."""
        return [(name, cursor.position) for name, cursor in self._cursors.items()]

    def ages(self) -> dict[str, float]:
        """Return for each cursor the seconds since it was last used; any thread may ask."""
        now = time.time()
        return {name: max(0.0, now - cursor.used) for name, cursor in list(self._cursors.items())}

    def expire(self, after: float, connected: Collection[str]) -> list[str]:
        """Forget the cursors that nobody has used for ``after`` seconds; return their names."""
        now = time.time()
        for name in connected:
            if (cursor := self._cursors.get(name)) and now - cursor.used > _TOUCH_SECONDS:
                cursor.used = now
                self._moved.add(name)
        expired = [name for name, cursor in self._cursors.items() if now - cursor.used > after]
        for name in expired:
            log.warning(
                "the cursor %r was not used for %.1f days and is forgotten, at document %d",
                name, (now - self._cursors[name].used) / 86400, self._cursors.pop(name).position.offset,
            )  # fmt: skip
        if expired:
            self._moved.difference_update(expired)
            self._changed = True
            self.save()  # both files still hold them
        return expired

    def keep(self) -> None:
        """Write down the cursors that have moved, so that they outlive the hub, though not a power cut."""
        if not self._moved:
            return
        lines = [json.dumps([name, *_row(self._cursors[name])]) + "\n" for name in self._moved]
        data = "".join(lines).encode()
        try:
            written = os.write(self._log_fd, data)
            if written < len(data):  # there was room for no more
                self._cut_log()
                log.error("cannot write all of %s, will try again", self._log_path)
                return
        except OSError as error:
            log.error("cannot write %s, will try again: %s", self._log_path, error.strerror)
            return
        self._log_size += written
        self._moved.clear()
        self._changed = True
        if self._log_size > _LOG_BYTES:
            self.save()

    def _cut_log(self) -> None:
        """Drop a line without its end, so that nothing is written on to it."""
        os.ftruncate(self._log_fd, self._log_size)

    def save(self) -> None:
        """Fold the log into ``cursors.json``, where a power cut does not reach it."""
        if not (self._changed or self._moved):
            return
        try:
            write_atomically(self._path, {name: _row(cursor) for name, cursor in self._cursors.items()})
            os.ftruncate(self._log_fd, 0)
        except OSError as error:
            log.error("cannot write %s, will try again: %s", self._path, error.strerror)
            return
        self._log_size = 0
        self._changed = False
        self._moved.clear()

    def close(self) -> None:
        """Save, and let go of the log."""
        self.save()
        os.close(self._log_fd)


def _row(cursor: Cursor) -> list:
    return [cursor.position.epoch, cursor.position.offset, round(cursor.used, 3)]


def _cursor(epoch: object, offset: int, used: float | None = None) -> Cursor:
    """Make a cursor of a row; the first versions did not note when it was used."""
    return Cursor(Position(str(epoch), int(offset)), time.time() if used is None else float(used))


def read_snapshot(path: Path) -> dict[str, Cursor]:
    """Read ``cursors.json``."""
    return {str(name): _cursor(*row) for name, row in json.loads(path.read_text()).items()}


def _replay(data: bytes) -> Iterator[tuple[str, Cursor]]:
    for line in data.split(b"\n")[:-1]:  # what follows the last line end was never acknowledged
        try:
            name, *row = json.loads(line)
            yield str(name), _cursor(*row)
        except (ValueError, TypeError) as error:
            log.error("a line of the cursors' log is damaged and left out: %s", error)


def look(folder: Path) -> dict[str, Cursor]:
    """Return the cursors of a journal without changing anything; a hub may have it open.

    Raises
    ------
    JournalError
        if they cannot be read.
    """
    try:
        snapshot = folder / "cursors.json"
        found = read_snapshot(snapshot) if snapshot.exists() else {}
        moved = folder / "cursors.log"
        return found | dict(_replay(moved.read_bytes() if moved.exists() else b""))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise JournalError(f"cannot read the cursors in {folder}: {error}") from None
