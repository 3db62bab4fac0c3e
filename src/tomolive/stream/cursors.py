"""Named cursors: how far each consumer with a name has come."""

import json
import logging
from pathlib import Path

from tomolive.errors import JournalError
from tomolive.stream.atomic import set_aside, write_atomically
from tomolive.stream.messages import Position

log = logging.getLogger(__name__)


class Cursors:
    """The cursors of one journal, kept in its folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "cursors.json"
        self._changed = False
        self._cursors = self._read()

    def _read(self) -> dict[str, Position]:
        try:
            kept = json.loads(self._path.read_text())
            return {str(name): Position(str(epoch), int(offset)) for name, (epoch, offset) in kept.items()}
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
        """Return where the consumer ``name`` goes on; None if it never was here."""
        return self._cursors.get(name)

    def set(self, name: str, position: Position) -> None:
        """Remember where a consumer goes on; ``save`` makes it last."""
        if self._cursors.get(name) != position:
            self._cursors[name] = position
            self._changed = True

    def items(self) -> list[tuple[str, Position]]:
        """Return all cursors."""
        return list(self._cursors.items())

    def save(self) -> None:
        """Write the cursors if one has moved."""
        if not self._changed:
            return
        try:
            write_atomically(self._path, {n: [p.epoch, p.offset] for n, p in self._cursors.items()})
        except OSError as error:
            log.error("cannot write %s, will try again: %s", self._path, error.strerror)
            return
        self._changed = False
