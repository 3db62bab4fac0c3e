"""What an HDF5 file holds, also behind links into other files, and which links lead nowhere."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]  (its stubs lack the low level)

from tomolive.errors import FileAccessError, UnknownLayoutError

DEPTH = 12
"""Groups inside groups that are looked into."""


@dataclass(frozen=True)
class Tree:
    """The datasets and the broken links of a file, by their path in it."""

    datasets: Mapping[str, h5py.Dataset]
    broken: Mapping[str, str]
    """Where a link that leads nowhere wants to lead."""


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading.

    Raises
    ------
    FileAccessError
        if there is no such file, or it may not be read.
    UnknownLayoutError
        if it is not an HDF5 file.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise FileAccessError(f"cannot read {path}: {error.strerror}") from None
    if not h5py.is_hdf5(path):
        raise UnknownLayoutError(f"{path} is not an HDF5 file; scans are read from Data Exchange and NXtomo")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise FileAccessError(f"cannot open {path}: {error}; is it still being written?") from None


def walk(file: h5py.File, also: Iterable[str] = ()) -> Tree:
    """Return the datasets of ``file``, each under one path at least, and ``also``."""
    datasets: dict[str, h5py.Dataset] = {}
    broken: dict[str, str] = {}
    _walk(file, "", datasets, broken, set())
    for path in also:
        with suppress(KeyError, OSError):
            if isinstance(item := file[path], h5py.Dataset):
                datasets[path] = item
    return Tree(datasets, broken)


def _walk(
    group: h5py.Group,
    path: str,
    datasets: dict[str, h5py.Dataset],
    broken: dict[str, str],
    seen: set[tuple[int, bytes]],
) -> None:
    info = h5o.get_info(group.id)
    # A link can lead back to a group above it.
    if (info.fileno, info.addr) in seen or path.count("/") > DEPTH:
        return
    seen.add((info.fileno, info.addr))
    for name in group:
        here = f"{path}/{name}"
        try:
            item = group[name]
        except (KeyError, OSError):
            broken[here] = _target(group.get(name, getlink=True))
            continue
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            datasets[here] = item
        elif isinstance(item, h5py.Group):
            _walk(item, here, datasets, broken, seen)


def _target(link: object) -> str:
    if isinstance(link, h5py.ExternalLink):
        return f"{link.path} in {link.filename}"
    if isinstance(link, h5py.SoftLink):
        return link.path
    return "an object that cannot be read"
