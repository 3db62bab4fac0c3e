"""From one address to another: what a hub, a broker or bluesky's proxy gives goes to the next one, once.

Two things must agree after SIGKILL at any moment: how far the source was read, and what lies in the spool
for the target. The state says "behind this position, this spool held so many documents". If the spool holds
one more, the process died between spooling a document and noting it: that one is not taken again.
"""

import fcntl
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from tomolive.errors import JournalError, SettingsError
from tomolive.stream.dispatcher import RemoteDispatcher
from tomolive.stream.engines.address import shown
from tomolive.stream.messages import Position
from tomolive.stream.publisher import Publisher
from tomolive.stream.spool import Spool

log = logging.getLogger(__name__)

_SIZE = 1024
"""Bytes of the state, always: one write changes all of it."""


class State(NamedTuple):
    """How far a bridge has come."""

    position: Position
    """Behind the last document that is known to be in the spool."""
    spool: str
    """Name of the spool; empty: the target has none."""
    count: int
    """Documents that it held then."""


class StateFile:
    """The state of one bridge, which one process at a time may use."""

    def __init__(self, folder: Path) -> None:
        """Raise SettingsError if another bridge uses the folder, or what is in it cannot be understood."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / "state.json"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise SettingsError(f"another bridge uses {folder}: give this one a --name of its own") from None

    def read(self) -> State | None:
        """Return what the last process noted; None: there was none."""
        text = os.pread(self._fd, _SIZE, 0)
        if not text.strip():
            return None
        try:
            epoch, offset, spool, count = json.loads(text)
            return State(Position(str(epoch), int(offset)), str(spool), int(count))
        except (ValueError, TypeError):
            raise SettingsError(f"{self._path} cannot be understood; remove it to begin anew") from None

    def write(self, state: State) -> None:
        """Note how far it has come."""
        text = json.dumps([state.position.epoch, state.position.offset, state.spool, state.count])
        os.pwrite(self._fd, text.encode().ljust(_SIZE), 0)

    def close(self) -> None:
        """Let another bridge use it."""
        os.close(self._fd)


class Bridge:
    """Takes documents from ``source`` to ``target`` until it is stopped.

    Parameters
    ----------
    source, target : str
        Addresses, as a RemoteDispatcher and a Publisher take them.
    name : str, optional
        Of its cursor and of its state; default: made of both addresses.
    start : str
        Where to begin the first time: ``"all"``, ``"new"``, ``"newest"``, or a run's uid.
    state : Path, optional
        Folder for its state and spool; default: one for its name in the user's state folder.

    Raises
    ------
    AddressError
        if an address cannot be understood.
    SettingsError
        if another bridge of this name is running.
    """

    def __init__(
        self,
        source: str,
        target: str,
        *,
        name: str | None = None,
        start: str = "all",
        state: Path | None = None,
    ) -> None:
        self.name = name or f"bridge {shown(source)} {shown(target)}"
        folder = state or platformdirs.user_state_path("tomolive") / "bridge" / _file_name(self.name)
        self._state = StateFile(folder)
        noted = self._state.read()
        self._skip = 0 if noted is None else _held(folder / "spool", noted.spool) - noted.count
        self._skip = max(0, self._skip)
        self._began = False
        self._remembers = not source.startswith("stock:")
        self.dispatcher = RemoteDispatcher(
            source,
            name=self.name if self._remembers else None,
            start=(noted.position if noted else start) if self._remembers else None,
            on_error="stop",
        )
        self._publisher = Publisher(target, spool=folder / "spool", name=self.name)
        self.dispatcher.subscribe(self._pass_on)
        self.stop: Callable[[], None] = self.dispatcher.stop
        self.passed = 0
        """Documents since it was started."""

    def run(self) -> None:
        """Pass documents on until ``stop``.

        Raises
        ------
        JournalError
            if the spool takes no documents; they stay at the source.
        AddressError
            if the source refuses this consumer.
        """
        try:
            self.dispatcher.start()
        finally:
            self._publisher.close()
            self._state.close()

    def _pass_on(self, name: str, doc: dict[str, Any]) -> None:
        behind = self.dispatcher.position
        spool, before = self._spooled()
        if self._skip and behind is not None:
            self._skip -= 1
            self._state.write(State(behind, spool, before))
            self._began = True
            return
        if not self._began and behind is not None:
            self._state.write(State(Position(behind.epoch, behind.offset - 1), spool, before))
            self._began = True
        self._publisher(name, doc)
        spool, count = self._spooled()
        if spool and count == before:
            raise JournalError(
                f"the spool {spool} takes no documents; they stay at {shown(self.dispatcher.address)}"
            )
        if behind is not None:
            self._state.write(State(behind, spool, count))
        self.passed += 1

    def _spooled(self) -> tuple[str, int]:
        spooled = self._publisher.spooled
        return ("", 0) if spooled is None else (spooled[0].name, spooled[1])


def _held(folder: Path, spool: str) -> int:
    """Return how many documents were written to a spool that a dead process left; 0: it is gone."""
    if not re.fullmatch("[0-9a-f]{32}", spool) or not (folder / spool).is_dir():
        return 0
    left = Spool.adopt(folder / spool)
    if left is None:
        raise SettingsError(f"the spool {folder / spool} is in use by another process")
    count = left.last
    left.abandon()
    return count


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:200]
