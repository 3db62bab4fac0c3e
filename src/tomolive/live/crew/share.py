"""One share of a reconstruction: a band of rows of one field, from the beginning of its run.

A share needs nobody but the hub and the files: it reads documents from the run's start and frames from the
files, as any consumer does. So whoever takes over a share that died begins it anew, and arrives at the same
slices.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.live.beam import numbers_of, ranges_of
from tomolive.live.controls import Wish
from tomolive.live.crew.inputs import CameraInput, Together
from tomolive.live.crew.messages import Orders, Report, Share
from tomolive.live.documents.ranges import Ranges
from tomolive.live.documents.references import brightest
from tomolive.live.documents.run import Batch, Output, Scan
from tomolive.live.slices.part import Part
from tomolive.live.slices.planes import Place
from tomolive.live.slices.tile_references import TileReferences
from tomolive.live.snapshot import parse_key
from tomolive.live.tomogram import SLICES, Tomogram
from tomolive.live.warming import warm_up

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.float32]

_FORGOTTEN_S = 30.0
"""A share that nobody has asked for so long belongs to a scan that is past, or to a crew that is gone."""
_PAUSE_S = 0.05


class Work:
    """A share being done, in a thread of its own."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.asked = time.monotonic()
        """When somebody asked for it last."""
        self._part = Part(share.field.mosaic, share.rows, share.taken)
        self._inputs = [
            CameraInput(
                which, share.field.cameras[which], share.field.tiles[which], share.source.connect,
                share.rules or None,
            )
            for which in self._part.which
        ]  # fmt: skip
        self._together = Together(self._part)
        self._references = TileReferences([one.references for one in self._inputs])
        self._tomogram: Tomogram | None = None
        self._received = Ranges()
        self._id, self._changes, self._estimated = uuid.uuid4().hex, 0, 0
        self._notes: list[str] = []
        self._ended = False
        self._failure = ""
        self._given_up = threading.Event()
        self._dispatcher = share.source.connect(share.run_uid)
        self._dispatcher.subscribe(self._document)
        self._dispatcher.subscribe_frames(
            lambda frames: self._read(lambda one: one.reader.frames(frames)),
            lambda missing: self._read(lambda one: one.reader.missing(missing)),
        )
        self._dispatcher.subscribe_idle(lambda: self._read(lambda one: one.earlier.take()))
        self._thread = threading.Thread(target=self._run, name=f"share {share.name}", daemon=True)
        self._thread.start()

    def report(self, orders: Orders) -> Report:
        """Follow ``orders``, and tell what there is.

        Raises
        ------
        ReconstructionError
            if they cannot be followed.
        """
        worker = f"{socket.gethostname()}:{os.getpid()}"
        with _computing:
            scans = [scan for one in self._inputs if (scan := one.scan(self.share.run_uid))]
            failure = self._failure or next((scan.failure for scan in scans if scan.failure), "")
            told = {**_told_of(scans), "ended": self._ended, "failure": failure, "notes": tuple(self._notes)}
            tomogram = self._tomogram
            if tomogram is None or not tomogram.received or failure:
                return Report(worker, **told)
            self._obey(tomogram, orders)
            return Report(worker, **(told | self._told(tomogram, orders)))

    def stop(self) -> None:
        """Give the share up."""
        self._given_up.set()
        self._dispatcher.stop()

    # -- for the master -------------------------------------------------------------------------------------

    def _obey(self, tomogram: Tomogram, orders: Orders) -> None:
        wish = Wish(
            "",
            center=None if orders.center == tomogram.center else orders.center,
            filter=None if orders.filter == tomogram.filter else orders.filter,
            corrections=None if orders.corrections == tomogram.corrections else orders.corrections,
            estimate_center=orders.estimate > self._estimated,
        )
        if wish.redraws:
            self._changes += 1
            self._estimated = max(orders.estimate, self._estimated)
            tomogram.change(wish)
            if wish.estimate_center and (question := tomogram.refinement()):
                tomogram.take_center(question())
        if not self.share.leads and orders.without_beam != tuple(ranges_of(tomogram.without_beam)):
            self._changes += 1
            tomogram.leave_out(numbers_of(orders.without_beam))
        for plane, position in orders.positions.items():
            here = self._here(tomogram, plane, position)
            if here is not None and tomogram.positions[plane] != here:
                self._changes += 1
                tomogram.change(Wish("", plane=plane, position=here))

    def _here(self, tomogram: Tomogram, plane: str, position: int) -> int | None:
        """Return where a plane of the field lies in the volume of this share; None: elsewhere."""
        rows, columns, _ = tomogram.volume_shape
        if plane in ("xy", "sinogram"):
            position -= self.share.rows[0] // tomogram.corrections.binning
        count = rows if plane in ("xy", "sinogram") else columns
        return position if 0 <= position < count else None

    def _told(self, tomogram: Tomogram, orders: Orders) -> dict[str, Any]:
        shown = (orders.keys, tuple(sorted(orders.positions.items())), orders.projection)
        version = f"{self._id}/{self._changes}/{shown}"
        told: dict[str, Any] = {"version": version}
        if version != orders.have:
            told["pictures"] = self._pictures(tomogram, orders)
            if "projection" in told["pictures"]:
                number, pixels, units = told["pictures"]["projection"]
                told["projection"], told["pictures"]["projection"] = (number, units), pixels
        return told | {
            "received": tuple(self._received),
            "center": tomogram.center,
            "center_source": tomogram.center_source,
            "estimated": self._estimated,
            "filter": tomogram.filter,
            "corrections": tomogram.corrections,
            "without_beam": tuple(ranges_of(tomogram.without_beam)),
            "coverage": tomogram.coverage,
            "coverage_wanted": tomogram.coverage_wanted,
            "columns": tomogram.volume_shape[1],
            "trends": tomogram.trends(now=self._ended) if self.share.leads else (),
            "notes": (*self._notes, *tomogram.notes),
        }

    def _pictures(self, tomogram: Tomogram, orders: Orders) -> dict[str, Any]:
        """Return what this share has of all pictures that are wanted."""
        places = {key: place for key in orders.keys if (place := self._place(tomogram, key))}
        planes = {key: place for key, place in places.items() if place[0] != "sinogram"}
        tomogram.look(planes.values())
        pictures: dict[str, Any] = {key: tomogram.picture(place) for key, place in planes.items()}
        for plane in SLICES:
            position = orders.positions.get(plane, -1)
            if self._here(tomogram, plane, position) is not None:
                pictures[plane] = tomogram.picture((plane, (float(tomogram.positions[plane]),)))
        rows = {key: int(at[0]) for key, (plane, at) in places.items() if plane == "sinogram"}
        tomogram.keep_sinograms(set(rows.values()))
        pictures |= {key: found for key, row in rows.items() if (found := tomogram.sinogram(row)) is not None}
        if orders.projection is not None and (found := tomogram.projection(orders.projection)):
            pictures["projection"] = found
        return pictures

    def _place(self, tomogram: Tomogram, key: str) -> Place | None:
        """Return the plane of this share that a key names; None: it has nothing of it."""
        plane, at = parse_key(key)
        if plane == "oblique":
            return plane, at
        here = self._here(tomogram, plane, int(at[0])) if at else None
        return None if here is None else (plane, (float(here),))

    # -- in its own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._dispatcher.start()
        except Exception as error:
            log.exception("share %s", self.share.name)
            self._failure = f"{type(error).__name__}: {error}"

    def _document(self, name: str, doc: dict[str, Any]) -> None:
        self._read(lambda one: one.earlier.take())
        self._read(lambda one: one.reader.document(name, doc))
        uid = self.share.run_uid
        if name == "start" and doc["uid"] == uid:
            for one in self._inputs:
                scan = one.scan(uid)
                for earlier in scan.references if scan else ():
                    one.earlier.ask(earlier)
        if name == "stop" and doc["run_start"] == uid:
            self._end()

    def _end(self) -> None:
        while any(one.earlier.under_way for one in self._inputs) and not self._given_up.is_set():
            self._given_up.wait(_PAUSE_S)  # slices without their flats would not be final
        self._read(lambda one: one.earlier.take())
        self._read(lambda one: one.reader.close(self.share.run_uid))
        with _computing:
            if self._tomogram is not None and not self._failure:
                self._tomogram.finish(refine=self.share.leads)
                self._judge(self._tomogram, last=True)
            self._ended = True
            self._changes += 1
        self._dispatcher.stop()

    def _read(self, ask: Callable[[CameraInput], Iterable[Output]]) -> None:
        """Take what ``ask`` returns for each camera."""
        for one in self._inputs:
            self._take(one, ask(one))

    def _take(self, one: CameraInput, outputs: Iterable[Output]) -> None:
        scan = one.scan(self.share.run_uid)
        for out in outputs:
            if scan is None or out.run_uid not in (scan.run_uid, *scan.references):
                continue
            with _computing:
                if not isinstance(out, Batch):
                    self._notes += [out.text] * out.problem
                elif wrong := one.misfit(out):
                    self._failure = wrong
                elif out.kind != "projection":
                    self._add_reference(one, out, scan)
                elif out.angles is None:
                    self._failure = "the angles of its projections are not in its documents"
                elif not self._failure:
                    self._add(one, out, scan)

    def _add(self, one: CameraInput, batch: Batch, scan: Scan) -> None:
        if one.number not in self._part.beams:
            self._part.beams[one.number] = brightest(batch.array[0])
        for joined in self._together.add(one.number, batch):
            if self._tomogram is None:
                share, shape = self.share, (self._part.rows, self.share.field.shape[1])
                self._tomogram = Tomogram(scan, shape, self._references, share.settings, {}, part=self._part)
                if not share.leads:
                    self._tomogram.leave_out(numbers_of(()))  # until the share that leads has found some
            self._tomogram.add(joined)
            self._received.add(joined.first, joined.first + len(joined.array))
            self._changes += 1
            if self.share.leads:
                self._tomogram.recentre()
                self._judge(self._tomogram)

    def _judge(self, tomogram: Tomogram, *, last: bool = False) -> None:
        """Look how good the slice is, if it is time."""
        if self.share.leads and (question := tomogram.quality_question(last=last)):
            tomogram.take_quality(question())

    def _add_reference(self, one: CameraInput, batch: Batch, scan: Scan) -> None:
        try:
            one.references.add(batch, scan.planned)
        except ReconstructionError as error:
            self._notes.append(f"{batch.kind}s cannot be used: {error}")
            return
        self._changes += 1
        if self._tomogram is not None:
            self._tomogram.references_changed()


