"""Files that are replaced whole: after a crash or a power cut there is the old content or the new one."""

import json
import os
from pathlib import Path


def write_atomically(path: Path, content: object) -> None:
    """Replace ``path`` by ``content`` as JSON; when this returns, the new one is on the disk.

    Raises
    ------
    OSError
        if the disk is full or fails; the old content is still there then.
    """
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that a new one can take its place; return its new path."""
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    return aside


def sync_directory(path: Path) -> None:
    """Make new, renamed and deleted names in a folder last."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
