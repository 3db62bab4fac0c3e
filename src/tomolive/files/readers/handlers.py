"""Image files of specs that only a databroker handler can read."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomolive.errors import OutsideRootsError, UnknownLayoutError
from tomolive.files.gathering import Gathering
from tomolive.files.readers.base import Array, NotReadyError, Source, stamp
from tomolive.files.readers.hdf5_links import confine_links

GROUP = "databroker.handlers"
_MOST_FILES = 32


class HandlerReader:
    """Calls a handler of the ``databroker.handlers`` entry points, as it is.

    A handler makes file names of its own, and may open a file as soon as it is made: nothing that it is made
    with may be an absolute path or hold ``..``. Those that can list their files (``get_file_list``) are asked
    before they read; those that cannot may only read the very file that the document names. Of HDF5 files all
    links are followed before a handler gets them, since HDF5 would follow them anywhere.

    Raises
    ------
    UnknownLayoutError
        if no handler of this spec is installed.
    """

    def __init__(self, spec: str, source: Source) -> None:
        self._source = source
        self._factory = _find(spec)
        self._handler: Any = None
        self._confined: dict[Path, Hashable] = {}
        """The newest files whose links were followed, as they were then."""

    def read(self, datum_kwargs: Mapping[str, Any]) -> Array:
        """Return what the handler gives for one datum.

        Raises
        ------
        NotReadyError
            if the handler fails, which most do on a file that is still being written.
        UnknownLayoutError
            if it needs a package that is not installed.
        """
        path = self._source.confine(self._source.path)
        try:
            if self._handler is not None and any(stamp(p) != before for p, before in self._confined.items()):
                # Whatever the handler has open could not be looked through again.
                self.close()
            if self._handler is None:
                self._refuse_paths(self._source.parameters)
                self._confine_links([path])  # some open it at once
                self._handler = self._factory(str(path), **self._source.parameters)
            self._confine_links(self._files(datum_kwargs))
            return self._in_bounds(self._handler(**datum_kwargs))
        except (OutsideRootsError, NotReadyError):
            raise
        except ImportError as error:
            raise UnknownLayoutError(f"the handler of {path} needs another package: {error}") from error
        # Handlers are foreign code and raise anything; a new one is made for the next try, since many keep
        # what they saw first.
        except Exception as error:
            self._handler = None
            self._confined.clear()
            raise NotReadyError(f"{path}: {type(error).__name__}: {error}", only=True) from error

    def _in_bounds(self, value: Any) -> Array:
        """Return an array of what a handler gave; what is lazy and too big comes piece by piece."""
        size = getattr(value, "nbytes", 0)
        if isinstance(value, np.ndarray) or not size > self._source.block_bytes or not len(value):
            return np.asarray(value)
        step = self._source.frames_per_block(size // len(value))
        gathering = Gathering(self._source.block_bytes)
        for first in range(0, len(value), step):
            gathering.add(np.asarray(value[first : first + step]))
        return gathering.array()

    def _files(self, datum_kwargs: Mapping[str, Any]) -> list[Path]:
        """Return the files that the handler will read, confined."""
        list_files = getattr(self._handler, "get_file_list", None)
        if list_files is not None:
            return [self._source.confine(Path(name)) for name in list_files([dict(datum_kwargs)])]
        self._refuse_paths(datum_kwargs)
        path = self._source.confine(self._source.path)
        if not path.is_file():
            raise NotReadyError(
                f"{path} is no file so far, and its handler does not say which others it reads"
            )
        return [path]

    def _confine_links(self, paths: Iterable[Path]) -> None:
        for path in paths:
            now = stamp(path)
            if path not in self._confined and path.is_file():
                confine_links(path, self._source.confine)
                self._confined[path] = now
        for path in list(self._confined)[:-_MOST_FILES]:
            del self._confined[path]

    def _refuse_paths(self, arguments: Mapping[str, Any]) -> None:
        # A place inside an HDF5 file begins with a slash like one outside it; handlers call it a key.
        for text in _texts({name: value for name, value in arguments.items() if name != "key"}):
            if ".." in Path(text).parts or Path(text).is_absolute():
                raise OutsideRootsError(f"{self._source.path}: {text!r} might lead to another file")

    def close(self) -> None:
        """Close the handler, if it can be closed."""
        close = getattr(self._handler, "close", None)
        self._handler = None
        self._confined.clear()
        if close is not None:
            close()


def _find(spec: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=spec):
        try:
            return point.load()
        except ImportError as error:
            raise UnknownLayoutError(f"the handler of spec {spec!r} cannot be imported: {error}") from error
    raise UnknownLayoutError(
        f"no reader for spec {spec!r}; install a package with an entry point {spec!r} in group {GROUP!r}"
    )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
