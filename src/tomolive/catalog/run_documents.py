"""The documents of a run and of its results, out of a catalog or a file of JSON lines."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tomolive.catalog.open import open_run, tiled_errors
from tomolive.catalog.places import PLACES, Scattered, in_order
from tomolive.errors import DocumentError
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


def documents_of(run: Any) -> Iterator[Document]:
    """Yield the documents of a run that Tiled's client has returned, so that they can be read again.

    bluesky-tiled-plugins 2.0.12 makes one range of a stream's images, in the order of descriptors; where the
    scan took them otherwise the archive has noted it, see `tomolive.catalog.places.PLACES`.
    """
    places: Mapping[str, Any] = run.metadata.get(PLACES) or {}
    streams: dict[str, str] = {}
    resources: dict[str, dict[str, Any]] = {}
    scattered: list[Scattered] = []
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
            yield from in_order(scattered)
        yield name, doc


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
