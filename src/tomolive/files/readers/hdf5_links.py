"""The way to an HDF5 dataset, through links and virtual datasets; each file is confined before HDF5 opens it.

Links are followed here rather than by HDF5, which also looks for files in places that depend on the
environment, and says where it has been only afterwards. A file that foreign code will open is looked through
before.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py

from tomolive.errors import OutsideRootsError, UnknownLayoutError
from tomolive.files.readers.base import BeingWrittenError, NotReadyError
from tomolive.files.readers.hdf5_shared import borrow, give_back, is_open, keep_dataset, known_dataset
from tomolive.files.readers.hdf5_state import Hdf5State, examine, is_hdf5

CLOSE_FIRST = "images become readable when the detector closes the file"
_MOST_LINKS = 16
_MOST_LEVELS = 8
"""Of virtual datasets that are made of virtual datasets."""
_MOST_OBJECTS = 10_000
"""In all files that are looked through for one; a detector's file holds a hundred."""

Confine = Callable[[Path], Path]


class Trail:
    """The files that were opened one after the other on the way to a dataset.

    Parameters
    ----------
    confine
        Resolves a path, and raises `OutsideRootsError` outside the allowed roots.
    """

    def __init__(self, confine: Confine) -> None:
        self._confine = confine
        self._files: dict[Path, h5py.File] = {}
        self.state = Hdf5State.INCOMPLETE
        """Of the file that was entered last."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that were entered, in their order."""
        return tuple(self._files)

    def dataset(self, path: Path, name: str) -> h5py.Dataset:
        """Return a dataset, wherever links lead.

        Raises
        ------
        OutsideRootsError
            if they lead outside the allowed roots.
        NotReadyError
            if a file on the way cannot be read yet.
        KeyError
            if there is no such dataset so far.
        UnknownLayoutError
            if there is something else.
        """
        for _ in range(_MOST_LINKS):
            found = _walk(self.enter(path), name)
            if isinstance(found, tuple):
                path, name = found
            elif isinstance(found, h5py.Dataset) and found.ndim > 0:
                keep_dataset(found, self._files[self._confine(path)])
                return found
            else:
                raise UnknownLayoutError(f"{path}: {name} is not a dataset of frames")
        raise UnknownLayoutError(f"{path}: {name} lies behind too many links")

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            give_back(file)
        self._files.clear()

    def enter(self, path: Path) -> h5py.File:
        """Return an open file, after asking whether it may be opened.

        Raises
        ------
        OutsideRootsError
            if it may not.
        NotReadyError
            if it cannot be read yet.
        """
        real = self._confine(path)
        if real not in self._files:
            self.state = require_readable(real)
            if self.state is Hdf5State.SWMR or is_open(real):
                # Also where the writer has closed it since: that handle has to be refreshed.
                self.state = Hdf5State.SWMR
                self._files[real] = borrow(real, _open_file)
            else:
                self._files[real] = _open_file(real)
        return self._files[real]


def confine_sources(
    dataset: h5py.Dataset, confine: Confine, seen: set[tuple[Path, str]] | None = None, level: int = 0
) -> None:
    """Check all files from which the values of a dataset come, however many virtual datasets lie between.

    Raises
    ------
    OutsideRootsError
        if one of them is outside the allowed roots.
    NotReadyError
        if one of them is not complete, since what is not written yet would read as fill values.
    """
    path = Path(dataset.file.filename)
    for name, _, _ in dataset.external or ():
        # HDF5 itself takes them from the working directory.
        for folder in (path.parent, Path.cwd()):
            confine(folder / name)
    if not dataset.is_virtual:
        return
    if level == _MOST_LEVELS:
        raise UnknownLayoutError(f"{path}: {dataset.name} is made of too many virtual datasets")
    seen = set() if seen is None else seen
    for file_name, name in sorted({(s.file_name, s.dset_name) for s in dataset.virtual_sources()}):
        source = path if file_name == "." else path.parent / file_name
        if (source, name) not in seen:
            seen.add((source, name))
            _confine_source(source, name, confine, seen, level + 1)


def _confine_source(path: Path, name: str, confine: Confine, seen: set[tuple[Path, str]], level: int) -> None:
    trail = Trail(confine)
    try:
        dataset = trail.dataset(path, name)
        if trail.state is Hdf5State.SWMR:
            raise BeingWrittenError(f"{path}: {CLOSE_FIRST} (the source of a virtual dataset)")
        confine_sources(dataset, confine, seen, level)
    finally:
        trail.close()


