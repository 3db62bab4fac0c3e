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

import numpy as np

from tomolive import metrics
from tomolive.config import LiveSettings
from tomolive.errors import ScanError, TomoliveError
from tomolive.files.frames import Frames, MissingFrames
from tomolive.live.accumulate import SliceAccumulator
from tomolive.live.analysing import ScanAnalyses
from tomolive.live.backlog import Backlog
from tomolive.live.controls import Controls, Wish
from tomolive.live.estimates import Estimates
from tomolive.live.looks import Looks
from tomolive.live.orders import Orders
from tomolive.live.publication import Publication
from tomolive.live.references import Dispatcher, EarlierRuns, References, least_apart
from tomolive.live.result_documents import Emit
from tomolive.live.results import Results
from tomolive.live.rules import Rules
from tomolive.live.run import Batch, Note, Output, Scan
from tomolive.live.scan import ScanReader
from tomolive.live.snapshot import SnapshotStore
from tomolive.live.status import Watched, status_of
from tomolive.live.tomogram import Tomogram
from tomolive.live.wishes import Wishes, note_changes

log = logging.getLogger(__name__)

SILENCE_S = 60.0
SILENT_KEPT = 3
"""Scans that went silent while another one runs; their projections take memory."""
_SILENCE_TOLD_EVERY_S = 5.0
_PAUSE_S = 0.05


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
        folder of finished scans, see :mod:`tomolive.live.output`.
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
        orders: Orders | None = None,
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
        self._silence = silence
        self._reader = ScanReader(rules)
        self._references = References()
        self._earlier = EarlierRuns(earlier, rules) if earlier else None
        self._backlog = Backlog()
        self._open: dict[str, Watched] = {}
        self._current: Watched | None = None
        """The scan that the status tells of."""
        self._shown: Watched | None = None
        """The scan whose pictures are shown: the current one, or the one before until its first picture."""
        self._refining: list[Watched] = []
        """Scans that have ended, and whose centre is being refined or whose last findings are awaited."""

    def run(self) -> None:
        """Follow scans until :meth:`stop`; blocks."""
        self._dispatcher.subscribe(self._document)
        self._dispatcher.subscribe_frames(self._frames, self._missing)
        self._dispatcher.subscribe_idle(self._idle)
        self._publish()
        try:
            self._dispatcher.start()
        finally:
            orders, self._orders = self._orders, None  # no volume begins any more
            for watched in list(self._open.values()):
                self._end(watched)
            for watched in list(self._refining):
                self._estimates.wait_for_centre(watched)
            self._estimates.close()
            self._wait_for_analyses()
            self._analyses.close()
            if orders:
                orders.close()
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
        self._take(self._reader.frames(frames))
        if watched and self._has_all(watched):
            self._finish(watched)
        self._tick()

    def _missing(self, missing: MissingFrames) -> None:
        self._hear(missing.run_uid)
        self._take(self._reader.missing(missing))
        self._tick()

    def _idle(self) -> None:
        if self._earlier:
            self._take(self._earlier.take())
        self._write_silent()
        self._tell_silence()
        self._tick()
        self._publication.retell |= self._results.write_stale()

    # -- scans begin and end --------------------------------------------------------------------------------

    def _begin(self, scan: Scan) -> None:
        if scan.run_uid in self._open:
            return
        log.info("run %s begins: scan %s, %s", scan.run_uid, scan.scan_id, scan.plan or "no plan name")
        self._current = self._open[scan.run_uid] = Watched(scan)
        self._publication.retell = True
        for uid in scan.references:
            self._references.touch(uid)
            if uid not in self._references and self._earlier:
                self._earlier.ask(uid)

    def _run_of(self, doc: dict[str, Any]) -> str:
        if "run_start" in doc:
            return doc["run_start"]
        scan = self._reader.scan_of(doc.get("descriptor", ""))
        return scan.run_uid if scan else ""

    def _hear(self, run_uid: str) -> Watched | None:
        """Return the open scan of a run, of which something has come."""
        if watched := self._open.get(run_uid):
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
        for watched in list(self._open.values()):
            silence = time.monotonic() - watched.heard
            if watched is self._current or watched.silent or silence <= self._silence:
                continue
            watched.silent = True
            scan = watched.scan
            log.info("run %s: nothing has come for %.0f s, and it has not ended", scan.run_uid, silence)
            self._finish(watched)
            self._write(watched)
        silent = sorted((w for w in self._open.values() if w.silent), key=lambda w: w.heard)
        for watched in silent[:-SILENT_KEPT]:
            self._end(watched)

    def _tell_silence(self) -> None:
        """Have the status say, now and then, for how long nothing has come."""
        current = self._current
        if current and not current.scan.closed and time.monotonic() - current.heard > self._silence:
            self._publication.retell |= self._publication.is_quiet_for(_SILENCE_TOLD_EVERY_S)

    def _end(self, watched: Watched) -> None:
        """Close a scan: nothing more of it is awaited."""
        self._take(self._reader.close(watched.scan.run_uid))
        self._finish(watched)
        watched.positions = watched.tomogram.positions if watched.tomogram else None
        del self._open[watched.scan.run_uid]
        scan = watched.scan
        log.info(
            "run %s is over (%s): %d of %s projections, %d missing", scan.run_uid, scan.outcome,
            len(scan.received), scan.planned or len(scan.announced), len(scan.missing),
        )  # fmt: skip
        metrics.LIVE_SCANS.labels(outcome="failed" if scan.failure else scan.outcome).inc()
        metrics.LIVE_MISSING.inc(len(scan.missing))
        watched.ended = True
        self._write(watched)
        if watched is self._current:
            self._publish()

    def _write(self, watched: Watched) -> None:
        """Write the results of a scan, now or once its centre is refined and it has been analysed."""
        if watched.refining or self._analyses.is_awaited(watched):
            if watched not in self._refining:
                self._refining.append(watched)
        elif watched.scan.takes_projections:
            self._publication.retell |= self._analyses.poll([*self._known(), watched])[0]
            self._results.write(watched)
            if self._orders:
                self._orders.scan_ended(watched)

    def _write_analysed(self) -> bool:
        """Take what analyses have found, and write results that waited for it; return whether any came."""
        ready = [w for w in self._refining if not w.refining and not self._analyses.is_awaited(w)]
        news, about = self._analyses.poll(self._known())
        for watched in about:
            if watched.ended and watched not in self._refining:  # its results were not kept waiting for this
                self._results.put_off(watched)
        for watched in ready:
            self._refining.remove(watched)
            self._write(watched)
        return news

    def _wait_for_analyses(self) -> None:
        """Wait, not for long, for the last findings, and write the results that wait for them."""
        if self._refining:
            while self._refining:
                time.sleep(_PAUSE_S)
                self._write_analysed()
            self._publish()

    def _finish(self, watched: Watched) -> None:
        """Make the pictures of a scan final, and show them at once; its centre is refined beside that."""
        if watched.tomogram is None or watched.scan.failure:
            return
        if watched is self._current and watched.fresh:
            # The centre may be refined now, which takes a while: the last frame is shown before.
            self._publish()
        with self._may_fail(watched):
            if watched.tomogram.finish(refine=False):
                self._publication.redraw = True
                self._refine(watched)
                if not watched.refining:
                    self._be_final(watched)

    def _refine(self, watched: Watched, wish: Wish | None = None) -> None:
        """Have the centre refined, if that can be done; the wish then ends, or the slices are final."""

        def refined(moved: bool) -> None:
            if wish:
                self._wishes.end(wish)
                if moved:
                    self._results.put_off(watched)
            else:
                self._be_final(watched)
            if watched in self._refining:
                self._refining.remove(watched)
                self._write(watched)

        if not self._estimates.refine(watched, refined) and wish:
            self._wishes.end(wish)

    def _be_final(self, watched: Watched) -> None:
        """Show slices that are those of all projections of a scan, and note how long they took."""
        self._estimates.judge(watched, last=True)
        self._analyses.see_slices(watched, final=True)
        if watched is self._current:
            self._publish()
        if watched.announced is not None and watched.to_final is None:
            watched.to_final = time.monotonic() - watched.announced
            self._publication.retell = True

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
            watched = self._open.get(out.run_uid)
            if isinstance(out, Note):
                self._tell(out)
            elif out.kind != "projection":
                self._take_reference(out)
            elif watched and not watched.scan.failure:
                self._take_projections(watched, out)

    def _tell(self, note: Note) -> None:
        log.info("run %s: %s", note.run_uid, note.text)
        for watched in self._open.values():
            if note.problem and note.run_uid in (watched.scan.run_uid, *watched.scan.references):
                watched.tell(note.text)
                self._publication.retell = True

    def _take_reference(self, batch: Batch) -> None:
        watched = self._open.get(batch.run_uid)
        came = len(watched.scan.received) if watched else 0
        planned = watched.scan.planned if watched else None
        try:
            self._references.add(batch, came, least_apart(planned))
        except TomoliveError as error:
            self._tell(Note(batch.run_uid, f"{batch.kind}s cannot be used: {error}"))
            return
        for watched in self._known():
            if watched.tomogram and batch.run_uid in (watched.scan.run_uid, *watched.scan.references):
                watched.tomogram.references_changed()
                self._publication.redraw = True
                self._results.put_off(watched)

    def _known(self) -> list[Watched]:
        """Return the scans whose projections are held, each once."""
        shown = [self._shown] if self._shown else []
        held = (*self._open.values(), *self._results.stale, *self._refining, *shown)
        return list({id(w): w for w in held}.values())

    def _take_projections(self, watched: Watched, batch: Batch) -> None:
        with self._may_fail(watched):
            if batch.angles is None:
                raise ScanError("the angles of its projections are not in its documents")
            if watched.tomogram is None:
                shape = (batch.array.shape[1], batch.array.shape[2])
                before = self._shown.tomogram if self._shown else None
                watched.tomogram = Tomogram(
                    watched.scan,
                    shape,
                    self._references,
                    self._wishes.settings,
                    self._wishes.positions,
                    provisional=before.center if before and before.shape == shape else None,
                )
            watched.tomogram.add(batch)
            metrics.LIVE_PROJECTIONS.inc(len(batch.array))
            watched.came = watched.fresh = self._publication.redraw = True
            if watched is self._current:
                self._estimates.look(watched)
            self._analyses.see_projections(watched, len(batch.array))

    # -- wishes ---------------------------------------------------------------------------------------------

    def _grant(self, wish: Wish) -> bool:
        """Do what is asked, or return False if that scan has no picture yet."""
        watched = self._asked_of(wish)
        if watched is None or watched.tomogram is None or not watched.tomogram.received:
            overtaken = watched is None and bool(wish.run_uid)
            self._wishes.end(*[wish] * overtaken)
            return overtaken
        try:
            if wish.volume is not None:
                self._order(watched, wish)
            if wish.candidates is not None:
                self._estimates.draw_strip(watched, wish, lambda: self._wishes.end(wish))
            watched.tomogram.change(wish)
        except TomoliveError as error:
            watched.tell(str(error))
            self._wishes.end(wish)
            return True
        note_changes(watched, wish)
        self._wishes.keep_for_later(wish)
        if wish.estimate_center:
            self._refine(watched, wish)
        elif wish.candidates is None:
            self._wishes.end(wish)
        if wish.redraws:
            self._publication.redraw = True
            self._results.put_off(watched)
        self._publication.redraw |= wish.plane is not None
        return True

    def _order(self, watched: Watched, wish: Wish) -> None:
        if self._orders is None:
            raise ScanError("full volumes are not made here")
        if wish.volume == "start":
            self._orders.start(watched)
        else:
            self._orders.cancel(watched.scan.run_uid)
        self._publication.retell = True

    def _asked_of(self, wish: Wish) -> Watched | None:
        """Return the scan to change: the one that the page showed, even if another is shown by now."""
        if not wish.run_uid:
            return self._shown
        named = next((w for w in self._known() if w.scan.run_uid == wish.run_uid), None)
        if named is None and (wish.center is not None or wish.estimate_center):
            problem = f"the centre of run {wish.run_uid[:8]} is as it was: its projections are no longer held"
            if self._shown:
                self._shown.tell(problem)
            return None
        return named or self._shown

    # -- pictures -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Grant wishes, and publish if there is something new and it is time."""
        answered = self._estimates.poll() | self._write_analysed()
        granted = self._wishes.grant(self._grant)
        if self._orders and self._orders.poll():
            self._publication.retell = True
            self._analyses.see_volume(self._orders.progress)
        looked = self._wishes.looked_at - self._looked
        if granted or answered or looked or self._publication.is_due:
            self._publish()
            self._recentre()

    def _recentre(self) -> None:
        """Estimate the centre where projections have come, once a picture shows them: it may redraw all."""
        for watched in self._open.values():
            if watched.came and watched.tomogram:
                watched.came = False
                with self._may_fail(watched):
                    self._publication.redraw |= watched.tomogram.recentre()

    def _publish(self) -> None:
        current, before = self._current, self._shown
        if current and current.tomogram and current.tomogram.received:
            self._shown = current
        shown = self._shown
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
        status = status_of(current, self._wishes.settings, self._silence, more)
        if self._orders:
            status = replace(status, volume=self._orders.progress)
        self._publication.publish(status)
        self._wishes.shown()


def warm_up(threads: int) -> None:
    """Have the kernels compiled, or read from their cache, before the first frame needs them."""
    slices = SliceAccumulator(8, 32, center=15.5, threads=threads)
    darks, flats = np.zeros((1, 8, 32), np.uint16), np.full((1, 8, 32), 1000, np.uint16)
    slices.set_references(darks, flats)
    slices.add(flats.repeat(4, axis=0), np.linspace(0, np.pi, 4), range(4))
    slices.finish()
    slices.slices()
