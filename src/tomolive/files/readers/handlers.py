"""Image files of specs that only a databroker handler can read."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomolive.errors import OutsideRootsError, UnknownLayoutError
from tomolive.files.readers.base import Array, NotReadyError, Source

GROUP = "databroker.handlers"


class HandlerReader:
    """Calls a handler of the ``databroker.handlers`` entry points, as it is.

    A handler makes file names of its own, and may open a file as soon as it is made: nothing that it is made
    with may be an absolute path or hold ``..``. Those that can list their files (``get_file_list``) are asked
    before they read; to the others' other arguments the same applies.

    Raises
    ------
    UnknownLayoutError
        if no handler of this spec is installed.
    """

    def __init__(self, spec: str, source: Source) -> None:
        self._source = source
        self._factory = _find(spec)
        self._handler: Any = None

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
            if self._handler is None:
                self._refuse_paths(self._source.parameters)
                self._handler = self._factory(str(path), **self._source.parameters)
            self._confine(datum_kwargs)
            return np.asarray(self._handler(**datum_kwargs))
        except OutsideRootsError:
            raise
        except ImportError as error:
            raise UnknownLayoutError(f"the handler of {path} needs another package: {error}") from error
        # Handlers are foreign code and raise anything; a new one is made for the next try, since many keep
        # what they saw first.
        except Exception as error:
            self._handler = None
            raise NotReadyError(f"{path}: {type(error).__name__}: {error}", only=True) from error

    def _confine(self, datum_kwargs: Mapping[str, Any]) -> None:
        list_files = getattr(self._handler, "get_file_list", None)
        if list_files is not None:
            for name in list_files([dict(datum_kwargs)]):
                self._source.confine(Path(name))
            return
        self._refuse_paths(datum_kwargs)

    def _refuse_paths(self, arguments: Mapping[str, Any]) -> None:
        # A place inside an HDF5 file begins with a slash like one outside it; handlers call it a key.
        for text in _texts({name: value for name, value in arguments.items() if name != "key"}):
            if ".." in Path(text).parts or Path(text).is_absolute():
                raise OutsideRootsError(f"{self._source.path}: {text!r} might lead to another file")

    def close(self) -> None:
        """Close the handler, if it can be closed."""
        close = getattr(self._handler, "close", None)
        self._handler = None
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
