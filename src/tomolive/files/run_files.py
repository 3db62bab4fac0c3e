"""Which files the documents of a run name, and where these lie in a folder that mirrors those names."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from event_model import unpack_event_page

from tomolive.errors import FileAccessError
from tomolive.files.announcements import Announcement, Announcements, Asset
from tomolive.files.locate import Locator
from tomolive.files.readers.base import NotReadyError, Source
from tomolive.files.readers.hdf5_links import confine_links
from tomolive.files.readers.hdf5_state import is_hdf5
from tomolive.files.readers.registry import reader_for

_MOST_MISSING = 10_000
"""So many files one after the other that are not there, and those behind them are not looked for."""


class RunFiles:
    """The files of runs whose documents are taken in.

    Parameters
    ----------
    locator
        Says where they are on this machine, and which may be read.
    """

    def __init__(self, locator: Locator) -> None:
        self._locator = locator
        self.found: dict[Path, Path] = {}
        """Absolute path as announced (where a link inside a file looks for it) -> file on this machine."""
        self.problems: list[str] = []
        """What was not found or may not be read, one line each."""

    def take(self, documents: Iterable[tuple[str, Any]]) -> None:
        """Add the files of one run."""
        for asset, parts in _announced(documents).values():
            where = asset.uri or f"{asset.root}/{asset.resource_path}"
            try:
                self._take_asset(asset, parts)
            except FileAccessError as error:
                self.problems.append(str(error))
            except NotReadyError as error:
                self.problems.append(f"{where}: {error}")

    def _take_asset(self, asset: Asset, parts: list[Announcement]) -> None:
        announced, path = (_place(locator, asset) for locator in (Locator(), self._locator))
        self._locator.confine(path, announced=asset.uri or str(announced))
        count = len(self.found)
        for file in self._files(asset, path, parts):
            real = self._locator.confine(file)
            beside = "." if file.is_relative_to(path) else ".."
            place = _normal(announced / beside / os.path.relpath(file, path / beside))
            self.found[place] = real
            if is_hdf5(real):
                self._take_linked(place, real)
        if len(self.found) == count and announced not in self.found:
            self.problems.append(f"{announced} (here {path}): nothing is there")

    def _files(self, asset: Asset, path: Path, parts: list[Announcement]) -> Iterator[Path]:
        """Yield the files of an asset that are there."""
        if asset.mimetype and hasattr(reader := reader_for(asset.mimetype), "path_of"):
            yield from self._numbered(
                reader(Source(path, self._locator.confine, asset.parameters)), path, parts
            )
        elif path.is_file():
            yield path
        elif asset.mimetype:
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            # A handler makes file names of its own, out of a folder or the beginning of a name.
            folder, begin = path.parent, path.name
            if path.is_dir():
                folder, begin = path, str(asset.parameters.get("filename", ""))
            files = folder.iterdir() if folder.is_dir() else ()
            yield from sorted(file for file in files if file.name.startswith(begin) and file.is_file())

    def _numbered(self, reader: Any, path: Path, parts: list[Announcement]) -> Iterator[Path]:
        missing = in_vain = 0
        for part in parts:
            for frame in range(part.position, part.position + part.count):
                file = reader.path_of(frame)
                if file.is_file():
                    in_vain = 0
                    yield file
                    continue
                missing += 1
                in_vain += 1
                if in_vain > _MOST_MISSING:
                    break
        if missing:
            self.problems.append(f"{path}: {missing} announced images have no file")

    def _take_linked(self, place: Path, real: Path) -> None:
        """Add the files to which an HDF5 file leads, where its links will look for them."""
        places = {real: place}
        for holder, name in confine_links(real, self._locator.confine):
            if Path(name).is_absolute():
                self.problems.append(f"{places[holder]} leads to {name} by an absolute path: not taken along")
                continue
            target = self._locator.confine(holder.parent / name)
            places[target] = _normal(places[holder].parent / name)
            if target.is_file():
                self.found[places[target]] = target
            else:
                self.problems.append(f"{places[holder]} leads to {name}, which is not there")


def _announced(documents: Iterable[tuple[str, Any]]) -> dict[str, tuple[Asset, list[Announcement]]]:
    """Return what was announced of each asset."""
    announcements = Announcements()
    assets: dict[str, tuple[Asset, list[Announcement]]] = {}
    for name, doc in documents:
        events = unpack_event_page(doc) if name == "event_page" else [doc]
        for one in events:
            for part in announcements.take("event" if name == "event_page" else name, one):
                if part.asset is not None:
                    assets.setdefault(part.asset.uid, (part.asset, []))[1].append(part)
    return assets


def _place(locator: Locator, asset: Asset) -> Path:
    if asset.uri:
        return locator.map(asset.uri)
    return locator.map_resource(asset.root, asset.resource_path)


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))
