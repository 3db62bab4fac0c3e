"""The one thread that writes: documents and frames in, pictures and results out.

Every callback runs in the thread that called :meth:`LiveReconstruction.run`; so do the wishes of the people
at the page, taken between documents and while none waits. Projections are never skipped, pictures are:
between two of them lies at least 60 ms, and twice the time that the last one took.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from tomolive import metrics
from tomolive.config import LiveSettings
from tomolive.errors import ScanError, TomoliveError
from tomolive.files.frames import Frames, MissingFrames
from tomolive.live.analysis.findings import ScanAnalyses
from tomolive.live.backlog import Backlog
from tomolive.live.controls import Controls
from tomolive.live.documents.references import Dispatcher, EarlierRuns, References
from tomolive.live.documents.rules import Rules
from tomolive.live.documents.run import Batch, Note, Output, Scan
from tomolive.live.documents.scan import ScanReader
from tomolive.live.endings import Endings
from tomolive.live.estimates import Estimates
from tomolive.live.followed import Followed, Watched
from tomolive.live.granting import Granting
from tomolive.live.looks import Looks
from tomolive.live.publication import Publication
from tomolive.live.results.documents import Emit
from tomolive.live.results.writing import Results
from tomolive.live.snapshot import SnapshotStore
from tomolive.live.status import status_of
from tomolive.live.tomogram import Tomogram
from tomolive.live.volume_orders import VolumeOrders
from tomolive.live.wishes import Wishes

log = logging.getLogger(__name__)

SILENCE_S = 60.0
SILENT_KEPT = 3
"""Scans that went silent while another one runs; their projections take memory."""
_SILENCE_TOLD_EVERY_S = 5.0
_AT_ONCE = 16
"""Frames of a backlog that are taken before wishes are looked at again; as many as are drawn at once."""


class LiveDispatcher(Dispatcher, Protocol):
    """What is used of a RemoteDispatcher."""

    @property
    def behind(self) -> int: ...  # noqa: D102

    def subscribe_idle(self, callback: Callable[[], Any]) -> int: ...  # noqa: D102


class LiveReconstruction:
    """Reconstructs every tomography scan that a dispatcher brings, while it runs.

    Parameters
    ----------
    dispatcher
        a RemoteDispatcher, not yet started.
    store
        where pictures and status are published.
    controls
        where wishes come from.
    results
        folder of finished scans, see :mod:`tomolive.live.results.files`.
    settings
        centre, filter, threads.
    rules
        how documents are understood; the shipped ones by default.
    earlier
        returns a dispatcher that begins at the run with the given uid; for darks and flats of earlier runs.
    orders
        makes full volumes; without it there are none.
    publish
        takes the documents of results, as a Publisher does; without it they are only written.
    silence
        seconds without a document after which what there is of a scan is written, once another has begun.
    """

    def __init__(
        self,
        dispatcher: LiveDispatcher,
        store: SnapshotStore,
        controls: Controls,
        *,
        results: Path,
        settings: LiveSettings | None = None,
        rules: Sequence[Rules] | None = None,
        earlier: Callable[[str], Dispatcher] | None = None,
        orders: VolumeOrders | None = None,
        publish: Emit | None = None,
        silence: float = SILENCE_S,
    ) -> None:
        self._dispatcher = dispatcher
        self._wishes = Wishes(controls, settings or LiveSettings())
        self._analyses = ScanAnalyses(self._wishes.settings.analysis)
        self._looks = Looks()
        self._looked: frozenset[str] = frozenset()
        self._publication = Publication(store)
        self._estimates = Estimates(self._publication, self._may_fail)
        self._results = Results(results, publish)
        self._orders = orders
        self._scans = Followed()
        self._endings = Endings(
            self._scans, self._publication, self._estimates, self._analyses, self._results, orders,
            awaits_references=self._awaits_references, may_fail=self._may_fail, show=self._show,
        )  # fmt: skip
        self._granting = Granting(
            self._scans, self._wishes, self._looks, self._publication, self._estimates, self._endings,
            self._results, orders,
        )  # fmt: skip
        self._silence = silence
        self._reader = ScanReader(rules)
        self._references = References()
        self._earlier = EarlierRuns(earlier, rules) if earlier else None
        self._backlog = Backlog()

    def run(self) -> None:
        """Follow scans until :meth:`stop`; blocks."""
        self._dispatcher.subscribe(self._document)
        self._dispatcher.subscribe_frames(self._frames, self._missing)
        self._dispatcher.subscribe_idle(self._idle)
        self._publish()
        try:
            self._dispatcher.start()
        finally:
            if self._orders:
                self._orders.take_no_more()
            for watched in list(self._scans.open.values()):
                self._end(watched)
            self._endings.wait()
            self._publish()
            self._analyses.close()
            if self._orders:
                self._orders.close()
            # What the page showed last is what stays on disk.
            self._results.write_stale(quiet=0.0)

    def stop(self) -> None:
        """End :meth:`run` after the document at hand; any thread may call this."""
        self._dispatcher.stop()

    # -- what the dispatcher calls --------------------------------------------------------------------------

    def _document(self, name: str, doc: dict[str, Any]) -> None:
        available = self._backlog.take(self._dispatcher.behind, time.monotonic())
        watched = self._hear(self._run_of(doc))
        announced = len(watched.scan.announced) if watched else 0
        outputs = self._reader.document(name, doc)
        if name == "start" and (scan := self._reader.scan(doc["uid"])):
            self._begin(scan)
        self._take(outputs)
        if watched:
            if len(watched.scan.announced) > announced:
                watched.announced = available
            if name == "stop":
                self._end(watched)
        self._tick()

    def _frames(self, frames: Frames) -> None:
        watched = self._hear(frames.run_uid)
        for output in self._reader.frames(frames):
            for piece in output.pieces(_AT_ONCE) if isinstance(output, Batch) else [output]:
                self._take([piece])
                self._tick()
        if watched and self._has_all(watched):
            self._endings.finish(watched)
        self._tick()

    def _missing(self, missing: MissingFrames) -> None:
        self._hear(missing.run_uid)
        self._take(self._reader.missing(missing))
        self._tick()

    def _idle(self) -> None:
        self._write_silent()
        self._tell_silence()
        self._tick()
        self._publication.retell |= self._results.write_stale()

    # -- scans begin and end --------------------------------------------------------------------------------

    def _begin(self, scan: Scan) -> None:
        if scan.run_uid in self._scans.open or scan.closed:  # its start document has come again
            return
        log.info("run %s begins: scan %s, %s", scan.run_uid, scan.scan_id, scan.plan or "no plan name")
        self._scans.current = self._scans.open[scan.run_uid] = Watched(scan)
        self._publication.retell = True
        scans = [one.scan for one in self._scans.held(self._results.stale)]
        self._references.forget_past({uid for one in scans for uid in (one.run_uid, *one.references)})
        for uid in scan.references:
            if uid not in self._references and self._earlier:
                self._earlier.ask(uid)

    def _awaits_references(self, watched: Watched) -> bool:
        earlier = self._earlier
        return earlier is not None and any(map(earlier.is_looked_for, watched.scan.references))

    def _run_of(self, doc: dict[str, Any]) -> str:
        if "run_start" in doc:
            return doc["run_start"]
        scan = self._reader.scan_of(doc.get("descriptor", ""))
        return scan.run_uid if scan else ""

    def _hear(self, run_uid: str) -> Watched | None:
        """Return the open scan of a run, of which something has come."""
        if watched := self._scans.open.get(run_uid):
            watched.heard, watched.silent = time.monotonic(), False
            self._publication.retell = True
        return watched

    def _has_all(self, watched: Watched) -> bool:
        scan = watched.scan
        return bool(scan.planned) and len(scan.received) + len(scan.missing) >= scan.planned

    def _write_silent(self) -> None:
        """Write what there is of scans that went silent without a stop document, once another one has begun.

        They stay open: what still comes of them, of a slow scan beside a fast one, is taken as before. Since
        most of them were broken off, only a few are kept.
        """
        for watched in list(self._scans.open.values()):
            silence = time.monotonic() - watched.heard
            if watched is self._scans.current or watched.silent or silence <= self._silence:
                continue
            watched.silent = True
            scan = watched.scan
            log.info("run %s: nothing has come for %.0f s, and it has not ended", scan.run_uid, silence)
            self._endings.finish(watched)
            self._endings.write(watched)
        silent = sorted((w for w in self._scans.open.values() if w.silent), key=lambda w: w.heard)
        for watched in silent[:-SILENT_KEPT]:
            self._end(watched)

    def _tell_silence(self) -> None:
        """Have the status say, now and then, for how long nothing has come."""
        current = self._scans.current
        if current and not current.scan.closed and time.monotonic() - current.heard > self._silence:
            self._publication.retell |= self._publication.is_quiet_for(_SILENCE_TOLD_EVERY_S)

    def _end(self, watched: Watched) -> None:
        """Close a scan: nothing more of it is awaited."""
        self._take(self._reader.close(watched.scan.run_uid))
        self._endings.finish(watched)
        watched.positions = watched.tomogram.positions if watched.tomogram else None
        del self._scans.open[watched.scan.run_uid]
        scan = watched.scan
        log.info(
            "run %s is over (%s): %d of %s projections, %d missing", scan.run_uid, scan.outcome,
            len(scan.received), scan.planned or len(scan.announced), len(scan.missing),
        )  # fmt: skip
        metrics.LIVE_SCANS.labels(outcome="failed" if scan.failure else scan.outcome).inc()
        metrics.LIVE_MISSING.inc(len(scan.missing))
        watched.ended = True
        self._endings.write(watched)
        self._show(watched)

    @contextmanager
    def _may_fail(self, watched: Watched) -> Iterator[None]:
        """Give up the scan whose reconstruction raises; the next one is not touched by that."""
        try:
            yield
        except Exception as error:
            log.exception("the reconstruction of run %s failed", watched.scan.run_uid)
            sentence = str(error) if isinstance(error, TomoliveError) else f"{type(error).__name__}: {error}"
            watched.scan.fail(f"The reconstruction failed: {sentence}")
            self._publication.retell = True

    # -- what comes out of documents and frames -------------------------------------------------------------

    def _take(self, outputs: Iterable[Output]) -> None:
        for out in outputs:
            watched = self._scans.open.get(out.run_uid)
            if isinstance(out, Note):
                self._tell(out)
            elif out.kind != "projection":
                self._take_reference(out)
            elif watched and not watched.scan.failure:
                self._take_projections(watched, out)

    def _tell(self, note: Note) -> None:
        log.info("run %s: %s", note.run_uid, note.text)
        for watched in self._scans.open.values():
            if note.problem and note.run_uid in (watched.scan.run_uid, *watched.scan.references):
                watched.tell(note.text)
                self._publication.retell = True

    def _take_reference(self, batch: Batch) -> None:
        watched = self._scans.open.get(batch.run_uid)
        planned = watched.scan.planned if watched else None
        try:
            self._references.add(batch, planned)
        except TomoliveError as error:
            self._tell(Note(batch.run_uid, f"{batch.kind}s cannot be used: {error}"))
            return
        for watched in self._scans.held(self._results.stale):
            if watched.tomogram and batch.run_uid in (watched.scan.run_uid, *watched.scan.references):
                watched.tomogram.references_changed()
                self._publication.redraw = True
                self._results.put_off(watched)

    def _take_projections(self, watched: Watched, batch: Batch) -> None:
        with self._may_fail(watched):
            if batch.angles is None:
                raise ScanError("the angles of its projections are not in its documents")
            if watched.tomogram is None:
                shape = (batch.array.shape[1], batch.array.shape[2])
                settings, otherwise = self._wishes.settings_for(shape)
                if otherwise:
                    watched.tell(otherwise)
                before = self._scans.shown.tomogram if self._scans.shown else None
                watched.tomogram = Tomogram(
                    watched.scan,
                    shape,
                    self._references,
                    settings,
                    self._wishes.positions,
                    provisional=before.center if before and before.shape == shape else None,
                )
            watched.tomogram.add(batch)
            metrics.LIVE_PROJECTIONS.inc(len(batch.array))
            watched.came = watched.fresh = self._publication.redraw = True
            if watched is self._scans.current:
                self._estimates.look(watched)
            self._analyses.see_projections(watched, len(batch.array))

    # -- pictures -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Take what earlier runs had, grant wishes, and publish if there is something new and it is time."""
        if self._earlier:
            self._take(self._earlier.take())
        answered = self._estimates.poll() | self._endings.poll()
        granted = self._granting.grant()
        if self._orders and self._orders.poll():
            self._publication.retell = True
            self._analyses.see_volume(self._orders.progress)
        looked = self._wishes.looked_at - self._looked
        if granted or answered or looked or self._publication.is_due:
            self._publish()
            self._recentre()

    def _recentre(self) -> None:
        """Estimate the centre where projections have come, once a picture shows them: it may redraw all."""
        for watched in self._scans.open.values():
            if watched.came and watched.tomogram:
                watched.came = False
                with self._may_fail(watched):
                    self._publication.redraw |= watched.tomogram.recentre()

    def _show(self, watched: Watched) -> None:
        if watched is self._scans.current:
            self._publish()

    def _publish(self) -> None:
        current, before = self._scans.current, self._scans.shown
        if current and current.tomogram and current.tomogram.received:
            self._scans.shown = current
        shown = self._scans.shown
        if before and before.tomogram and before is not shown:
            before.tomogram.look(())
        self._looked = self._wishes.looked_at
        if shown and shown.tomogram:
            self._looks.update(self._looked, shown.tomogram.volume_shape)
            with self._may_fail(shown):
                self._publication.draw(shown.tomogram, self._looks)
            if self._publication.redraw and shown.fresh and shown.announced is not None:
                metrics.LIVE_LAG.set(shown.note_lag(time.monotonic() - shown.announced))
                self._analyses.see_slices(shown)
        more = self._looks.notes(shown.tomogram.volume_shape) if shown and shown.tomogram else ()
        more = (*more, *self._analyses.troubles)
        status = status_of(current, self._wishes.settings, self._silence, more)
        if self._orders:
            status = replace(status, volume=self._orders.progress)
        self._publication.publish(status)
        self._wishes.shown()