def _told_of(scans: list[Scan]) -> dict[str, Any]:
    """Return what documents and files say of a scan, as all cameras of a share see it."""
    if not scans:
        return {}
    first = scans[0]
    return {
        "missing": tuple(Ranges(span for scan in scans for span in scan.missing)),
        "missing_because": next((scan.missing_because for scan in scans if scan.missing), ""),
        "darks": min(scan.darks for scan in scans),
        "flats": min(scan.flats for scan in scans),
        "angle_first": first.angle_first,
        "angle_last": first.angle_last,
        "unreadable": next((scan.unreadable for scan in scans if scan.unreadable), ""),
    }


_at_work: dict[str, Work] = {}
_computing = threading.Lock()
"""The shares of a worker take turns: each uses all the threads that it may."""
_changing = threading.Lock()
"""A worker of a cluster may answer in several threads."""


@lru_cache(maxsize=1)
def _warm_up(threads: int) -> None:
    """Have kernels ready before several threads ask for them at once; once for each process."""
    with _computing:
        warm_up(threads)


def advance(share: Share, orders: Orders) -> Report:
    """Return a report of ``share``; this process begins it if it is not at work on it.

    That is all that a worker knows how to do: whoever is asked for a share of which it knows nothing, because
    another worker had it and died, does it from the beginning.
    """
    now = time.monotonic()
    with _changing:
        for name, other in list(_at_work.items()):
            if name != share.name and now - other.asked > _FORGOTTEN_S:
                _at_work.pop(name).stop()
        if share.name not in _at_work:
            _warm_up(share.settings.threads)
            _at_work[share.name] = Work(share)
        work = _at_work[share.name]
        work.asked = now
    return work.report(orders)
