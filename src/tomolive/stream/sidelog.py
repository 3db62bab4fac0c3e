"""The side log: which documents were refused, whose they were, and why."""

import json
import logging
import time
from pathlib import Path

from tomolive.stream.peers import Refusal

log = logging.getLogger(__name__)

_LARGEST = 32 << 20


class SideLog:
    """JSON lines in ``refused.jsonl`` of the journal's folder; bounded, as peers decide how much comes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "refused.jsonl"

    def write(self, refusal: Refusal) -> None:
        """Keep one refusal; a disk that is full costs the line and nothing else."""
        line = json.dumps({"time": time.time(), **refusal._asdict()}) + "\n"
        try:
            with self._path.open("a") as file:
                file.write(line)
                size = file.tell()
            if size > _LARGEST:
                self._path.replace(self._path.with_suffix(".old.jsonl"))
        except OSError as error:
            log.error("cannot write %s: %s", self._path, error.strerror)
