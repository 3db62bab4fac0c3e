"""Where frames lie in files that hold them as plain numbers: for whoever needs parts of frames, once written.

A reader gives whole frames. One that has seen them all there may read what it needs of them again, at a
place in a file, without any library and from any process.
"""

import logging
import os
import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomolive.errors import FileAccessError
from tomolive.files.announcements import Announcement, Announcements, Asset, Document, Track
from tomolive.files.locate import Locator
from tomolive.files.readers.base import NotReadyError, Source
from tomolive.files.readers.hdf5 import Hdf5Reader
from tomolive.files.readers.registry import reader_for

log = logging.getLogger(__name__)

_MOUNTS = Path("/proc/self/mountinfo")
_LOCAL = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}


@dataclass(frozen=True, eq=False)
class Places:
    """Consecutive frames of a track that lie in one file as they are in memory."""

    track: Track
    first: int
    """Number of the first frame within its stream."""
    path: Path
    shape: tuple[int, ...]
    """Of a frame."""
    dtype: np.dtype
    offsets: npt.NDArray[np.int64]
    """Where each frame begins, (n,) bytes; -1: it was not written."""


def find_places(
    documents: Iterable[tuple[str, Document]], locator: Locator, wanted: Callable[[Track], bool]
) -> Generator[Places | None, None, None]:
    """Yield where the wanted frames of a run lie, for one announcement after the other.

    None for frames that do not lie anywhere as plain numbers: what is compressed, in other formats than HDF5,
    or cannot be opened; to read the frames says why, if something is wrong.
    """
    announcements, readers = Announcements(), dict[str, Hdf5Reader | None]()
    try:
        for name, doc in documents:
            for part in announcements.take(name, doc):
                # events of stream resources announce again what their stream_datums have
                is_new = name == "stream_datum" or part.datum_kwargs is not None
                if part.asset is None or not is_new or not wanted(part.track):
                    continue
                if part.asset.uid not in readers:
                    readers[part.asset.uid] = _reader(part.asset, locator)
                yield _places(readers[part.asset.uid], part)
    finally:
        for reader in filter(None, readers.values()):
            reader.close()


def _reader(asset: Asset, locator: Locator) -> Hdf5Reader | None:
    if not asset.mimetype:
        return None
    try:
        path = locator.map(asset.uri) if asset.uri else locator.map_resource(asset.root, asset.resource_path)
        reader = reader_for(asset.mimetype)(Source(path, locator.confine, asset.parameters))
    except FileAccessError as error:
        log.debug("the places of frames of %s are not known: %s", asset.uri, error)
        return None
    return reader if isinstance(reader, Hdf5Reader) else None


def _places(reader: Hdf5Reader | None, part: Announcement) -> Places | None:
    if reader is None:
        return None
    try:
        found = reader.places(part.position, part.position + part.count)
    except (FileAccessError, NotReadyError, OSError, RuntimeError, KeyError) as error:
        log.debug("the places of frames %d on are not known: %s", part.first, error)
        return None
    if found is None:
        return None
    path, shape, dtype, offsets = found
    return Places(part.track, part.first, path, shape, dtype, offsets)


def is_local(path: Path) -> bool:
    """Whether a file lies on a disk of this machine, where to read many parts of it costs no more than all.

    False where the system does not say.
    """
    try:
        lines = os.fsdecode(_MOUNTS.read_bytes()).splitlines()
    except OSError:
        return False
    whole = path.resolve()
    mounts = [(_unescaped(fields[4]), fields[fields.index("-") + 1]) for fields in map(str.split, lines)]
    under = [(len(point.parts), kind) for point, kind in mounts if whole.is_relative_to(point)]
    # of two mounts at one point the later one is seen
    return bool(under) and max(reversed(under), key=lambda found: found[0])[1] in _LOCAL


def _unescaped(point: str) -> Path:
    r"""Return a mount point as it is called; the kernel writes a space as ``\040``."""
    return Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point))
