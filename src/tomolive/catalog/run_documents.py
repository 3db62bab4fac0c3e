"""The documents of a run and of its results: out of a catalog, a hub's journal, or a file of JSON lines."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tomolive.catalog.open import open_run, tiled_errors
from tomolive.catalog.writer import PLACES
from tomolive.errors import AddressError, DocumentError
from tomolive.stream.recorded import Document, read_documents, split_runs

Runs = dict[str, list[Document]]
"""Uid -> documents; the run that was asked for comes first, then its results, oldest first."""


def from_catalog(uri: str, run: str | int = "newest") -> Runs:
    """Return a run of the Tiled catalog at ``uri``, and its results.

    Parameters
    ----------
    run : str or int
        A uid, its first characters, a scan_id, or "newest". A result stands for what it was made of.

    Raises
    ------
    CatalogError
        if the catalog does not answer, or has no such run.
    """
    from tiled.queries import Key

    raw = open_run(uri, -1 if run == "newest" else run)
    try:
        with tiled_errors(uri):
            catalog = raw.parent
            made_of = raw.metadata["start"].get("raw_run")
            raw = catalog.get(made_of, raw) if made_of else raw
            raw_uid = raw.metadata["start"]["uid"]
            results = catalog.search(Key("start.raw_run") == raw_uid).values()
            return {node.metadata["start"]["uid"]: list(documents_of(node)) for node in (raw, *results)}
    finally:
        raw.context.close()


def from_hub(address: str, run: str) -> Runs:
    """Return a run that the hub has in its journal by now, and its results.

    Parameters
    ----------
    run : str
        A uid, its first characters, or "newest". A result stands for the run that it was made of.

    Raises
    ------
    AddressError
        if the hub does not answer, or has no such run.
    """
    documents = _in_journal(address, run)
    made_of = documents[0][1].get("raw_run")
    if made_of:
        return from_hub(address, made_of)
    return _with_results(documents, "" if run == "newest" else run, f"the hub at {address}")


def from_file(path: Path, run: str = "") -> Runs:
    """Return a run that was recorded as JSON lines, and its results if they are in the file too.

    Parameters
    ----------
    run : str
        A uid or its first characters; default: the first run of the file.

    Raises
    ------
    SettingsError, DocumentError
        if the file cannot be read, or has no such run.
    """
    return _with_results(read_documents(path), run, str(path))


def hub_has(address: str, uid: str) -> bool:
    """Whether the hub has a run in its journal.

    Raises
    ------
    AddressError
        if the hub does not answer.
    """
    try:
        return _in_journal(address, uid, most=1)[0][1]["uid"] == uid
    except AddressError as error:
        if "no run" not in str(error):
            raise
        return False


def _in_journal(address: str, run: str, most: int | None = None) -> list[Document]:
    """Return what the hub has by now from the start of a run on; at most so many documents."""
    from tomolive.stream.dispatcher import RemoteDispatcher
    from tomolive.stream.sockets import require_listener

    require_listener(address)
    dispatcher = RemoteDispatcher(address, start=run, on_error="stop")
    documents: list[Document] = []
    was_behind = False

    def take(name: str, doc: dict[str, Any]) -> None:
        nonlocal was_behind
        documents.append((name, doc))
        # Where documents flow all the time there is no idle moment: the end is where none waits.
        if len(documents) == most or (was_behind and not dispatcher.behind):
            dispatcher.stop()
        was_behind |= bool(dispatcher.behind)

    def end_of_journal() -> None:
        if documents and not dispatcher.behind:
            dispatcher.stop()

    dispatcher.subscribe(take)
    dispatcher.subscribe_idle(end_of_journal)
    dispatcher.start()
    return documents


def documents_of(run: Any) -> Iterator[Document]:
    """Yield the documents of a run that Tiled's client has returned, so that they can be read again.

    bluesky-tiled-plugins 2.0.12 makes one range of an image that lies in several places; the archive has
    noted these, see `tomolive.catalog.writer.PLACES`.
    """
    places: Mapping[str, Any] = run.metadata.get(PLACES) or {}
    streams: dict[str, str] = {}
    resources: dict[str, dict[str, Any]] = {}
    scattered: list[_Scattered] = []
    for name, doc in mended(run.documents()):
        if name == "descriptor":
            streams[doc["uid"]] = doc["name"]
        if name == "stream_resource" and places:
            resources[doc["uid"]] = doc
            continue
        if name == "stream_datum" and places:
            resource = resources[doc["stream_resource"]]
            place = places.get(f"{streams[doc['descriptor']]}/{resource['data_key']}")
            if place is not None:
                scattered.append((resource, doc, place))
                continue
            yield "stream_resource", resource
        if name == "stop":
            yield from _in_order(scattered)
        yield name, doc


_Scattered = tuple[dict[str, Any], dict[str, Any], Mapping[str, Any]]
"""The stream_resource and the stream_datum that Tiled's server makes of an image, and where it lies."""


