"""What the master of a crew makes of what its workers answer; workers are stood in for by plain values."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest

from tomolive.config import CorrectionSettings, LiveSettings, VolumeSettings
from tomolive.errors import ReconstructionError, SettingsError
from tomolive.live.controls import Controls, Wish
from tomolive.live.crew import inputs
from tomolive.live.crew import share as sharing
from tomolive.live.crew.crew import Crew
from tomolive.live.crew.follow import CrewReconstruction
from tomolive.live.crew.messages import Orders, Report, Share, Source
from tomolive.live.crew.post import Post
from tomolive.live.crew.share import Work, advance
from tomolive.live.crew.team import Team, taken
from tomolive.live.documents.fields import check_corrections, fields_of
from tomolive.live.documents.scan import ScanReader
from tomolive.live.snapshot import SnapshotStore
from tomolive.live.volume.documents import DocumentSource
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume_orders import VolumeOrders

SHAPE = (16, 20)
PAGANIN = {"energy_kev": 25, "distance_m": 0.1, "pixel_size_um": 1, "delta_beta": 100}


class Said:
    """An answer that has come."""

    def __init__(self, report: Report | Exception) -> None:
        self._report = report

    def done(self) -> bool:
        """It is."""
        return True

    def result(self) -> Report:
        """Return what was said, or raise it."""
        if isinstance(self._report, Exception):
            raise self._report
        return self._report


class Troupe:
    """Workers that say what a test has them say."""

    size = 2
    lost: tuple[type[BaseException], ...] = (ConnectionError,)
    trouble = ""

    def __init__(self, say: Callable[[int, Orders], Report | Exception]) -> None:
        self.say = say

    def ask(self, place: int, share: Share, orders: Orders) -> Said:  # noqa: ARG002  as `Engine.ask`
        """Ask the test."""
        return Said(self.say(place, orders))

    def replace(self, place: int) -> None:
        """Nobody is gone."""

    def close(self) -> None:
        """There is nothing to close."""


def _report(place: int, **values: Any) -> Report:
    pictures = {plane: np.zeros((8, 20), np.float32) for plane in ("xz", "yz")}
    pictures["xy"] = np.zeros((20, 20), np.float32)
    about = {"received": ((0, 40),), "center": 9.5, "filter": "ramp", "columns": 20, "ended": True}
    return Report(f"host:{place}", **({**about, "version": "1", "pictures": pictures} | values))


def _crew(engine: Troupe, monkeypatch: pytest.MonkeyPatch) -> Crew:
    monkeypatch.setattr("tomolive.live.crew.crew._ASK_EVERY_S", -1.0)
    reader, (uid, documents) = ScanReader(), _scan_documents()
    reader.document(*documents[0])
    scan = reader.scan(uid)
    assert scan is not None
    return Crew(
        scan, fields_of({"camera": SHAPE}, {}), source=Source("tcp://127.0.0.1:1"), engine=engine,
        settings=LiveSettings(center=9.5),
    )  # fmt: skip


def _step(crew: Crew) -> None:
    for _ in range(3):
        crew.step()


def test_slices_with_the_centre_before_are_not_final(monkeypatch):
    """A scan is done again only when every share has the centre and the filter that were asked for."""
    engine = Troupe(lambda place, _: _report(place))
    crew = _crew(engine, monkeypatch)
    _step(crew)
    assert crew.is_done
    crew.teams["camera"].change(Wish("someone", center=8.0))
    assert not crew.is_done
    engine.say = lambda place, _: _report(place, center=8.0 if place else 9.5)
    _step(crew)
    assert not crew.is_done
    engine.say = lambda place, orders: _report(place, center=orders.center, filter=orders.filter)
    _step(crew)
    assert crew.is_done
    crew.teams["camera"].change(Wish("someone", filter="hann"))
    assert not crew.is_done
    _step(crew)
    assert crew.is_done


def test_frames_that_one_worker_lacks_are_missing(monkeypatch):
    """A share that could not read all files ends the scan with fewer projections, and they are named."""
    lacking = {"received": ((0, 4), (6, 40)), "missing": ((4, 6),)}
    crew = _crew(Troupe(lambda place, _: _report(place, **({} if place else lacking))), monkeypatch)
    _step(crew)
    assert crew.is_done
    team = crew.teams["camera"]
    assert team.received == 38
    assert list(team.scan.missing) == [(4, 6)]


def test_a_scan_without_projections_ends(monkeypatch):
    """Shares that have nothing to draw have no centre; the scan is over all the same."""
    crew = _crew(Troupe(lambda place, _: Report(f"host:{place}", ended=True)), monkeypatch)
    _step(crew)
    assert crew.is_done


def test_an_answer_that_raises_fails_the_crew_and_silences_nobody(monkeypatch):
    """What is wrong with one share is said, and the others are still heard."""
    engine = Troupe(lambda place, _: _report(place) if place else OSError("no such device"))
    crew = _crew(engine, monkeypatch)
    _step(crew)
    assert crew.failure == "OSError: no such device"
    assert [worker.state for worker in crew.workers] == ["failed", "finished"]


def test_a_worker_that_is_gone_is_asked_again(monkeypatch):
    """Its share is begun anew, and that is counted."""
    engine = Troupe(lambda place, _: _report(place) if place else ConnectionError("gone"))
    crew = _crew(engine, monkeypatch)
    _step(crew)
    assert not crew.is_done
    engine.say = lambda place, _: _report(place)
    _step(crew)
    assert crew.is_done
    assert crew.replaced >= 1


def test_while_no_worker_can_be_asked_nothing_is_lost(monkeypatch):
    """The scheduler of a cluster is away for a while: what was reported stays, and goes on afterwards."""
    engine = Troupe(lambda place, _: _report(place, received=((0, 20),), ended=False))
    crew = _crew(engine, monkeypatch)
    _step(crew)
    engine.trouble = "the scheduler does not answer"
    engine.say = lambda _place, _orders: ConnectionError("nobody is there")
    _step(crew)
    assert crew.trouble == engine.trouble
    assert crew.teams["camera"].received == 20
    assert not crew.replaced
    engine.trouble, engine.say = "", lambda place, _: _report(place)
    _step(crew)
    assert crew.is_done


def test_a_scan_of_which_a_share_fails_is_written_when_it_ends(follow):
    """Its results say why, and do not wait for the scan that comes next."""
    uid, documents = _scan_documents()
    engine = Troupe(lambda place, _: _report(place) if place else Report("host:0", failure="no disk left"))
    assert follow(engine, documents, uid)[uid]["failure"] == "no disk left"


def test_tiles_that_do_not_fit_are_told_in_the_results(follow):
    """A start document that has a camera the scan has not: no reconstruction, and why."""
    uid, documents = _scan_documents(tiles={"camera": {}, "elsewhere": {"row": 8}})
    assert "'elsewhere'" in follow(Troupe(lambda place, _: _report(place)), documents, uid)[uid]["failure"]


def test_a_share_that_kills_each_worker_is_given_up(monkeypatch):
    """Of one that takes more memory than there is, nobody dies for ever."""
    engine = Troupe(lambda place, _: _report(place) if place else ConnectionError("out of memory"))
    crew = _crew(engine, monkeypatch)
    for _ in range(20):
        crew.step()
    assert "workers died of" in crew.failure
    assert "out of memory" in crew.failure
    assert crew.replaced == 5


MASTER = """
import os, time
from tomolive.live.crew.engines import LocalEngine

