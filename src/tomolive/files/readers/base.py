"""What a reader of image files is: frames by number out of one asset, or the reason why not yet."""

import os
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SETTLED_S = 5.0
"""A file that nobody has changed for so long holds what it will hold, as far as it does not say otherwise."""
_TAIL = 16
"""Bytes; files get their content in blocks that are longer."""


class NotReadyError(Exception):
    """The frame is not there yet; looking again later may help. Never leaves ``tomolive.files``.

    Parameters
    ----------
    reason
        In plain words, with the path.
    only
        True: frames after this one may be there all the same. False: none of them is.
    """

    def __init__(self, reason: str, *, only: bool = False) -> None:
        super().__init__(reason)
        self.only = only


class BeingWrittenError(NotReadyError):
    """The file cannot be read before its writer closes it, however long that takes."""


@dataclass(frozen=True)
class Source:
    """All that a reader is told."""

    path: Path
    """File or folder, mapped to this machine but not checked: open only what ``confine`` returns."""
    confine: Callable[[Path], Path]
    """Resolves symbolic links; raises `OutsideRootsError` outside the allowed roots."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of the StreamResource, or made from the Resource's ``resource_kwargs``."""
    empty: Callable[[tuple[int, ...], np.dtype], Array] = np.empty
    """Makes an array to read into; it may be memory that consumers have released."""
    block_bytes: int = sys.maxsize
    """The most that one array should take."""
    threads: int = 1
    """Threads that may decompress a block."""

    def frames_per_block(self, frame_bytes: int) -> int:
        """Return how many frames to read at once, at least one."""
        return max(self.block_bytes // max(frame_bytes, 1), 1)


class FrameReader(Protocol):
    """Reads frames out of one file, or one family of files; used by one thread at a time."""

    mimetypes: ClassVar[tuple[str, ...]]

    def __init__(self, source: Source, /) -> None: ...

    def read(self, first: int, last: int, /) -> Array:
        """Return frames ``[first, last)``, or as many from ``first`` on as are there, at least one.

        Frames are numbered from 0 as they lie in the asset. The array is (n, rows, columns) for images,
        (n,) for scalars. What the detector has not written yet is never returned, whatever the file's size.

        Raises
        ------
        NotReadyError
            if not even the first is there yet.
        FileAccessError
            if waiting cannot help.
        """
        ...

    def sign_of_life(self, frame: int, /) -> Hashable:
        """Return something that differs once the detector has worked on the file that holds ``frame``."""
        ...

    def close(self) -> None:
        """Close what is open; another `read` opens it again."""
        ...


def stamp(path: Path) -> Hashable:
    """Return what changes when the file does; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def ends_unwritten(path: Path, parts: Iterable[tuple[int, int]]) -> bool:
    """Whether one of the ``parts`` (offset, length) ends in zeros that nobody may have replaced yet.

    A file may be made as long as it will be before it is filled: by a copy that reserves its room, or by a
    network file system that tells the size before the content. Zeros in a file that has not changed of late
    are taken for data.
    """
    with path.open("rb") as file:
        if time.time() - os.fstat(file.fileno()).st_mtime > SETTLED_S:
            return False
        for offset, length in parts:
            tail = min(_TAIL, length)
            file.seek(offset + length - tail)
            if not any(file.read(tail)):
                return True
    return False