def _in_order(images: Iterable[_Scattered]) -> Iterator[Document]:
    """Yield a stream_resource for each file and a stream_datum for each range, in the order of the scan."""
    announced: dict[str, int] = {}
    parts = [(part[-1], part, image) for image in images for part in image[2]["ranges"]]
    for order, (file, first, last, _), (resource, datum, place) in sorted(parts, key=lambda part: part[0]):
        uid = f"{resource['uid']}-{file}"
        if uid not in announced:
            yield "stream_resource", {**resource, **place["files"][file], "uid": uid}
            announced[uid] = 0
        number = announced.setdefault(datum["uid"], 1)
        announced[datum["uid"]] += last - first
        numbers = {"start": number, "stop": announced[datum["uid"]]}
        own = {"uid": f"{datum['uid']}-{order}", "stream_resource": uid}
        yield "stream_datum", {**datum, **own, "indices": {"start": first, "stop": last}, "seq_nums": numbers}


def mended(documents: Iterable[tuple[Any, Any]]) -> Iterator[Document]:
    """Yield the documents that Tiled's server makes out of what it keeps, so that they can be read again.

    bluesky-tiled-plugins 2.0.12 forgets the template of a series of images that has one file only, and counts
    the events of a series from the number in its first file's name.
    """
    first_file: dict[str, int] = {}
    for kind, original in documents:
        name, doc = str(kind), dict(original)
        if name == "stream_resource" and doc["mimetype"].startswith("multipart/"):
            folder, _, file = doc["uri"].rpartition("/")
            numbered = re.fullmatch(r"(.*?)(\d+)(\D*)", file)
            if "template" not in doc["parameters"] and numbered:
                begin, digits, end = numbered.groups()
                template = f"{begin}{{:0{len(digits)}d}}{end}"
                doc |= {"uri": f"{folder}/", "parameters": {**doc["parameters"], "template": template}}
                first_file[doc["uid"]] = int(digits)
        elif name == "stream_datum":
            first = doc["indices"]["start"] + first_file.get(doc["stream_resource"], 0)
            count = doc["indices"]["stop"] - doc["indices"]["start"]
            doc |= {
                "indices": {"start": first, "stop": first + count},
                "seq_nums": {"start": 1, "stop": 1 + count},
            }
        yield name, doc


def _with_results(documents: Any, run: str, where: str) -> Runs:
    runs = split_runs(documents)
    raw = next((uid for uid in runs if uid.startswith(run)), None)
    if raw is None:
        raise DocumentError(f"{where} has no run {run!r}")
    made_of = runs[raw][0][1].get("raw_run")
    raw = made_of if made_of in runs else raw
    return {raw: runs[raw]} | {
        uid: found for uid, found in runs.items() if found[0][1].get("raw_run") == raw and uid != raw
    }
