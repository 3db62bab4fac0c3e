"""Sans-IO: documents in -> which frames they announce, and where those lie.

State is keyed on the descriptor: one file often feeds darks, flats and projections.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Reversible
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from event_model import DatumPage, unpack_datum_page

log = logging.getLogger(__name__)

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Track:
    """One data key of one stream of one run."""

    run_uid: str
    stream: str
    descriptor_uid: str
    data_key: str
    frames_per_event: int = 1
    frame_bytes: int = 8
    """As the descriptor has it."""


@dataclass(frozen=True, eq=False)
class Asset:
    """A file, or a family of files, that documents announced."""

    uid: str
    run_uid: str
    uri: str
    """Of a stream_resource; else empty, and ``root`` and ``resource_path`` say where it is."""
    mimetype: str
    """Empty: only a handler for ``spec`` can read it."""
    parameters: Mapping[str, Any]
    root: str = ""
    resource_path: str = ""
    spec: str = ""


@dataclass(frozen=True, eq=False)
class Announcement:
    """Frames ``[first, first + count)`` of a track are ``[position, position + count)`` of an asset."""

    track: Track
    asset: Asset | None
    """None: it cannot be known, and ``problem`` says why."""
    first: int
    position: int
    count: int
    datum_kwargs: Mapping[str, Any] | None = None
    """Of a datum: given to a handler, which alone knows what they mean. None for a stream_datum."""
    problem: str = "the document that names their file was never seen"
    """Why there is no asset."""

    @property
    def whole(self) -> bool:
        """Whether it comes whole or not at all, since a handler reads it."""
        return self.asset is not None and not self.asset.mimetype

    def head(self, count: int) -> "Announcement":
        """Return the first ``count`` frames of it."""
        return replace(self, count=min(count, self.count))

    def overlaps(self, other: "Announcement") -> bool:
        """Whether frames of the stream are in both."""
        return self.first < other.first + other.count and other.first < self.first + self.count

    def rest(self, count: int) -> "Announcement":
        """Return what is left after the first ``count`` frames."""
        return replace(
            self, first=self.first + count, position=self.position + count, count=max(self.count - count, 0)
        )


@dataclass
class _Run:
    descriptors: dict[str, Document] = field(default_factory=dict)
    assets: dict[str, Asset] = field(default_factory=dict)
    datums: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    announced: dict[tuple[str, str], deque[Announcement]] = field(default_factory=dict)


class Announcements:
    """What the documents of the runs that are open have announced."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._run_of: dict[str, str] = {}
        """Uid of a descriptor, resource or stream_resource, or a datum_id -> uid of its run."""

    def take(self, name: str, doc: Document) -> list[Announcement]:
        """Take in one document and return the images that it announces: those of a stream_datum or an event.

        A document that cannot be understood announces nothing; a line in the log says so.
        """
        try:
            return self._take(name, doc)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning(
                "the images of a %s document are left alone: %s: %s", name, type(error).__name__, error
            )
            return []

    def _take(self, name: str, doc: Document) -> list[Announcement]:
        match name:
            case "stream_datum" | "event" if doc["descriptor"] not in self._run_of:
                log.debug("a %s document of a descriptor that was never seen", name)
            case "stream_datum":
                return self._stream_datum(doc)
            case "event":
                return self._event(doc)
            case "start":
                self._runs[doc["uid"]] = _Run()
            case "descriptor":
                self._enter(doc["uid"], doc["run_start"]).descriptors[doc["uid"]] = doc
            case "stream_resource":
                self._note_asset(_asset_of_stream(doc, self._run_uid_of_asset(doc)))
            case "resource":
                self._note_asset(_asset_of_resource(doc, self._run_uid_of_asset(doc)))
            case "datum":
                run = self._enter(doc["datum_id"], self._run_of[doc["resource"]])
                run.datums[doc["datum_id"]] = doc["resource"], doc["datum_kwargs"]
            case "datum_page":
                for datum in unpack_datum_page(cast(DatumPage, doc)):
                    self._take("datum", datum)
        return []

    def _stream_datum(self, doc: Document) -> list[Announcement]:
        run_uid, run, descriptor = self._descriptor(doc["descriptor"])
        resource_uid = doc["stream_resource"]
        asset = run.assets.get(resource_uid) or self._asset_of_another_run(resource_uid)
        data_key = asset.parameters["data_key"] if asset else resource_uid
        each = frames_per_event(descriptor["data_keys"].get(data_key, {}), asset.parameters if asset else {})
        place, count = _range(doc["indices"])
        number, _ = _range(doc["seq_nums"])
        track = _track(run_uid, descriptor, data_key, each)
        announced = Announcement(track, asset, max(number - 1, 0) * each, place * each, count * each)
        run.announced.setdefault((doc["descriptor"], data_key), deque()).append(announced)
        return [announced]

    def _event(self, doc: Document) -> list[Announcement]:
        run_uid, run, descriptor = self._descriptor(doc["descriptor"])
        images = []
        for data_key, description in descriptor["data_keys"].items():
            if "external" not in description or doc.get("filled", {}).get(data_key, False):
                continue
            if data_key in doc["data"]:
                images.append(_of_datum(run_uid, run, descriptor, data_key, doc))
            else:
                announced = run.announced.get((doc["descriptor"], data_key), ())
                images.extend(_of_stream(announced, doc["seq_num"]))
        return images

    def has_images(self, descriptor_uid: str) -> bool:
        """Whether events of this descriptor can have images in files."""
        run = self._runs.get(self._run_of.get(descriptor_uid, ""))
        keys = run.descriptors[descriptor_uid].get("data_keys", {}).values() if run else ()
        return any("external" in key for key in keys)

    @property
    def run_uids(self) -> list[str]:
        """The runs that are open, oldest first."""
        return list(self._runs)

    def forget(self, run_uid: str) -> None:
        """Drop all that is known of a run."""
        run = self._runs.pop(run_uid, None)
        if run is not None:
            for uid in (*run.descriptors, *run.assets, *run.datums):
                self._run_of.pop(uid, None)

    def _enter(self, uid: str, run_uid: str) -> _Run:
        self._run_of[uid] = run_uid
        return self._runs.setdefault(run_uid, _Run())

    def _note_asset(self, asset: Asset) -> None:
        self._enter(asset.uid, asset.run_uid).assets[asset.uid] = asset

    def _run_uid_of_asset(self, doc: Document) -> str:
        """Return the run that an asset is for; producers may leave that out, then it is the newest."""
        return doc.get("run_start") or next(reversed(self._runs), "")

    def _descriptor(self, uid: str) -> tuple[str, _Run, Document]:
        run_uid = self._run_of[uid]
        run = self._runs[run_uid]
        return run_uid, run, run.descriptors[uid]

    def _asset_of_another_run(self, uid: str) -> Asset | None:
        run_uid = self._run_of.get(uid)
        return None if run_uid is None else self._runs[run_uid].assets.get(uid)