def confine_links(path: Path, confine: Confine) -> list[tuple[Path, str]]:
    """Check where all the links, virtual datasets and external storage of a file lead, and of those in turn.

    For a file that foreign code will open: HDF5 follows them wherever they lead.

    Returns
    -------
    list of (Path, str)
        Each way to another file: the file from which it leads, and what is written there.

    Raises
    ------
    OutsideRootsError
        if one leads outside the allowed roots, or there are too many to follow.
    NotReadyError
        if a file on the way cannot be read yet.
    """
    ways: list[tuple[Path, str]] = []
    count, seen = 0, set[Path]()
    ahead = [confine(path)]
    while ahead:
        path = ahead.pop()
        if path in seen or not is_hdf5(path):
            continue
        seen.add(path)
        trail = Trail(confine)
        try:
            for item in _objects(trail.enter(path)):
                count += 1
                if count > _MOST_OBJECTS:
                    raise OutsideRootsError(f"{path} holds too much to see where all of it leads")
                if isinstance(item, h5py.ExternalLink):
                    names = [item.filename]
                    ahead += [confine(place) for place in _places(path, item.filename)]
                elif _is_elsewhere(item):
                    confine_sources(item, confine)
                    names = [name for name, _, _ in item.external or ()] + _sources_of(item)
                    ahead += [confine(path.parent / name) for name in names]
                else:
                    continue
                ways += [(path, name) for name in names]
        finally:
            trail.close()
    return list(dict.fromkeys(ways))


def _is_elsewhere(dataset: h5py.Dataset) -> bool:
    """Whether values of a dataset may lie in other files."""
    properties = dataset.id.get_create_plist()
    return properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count() > 0


def _sources_of(dataset: h5py.Dataset) -> list[str]:
    """Return the names of the other files that a virtual dataset is made of."""
    names = {source.file_name for source in dataset.virtual_sources()} if dataset.is_virtual else set()
    return sorted(names - {"."})


def _objects(group: h5py.Group) -> Iterator[h5py.Dataset | h5py.ExternalLink]:
    """Yield the external links and datasets below a group; hard links may lead in circles."""
    seen, ahead = set[h5py.Group](), [group]
    while ahead:
        group = ahead.pop()
        if group in seen:
            continue
        seen.add(group)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield link
            elif isinstance(link, h5py.HardLink):
                item = group[name]
                if isinstance(item, h5py.Group):
                    ahead.append(item)
                elif isinstance(item, h5py.Dataset):
                    yield item


def _places(path: Path, link: str) -> list[Path]:
    """Return where HDF5 would look for the file of an external link in the file ``path``.

    Beside it first, else also in the working directory and under a prefix from the environment.
    """
    prefixes = os.environ.get("HDF5_EXT_PREFIX", "").split(os.pathsep)
    beside = path.parent / link
    elsewhere = [Path(folder or ".", link).absolute() for folder in ("", *prefixes)]
    return [
        beside,
        *(place for place in elsewhere if place.exists() and (prefixes[0] or not beside.exists())),
    ]


def require_readable(path: Path) -> Hdf5State:
    """Return the state of a file that can be read now.

    Raises
    ------
    NotReadyError
        if it cannot.
    """
    state = examine(path)
    if state is Hdf5State.INCOMPLETE:
        raise NotReadyError(f"{path}: {state.value}")
    if state is Hdf5State.EXCLUSIVE:
        raise BeingWrittenError(f"{path}: {CLOSE_FIRST}")
    return state


def _walk(file: h5py.File, name: str) -> Any:
    """Return what is called ``name``, or the (path, name) to which the first link on the way leads."""
    there: Any = file
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts, 1):
        link = there.get(part, getlink=True) if isinstance(there, h5py.Group) else None
        rest = parts[number:]
        if link is None:
            raise KeyError(f"no dataset {name} so far")
        if isinstance(link, h5py.ExternalLink):
            return Path(file.filename).parent / link.filename, "/".join([link.path, *rest])
        if isinstance(link, h5py.SoftLink):
            base = "" if link.path.startswith("/") else f"{there.name}/"
            return Path(file.filename), "/".join([base + link.path, *rest])
        full = str(there.name).rstrip("/") + "/" + part
        there = known_dataset(file, full) or there[part]
    return there


def _open_file(path: Path) -> h5py.File:
    # No chunk cache: a chunk of several frames that was read half full would stay half full in it.
    options: dict[str, Any] = {"swmr": True, "libver": "latest", "rdcc_nbytes": 0}
    try:
        return h5py.File(path, "r", locking=False, **options)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
    # This very process has it open already, with a lock; HDF5 wants both the same, and nobody is hurt more.
    return h5py.File(path, "r", **options)
