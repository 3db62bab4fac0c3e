"""Where a file is on this machine, and whether it may be opened.

A document is believed about numbers, never about places: the path in it is mapped through the mounts, every
symbolic link is resolved, and what then lies outside the allowed roots is refused.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tomolive.errors import OutsideRootsError, SettingsError

_WINDOWS = re.compile(r"^/?[A-Za-z]:[\\/]|^\\\\")
_LOCAL_HOSTS = frozenset({"", "localhost"})


class Locator:
    """Maps the places that documents name to files on this machine.

    Parameters
    ----------
    mounts
        Path prefix in documents -> path prefix on this machine. The longest matching prefix wins; a prefix
        matches whole path components only. A path that no prefix matches is taken as it stands.
    roots
        Folders that may be read, with everything below them; default: the local sides of ``mounts``.
    hosts
        Hosts that a ``file://`` URI may name besides ``localhost``.

    Examples
    --------
    >>> locator = Locator({"/detector": "/tmp/mnt"}, roots=["/tmp"])
    >>> locator.map("file://localhost/detector/scan 1/100%25.h5").as_posix()
    '/tmp/mnt/scan 1/100%25.h5'
    """

    def __init__(
        self,
        mounts: Mapping[str, str] | None = None,
        roots: Iterable[str | Path] = (),
        hosts: Iterable[str] = (),
    ) -> None:
        pairs = [(_components(there), Path(here)) for there, here in (mounts or {}).items()]
        self._mounts = sorted(pairs, key=lambda pair: len(pair[0]), reverse=True)
        self._hosts = _LOCAL_HOSTS | {host.lower() for host in hosts}
        allowed = list(roots) or [here for _, here in pairs]
        for folder in allowed:
            if not Path(folder).is_absolute():
                raise SettingsError(f"a folder of images must be an absolute path, not {str(folder)!r}")
        # Mount points are often symbolic links themselves, hence resolved like the files below them.
        self.roots = tuple(Path(folder).resolve() for folder in allowed)

    def resolve(self, uri: str) -> Path:
        """Return the file that ``uri`` names, with all symbolic links resolved.

        Parameters
        ----------
        uri
            ``file://localhost/path`` or a bare path. Taken verbatim: producers do not percent-encode.

        Raises
        ------
        OutsideRootsError
            if it lies outside the allowed roots, or on another host.
        """
        return self.confine(self.map(uri), announced=uri)

    def map(self, uri: str) -> Path:
        """Return the place of ``uri`` on this machine, not yet checked against the roots."""
        parts = _components(self._path_of(uri))
        for prefix, here in self._mounts:
            if parts[: len(prefix)] == prefix:
                return here.joinpath(*parts[len(prefix) :])
        return Path("/", *parts)

    def map_resource(self, root: str, resource_path: str) -> Path:
        """Return the place of a Resource document's file on this machine, not yet checked.

        An absolute ``resource_path`` stands for itself, as in `event_model.Filler`.
        """
        if resource_path.startswith("/") or _WINDOWS.match(resource_path):
            return self.map(resource_path)
        return self.map(f"{root.rstrip('/')}/{resource_path}")

    def confine(self, path: Path, announced: str | None = None) -> Path:
        """Return ``path`` with its symbolic links resolved.

        Raises
        ------
        OutsideRootsError
            if that is outside the allowed roots.
        """
        try:
            real = Path(os.path.realpath(path))
        except (OSError, ValueError) as error:  # a loop of links, a null byte
            raise OutsideRootsError(f"{announced or path}: not a usable path ({error})") from None
        if any(real.is_relative_to(root) for root in self.roots):
            return real
        where = str(real) if announced in (None, str(real)) else f"{announced} (here {real})"
        if not self.roots:
            raise OutsideRootsError(f"{where}: no folder of images is allowed; give mounts or roots")
        allowed = ", ".join(map(str, self.roots))
        raise OutsideRootsError(f"{where} is outside the folders that may be read: {allowed}")

    def _path_of(self, uri: str) -> str:
        scheme, separator, rest = uri.partition("://")
        if not separator:
            return uri
        if scheme.lower() != "file":
            raise OutsideRootsError(f"{uri}: only files can be read, not {scheme}://")
        host, slash, path = rest.partition("/")
        if host.lower() not in self._hosts:
            raise OutsideRootsError(f"{uri}: the file is on host {host!r}, which is not allowed")
        return slash + path


def _components(path: str) -> tuple[str, ...]:
    r"""Split an announced path; a Windows path keeps its drive as the first component.

    ``..`` stays: only resolving it among the real folders says where it leads.

    >>> _components("/a//b/./c/"), _components("C:\\data\\x.tif")
    (('a', 'b', 'c'), ('C:', 'data', 'x.tif'))
    """
    if _WINDOWS.match(path):
        path = path.replace("\\", "/")
    return tuple(part for part in path.split("/") if part not in ("", "."))
