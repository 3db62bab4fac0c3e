"""One share of a reconstruction: a band of rows of one camera, from the beginning of its run.

A share needs nobody but the hub and the files: it reads documents from the run's start and frames from the
files, as any consumer does. So whoever takes over a share that died begins it anew, and arrives at the same
slices.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.errors import ReconstructionError
from tomolive.live.accumulate import SliceAccumulator
from tomolive.live.references import EarlierRuns, References
from tomolive.live.rules import Rules
from tomolive.live.run import Batch, Output, Scan
from tomolive.live.scan import ScanReader
from tomolive.stream.dispatcher import RemoteDispatcher

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.float32]

UPRIGHT = ("xz", "yz")

_FORGOTTEN_S = 30.0
"""A share that nobody has asked for so long belongs to a scan that is past, or to a crew that is gone."""
_PAUSE_S = 0.05


@dataclass(frozen=True)
class Source:
    """Where documents and files are, as a RemoteDispatcher wants it."""

    hub: str
    mounts: Mapping[str, str] = field(default_factory=dict)
    roots: tuple[str, ...] | None = None
    patience_s: float = 10.0
    memory_mb: int = 512
    threads: int = 1

    def connect(self, start: str) -> RemoteDispatcher:
        """Return a dispatcher that begins at a run."""
        return RemoteDispatcher(
            self.hub, start=start, mounts=dict(self.mounts), roots=self.roots, patience=self.patience_s,
            memory=self.memory_mb * 1_000_000, threads=self.threads, on_error="stop",
        )  # fmt: skip


@dataclass(frozen=True)
class Share:
    """What one worker does of one scan; plain values, so that it travels."""

    run_uid: str
    camera: str
    rows: tuple[int, int]
    """Half-open range of detector rows."""
    source: Source
    rules: tuple[Rules, ...]
    center: float | None
    """Rotation centre to begin with; None: this share estimates it, for all of its camera."""
    provisional: float | None = None
    filter: str = "ramp"
    corrections: CorrectionSettings = field(default_factory=CorrectionSettings)
    threads: int = 1
    crew: str = ""
    """Id of the crew: others may work on the same run, in the same workers, with another centre."""

    @property
    def name(self) -> str:
        """Name of the share among all that a worker does."""
        return f"{self.run_uid}/{self.camera}/{self.rows[0]}-{self.rows[1]}/{self.crew}"


@dataclass(frozen=True)
class Orders:
    """What the crew's master asks of a share, each time that it asks for a report."""

    center: float | None = None
    filter: str | None = None
    slice_row: int | None = None
    """Detector row of the xy plane, if this share has it."""


@dataclass(frozen=True, eq=False)
class Report:
    """What a share has done so far."""

    worker: str
    """Host and process."""
    received: int = 0
    """Projections in its slices."""
    center: float | None = None
    center_source: str = ""
    filter: str = ""
    coverage: float = 0.0
    pictures: Mapping[str, Pixels] = field(default_factory=dict)
    """xz and yz, (rows of the share, columns), and xy if it has that row; 1/pixel."""
    notes: tuple[str, ...] = ()
    missing: tuple[tuple[int, int], ...] = ()
    ended: bool = False
    """The run is over, and the slices are final for this centre and filter."""
    failure: str = ""


