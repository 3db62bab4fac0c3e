"""Epochs of a journal: they tell a consumer when offsets that it has seen were lost to a power cut.

Offsets count on through all epochs. A new one begins when the journal was not closed and the machine has
restarted since: documents may then have been delivered and lost, and their offsets are given to others.
"""

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from tomolive.errors import JournalError
from tomolive.stream.atomic import set_aside, write_atomically
from tomolive.stream.messages import Position

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class DamagedEpochsError(JournalError):
    """``journal.json`` holds something else than it should."""


@dataclass
class Epochs:
    """The epochs of one journal, oldest first, as kept in its ``journal.json``."""

    path: Path
    begun: list[tuple[str, int]]
    """(id, offset at which it begins)."""
    clean: bool
    boot: str

    @classmethod
    def open(cls, folder: Path) -> "Epochs":
        """Read ``journal.json``; a folder without one is a new journal."""
        path = folder / "journal.json"
        try:
            state = json.loads(path.read_text())
            if state["format"] != 1:
                raise JournalError(f"{path}: format {state['format']!r}, this version knows 1")
            return cls(path, [(str(e), int(o)) for e, o in state["epochs"]], state["clean"], state["boot"])
        except FileNotFoundError:
            return cls(path, [], clean=True, boot=_boot())
        except OSError as error:
            raise JournalError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DamagedEpochsError(
                f"{path} is damaged ({type(error).__name__}: {error}); `tomolive journal repair {folder}` "
                "makes it again"
            ) from None

    @classmethod
    def make_again(cls, folder: Path) -> None:
        """Set a damaged ``journal.json`` aside, and begin a new epoch that holds every document.

        A consumer that was in another one then gets the journal from its oldest document on: what it had
        may come twice, nothing is left out.
        """
        path = folder / "journal.json"
        set_aside(path)
        cls(path, [(uuid.uuid4().hex, 0)], clean=True, boot=_boot())._write()

    @property
    def current(self) -> str:
        """The id of the epoch that is written to."""
        return self.begun[-1][0]

    def begin(self, head: int, *, durable: bool) -> None:
        """Go on at ``head``: in the same epoch if no delivered document can have been lost."""
        restarted = not self.clean and self.boot != _boot()
        if not self.begun or (restarted and not durable):
            self.begun.append((uuid.uuid4().hex, head))
        self.clean, self.boot = False, _boot()
        self._write()

    def end(self) -> None:
        """Note that the journal was closed and nothing can be lost."""
        self.clean = True
        self._write()

    def translate(self, position: Position, head: int) -> tuple[int, int]:
        """Return where ``position`` lies now, and how many documents before it were lost."""
        for (epoch, _), (_, following) in zip(self.begun, [*self.begun[1:], ("", head)], strict=True):
            if epoch == position.epoch:
                return min(position.offset, following), max(0, position.offset - following)
        return 0, 0  # another journal: all of this one is new

    def _write(self) -> None:
        state = {"format": 1, "epochs": self.begun, "clean": self.clean, "boot": self.boot}
        try:
            write_atomically(self.path, state)
        except OSError as error:
            raise JournalError(f"cannot write {self.path}: {error.strerror}; is there room?") from None


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:  # not Linux: every unclean start may be one after a power cut
        return f"unknown-{os.getpid()}"
