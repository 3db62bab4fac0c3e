"""Documents as the catalog's writer needs them: what upstream gets wrong is put right before it.

Everything here is about bluesky-tiled-plugins 2.0.12 with tiled 0.2.20; a test for each says when upstream is
mended, so that a rewrite can go.

====================  ====================================================================================
rewrite               reason
====================  ====================================================================================
leading 1 of a shape  ophyd-async describes an image as ``[1, rows, columns]``. Stored as (n, 1, rows,
                      columns), it cannot be read while the file is ahead of the documents, nor after an
                      abort (HTTP 422).
multiplier of 1       The same, from ``frame_per_point=1`` of a classic area detector.
one source a stream   A detector staged once for darks, flats and projections announces one resource. The
                      writer looks nodes up by resource: all frames end up in the first stream.
numbers are floats    A motor at 0 makes an integer column of its table, and 0.5 is refused later. A key that
                      is described as ``number`` is made a float.
mounts                Tiled looks for a file exactly where the documents say; its machine may mount the
                      detector's folder elsewhere.
no second validation  Documents were validated on their way in; upstream's validator takes 0.2 ms for each.
====================  ====================================================================================
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer
from event_model import DocumentNames

Document = dict[str, Any]
Sink = Callable[[str, Document], object]


class Normaliser(RunNormalizer):
    """Rewrite the documents of one run, in order, into ``sink(name, doc)``.

    Resource and Datum become StreamResource and StreamDatum (upstream's work); the rest is the table above.

    Parameters
    ----------
    sink : callable
        Gets (name, doc).
    mounts : mapping
        Path prefix in documents -> path prefix where the Tiled server runs.
    """

    def __init__(self, sink: Sink, mounts: Mapping[str, str] | None = None) -> None:
        super().__init__(
            patches={
                "descriptor": self._patch_descriptor,
                "event": self._patch_event,
                "resource": lambda doc: _without_multiplier_of_one(doc, "resource_kwargs"),
                "stream_resource": lambda doc: _without_multiplier_of_one(doc, "parameters"),
            }
        )
        self._sources = SourcePerStream(sink, dict(mounts or {}))
        self._number_keys: dict[str, list[str]] = {}

    def emit(self, name: DocumentNames | str, doc: Document) -> None:
        """Hand on; the documents were validated when they came in."""
        self._sources(DocumentNames(name).name if isinstance(name, str) else name.name, doc)

    def _patch_descriptor(self, doc: Document) -> Document:
        keys = doc["data_keys"]
        for key in keys.values():
            if "external" in key and len(key["shape"]) == 3 and key["shape"][0] == 1:
                key["shape"] = key["shape"][1:]
                if len(key.get("dims") or ()) == 3:
                    key["dims"] = key["dims"][1:]
        self._number_keys[doc["uid"]] = [
            name for name, key in keys.items() if key["dtype"] == "number" and "external" not in key
        ]
        return doc

    def _patch_event(self, doc: Document) -> Document:
        data = doc["data"]
        for key in self._number_keys[doc["descriptor"]]:
            if isinstance(data.get(key), int):
                data[key] = float(data[key])
        return doc


class SourcePerStream:
    """Give each stream a stream_resource of its own for a file that several streams share.

    A stream that is described again while it runs (a changed configuration) stays one stream.
    """

    def __init__(self, sink: Sink, mounts: Mapping[str, str]) -> None:
        self._sink = sink
        self._mounts = mounts
        self._streams: dict[str, str] = {}
        self._resources: dict[str, Document] = {}
        self._emitted: dict[tuple[str, ...], str] = {}

    def __call__(self, name: str, doc: Document) -> None:
        """Hand on ``doc``, changed where it must be."""
        if name == "stream_resource":
            # The stream is known with the first datum; until then nobody needs the resource.
            self._resources[doc["uid"]] = doc
            return
        if name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
        if name == "stream_datum":
            doc = {**doc, "stream_resource": self._source(doc)}
        self._sink(name, doc)

    def _source(self, datum: Document) -> str:
        resource, stream = self._resources[datum["stream_resource"]], self._streams[datum["descriptor"]]
        parameters = resource["parameters"]
        inside = str(parameters.get("template") or parameters.get("dataset"))
        identity = (stream, resource["data_key"], resource["uri"], inside)
        if identity not in self._emitted:
            uid = self._emitted[identity] = f"{resource['uid']}-{stream}"
            uri = mounted(resource["uri"], self._mounts)
            self._sink(
                "stream_resource", {**resource, "uid": uid, "uri": uri, "parameters": dict(parameters)}
            )
        return self._emitted[identity]


def mounted(uri: str, mounts: Mapping[str, str]) -> str:
    """Return ``uri`` with its path moved by the longest prefix in ``mounts`` that fits.

    >>> mounted("file://localhost/det/a.h5", {"/det": "/mnt/det"})
    'file://localhost/mnt/det/a.h5'
    """
    parts = urlsplit(uri)
    for prefix in sorted(mounts, key=len, reverse=True):
        head = prefix.rstrip("/")
        if parts.path == head or parts.path.startswith(head + "/"):
            return urlunsplit(parts._replace(path=mounts[prefix].rstrip("/") + parts.path[len(head) :]))
    return uri


def _without_multiplier_of_one(doc: Document, where: str) -> Document:
    parameters = doc.get(where) or {}
    for key in ("frame_per_point", "multiplier"):
        if parameters.get(key) == 1:
            del parameters[key]
    return doc
