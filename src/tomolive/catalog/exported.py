"""Open an export, or put its runs back into a catalog or a hub; see `tomolive.catalog.export`."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tomolive.catalog.archive import Archive
from tomolive.catalog.export import documents_of, linked_folders, mounts_of, read_export
from tomolive.catalog.hub_runs import from_hub, hub_has
from tomolive.catalog.writer import MARK
from tomolive.errors import AddressError, SettingsError
from tomolive.stream.recorded import read_documents

_IMPORTED = {"imported": True}
"""How a run is marked that comes from an export."""
_NOT_WHOLE = "is there already, and not whole: left alone"


def open_export(folder: str | Path, uid: str | None = None) -> Any:
    """Return Tiled's client of a run in an export; works without a network.

    Parameters
    ----------
    folder : path
        What ``tomolive export`` has made.
    uid : str, optional
        Of the run, or of one of its results; default: the run.

    Raises
    ------
    SettingsError
        if it is no export, or has no such run.
    """
    folder = Path(folder).resolve()
    uids = read_export(folder)
    uid = uid or uids[0]
    if uid not in uids:
        raise SettingsError(f"{folder} has no run {uid!r}, only {', '.join(uids)}")
    return _catalog_of(folder)[uid]


@cache
def _catalog_of(folder: Path) -> Any:
    """Return the client of a catalog of its own, in this process until its end, that holds an export."""
    from tiled.client import from_uri

    from tomolive.catalog.server import CatalogServer

    place = Path(tempfile.mkdtemp(prefix="tomolive-export-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    # At the end of the process the server is stopped first: what was registered last.
    server = CatalogServer(place, [folder, *linked_folders(folder)], port=0).start()
    client = from_uri(server.uri)
    for _ in import_to_catalog(folder, client):
        pass
    return client


def import_to_catalog(folder: Path, client: Any) -> Iterator[tuple[str, str]]:
    """Write the runs of an export into a Tiled catalog; yield (uid, what was done) for each.

    Runs that are there already are left alone, but for one that an import was killed at: it is written anew.
    The catalog's server must be allowed to read the folder.

    Parameters
    ----------
    client : tiled container
        The catalog.

    Raises
    ------
    SettingsError
        if it is no export.
    CatalogError
        if the catalog does not answer, or refuses a run.
    """
    for uid in read_export(folder):
        known = client[uid].metadata if uid in client else {}
        if "stop" in known:
            yield uid, "is there already"
            continue
        if known and "imported" not in known.get(MARK, {}):
            yield uid, _NOT_WHOLE
            continue
        archive = Archive(client, mounts=mounts_of(folder), mark=_IMPORTED)
        for name, doc in read_documents(documents_of(folder, uid)):
            archive(name, doc)
        archive.close()
        yield uid, "imported" if uid in client else "could not be written; the log says why"


def import_to_hub(folder: Path, address: str, *, patience: float = 60.0) -> Iterator[tuple[str, str]]:
    """Publish the runs of an export to a hub; yield (uid, what was done) for each.

    Of a run that the hub has in part, as an import leaves it that is killed, the rest is published; others
    that it has are left alone.

    Raises
    ------
    SettingsError
        if it is no export.
    AddressError
        if the hub does not answer, or does not take the documents in so many seconds.
    """
    from tomolive.stream.publisher import Publisher

    with tempfile.TemporaryDirectory(prefix="tomolive-import-") as spool:
        publisher = Publisher(address, spool=Path(spool))
        try:
            for uid in read_export(folder):
                documents = list(read_documents(documents_of(folder, uid)))
                known = from_hub(address, uid).get(uid, []) if hub_has(address, uid) else []
                if known and known[-1][0] == "stop":
                    yield uid, "is there already"
                    continue
                if known and (known != documents[: len(known)] or documents[-1][0] != "stop"):
                    yield uid, _NOT_WHOLE
                    continue
                for name, doc in documents[len(known) :]:
                    publisher(name, doc)
                if not publisher.flush(patience):
                    raise AddressError(f"the hub at {address} has not taken all documents of run {uid[:8]}")
                yield uid, "imported"
        finally:
            publisher.close(0)
