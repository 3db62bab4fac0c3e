"""Where a demo or a replay keeps what it makes."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tomolive.errors import SettingsError


@dataclass(frozen=True)
class Folder:
    """One folder with a sub-folder for each process that writes."""

    root: Path

    @property
    def data(self) -> Path:
        """Image files, as a detector writes them."""
        return self.root / "data"

    @property
    def journal(self) -> Path:
        """The hub's journal."""
        return self.root / "journal"

    @property
    def spool(self) -> Path:
        """The Publisher's spool."""
        return self.root / "spool"

    @property
    def catalog(self) -> Path:
        """The embedded Tiled catalog."""
        return self.root / "catalog"

    @property
    def results(self) -> Path:
        """Slices and summaries, a folder for each run."""
        return self.root / "results"

    @property
    def volumes(self) -> Path:
        """Full volumes, a folder for each run."""
        return self.root / "volumes"

    @property
    def logs(self) -> Path:
        """One log file for each process."""
        return self.root / "logs"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Create the folder and keep it for this process.

        Raises
        ------
        SettingsError
            if it cannot be made, or another process works in it.
        """
        self.create()
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SettingsError(
                    f"another demo or replay works in {self.root}; choose another folder with --dir"
                ) from None
            yield

    def create(self) -> "Folder":
        """Create what is not there yet.

        Raises
        ------
        SettingsError
            if the folder cannot be made or written.
        """
        try:
            written = (self.data, self.journal, self.spool, self.catalog, self.results, self.volumes)
            for part in (*written, self.logs):
                part.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"cannot make {error.filename}: {error.strerror}; choose another folder with --dir"
            ) from None
        if not os.access(self.root, os.W_OK):
            raise SettingsError(f"cannot write to {self.root}; choose another folder with --dir")
        return self