if __name__ == "__main__":
    print(LocalEngine(1)._pool(0).submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def test_workers_end_with_their_master(tmp_path):
    """Also if it is killed: nobody is left behind who would read files for nothing."""
    script = tmp_path / "master.py"
    script.write_text(MASTER)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as master:
        assert master.stdout is not None
        worker = int(master.stdout.readline())
        master.kill()
        master.wait()
        deadline = time.monotonic() + 30
        while _runs(worker):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Whether a process is there, and not just waiting for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_cannot_be_done_is_refused(monkeypatch):
    """Where it comes in: workers never hear of it."""
    team = _crew(Troupe(lambda place, _: _report(place)), monkeypatch).teams["camera"]
    with pytest.raises(ReconstructionError, match="center"):
        team.change(Wish("someone", center=1000.0))
    with pytest.raises(ReconstructionError, match="filter"):
        team.change(Wish("someone", filter="coffee"))
    assert team.center == 9.5
    with pytest.raises(ReconstructionError, match=r"binning=2 of the field of a\+b"):
        check_corrections(
            fields_of({"a": SHAPE, "b": SHAPE}, {"a": (0, 0), "b": (0, 10)})["a+b"],
            CorrectionSettings(binning=2),
        )


def test_a_correction_that_needs_more_rows_has_shares_begun_anew(monkeypatch):
    """Paganin smears a pixel over many rows: shares read all that their own depend on."""
    engine = Troupe(lambda place, orders: _report(place, corrections=orders.corrections))
    crew = _crew(engine, monkeypatch)
    _step(crew)
    team = crew.teams["camera"]
    before = [post.share for post in team.posts]
    assert [share.taken for share in before] == [(0, 16), (0, 16)]  # eight rows more than its own
    team.change(Wish("someone", corrections=CorrectionSettings(zingers=True)))
    assert [post.share for post in team.posts] == before
    field = fields_of({"camera": (400, 20)}, {})["camera"]
    own = (100, 200)
    assert taken(own, field.shape[0], CorrectionSettings()) == (92, 208)
    phase = CorrectionSettings.model_validate({"paganin": PAGANIN})
    first, last = taken(own, field.shape[0], phase)
    assert first < 40
    assert last > 260
    other = Team(
        field, [Post(replace(SHARE, field=field, rows=own, taken=(92, 208)), 0)], SETTINGS, team.scan
    )
    other.posts[0].hear(_report(0))
    other.change(Wish("someone", corrections=phase))
    (post,) = other.posts
    assert post.share.taken == (first, last)
    assert post.share.settings.corrections == phase
    assert post.report is None


class Idler:
    """Work that does nothing, and says when it is given up."""

    made = 0
    go_on = threading.Event()

    def __init__(self, share: Share) -> None:
        Idler.made += 1
        self.share, self.asked, self.stopped = share, 0.0, 0
        self.giving_up = threading.Event()

    def report(self, orders: Orders) -> Report:  # noqa: ARG002  as `Work.report`
        """Say whose it is."""
        return Report(self.share.name)

    def stop(self) -> None:
        """Take until the test lets go."""
        self.stopped += 1
        self.giving_up.set()
        self.go_on.wait(30)


@pytest.fixture
def idlers(monkeypatch):
    """Shares at work in this process, none of them doing anything."""
    monkeypatch.setattr(sharing, "Work", Idler)
    monkeypatch.setattr(sharing, "_warm_up", lambda _threads: None)
    monkeypatch.setattr(sharing, "_at_work", at_work := {})
    monkeypatch.setattr(Idler, "made", 0)
    monkeypatch.setattr(Idler, "go_on", threading.Event())
    return at_work


FIELD = fields_of({"camera": (16, 20)}, {})["camera"]
SETTINGS = LiveSettings(threads=1)
SHARE = Share("run", FIELD, (0, 8), (0, 16), Source("tcp://127.0.0.1:1"), (), SETTINGS, crew="crew")


def test_crews_leave_each_other_alone(idlers):
    """Two crews on one cluster, of one run or of two, have shares of their own, begun once."""
    shares = [SHARE, replace(SHARE, crew="other"), replace(SHARE, crew="third", run_uid="another")]
    for _ in range(3):
        for one in shares:
            advance(one, Orders())
    assert Idler.made == 3


def test_shares_that_nobody_asks_for_are_given_up_once(idlers, monkeypatch):
    """By two threads of one worker at the same time, too."""
    advance(SHARE, Orders())
    (old,) = idlers.values()
    monkeypatch.setattr(sharing, "_FORGOTTEN_S", -1.0)
    raised = []

    def ask(run_uid: str) -> None:
        try:
            advance(replace(SHARE, run_uid=run_uid), Orders())
        except KeyError as error:
            raised.append(error)

    threads = [threading.Thread(target=ask, args=(uid,)) for uid in ("second", "third")]
    for thread in threads:
        thread.start()
    assert old.giving_up.wait(30)
    for thread in threads:
        thread.join(0.2)  # the second one comes as far as it can
    Idler.go_on.set()
    for thread in threads:
        thread.join(30)
    assert not raised
    assert old.stopped == 1


class Stage:
    """A dispatcher that brings the documents of a list, and then waits until it is stopped."""

    def __init__(self, documents: list[tuple[str, dict[str, Any]]]) -> None:
        self._documents = documents
        self._callbacks: list[Callable[[str, dict], Any]] = []
        self._idle: list[Callable[[], Any]] = []
        self._stopped = threading.Event()

    def subscribe(self, func: Callable[[str, dict], Any]) -> None:
        """See `RemoteDispatcher.subscribe`."""
        self._callbacks.append(func)

    def subscribe_frames(self, callback: Any, missing: Any) -> None:
        """See `RemoteDispatcher.subscribe_frames`; there are none."""

    def subscribe_idle(self, callback: Callable[[], Any]) -> None:
        """See `RemoteDispatcher.subscribe_idle`."""
        self._idle.append(callback)

    def start(self) -> None:
        """See `RemoteDispatcher.start`."""
        for name, doc in self._documents:
            for callback in self._callbacks:
                callback(name, doc)
        while not self._stopped.wait(0.01):
            for idle in self._idle:
                idle()

    def stop(self) -> None:
        """See `RemoteDispatcher.stop`."""
        self._stopped.set()


def _scan_documents(**tomography: Any) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Return the uid and the documents of a scan of 40 projections."""
    about = {
        "version": 1, "image_key": "camera", "num_projections": 40, "streams": {"projections": "projections"},
        "angle_start": 0.0, "angle_stop": 180.0,
    }  # fmt: skip
    run = event_model.compose_run(metadata={"tomography": about | tomography})
    key = {"source": "test", "dtype": "array", "shape": [1, *SHAPE], "external": "STREAM:"}
    stream = run.compose_descriptor(
        name="projections", data_keys={"camera": key}, object_keys={"det": ["camera"]}
    )
    assert run.compose_stream_resource is not None
    asset = run.compose_stream_resource(
        mimetype="application/x-hdf5", uri="file://localhost/nowhere.h5", data_key="camera",
        parameters={"dataset": "/data", "chunk_shape": (1, *SHAPE)},
    )  # fmt: skip
    datum = asset.compose_stream_datum(
        indices={"start": 0, "stop": 40}, seq_nums={"start": 1, "stop": 41}, descriptor=stream.descriptor_doc
    )
    documents = [
        ("start", run.start_doc), ("descriptor", stream.descriptor_doc),
        ("stream_resource", asset.stream_resource_doc), ("stream_datum", datum), ("stop", run.compose_stop()),
    ]  # fmt: skip
    return run.start_doc["uid"], documents


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Have stand-ins follow some documents until a scan has its summary; return that of each scan."""
    monkeypatch.setattr("tomolive.live.crew.crew._ASK_EVERY_S", -1.0)
    monkeypatch.setattr("tomolive.live.crew.follow._PAUSE_S", 0.0)

    def follow(
        engine: Troupe, documents: list[tuple[str, dict[str, Any]]], last: str, **more: Any
    ) -> dict[str, Any]:
        stage: Any = Stage(documents)
        crew = CrewReconstruction(
            stage, Source("tcp://127.0.0.1:1"), engine, SnapshotStore(), Controls(),
            results=tmp_path, settings=LiveSettings(center=9.5), **more,
        )  # fmt: skip
        thread = threading.Thread(target=crew.run)
        thread.start()
        try:
            deadline = time.monotonic() + 60
            while not (tmp_path / last / "summary.json").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            crew.stop()
            thread.join(60)
        return {file.parent.name: json.loads(file.read_text()) for file in tmp_path.glob("*/summary.json")}

    return follow


def test_a_scan_comes_to_its_end_before_the_next_begins(follow):
    """Workers wait for late files when the next scan starts already: results are those of all frames."""
    (first, documents), (second, more) = _scan_documents(), _scan_documents()
    asked = dict.fromkeys((first, second), 0)

    class Slow(Troupe):
        def ask(self, place: int, share: Share, orders: Orders) -> Said:
            asked[share.run_uid] += 1
            late = asked[share.run_uid] < 40
            return Said(
                _report(
                    place, received=((0, 5),) if late else ((0, 40),), ended=not late, center=orders.center
                )
            )

    summaries = follow(Slow(lambda place, _: _report(place)), [*documents, *more], second)
    assert {uid: one["frames"]["received"] for uid, one in summaries.items()} == {first: 40, second: 40}


def test_a_scan_that_was_broken_off_holds_up_none(follow):
    """Without a stop document and without a single frame; the next scan is followed all the same."""
    (first, documents), (second, more) = _scan_documents(), _scan_documents()

    class Blind(Troupe):
        def ask(self, place: int, share: Share, orders: Orders) -> Said:
            if share.run_uid == first:
                return Said(Report(f"host:{place}"))
            return Said(_report(place, center=orders.center))

    summaries = follow(Blind(lambda place, _: _report(place)), [*documents[:-1], *more], second)
    assert {uid: one["frames"]["received"] for uid, one in summaries.items()} == {first: 0, second: 40}


def test_a_volume_is_ordered_when_the_scan_is_final(follow):
    """With the centre and the filter of the crew, once its results are written."""
    uid, documents = _scan_documents()
    started: list[VolumeRequest] = []

    class Runner:
        start = started.append

        def poll(self) -> None:
            return None

        def close(self) -> None:
            pass

    def request(run_uid: str) -> VolumeRequest:
        return VolumeRequest(run_uid, DocumentSource(hub="tcp://127.0.0.1:1"), volume=VolumeSettings())

    runner: Any = Runner()
    orders = VolumeOrders(runner, request, VolumeSettings(automatic=True))
    engine = Troupe(lambda place, orders: _report(place, center=orders.center))
    follow(engine, documents, uid, orders=orders)
    assert [(one.run_uid, one.center, one.filter) for one in started] == [(uid, 9.5, "ramp")]


def test_analyses_of_slices_are_refused(tmp_path):
    """At the start, instead of never being run: workers have parts of slices."""
    settings = LiveSettings(analysis=("bubbles:count",))
    with pytest.raises(SettingsError, match=r"live\.analysis.*without --workers"):
        CrewReconstruction(
            Stage([]), Source("tcp://127.0.0.1:1"), Troupe(lambda place, _: _report(place)), SnapshotStore(),
            Controls(), results=tmp_path, settings=settings,
        )  # fmt: skip


def test_a_share_waits_for_the_flats_of_an_earlier_run(monkeypatch):
    """A share has not ended as long as an earlier run, which its scan names, is being read."""
    uid, documents = _scan_documents(references=["earlier"])

    class Library:
        def __init__(self, *_: Any) -> None:
            self.asked: list[str] = []
            self.reads = True
            self.was_looked_at = threading.Event()

        @property
        def under_way(self) -> bool:
            self.was_looked_at.set()
            return self.reads

        def ask(self, run_uid: str) -> None:
            self.asked.append(run_uid)

        def take(self) -> list:
            return []

    class Here:
        def connect(self, start: str) -> Stage:  # noqa: ARG002  as `Source.connect`
            return Stage(documents)

    library = Library()
    monkeypatch.setattr(inputs, "EarlierRuns", lambda *_: library)
    here: Any = Here()
    work = Work(replace(SHARE, run_uid=uid, source=here))
    try:
        assert library.was_looked_at.wait(60)
        assert library.asked == ["earlier"]
        assert not work.report(Orders()).ended
        library.reads = False
        deadline = time.monotonic() + 60
        while not work.report(Orders()).ended:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        work.stop()
