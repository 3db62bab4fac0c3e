"""Whether an HDF5 file may be read now, found without disturbing the process that writes it.

Found by trying it:

* HDF5 locks a file even when it opens it for reading. As long as such a lock lasts, a detector fails to open
  its own file again, and polling a file that is being made can hit that moment. Hence readers here never
  let HDF5 lock; what the lock would say is found in other ways.
* A file of format 3 (``libver="latest"``, all SWMR files) says in its superblock that it is open for writing,
  and whether with SWMR. Without SWMR nobody can read it before it is closed.
* Older formats say nothing. Their writer holds a lock from the moment the file exists, so it is asked for a
  shared one, which is given back at once. Refused, as long as there is a writer, this disturbs nobody.
  Granted, it lasts 1.2 us (median; as long as the network takes on a network file system), in which a writer
  would fail to open its file again; that is done once after each change of a closed file, not while waiting.
"""

import fcntl
import os
import stat
from enum import Enum
from pathlib import Path

from tomolive.errors import UnknownLayoutError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_OPEN_FOR_WRITING, _OPEN_FOR_SWMR = 0b001, 0b100


class Hdf5State(Enum):
    """What can be done with an HDF5 file now."""

    INCOMPLETE = "is not whole yet"
    SWMR = "is being written, and can be read meanwhile"
    EXCLUSIVE = "cannot be read before its writer closes it"
    CLOSED = "is closed, and says so itself"
    UNMARKED = "is not locked; whether it is being written cannot be known"


def examine(path: Path) -> Hdf5State:
    """Look at the superblock of ``path``, an existing file.

    Raises
    ------
    OSError
        if it cannot be opened.
    UnknownLayoutError
        if it is not a regular file.
    """
    # Opening a named pipe to read would wait for a writer, hence O_NONBLOCK.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnknownLayoutError(f"{path} is not a regular file")
        superblock = _superblock(descriptor)
        if len(superblock) == 64:
            return _state(descriptor, superblock)
    finally:
        os.close(descriptor)
    return Hdf5State.INCOMPLETE


def is_hdf5(path: Path) -> bool:
    """Whether ``path`` is a regular file that HDF5 would open.

    Raises
    ------
    OSError
        if it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and bool(_superblock(descriptor))
    finally:
        os.close(descriptor)


def _superblock(descriptor: int) -> bytes:
    """Return the first 64 bytes of the superblock, which comes after a user block of any power of two."""
    offset, size = 0, os.fstat(descriptor).st_size
    while offset < size:
        superblock = os.pread(descriptor, 64, offset)
        if superblock[:8] == _SIGNATURE:
            return superblock
        offset = 2 * offset or 512
    return b""


def _state(descriptor: int, superblock: bytes) -> Hdf5State:
    version, offset_size, flags = superblock[8], superblock[9], superblock[11]
    if version >= 3 and flags & _OPEN_FOR_WRITING:
        return Hdf5State.SWMR if flags & _OPEN_FOR_SWMR else Hdf5State.EXCLUSIVE
    if version < 3 and _is_locked(descriptor):
        return Hdf5State.EXCLUSIVE
    # Versions 0 and 1 begin with more fields; the address of the end is the third address in each.
    first, offset_size = {0: (24, superblock[13]), 1: (28, superblock[13])}.get(version, (12, offset_size))
    end = int.from_bytes(superblock[first + 2 * offset_size :][:offset_size], "little")
    if os.fstat(descriptor).st_size < end:
        return Hdf5State.INCOMPLETE
    return Hdf5State.CLOSED if version >= 3 else Hdf5State.UNMARKED


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
