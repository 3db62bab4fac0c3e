"""Files that grow, opened once for all readers of this process.

Where one process has a dataset open twice and refreshes it, HDF5 (seen with 2.0) keeps what it knew of its
chunks and answers with frames of long ago, without an error. So all readers use one handle.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without stubs

from tomolive.files.readers.base import NotReadyError

_Key = tuple[int, int]


@dataclass
class _Shared:
    file: h5py.File
    users: int = 0
    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)


_lock = threading.Lock()
_open: dict[_Key, _Shared] = {}


def is_open(path: Path) -> bool:
    """Whether a reader of this process has the file open while it grows."""
    with _lock:
        return _key(path) in _open


def borrow(path: Path, open_file: Callable[[Path], h5py.File]) -> h5py.File:
    """Return the one handle of a file that grows; to be given back with `give_back`."""
    with _lock:
        key = _key(path)
        shared = _open.get(key)
        if shared is None:
            shared = _open[key] = _Shared(open_file(path))
        shared.users += 1
        return shared.file


def give_back(file: h5py.File) -> None:
    """Close a file that was borrowed, once nobody else uses it; others are closed at once."""
    with _lock:
        for key, shared in _open.items():
            if shared.file is file:
                shared.users -= 1
                if not shared.users:
                    del _open[key]
                    file.close()
                return
    file.close()


def known_dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """Return a dataset that a reader of this process has open, of a file that was borrowed."""
    with _lock:
        return next((s.datasets.get(name) for s in _open.values() if s.file is file), None)


def keep_dataset(dataset: h5py.Dataset, file: h5py.File) -> None:
    """Have the next reader of a file that was borrowed use this dataset, too."""
    with _lock:
        for shared in _open.values():
            if shared.file is file:
                shared.datasets.setdefault(str(dataset.name), dataset)


def require_alone(dataset: h5py.Dataset) -> None:
    """Look whether other code of this process has a dataset open that is about to be refreshed.

    Raises
    ------
    NotReadyError
        if it has: what would be read could be other frames.
    """
    ids = h5py.h5f.get_obj_ids(dataset.file.id, h5py.h5f.OBJ_DATASET)
    if len(ids) < 2:
        return
    mine = h5o.get_info(dataset.id).addr
    if sum(h5o.get_info(other).addr == mine for other in ids) > 1:
        raise NotReadyError(
            f"{dataset.file.filename}: this process has {dataset.name} open a second time, and HDF5 then "
            "mixes up its frames; close it there"
        )


def _key(path: Path) -> _Key:
    known = path.stat()
    return known.st_dev, known.st_ino