class Work:
    """A share being done, in a thread of its own."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.asked = time.monotonic()
        """When somebody asked for it last."""
        self._reader = ScanReader(share.rules or None, camera=share.camera)
        self._references = References()
        self._earlier = EarlierRuns(share.source.connect, share.rules or None)
        self._slices: SliceAccumulator | None = None
        self._changed_references = False
        self._notes: list[str] = []
        self._ended = False
        self._failure = ""
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._dispatcher = share.source.connect(share.run_uid)
        self._dispatcher.subscribe(self._document)
        self._dispatcher.subscribe_frames(
            lambda frames: self._take(self._reader.frames(frames)),
            lambda missing: self._take(self._reader.missing(missing)),
        )
        self._dispatcher.subscribe_idle(lambda: self._take(self._earlier.take()))
        self._thread = threading.Thread(target=self._run, name=f"share {share.name}", daemon=True)
        self._thread.start()

    def report(self, orders: Orders) -> Report:
        """Follow ``orders``, and tell what there is."""
        worker = f"{socket.gethostname()}:{os.getpid()}"
        with self._lock:
            slices, scan = self._slices, self._reader.scan(self.share.run_uid)
            failure = self._failure or (scan.failure if scan else "")
            if slices is None or not slices.received or failure:
                return Report(worker, ended=self._ended, failure=failure)
            self._obey(slices, orders)
            return Report(
                worker,
                received=slices.received,
                center=slices.center,
                center_source=slices.center_source,
                filter=slices.filter,
                coverage=slices.coverage,
                pictures=self._pictures(slices, orders.slice_row),
                notes=(*self._notes, *slices.notes),
                missing=tuple(scan.missing) if scan else (),
                ended=self._ended,
            )

    def stop(self) -> None:
        """Give the share up."""
        self._given_up.set()
        self._dispatcher.stop()

    def _obey(self, slices: SliceAccumulator, orders: Orders) -> None:
        center = None if orders.center is None or orders.center == slices.center else orders.center
        filter_ = None if orders.filter in (None, slices.filter) else orders.filter
        if center is not None or filter_ is not None:
            slices.restart(center=center, filter=filter_)
            if self._ended:
                slices.finish(refine=False)

    def _pictures(self, slices: SliceAccumulator, slice_row: int | None) -> dict[str, Pixels]:
        first, last = self.share.rows
        if (
            slice_row is not None
            and first <= slice_row < last
            and slices.positions["xy"] != slice_row - first
        ):
            slices.retarget("xy", slice_row - first)
        pictures = slices.slices()
        if slice_row is None or not first <= slice_row < last:
            del pictures["xy"]
        return pictures

    # -- in its own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._dispatcher.start()
        except Exception as error:
            log.exception("share %s", self.share.name)
            self._failure = f"{type(error).__name__}: {error}"

    def _document(self, name: str, doc: dict[str, Any]) -> None:
        self._take(self._reader.document(name, doc))
        uid = self.share.run_uid
        if name == "start" and doc["uid"] == uid and (scan := self._reader.scan(uid)):
            for earlier in scan.references:
                self._earlier.ask(earlier)
        if name == "stop" and doc["run_start"] == uid:
            while self._earlier.under_way and not self._given_up.is_set():
                self._given_up.wait(_PAUSE_S)  # slices without their flats would not be final
            self._take(self._earlier.take())
            self._take(self._reader.close(uid))
            with self._lock:
                if self._slices is not None and not self._failure:
                    self._slices.finish()
                self._ended = True
            self._dispatcher.stop()

    def _take(self, outputs: Iterable[Output]) -> None:
        scan = self._reader.scan(self.share.run_uid)
        for out in outputs:
            if scan is None or out.run_uid not in (scan.run_uid, *scan.references):
                continue
            with self._lock:
                if isinstance(out, Batch):
                    self._add(out, scan)
                elif out.problem:
                    self._notes.append(out.text)

    def _add(self, batch: Batch, scan: Scan) -> None:
        first, last = self.share.rows
        batch = replace(batch, array=batch.array[:, first:last])
        if batch.kind != "projection":
            self._add_reference(batch, scan)
        elif batch.angles is None:
            self._failure = "the angles of its projections are not in its documents"
        else:
            if self._slices is None:
                self._slices = self._begin(batch.array.shape[1], batch.array.shape[2])
                self._changed_references = True
            self._correct(scan.references)
            numbers = np.arange(batch.first, batch.first + len(batch.array))
            self._slices.add(batch.array, batch.angles, numbers)
        if self._slices is not None:
            self._correct(scan.references)

    def _add_reference(self, batch: Batch, scan: Scan) -> None:
        try:
            self._references.add(batch, scan.planned)
        except ReconstructionError as error:
            self._notes.append(f"{batch.kind}s cannot be used: {error}")
        else:
            self._changed_references = True

    def _begin(self, rows: int, columns: int) -> SliceAccumulator:
        share = self.share
        return SliceAccumulator(
            rows, columns, center=share.center, provisional=share.provisional, filter=share.filter,
            corrections=share.corrections, threads=share.threads,
        )  # fmt: skip

    def _correct(self, references: Sequence[str]) -> None:
        if self._changed_references and self._slices is not None:
            self._changed_references = False
            runs = (self.share.run_uid, *references)
            flats, times = self._references.flats(runs)
            self._slices.set_references(self._references.dark(runs), flats, times)


_at_work: dict[str, Work] = {}
_changing = threading.Lock()
"""A worker of a cluster may answer in several threads."""


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
            _at_work[share.name] = Work(share)
        work = _at_work[share.name]
        work.asked = now
    return work.report(orders)
