"""Follow scans with a crew: documents here, frames and slices where the workers are."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tomolive import __version__
from tomolive.config import CorrectionSettings, LiveSettings
from tomolive.errors import ReconstructionError, SettingsError, TomoliveError
from tomolive.files.announcements import axes_of
from tomolive.live.controls import Controls, Wish
from tomolive.live.crew.crew import Crew
from tomolive.live.crew.engines import Engine
from tomolive.live.crew.share import Source
from tomolive.live.output import folder_of, write_results
from tomolive.live.rules import Rules
from tomolive.live.run import Scan
from tomolive.live.scan import ScanReader
from tomolive.live.snapshot import Picture, SnapshotStore, State, Status, Subject
from tomolive.live.streams import choose_camera
from tomolive.stream.dispatcher import RemoteDispatcher

log = logging.getLogger(__name__)

_PICTURE_PERIOD_S = 0.25
_PAUSE_S = 0.05

_SHOWN = "Workers share this scan: the slices in its middle are shown, and no other planes or projections."


def _require_rows_apart(corrections: CorrectionSettings) -> None:
    """Refuse what needs the rows beside a band: at its edges slices would not be those of one process."""
    asked = {
        "zingers": corrections.zingers,
        "paganin": corrections.paganin is not None,
        "binning": corrections.binning > 1,
    }
    if wrong := [name for name, is_asked in asked.items() if is_asked]:
        raise SettingsError(
            f"live.corrections: {', '.join(wrong)} needs more rows than a worker has; leave it out, or "
            "reconstruct without --workers and --dask"
        )


class CrewReconstruction:
    """Reconstructs every camera of every scan that a dispatcher brings, by the workers of an engine.

    Parameters
    ----------
    dispatcher
        a RemoteDispatcher for documents alone, not yet started.
    source
        what each worker connects with.
    engine
        who the workers are.
    store, controls, results, settings, rules
        see `tomolive.live.worker.LiveReconstruction`. The results of the first camera lie in the folder of
        the run, those of another one in a folder of that camera's name.

    Raises
    ------
    SettingsError
        if the settings ask for a correction that a band of rows cannot do by itself.
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
    ) -> None:
        _require_rows_apart(settings.corrections)
        self._dispatcher, self._source, self._engine = dispatcher, source, engine
        self._store, self._controls = store, controls
        self._results, self._settings, self._rules = results, settings, tuple(rules)
        self._reader = ScanReader(rules or None)
        self._scan: Scan | None = None
        self._crew: Crew | None = None
        self._shown = ""
        """The camera whose pictures are shown."""
        self._version = 0
        self._due = 0.0
        self._news = False
        self._written = True
        self._message = ""
        self._stopped = threading.Event()

    def run(self) -> None:
        """Follow scans until :meth:`stop`; blocks."""
        self._dispatcher.subscribe(self._document)
        self._dispatcher.subscribe_idle(self._tick)
        self._publish()
        try:
            self._dispatcher.start()
        finally:
            self._engine.close()

    def stop(self) -> None:
        """End :meth:`run` soon; any thread may call this."""
        self._stopped.set()
        self._dispatcher.stop()

    # -- documents ------------------------------------------------------------------------------------------

    def _document(self, name: str, doc: dict[str, Any]) -> None:
        self._reader.document(name, doc)
        if name == "start" and (scan := self._reader.scan(doc["uid"])):
            self._await_end()
            self._write()
            self._scan, self._crew, self._message, self._written = scan, None, "", False
            self._news = True
        elif name == "descriptor" and self._crew is None and (cameras := self._cameras(doc)):
            self._begin(cameras)
        self._tick()

    def _await_end(self) -> None:
        """Let the scan at hand come to its end before another one begins.

        Its run has stopped, but workers may still wait for files that are late. Documents wait at the hub.
        """
        crew, scan = self._crew, self._scan
        if crew is None or scan is None or scan.stop is None:
            return
        while not (crew.is_done or crew.failure or self._stopped.is_set()):
            self._tick()
            self._stopped.wait(_PAUSE_S)

    def _cameras(self, descriptor: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        if self._scan is None or descriptor["run_start"] != self._scan.run_uid:
            return {}
        rules, start = self._scan.rules, self._scan.start
        kind, _ = rules.kind_of_stream(start, descriptor.get("name", "primary"))
        keys = choose_camera(rules, start, descriptor) if kind or rules.frame_kinds else []
        shapes = {key: axes_of(descriptor["data_keys"][key]) for key in keys}
        return {key: (int(shape[-2]), int(shape[-1])) for key, shape in shapes.items()}

    def _begin(self, cameras: dict[str, tuple[int, int]]) -> None:
        assert self._scan is not None  # noqa: S101  asked for a scan
        self._crew = Crew(
            self._scan.run_uid, cameras, source=self._source, engine=self._engine, settings=self._settings,
            rules=self._rules,
        )  # fmt: skip
        self._shown = next(iter(cameras))
        log.info("run %s: %s, by %d workers", self._scan.run_uid, ", ".join(cameras), self._engine.size)

    # -- while it goes on -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        for wish in self._controls.take():
            self._grant(wish)
            self._controls.done([wish])
        if self._crew is not None:
            self._news |= self._crew.step()
            if self._crew.is_done and not self._written:
                self._publish()
                self._write()
        if self._news and time.monotonic() >= self._due:
            self._publish()

    def _grant(self, wish: Wish) -> None:
        crew = self._crew
        if crew is None:
            return
        if wish.camera is not None and wish.camera in crew.cameras:
            self._shown = wish.camera
        try:
            self._change(crew, wish)
        except ReconstructionError as error:
            self._message = str(error)
        asked = (wish.estimate_center, wish.corrections, wish.candidates, wish.volume, wish.plane)
        if any(value not in (None, False) for value in asked):
            self._message = f"A crew of workers does not change the {wish.about} while it works."
        self._news = True

    def _change(self, crew: Crew, wish: Wish) -> None:
        if wish.center is not None:
            crew.set_center(self._shown, wish.center)
            self._written = False
        if wish.filter is not None:
            crew.set_filter(wish.filter)
            self._settings = self._settings.model_copy(update={"filter": wish.filter})
            self._written = False

    def _publish(self) -> None:
        self._news, self._due = False, time.monotonic() + _PICTURE_PERIOD_S
        self._store.publish(self._status(), self._pictures())

    def _pictures(self) -> dict[str, Picture]:
        crew, scan = self._crew, self._scan
        if crew is None or scan is None or not crew.received(self._shown):
            return dict(self._store.latest.pictures)
        self._version += 1
        rows, columns = crew.cameras[self._shown]
        places = {"xy": rows // 2, "xz": columns // 2, "yz": columns // 2}
        units, factor = ("1/cm", 1e4 / scan.pixel_size_um) if scan.pixel_size_um else ("1/pixel", 1.0)
        of = self._subject(crew, scan)
        return {
            plane: Picture(plane, pixels * factor, places[plane], self._version, units, of, plane)  # type: ignore[arg-type]
            for plane, pixels in crew.pictures(self._shown).items()
        }

    def _subject(self, crew: Crew, scan: Scan) -> Subject:
        lead = crew.lead(self._shown)
        missing = sum(last - first for first, last in crew.missing(self._shown))
        return Subject(
            scan.run_uid, scan.scan_id, scan.sample, scan.plan, scan.planned, crew.received(self._shown),
            missing, lead.coverage if lead else 0.0, scan.coverage_wanted,
            crew.center(self._shown), lead.center_source if lead else "", crew.filter, scan.pixel_size_um,
        )  # fmt: skip

    def _status(self) -> Status:
        crew, scan = self._crew, self._scan
        if scan is None:
            return Status(updated=time.time(), filter=self._settings.filter)
        if crew is None:
            return Status(
                run_uid=scan.run_uid, scan_id=scan.scan_id, sample=scan.sample, plan=scan.plan,
                frames_planned=scan.planned, filter=self._settings.filter, updated=time.time(),
            )  # fmt: skip
        lead = crew.lead(self._shown)
        rows, columns = crew.cameras[self._shown]
        notes = [crew.failure, self._message, *(lead.notes if lead else ()), _SHOWN]
        if crew.replaced:
            notes.append(f"A worker died; {crew.replaced} of its shares were begun anew.")
        return Status(
            state=self._state(crew),
            run_uid=scan.run_uid,
            scan_id=scan.scan_id,
            sample=scan.sample,
            plan=scan.plan,
            frames_planned=scan.planned,
            frames_announced=len(scan.announced),
            frames_received=crew.received(self._shown),
            missing=crew.missing(self._shown),
            coverage=lead.coverage if lead else 0.0,
            coverage_wanted=scan.coverage_wanted,
            center=crew.center(self._shown),
            center_source=lead.center_source if lead else "",
            filter=crew.filter,
            pixel_size_um=scan.pixel_size_um,
            message=" ".join(note for note in notes if note),
            updated=time.time(),
            volume_shape=(rows, columns, columns),
            workers=crew.workers,
            cameras=tuple(crew.cameras),
            camera=self._shown,
        )

    @staticmethod
    def _state(crew: Crew) -> State:
        if crew.failure:
            return "failed"
        if crew.is_done:
            return "finished"
        return "projections" if any(crew.received(camera) for camera in crew.cameras) else "waiting"

    def _write(self) -> None:
        """Write the results of the scan at hand, once."""
        crew, scan = self._crew, self._scan
        if self._written or crew is None or scan is None or not scan.takes_projections:
            return
        self._written = True
        for camera in crew.cameras:
            folder = self._results if camera == next(iter(crew.cameras)) else folder_of(self._results, camera)
            try:
                self._write_camera(crew, scan, camera, folder)
            except (OSError, TomoliveError) as error:
                log.exception("results of run %s could not be written", scan.run_uid)
                self._message = f"Results could not be written: {error}"

    def _write_camera(self, crew: Crew, scan: Scan, camera: str, folder: Path) -> None:
        lead = crew.lead(camera)
        factor = 1e4 / scan.pixel_size_um if scan.pixel_size_um else 1.0
        rows, columns = crew.cameras[camera]
        summary = {
            "run_uid": scan.run_uid, "scan_id": scan.scan_id, "sample": scan.sample, "plan": scan.plan,
            "rules": scan.rules.name, "outcome": scan.outcome, "failure": crew.failure, "camera": camera,
            "frames": {
                "planned": scan.planned, "announced": len(scan.announced), "received": crew.received(camera),
                "missing": [list(span) for span in crew.missing(camera)],
            },
            "center": crew.center(camera), "center_source": lead.center_source if lead else "",
            "filter": crew.filter, "coverage_deg": lead.coverage if lead else 0.0,
            "positions": {"xy": rows // 2, "xz": columns // 2, "yz": columns // 2},
            "units": "1/cm" if scan.pixel_size_um else "1/pixel", "pixel_size_um": scan.pixel_size_um,
            "notes": list(lead.notes) if lead else [],
            "workers": [f"{w.name}, rows {w.rows[0]} to {w.rows[1] - 1}" for w in crew.workers],
            "shares_begun_anew": crew.replaced, "version": __version__,
        }  # fmt: skip
        drawn = crew.pictures(camera) if crew.received(camera) else {}
        slices = {plane: pixels * factor for plane, pixels in drawn.items()}
        write_results(folder, summary, slices, title=f"{scan.sample}   {scan.run_uid[:8]}   {camera}")