def _asset_of_stream(doc: Document, run_uid: str) -> Asset:
    parameters = {**doc.get("parameters", {}), "data_key": doc["data_key"]}
    return Asset(doc["uid"], run_uid, doc["uri"], doc["mimetype"], parameters)


def _asset_of_resource(doc: Document, run_uid: str) -> Asset:
    """Translate the specs that areaDetector's own files have; others are left to handlers."""
    spec, parameters = doc["spec"], dict(doc["resource_kwargs"])
    mimetype = _MIMETYPES.get(spec, "")
    return Asset(doc["uid"], run_uid, "", mimetype, parameters, doc["root"], doc["resource_path"], spec)


_MIMETYPES = {
    "AD_HDF5": "application/x-hdf5",
    "AD_HDF5_SWMR": "application/x-hdf5",
    "AD_HDF5_TS": "application/x-hdf5;areadetector-timestamps",
    "AD_HDF5_SWMR_TS": "application/x-hdf5;areadetector-timestamps",
    "AD_TIFF": "multipart/related;type=image/tiff",
}
"""Specs of areaDetector's own files; their datums are counted by ``point_number``."""


def frames_per_event(description: Document, parameters: Mapping[str, Any]) -> int:
    """Return how many frames of a file make one event.

    What the file's own document says of that (``multiplier``, ``frame_per_point``) counts more than the
    descriptor's shape: the shape is written before the detector is armed, and often wrong. Else images are
    counted by all axes before rows and columns; of numbers, a file with one axis more than the shape holds
    one entry an event.

    >>> frames_per_event({"shape": [2, 5, 6]}, {}), frames_per_event({"shape": [2, 5, 6]}, {"multiplier": 3})
    (2, 3)
    """
    for name in ("multiplier", "frame_per_point", "frames_per_point"):
        if parameters.get(name):
            return max(int(parameters[name]), 1)
    shape = axes_of(description)
    axes = len(parameters.get("chunk_shape") or ()) or (1 if len(shape) < 2 else 3)
    if len(shape) > 2:
        return math.prod(shape[:-2])
    return shape[0] if shape and len(shape) >= axes else 1


