"""Follow scans with a crew: documents here, frames and slices where the workers are."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tomolive import metrics
from tomolive.config import LiveSettings
from tomolive.errors import ReconstructionError, ScanError, SettingsError, TomoliveError
from tomolive.live.controls import Controls, Wish
from tomolive.live.crew.crew import Crew
from tomolive.live.crew.engines import Engine
from tomolive.live.crew.messages import Source
from tomolive.live.crew.team import Team
from tomolive.live.documents.fields import Field, cameras_of, fields_of, tiles_of
from tomolive.live.documents.rules import Rules
from tomolive.live.documents.run import Scan
from tomolive.live.documents.scan import ScanReader
from tomolive.live.followed import Watched
from tomolive.live.looks import Looks
from tomolive.live.publication import Publication
from tomolive.live.results.documents import Emit
from tomolive.live.results.files import folder_of
from tomolive.live.results.writing import QUIET_S, Results
from tomolive.live.shown import Shown
from tomolive.live.snapshot import SnapshotStore
from tomolive.live.status import status_of
from tomolive.live.tomogram import Tomogram
from tomolive.live.volume_orders import VolumeOrders
from tomolive.live.wishes import Wishes, note_changes
from tomolive.stream.dispatcher import RemoteDispatcher

log = logging.getLogger(__name__)

_PAUSE_S = 0.05
_SILENCE_S = 60.0


class CrewReconstruction:
    """Reconstructs every field of every scan that a dispatcher brings, by the workers of an engine.

    Parameters
    ----------
    dispatcher
        a RemoteDispatcher for documents alone, not yet started.
    source
        what each worker connects with.
    engine
        who the workers are.
    store, controls, results, settings, rules, publish, orders
        see `tomolive.live.worker.LiveReconstruction`. The results of the first field lie in the folder of
        the run, those of another one in a folder of that field's name. Volumes are made of the first field,
        if one camera sees it.

    Raises
    ------
    SettingsError
        if there are analyses of the user's own: they need a reconstruction by one process.
    """

    def __init__(
        self,
        dispatcher: RemoteDispatcher,
        source: Source,
        engine: Engine,
        store: SnapshotStore,
        controls: Controls,
        *,
        results: Path,
        settings: LiveSettings,
        rules: Sequence[Rules] = (),
        publish: Emit | None = None,
        orders: VolumeOrders | None = None,
    ) -> None:
        if settings.analysis:
            raise SettingsError(
                "live.analysis: workers have parts of slices, which no analysis could use; leave it out, or "
                "reconstruct without --workers and --dask"
            )
        self._orders = orders
        self._dispatcher, self._source, self._engine = dispatcher, source, engine
        self._wishes = Wishes(controls, settings)
        self._looks, self._publication = Looks(), Publication(store)
        self._looked: frozenset[str] = frozenset()
        self._folder, self._emit, self._rules = results, publish, tuple(rules)
        self._reader = ScanReader(rules or None)
        self._scan: Scan | None = None
        self._crew: Crew | None = None
        self._watched: dict[str, Watched] = {}
        """The fields of the scan at hand."""
        self._shown = ""
        """The field whose pictures are shown."""
        self._due: dict[str, float] = {}
        """Fields whose results are to be written, and when at the earliest."""
        self._trouble = ""
        """Why workers cannot be asked."""
        self._stopped = threading.Event()

    def run(self) -> None:
        """Follow scans until :meth:`stop`; blocks."""
        self._dispatcher.subscribe(self._document)
        self._dispatcher.subscribe_idle(self._tick)
        self._publish()
        try:
            self._dispatcher.start()
        finally:
            if self._orders:
                self._orders.take_no_more()
            self._write_rest()
            self._engine.close()
            if self._orders:
                self._orders.close()

    def stop(self) -> None:
        """End :meth:`run` soon; any thread may call this."""
        self._stopped.set()
        self._dispatcher.stop()

    # -- documents ------------------------------------------------------------------------------------------

    def _document(self, name: str, doc: dict[str, Any]) -> None:
        announced = self._announced
        self._reader.document(name, doc)
        if name == "start" and (scan := self._reader.scan(doc["uid"])):
            self._await_end()
            self._write_rest()
            self._scan, self._crew, self._watched = scan, None, {"": Watched(scan)}
            self._shown = ""
        elif name == "descriptor" and self._crew is None and (cameras := self._cameras(doc)):
            self._begin(cameras)
        elif name == "stop" and self._crew is None and self._scan and self._scan.failure:
            self._watched[""].ended = True
            Results(self._folder, self._emit).write(self._watched[""])
        for watched in self._watched.values():
            watched.heard = time.monotonic()
            if self._announced > announced:
                watched.announced = watched.heard
        self._publication.retell = True
        self._tick()

    @property
    def _announced(self) -> int:
        return len(self._scan.announced) if self._scan else 0

    def _await_end(self) -> None:
        """Let the scan at hand come to its end before another one begins.

        Its run has stopped, but workers may still wait for files that are late. Documents wait at the hub.
        """
        crew, scan = self._crew, self._scan
        if crew is None or scan is None or scan.stop is None:
            return
        while not (crew.is_over or self._stopped.is_set()):
            self._tick()
            self._stopped.wait(_PAUSE_S)

    def _cameras(self, descriptor: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        if self._scan is None or self._scan.failure or descriptor["run_start"] != self._scan.run_uid:
            return {}
        return cameras_of(self._scan, descriptor)

    def _begin(self, cameras: dict[str, tuple[int, int]]) -> None:
        scan = self._scan
        assert scan is not None  # noqa: S101  asked for a scan
        settings, otherwise = self._wishes.settings_for(min(cameras.values(), key=min))
        try:
            fields = fields_of(cameras, tiles_of(scan.start, scan.rules, settings.tiles))
            self._crew = Crew(
                scan, fields, source=self._source, engine=self._engine, settings=settings, rules=self._rules
            )
        except (ScanError, ReconstructionError) as error:
            log.error("run %s: %s", scan.run_uid, error)
            scan.fail(f"It is not reconstructed: {error}")
            return
        self._watched = {name: Watched(team.scan) for name, team in self._crew.teams.items()}
        self._due = dict.fromkeys(fields, 0.0)
        self._shown = next(iter(fields))
        self._note_layout(fields)
        for watched in self._watched.values() if otherwise else ():
            watched.tell(otherwise)
        log.info("run %s: %s, by %d workers", scan.run_uid, ", ".join(fields), self._engine.size)

    def _note_layout(self, fields: Mapping[str, Field]) -> None:
        for name, field in fields.items():
            if field.is_joined:
                rows, columns = field.shape
                self._watched[name].tell(f"{name} are stitched to one field of {rows} x {columns} pixels")

    # -- while it goes on -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Hear workers, grant wishes, publish what is new if it is time, write what is final."""
        for name in self._crew.step() if self._crew else ():
            self._hear(name)
        if self._crew and self._crew.trouble != self._trouble:
            self._trouble, self._publication.retell = self._crew.trouble, True
            if self._trouble:
                log.error("%s", self._trouble)
        granted = self._wishes.grant(self._grant)
        if self._orders and self._orders.poll():
            self._publication.retell = True
        looked = self._wishes.looked_at - self._looked
        if granted or looked or self._publication.is_due:
            self._publish()
        self._write_final()

    def _hear(self, name: str) -> None:
        """Take what the workers of a field have reported."""
        team, watched = self._team(name), self._watched[name]
        watched.heard = time.monotonic()
        if watched.tomogram is None and team.received:
            shown: Shown = team
            # only what is shown and written is asked of it, and that it has in common with a tomogram
            watched.tomogram = cast(Tomogram, shown)
        if team.failure and not watched.scan.failure:
            watched.scan.fail(team.failure)
        self._publication.retell = True
        self._publication.redraw |= name == self._shown

    def _team(self, name: str) -> Team:
        assert self._crew is not None  # noqa: S101  its fields have been named
        return self._crew.teams[name]

    def _grant(self, wish: Wish) -> bool:
        """Do what is asked, or return False if the scan has no picture yet."""
        if self._crew is None or self._scan is None:
            return False
        if wish.camera in self._watched:
            self._shown = wish.camera
            self._publication.redraw = True
        watched = self._watched[self._shown]
        if wish.camera is None and not self._team(self._shown).received:
            return False
        self._wishes.end(wish)
        try:
            self._change(wish, watched)
        except TomoliveError as error:
            watched.tell(str(error))
        self._publication.retell = True
        return True

    def _change(self, wish: Wish, watched: Watched) -> None:
        if wish.volume == "cancel":  # it may be of a scan that is no longer held
            if self._orders is not None:
                self._orders.cancel(wish.run_uid or watched.scan.run_uid)
            if wish.run_uid in ("", watched.scan.run_uid):
                note_changes(watched, wish)
            return
        if wish.run_uid and wish.run_uid != watched.scan.run_uid:
            raise ScanError(f"run {wish.run_uid[:8]} is as it was: its projections are no longer held")
        if wish.candidates is not None:
            raise ScanError(
                "workers do not draw candidates; try centres with the slider, or with one process"
            )
        team = self._team(self._shown)
        if wish.volume is not None:
            self._order(watched, team.field)
        # filter and corrections are those of all fields
        common = Wish(wish.who, filter=wish.filter, corrections=wish.corrections)
        for other in self._team_names() if common.redraws else ():
            self._team(other).change(common)
            self._put_off(other)
        team.change(replace(wish, filter=None, corrections=None))
        note_changes(watched, wish)
        self._wishes.keep_for_later(wish)
        if wish.redraws or wish.plane:
            self._put_off(self._shown)

    def _order(self, watched: Watched, field: Field) -> None:
        if self._orders is None:
            raise ScanError("full volumes are not made here")
        if self._has_volume(field.name):
            self._orders.start(watched)
        else:
            first = next(iter(self._watched.values())).scan.camera
            raise ScanError(f"no volume is made of {field.name}: volumes are of one camera, {first!r}")

    def _has_volume(self, name: str) -> bool:
        """Whether a volume of the run is one of this field: of tiles it knows by the start document."""
        joined = self._team(name).field.is_joined
        return name == next(iter(self._watched)) and not (joined and self._wishes.settings.tiles)

    def _team_names(self) -> list[str]:
        return list(self._crew.teams) if self._crew else []

    def _put_off(self, name: str) -> None:
        """Write the results of a field anew, once nothing has been changed for a while."""
        self._due[name] = time.monotonic() + QUIET_S

    # -- what is shown and written --------------------------------------------------------------------------

    def _publish(self) -> None:
        watched, crew = self._watched.get(self._shown), self._crew
        self._looked = self._wishes.looked_at
        more = [self._trouble] if self._trouble else []
        if watched and crew and watched.tomogram:
            shape = self._team(self._shown).volume_shape
            self._looks.update(self._wishes.looked_at, shape)
            self._publication.draw(watched.tomogram, self._looks)
            more += self._looks.notes(shape)
        status = status_of(watched, self._wishes.settings, _SILENCE_S, more)
        if crew:
            status = replace(status, workers=crew.workers, cameras=tuple(crew.teams), camera=self._shown)
        if self._orders:
            status = replace(status, volume=self._orders.progress)
        self._publication.publish(status)
        self._wishes.shown()

    def _write_final(self) -> None:
        """Write the fields that are final, or have failed for good."""
        now = time.monotonic()
        for name, due in list(self._due.items()):
            if now >= due and self._scan and self._scan.stop and self._team(name).is_over:
                self._write(name)

    def _write_rest(self) -> None:
        """Write what there is of a scan that was broken off, or that is being left."""
        for name in list(self._due):
            self._write(name)

    def _write(self, name: str) -> None:
        """Write the results of a field, and announce them."""
        del self._due[name]
        watched, first = self._watched[name], next(iter(self._watched))
        if not watched.scan.takes_projections:
            return
        if not watched.ended:
            if watched.announced is not None and self._team(name).is_done:
                watched.to_final = time.monotonic() - watched.announced
            watched.scan.closed = watched.ended = True
            outcome = "failed" if watched.scan.failure else watched.scan.outcome
            metrics.LIVE_SCANS.labels(outcome=outcome).inc()
            metrics.LIVE_MISSING.inc(len(watched.scan.missing))
        folder = self._folder if name == first else folder_of(self._folder, name)
        Results(folder, self._emit).write(watched)
        if self._orders and self._has_volume(name):
            self._orders.scan_ended(watched)
        self._publish()
