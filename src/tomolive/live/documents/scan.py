"""Documents and frames in; darks, flats and projections at their angles out. Values only, no I/O.

:class:`ScanReader` follows any number of runs at once. Everything that it knows of a run is kept under the
run's uid; which frames are what is told by :mod:`tomolive.live.documents.rules`.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.errors import ScanError
from tomolive.files.announcements import axes_of, frames_per_event
from tomolive.files.frames import Frames, MissingFrames
from tomolive.live.documents.batches import announce, lose, take_paired
from tomolive.live.documents.rules import Kind, Rules, choose, first_match, shipped_rules
from tomolive.live.documents.run import Note, Output, Scan
from tomolive.live.documents.streams import (
    Column,
    ImageStream,
    MonitorAngles,
    choose_camera,
    find_angles,
    find_scalar,
)

log = logging.getLogger(__name__)

_WAITING_LIMIT = 1 << 30
_RUNS_KEPT = 16
_TELLING = ("descriptor", "event", "resource", "datum", "stream_resource", "stream_datum", "stop")


class ScanReader:
    """Understands runs as tomography scans.

    Parameters
    ----------
    rules
        tried in this order; the shipped ones by default.
    waiting_limit
        bytes of frames of one stream that may wait for their angles in memory; beyond it they wait on disk.
    camera
        data key of the camera to follow; default: the one that rules or start document name.
    """

    def __init__(
        self,
        rules: Iterable[Rules] | None = None,
        waiting_limit: int = _WAITING_LIMIT,
        camera: str | None = None,
    ) -> None:
        self._rules = list(rules) if rules is not None else shipped_rules()
        self._limit = waiting_limit
        self._camera = camera
        self._scans: OrderedDict[str, Scan] = OrderedDict()
        self._scan_of: dict[str, Scan] = {}

    def scan(self, run_uid: str) -> Scan | None:
        """Return what is known of a run, or None if it is no tomography scan (or long past)."""
        return self._scans.get(run_uid)

    def scan_of(self, descriptor_uid: str) -> Scan | None:
        """Return the run of a descriptor, or None."""
        return self._scan_of.get(descriptor_uid)

    def document(self, name: str, doc: Any) -> list[Output]:
        """Take one document, as bluesky's ``func(name, doc)``."""
        if name == "start":
            return self._start(doc)
        if name == "event_page":
            from event_model import unpack_event_page

            return [out for event in unpack_event_page(doc) for out in self.document("event", event)]
        if name == "datum_page" and doc.get("resource") in self._scan_of:
            from event_model import unpack_datum_page

            return [out for datum in unpack_datum_page(doc) for out in self.document("datum", datum)]
        if name not in _TELLING:
            return []
        scan = self._scan_for(name, doc)
        if scan is None or ((scan.failure or scan.closed) and name != "stop"):
            return []
        try:
            return getattr(self, f"_{name}")(scan, doc)
        except ScanError as error:
            return scan.fail(str(error))
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            log.exception("a %s document of run %s", name, scan.run_uid)
            return scan.fail(f"a {name} document is not understood: {type(error).__name__}: {error}")

    def frames(self, frames: Frames) -> list[Output]:
        """Take frames, or scalars that lay in a file."""
        scan = self._scans.get(frames.run_uid)
        stream = scan.streams.get(frames.descriptor_uid) if scan else None
        if scan is None or stream is None or scan.failure:
            return []
        column = stream.columns.get(frames.data_key)
        try:
            if column:
                # A row of a file may hold several numbers, one for each frame of its event.
                each = max(1, frames.array[:1].size)
                stream.add_numbers(column, frames.first * each, frames.array)
            elif frames.data_key == stream.image_key:
                announce(scan, stream, frames.first, frames.last)
                stream.pairing.add_frames(frames.first, frames.array)
            return take_paired(scan, stream)
        except ScanError as error:
            return scan.fail(str(error))
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            log.exception("data of %r of run %s", frames.data_key, scan.run_uid)
            why = f"{type(error).__name__}: {error}"
            return scan.fail(f"what the files hold of {frames.data_key!r} is not understood: {why}")

    def missing(self, missing: MissingFrames) -> list[Output]:
        """Take word of announced frames that no file holds."""
        scan = self._scans.get(missing.run_uid)
        stream = scan.streams.get(missing.descriptor_uid) if scan else None
        if scan is None or stream is None or scan.failure:
            return []
        is_image = missing.data_key == stream.image_key
        if not is_image and missing.data_key not in stream.columns:
            return []
        if not missing.final:
            if scan.unreadable == missing.reason:
                return []
            scan.unreadable = missing.reason
            return [scan.note(missing.reason, problem=False)]
        if is_image:
            try:
                announce(scan, stream, missing.first, missing.last)
            except ScanError as error:
                return scan.fail(str(error))
            return lose(scan, stream, [(missing.first, missing.last)], missing.reason)
        repeat = max(1, stream.per_event // stream.columns[missing.data_key].per_event)
        stream.pairing.give_up(missing.first * repeat, missing.last * repeat)
        return take_paired(scan, stream, missing.reason)

    def close(self, run_uid: str) -> list[Output]:
        """End a run: what has not come by now is missing."""
        scan = self._scans.get(run_uid)
        if scan is None or scan.closed:
            return []
        out: list[Output] = []
        # Of a run that was given up, frames are no longer counted: none can be said to be missing.
        for stream in [] if scan.failure else scan.streams.values():
            stream.ask_monitor(last=True)
            out += take_paired(scan, stream)
            waiting = stream.pairing.waiting
            out += lose(scan, stream, waiting, "their angles did not come")
            left = stream.announced.without(stream.received, stream.missing)
            out += lose(scan, stream, left, "announced, but not in any file")
        scan.closed = True
        self._forget_documents(scan)
        return out

    # -- documents ------------------------------------------------------------------------------------------

    def _scan_for(self, name: str, doc: Mapping[str, Any]) -> Scan | None:
        if name in ("descriptor", "stop", "stream_resource"):
            return self._scans.get(doc.get("run_start", ""))
        if name == "resource":  # producers may leave its run out; then it is the newest
            return self._scans.get(doc.get("run_start") or next(reversed(self._scans), ""))
        if name == "datum":
            return self._scan_of.get(doc.get("resource", ""))
        return self._scan_of.get(doc.get("descriptor", ""))

    def _start(self, doc: Mapping[str, Any]) -> list[Output]:
        if doc["uid"] in self._scans:
            return []
        try:
            rules = choose(self._rules, doc)
            if rules is None:
                plan = doc.get("plan_name", "a plan without a name")
                return [
                    Note(doc["uid"], f"{plan}: no tomography scan by any rule; left alone", problem=False)
                ]
            scan = Scan(doc, rules)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            log.exception("the start document of run %s", doc["uid"])
            why = f"{type(error).__name__}: {error}"
            return [Note(doc["uid"], f"its start document is not understood, and it is left alone: {why}")]
        self._scans[doc["uid"]] = scan
        for uid in [uid for uid, old in self._scans.items() if old.closed or old.failure][:-_RUNS_KEPT]:
            self._forget_documents(self._scans.pop(uid))
        return [scan.note(f"a scan by the rules {rules.name!r}: {rules.why(doc)}", problem=False)]

    def _descriptor(self, scan: Scan, doc: Mapping[str, Any]) -> list[Output]:
        if doc["uid"] in self._scan_of:
            return []
        self._scan_of[doc["uid"]] = scan
        name, rules = doc.get("name", "primary"), scan.rules
        cameras = choose_camera(rules, scan.start, doc)
        if self._camera is not None:
            cameras = [key for key in cameras if key == self._camera]
        kind, why = rules.kind_of_stream(scan.start, name)
        kind_column = None if kind else _kind_column(rules, doc)
        if kind is None and kind_column is None:
            self._add_monitor(scan, name, doc)
            return (
                [scan.note(f"stream {name!r} holds images of no known kind; left alone")] if cameras else []
            )
        if not cameras:
            return [scan.note(f"stream {name!r} should hold {kind}s, but has no images")]
        if kind_column:
            why = f"{kind_column.data_key!r} says it for each frame"
        return self._add_stream(scan, doc, cameras, kind, kind_column, why)

    def _add_monitor(self, scan: Scan, name: str, doc: Mapping[str, Any]) -> None:
        for source in scan.rules.angles:
            key = find_scalar(source.reading, doc) if first_match([name], source.monitor) else None
            if key:
                units = doc["data_keys"][key].get("units") or source.units or "deg"
                monitor = scan.monitors[doc["uid"]] = MonitorAngles(name, key, units)
                for stream in scan.streams.values():
                    stream.await_monitor(monitor)

    def _add_stream(
        self,
        scan: Scan,
        doc: Mapping[str, Any],
        cameras: list[str],
        kind: Kind | None,
        kind_column: Column | None,
        why: str,
    ) -> list[Output]:
        out: list[Output] = []
        name = doc.get("name", "primary")
        if scan.camera is None:
            scan.camera = cameras[0]
            if len(cameras) > 1:
                others = ", ".join(cameras[1:])
                out.append(scan.note(f"several cameras: {scan.camera} is reconstructed, {others} is not"))
        if scan.camera not in cameras:
            return [*out, scan.note(f"stream {name!r} is of another camera, {cameras[0]}; left alone")]
        angles = None
        if kind in (None, "projection"):
            angles = find_angles(scan.rules, scan.start, scan.monitors.values(), doc)
            if angles is None:
                out.append(scan.note(f"the angles of stream {name!r} are not in its documents"))
        stream = ImageStream(
            name,
            scan.camera,
            kind,
            per_event=frames_per_event(doc["data_keys"][scan.camera], scan.parameters.get(scan.camera, {})),
            description=doc["data_keys"][scan.camera],
            why=why,
            kind_column=kind_column,
            angles=angles,
            limit_bytes=self._limit,
        )
        scan.streams[doc["uid"]] = stream
        return out

    def _event(self, scan: Scan, doc: Mapping[str, Any]) -> list[Output]:
        if doc["descriptor"] in scan.monitors:
            return self._monitor_event(scan, doc)
        stream = scan.streams.get(doc["descriptor"])
        if stream is None:
            return []
        index = doc["seq_num"] - 1
        if stream.image_key in doc["data"]:
            datum_id = doc["data"][stream.image_key]
            if isinstance(datum_id, str) and datum_id in scan.datums:
                stream.heed(scan.resources[scan.datums.pop(datum_id)])
            first, last = index * stream.per_event, (index + 1) * stream.per_event
            announce(scan, stream, first, last)
            if stream.angles and stream.angles.interpolated and stream.angles.times is None:
                stream.add_times(first, _frame_times(doc, stream.image_key, stream.per_event))
        for key, column in stream.columns.items():
            if key in doc["data"] and not isinstance(doc["data"][key], str):
                stream.add_numbers(column, index * column.per_event, doc["data"][key])
        return take_paired(scan, stream)

    def _monitor_event(self, scan: Scan, doc: Mapping[str, Any]) -> list[Output]:
        monitor = scan.monitors[doc["descriptor"]]
        when = doc["timestamps"].get(monitor.data_key, doc["time"])
        monitor.add_reading(float(when), float(doc["data"][monitor.data_key]))
        return [out for s in scan.streams.values() if s.monitor is monitor for out in take_paired(scan, s)]

    def _stream_resource(self, scan: Scan, doc: Mapping[str, Any]) -> list[Output]:
        data_key = scan.data_keys[doc["uid"]] = doc["data_key"]
        parameters = scan.parameters[data_key] = doc.get("parameters", {})
        for stream in scan.streams.values():
            if stream.image_key == data_key:
                stream.heed(parameters)
        return []

    def _resource(self, scan: Scan, doc: Mapping[str, Any]) -> list[Output]:
        self._scan_of[doc["uid"]] = scan
        scan.resources[doc["uid"]] = doc.get("resource_kwargs", {})
        return []

    def _datum(self, scan: Scan, doc: Mapping[str, Any]) -> list[Output]:
        scan.datums[doc["datum_id"]] = doc["resource"]
        return []

    def _stream_datum(self, scan: Scan, doc: Mapping[str, Any]) -> list[Output]:
        stream = scan.streams.get(doc["descriptor"])
        if stream is None or scan.data_keys.get(doc["stream_resource"]) != stream.image_key:
            return []
        first, last = (doc["seq_nums"][end] - 1 for end in ("start", "stop"))
        announce(scan, stream, first * stream.per_event, last * stream.per_event)
        return []

    def _stop(self, scan: Scan, doc: Mapping[str, Any]) -> list[Output]:
        scan.stop = doc
        out: list[Output] = []
        for stream in [] if scan.failure else scan.streams.values():
            stream.ask_monitor(last=True)
            out += take_paired(scan, stream)
        if scan.outcome != "success":
            why = f": {doc['reason']}" if doc.get("reason") else ""
            out.append(scan.note(f"the scan ended with {scan.outcome!r}{why}"))
        return out

    def _forget_documents(self, scan: Scan) -> None:
        """Forget the ids of a run that has ended; its counts stay."""
        for uid in [uid for uid, owner in self._scan_of.items() if owner is scan]:
            del self._scan_of[uid]
        scan.datums.clear()


def _kind_column(rules: Rules, descriptor: Mapping[str, Any]) -> Column | None:
    key = find_scalar(rules.frame_kinds.data_key, descriptor) if rules.frame_kinds else None
    if key is None:
        return None
    return Column("kind", key, math.prod(axes_of(descriptor["data_keys"][key])))


def _frame_times(event: Mapping[str, Any], image_key: str, count: int) -> npt.NDArray[np.float64]:
    """Return the Unix time (count,) of each frame of an event.

    An event with a whole stack tells only when the acquisition began and when the event was made; the frames
    are taken to lie evenly between.
    """
    began, ended = float(event["timestamps"].get(image_key, event["time"])), float(event["time"])
    if count == 1:
        return np.array([began])
    return began + (ended - began) * (np.arange(count) + 0.5) / count