def axes_of(description: Document) -> tuple[int, ...]:
    """Return the shape of a data key without the axes of no known length, which old producers append."""
    return tuple(max(int(n), 1) for n in description.get("shape") or () if n)


def _track(run_uid: str, descriptor: Document, data_key: str, frames_per_event: int) -> Track:
    description = descriptor["data_keys"].get(data_key, {})
    itemsize = _itemsize(description.get("dtype_numpy"))
    pixels = math.prod(axes_of(description))
    frame_bytes = max(pixels * itemsize // frames_per_event, 1)
    return Track(
        run_uid, descriptor.get("name", ""), descriptor["uid"], data_key, frames_per_event, frame_bytes
    )


def _itemsize(dtype: object) -> int:
    try:
        return np.dtype(dtype or "f8").itemsize  # type: ignore[call-overload]
    except TypeError:
        return 8


def _range(bounds: Mapping[str, Any]) -> tuple[int, int]:
    """Return first and number of a half-open range of a document."""
    start, stop = bounds["start"], bounds["stop"]
    if not (isinstance(start, int) and isinstance(stop, int) and 0 <= start <= stop):
        raise ValueError(f"{bounds!r} is not a range")
    return start, stop - start


def _of_stream(announced: Reversible[Announcement], seq_num: int) -> Iterator[Announcement]:
    """Yield the frames of one event out of what stream_datums have announced before it."""
    for known in reversed(announced):
        each = known.track.frames_per_event
        offset = (seq_num - 1) * each - known.first
        if 0 <= offset < known.count:
            yield known.rest(offset).head(each)
            return


def _of_datum(run_uid: str, run: _Run, descriptor: Document, data_key: str, event: Document) -> Announcement:
    """Return the frames of one datum; if it cannot be understood, why, so that its event's others come."""
    description, first = descriptor["data_keys"][data_key], event["seq_num"] - 1
    datum_id = event["data"][data_key]
    try:
        resource_uid, kwargs = run.datums.get(datum_id, ("", {}))
        asset = run.assets.get(resource_uid)
        each = frames_per_event(description, asset.parameters if asset else {})
        point = _count(kwargs.get("point_number", kwargs.get("frame", first)))
    except (TypeError, ValueError, AttributeError) as error:
        log.warning("a datum of %r cannot be understood: %s", data_key, error)
        each = frames_per_event(description, {})
        track = _track(run_uid, descriptor, data_key, each)
        why = f"their datum {str(datum_id)[:80]!r} cannot be understood: {error}"
        return Announcement(track, None, first * each, 0, each, {}, why)
    position = point * each if asset is not None and asset.mimetype else 0
    track = _track(run_uid, descriptor, data_key, each)
    return Announcement(track, asset, first * each, position, each, kwargs)


def _count(point: object) -> int:
    if not isinstance(point, int) or point < 0:
        raise ValueError(f"{point!r} is no number of a point")
    return point


def merge(parts: Iterable[Announcement]) -> list[Announcement]:
    """Return ``parts`` with neighbours joined, for a report."""
    merged: list[Announcement] = []
    for part in sorted(parts, key=lambda part: (part.track.stream, part.track.data_key, part.first)):
        before = merged[-1] if merged else None
        if before is not None and before.track == part.track and before.first + before.count == part.first:
            merged[-1] = replace(before, count=before.count + part.count)
        else:
            merged.append(part)
    return merged
