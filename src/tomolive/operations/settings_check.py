"""Every mistake of a settings file, with its place, its reason, and what to do."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tomolive.config import Settings
from tomolive.config_places import Places
from tomolive.operations.consistency import CONSISTENCY
from tomolive.operations.finding import Finding, find
from tomolive.operations.surroundings import SURROUNDINGS


def check_settings(
    path: Path, environ: Mapping[str, str] = os.environ, *, look: bool = True
) -> Iterator[Finding]:
    """Check a settings file: what is written, whether it fits together, and what it names.

    Parameters
    ----------
    path
        The file.
    environ
        Variables that override it.
    look
        Look at addresses, folders, rights and clocks, too.
    """
    places = Places(path)
    settings, mistakes = Settings.read(path, environ, places)
    if settings is None:
        yield from (Finding("mistake", m.key, m.reason, m.where) for m in mistakes)
        return
    yield from find(CONSISTENCY, settings, places)
    if look:
        yield from find(SURROUNDINGS, settings, places)
