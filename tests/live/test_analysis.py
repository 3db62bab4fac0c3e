"""The user's own analyses: real processes that are slow, crash, raise, or cannot be imported."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tomolive.config import LiveSettings
from tomolive.live.analysis.analysis import Analyses, Finding, Problem, events, trends
from tomolive.live.analysis.input import AnalysisInput
from tomolive.live.controls import Controls
from tomolive.live.snapshot import SnapshotStore, VolumeProgress
from tomolive.live.worker import LiveReconstruction
from tomolive.recon import normalize

PATIENCE_S = 60
EXAMPLE = Path(__file__).parents[2] / "examples" / "count_bubbles" / "bubbles.py"

MODULES = {
    "good": """
import os
def mean(seen):
    return {"mean": seen.arrays["xy"].mean(), "pid": os.getpid()}
""",
    "slow": """
import time
def wait(seen):
    time.sleep(0.5)
    return {"degrees": seen.coverage_deg}
""",
    "stuck": """
import time
def forever(seen):
    time.sleep(3600)
""",
    "raising": """
def fail(seen):
    if seen.coverage_deg < 90:
        raise ValueError("too early")
    return {"ok": 1}
""",
    "dying": """
import os
def die(seen):
    if seen.coverage_deg < 90:
        os.abort()
    return {"ok": 1}
""",
    "hopeless": """
import os
def die(seen):
    os._exit(3)
""",
    "broken": """
raise RuntimeError("no licence")
""",
    "wordy": """
def words(seen):
    print("hello")
    return {"what": "a word"}
""",
    "measuring": """
def measure(seen):
    return {"letters": len(seen.path)}
measure.on = "volume"
""",
    "counting": """
import time
def count(seen):
    time.sleep(0.2)
    return {"first": seen.numbers[0], "mean": seen.arrays["projections"].mean()}
count.on = "projections"
""",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Make the modules above importable for processes that are started."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}_analysis.py").write_text(text)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    )


@pytest.fixture
def started(modules):
    """Start analyses from the modules above; no process is left when the test ends."""
    running = []

    def start(*names):
        running.append(Analyses([f"{n.partition(':')[0]}_analysis:{n.partition(':')[2]}" for n in names]))
        return running[-1]

    yield start
    for analyses in running:
        processes = [one._process for one in analyses._all]
        analyses.close()
        assert all(p is None or p.poll() is not None for p in processes)


def slices(degrees, *, final=False, run="run"):
    """The slices of a scan under way."""
    images = {plane: np.full((16, 16), degrees, "f4") for plane in ("xy", "xz", "yz")}
    return AnalysisInput("slices", run, images, coverage_deg=degrees, final=final)


def wait_for(condition):
    """Poll until something is true, and return it."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def collect(analyses, count=1, kind=object):
    """Wait for so many findings or problems."""
    found = []

    def enough():
        found.extend(one for one in analyses.take() if isinstance(one, kind))
        return len(found) >= count

    wait_for(enough)
    return found


def test_an_analysis_sees_slices_and_its_numbers_come_back(started):
    """In another process, as plain numbers, with the degrees that they are of."""
    analyses = started("good:mean")
    wait_for(lambda: analyses.wants("slices"))
    analyses.offer(slices(30.0))
    [found] = collect(analyses, kind=Finding)
    assert (found.run_uid, found.at, found.over, found.final) == ("run", 30.0, "degrees", False)
    assert found.values["mean"] == 30
    assert found.values["pid"] != os.getpid()
    assert not analyses.wants("projections")


def test_a_slow_analysis_sees_the_newest_slices_only(started):
    """Of twenty offered while it works, it sees the first, the last, and none in between; nothing waits."""
    analyses = started("slow:wait")
    wait_for(lambda: analyses.wants("slices"))
    began = time.monotonic()
    for degrees in range(20):
        analyses.offer(slices(float(degrees)))
        time.sleep(0.005)
    analyses.offer(slices(180.0, final=True))
    analyses.offer(slices(1.0, run="next"))
    assert time.monotonic() - began < 5
    found = wait_for(lambda: collect(analyses, 3, Finding))
    assert [f.at for f in found][-2:] == [180.0, 1.0]
    assert len(found) <= 4
    assert [f.final for f in found][-2:] == [True, False]


def test_the_last_slices_of_each_scan_wait_also_for_a_process_that_begins(started):
    """Those of a scan that is over before an analysis is ready are seen, and those of the next one."""
    analyses, found = started("good:mean"), []
    for scan in ("first", "second", "third"):
        analyses.offer(slices(30.0, run=scan))
        analyses.offer(slices(180.0, final=True, run=scan))

    def finals():
        found.extend(one.run_uid for one in analyses.take() if isinstance(one, Finding) and one.final)
        return len(found) == 3

    wait_for(finals)
    assert found == ["first", "second", "third"]


def test_one_that_never_ends_harms_nothing(started):
    """Others go on; closing does not wait for it."""
    analyses = started("stuck:forever", "good:mean")
    wait_for(lambda: all(one.kind for one in analyses._all))
    for degrees in (10.0, 20.0, 30.0):
        analyses.offer(slices(degrees))
        assert collect(analyses, kind=Finding)[0].at == degrees
    assert analyses.is_busy_with("run")
    began = time.monotonic()
    analyses.close()
    assert time.monotonic() - began < 30


def test_one_that_raises_says_so_once_and_goes_on(started):
    """The problem names the error and the line; later slices are analysed."""
    analyses = started("raising:fail")
    wait_for(lambda: analyses.wants("slices"))
    analyses.offer(slices(10.0))
    [problem] = collect(analyses, kind=Problem)
    assert "ValueError: too early" in problem.text
    assert "raising_analysis.py, line 4" in problem.text
    wait_for(lambda: not analyses.is_busy_with("run"))
    analyses.offer(slices(20.0))
    wait_for(lambda: not analyses.is_busy_with("run"))
    analyses.offer(slices(100.0))
    found = collect(analyses)
    assert [type(one) for one in found] == [Finding]


def test_one_that_crashes_is_started_again(started):
    """An abort of its process costs that one picture."""
    analyses = started("dying:die")
    wait_for(lambda: analyses.wants("slices"))
    analyses.offer(slices(10.0))
    [problem] = collect(analyses, kind=Problem)
    assert "died (SIGABRT), 1 of 3 times in a row; it is started again" in problem.text
    wait_for(lambda: analyses.wants("slices"))
    analyses.offer(slices(100.0))
    assert collect(analyses, kind=Finding)[0].values == {"ok": 1}


def test_one_that_always_crashes_is_given_up(started):
    """After three times in a row; what is offered then is not kept for it."""
    analyses = started("hopeless:die")
    problems = []
    for _ in range(3):
        wait_for(lambda: analyses.wants("slices"))
        analyses.offer(slices(10.0))
        problems += collect(analyses, kind=Problem)
    assert "exit code 3" in problems[0].text
    assert "given up" in problems[-1].text
    assert not analyses.wants("slices")
    wait_for(lambda: not analyses.is_busy_with("run"))


def test_one_that_cannot_be_started_says_why(started, monkeypatch):
    """A machine that has no room for one more process: told, tried again, given up; nothing waits for it."""
    monkeypatch.setattr("tomolive.live.analysis.analysis._PAUSE_S", 0.01)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    analyses = started("good:mean")
    problems = [one.text for one in collect(analyses, count=3, kind=Problem)]
    assert "cannot be started (No such file or directory), 1 of 3 times" in problems[0]
    assert problems[-1].endswith("given up")
    analyses.offer(slices(180.0, final=True))
    wait_for(lambda: not analyses.is_busy_with("run"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("broken:never", "RuntimeError: no licence"),
        ("good:missing", "has no attribute 'missing'"),
        ("nowhere:at_all", "No module named 'nowhere_analysis'"),
        ("good:__name__", "must be a function"),
    ],
)
def test_one_that_cannot_be_loaded_says_why(started, name, why):
    """A module that raises at import, no such function, no such module, no function: told, and given up."""
    analyses = started(name)
    [problem] = collect(analyses, kind=Problem)
    assert "cannot be loaded" in problem.text
    assert why in problem.text
    assert not analyses.wants("slices")


def test_what_is_no_number_is_refused_by_name(started):
    """A dict of words is not a result; printing is no harm."""
    analyses = started("wordy:words")
    wait_for(lambda: analyses.wants("slices"))
    analyses.offer(slices(10.0))
    [problem] = collect(analyses, kind=Problem)
    assert "'what' is 'a word'" in problem.text


def test_projections_wait_in_a_short_queue_and_those_left_out_are_counted(started):
    """Twenty batches at once for one that takes its time: what fits is analysed in order, the rest told."""
    analyses = started("counting:count")
    wait_for(lambda: analyses.wants("projections"))
    for first in range(0, 200, 10):
        block = np.full((10, 4, 4), first, "f4")
        numbers = np.arange(first, first + 10)
        analyses.offer(AnalysisInput("projections", "run", {"projections": block}, numbers=numbers))
    wait_for(lambda: not analyses.is_busy_with("run"))
    found = analyses.take()
    seen = [f for f in found if isinstance(f, Finding)]
    [problem] = [f for f in found if isinstance(f, Problem)]
    assert 8 <= len(seen) <= 10
    assert [f.values["first"] for f in seen] == sorted(f.values["first"] for f in seen)
    assert all(f.values["mean"] == f.values["first"] and f.over == "projection" for f in seen)
    assert analyses._all[0].dropped == 200 - 10 * len(seen)
    assert "some projections are left out" in problem.text


def test_one_that_is_given_up_is_told_of_before_and_during_every_scan(modules, tmp_path, scan_of):
    """It could not be loaded while no scan was known: the waiting page says so, and that of the next scan."""
    scan, store = scan_of.Scan(), SnapshotStore()
    waiting = []

    def it_is_told():
        wait_for(lambda: worker._analyses.poll(())[0])
        worker._publish()
        waiting.append(store.latest.status)

    worker = LiveReconstruction(
        scan_of.Feeder([it_is_told, *scan.whole()]),
        store,
        Controls(),
        results=tmp_path,
        settings=LiveSettings(center=21.5, analysis=("broken_analysis:never",)),
    )
    worker.run()
    why = "Analysis broken_analysis:never cannot be loaded: RuntimeError: no licence"
    assert waiting[0].state == "waiting"
    assert why in waiting[0].message
    assert why in store.latest.status.message


def test_findings_reach_the_page_and_the_results(modules, tmp_path, scan_of, monkeypatch):
    """A whole scan with a good, a stuck, a crashing and a broken analysis: the scan is as without them."""
    monkeypatch.setattr("tomolive.live.analysis.findings._PATIENCE_S", 4.0)
    monkeypatch.setattr("tomolive.live.publication.PICTURE_PERIOD_S", 0.0)
    names = ("good_analysis:mean", "stuck_analysis:forever", "hopeless_analysis:die", "broken_analysis:never")
    scan, store = scan_of.Scan(), SnapshotStore()
    analyses = []

    def all_have_begun():
        wait_for(lambda: all(one.kind for one in analyses[:3]))

    published = []
    worker = LiveReconstruction(
        scan_of.Feeder([all_have_begun, *scan.whole()]),
        store,
        Controls(),
        results=tmp_path,
        publish=lambda name, doc: published.append((name, doc)),
        settings=LiveSettings(center=21.5, analysis=names),
    )
    analyses += worker._analyses._analyses._all
    worker.run()
    assert all(one._process.poll() is not None for one in analyses)
    status = store.latest.status
    assert status.frames_received == 60
    assert "Analysis broken_analysis:never cannot be loaded: RuntimeError: no licence" in status.message
    assert "Analysis hopeless_analysis:die died" in status.message
    summary = json.loads((tmp_path / scan.uid / "summary.json").read_text())
    found = [row for row in summary["analysis"] if row["number"] == "mean"]
    assert [row["final"] for row in found][-1]
    assert found[-1]["value"] == pytest.approx(tifffile.imread(summary["slices"]["xy"]).mean(), rel=1e-4)
    [trend] = [t for t in status.trends if t.name == "mean (mean)"]
    assert trend.points[-1] == (180, pytest.approx(found[-1]["value"]))
    [stream] = [doc["uid"] for name, doc in published if name == "descriptor" and doc["name"] == "analysis"]
    told = [doc["data"] for name, doc in published if name == "event" and doc["descriptor"] == stream]
    assert told == summary["analysis"]


def test_a_finished_volume_is_shown_once_and_its_numbers_join_the_results(
    modules, tmp_path, scan_of, monkeypatch
):
    """When the maker of volumes says that it is done, with its path; the results are written again."""
    monkeypatch.setattr("tomolive.live.results.writing.QUIET_S", 0.0)
    scan, store = scan_of.Scan(), SnapshotStore()
    analyses = []

    class DoneVolumes:
        progress = None

        def scan_ended(self, watched):
            self.progress = VolumeProgress("running", watched.scan.run_uid)

        def poll(self):
            if self.progress and self.progress.state == "running":
                self.progress = replace(self.progress, state="finished", path="/volumes/of the stone")
                return True
            return self.progress is not None

        def take_no_more(self):
            pass

        def close(self):
            pass

    def has_begun():
        wait_for(lambda: analyses[0].kind)

    def has_looked():
        wait_for(lambda: analyses[0]._out)
        feeder.be_idle()
        feeder.be_idle()

    feeder = scan_of.Feeder([has_begun, *scan.whole(), has_looked])
    worker = LiveReconstruction(
        feeder, store, Controls(), results=tmp_path, orders=DoneVolumes(),
        settings=LiveSettings(center=21.5, analysis=("measuring_analysis:measure",)),
    )  # fmt: skip
    analyses += worker._analyses._analyses._all
    worker.run()
    summary = json.loads((tmp_path / scan.uid / "summary.json").read_text())
    assert [(row["number"], row["value"]) for row in summary["analysis"]] == [("letters", 21.0)]


def test_projections_are_shown_corrected(modules, tmp_path, scan_of):
    """What an analysis of projections sees are line integrals of the newest batch."""
    scan, store = scan_of.Scan(), SnapshotStore()
    analyses = []

    def has_begun():
        wait_for(lambda: analyses[0].kind)

    def has_looked():
        wait_for(lambda: not analyses[0].is_busy_with(scan.uid))

    worker = LiveReconstruction(
        scan_of.Feeder([has_begun, *scan.opening, *scan.level("darks"), *scan.level("flats"),
                        *scan.turn(0, 10), has_looked, scan.run.stop()]),
        store, Controls(), results=tmp_path,
        settings=LiveSettings(center=21.5, analysis=("counting_analysis:count",)),
    )  # fmt: skip
    analyses += worker._analyses._analyses._all
    worker.run()
    summary = json.loads((tmp_path / scan.uid / "summary.json").read_text())
    first = next(row for row in summary["analysis"] if row["number"] == "mean")
    expected = normalize(
        scan.counts[: int(first["at"]) + 1], scan.sample.level("flats", 3), scan.sample.level("darks", 3)
    )
    assert first["value"] == pytest.approx(expected.mean(), rel=1e-4)


def test_numbers_become_trends_and_events():
    """One plot for each number, over degrees; events that all have the same keys."""
    found = [
        Finding("mine:count", "run", {"n": n, "d": 0.5}, at, "degrees", at == 180, 0.1)
        for n, at in ((3.0, 90.4), (4.0, 180))
    ]
    assert [(t.name, t.points, t.over) for t in trends(found)] == [
        ("n (count)", ((90, 3.0), (180, 4.0)), "degrees"),
        ("d (count)", ((90, 0.5), (180, 0.5)), "degrees"),
    ]
    rows = events(found)
    assert len(rows) == 4
    assert rows[2] == {
        "analysis": "mine:count", "number": "n", "value": 4.0, "at": 180, "over": "degrees", "final": True
    }  # fmt: skip


def test_the_example_counts_and_sizes_bubbles(tmp_path, monkeypatch):
    """Seven holes of known size in a disc, with noise: counted by its own process, sized to a tenth."""
    rng = np.random.default_rng(4)
    y, x = np.indices((256, 256)) - 127.5
    image = (np.hypot(x, y) < 100).astype("f4")
    for place, radius in zip(rng.permutation(9)[:7], (6, 7, 8, 9, 10, 11, 12), strict=True):
        row, column = divmod(int(place), 3)
        image[np.hypot(x - 48 * (column - 1), y - 48 * (row - 1)) < radius] = 0
    image += rng.normal(0, 0.05, image.shape).astype("f4")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(EXAMPLE.parent), os.environ.get("PYTHONPATH")]))
    )
    analyses = Analyses(["bubbles:count_bubbles"])
    try:
        wait_for(lambda: analyses.wants("slices"))
        analyses.offer(AnalysisInput("slices", "run", {"xy": image}, pixel_size_um=2.0))
        [found] = collect(analyses)
    finally:
        analyses.close()
    assert isinstance(found, Finding)
    assert found.values["bubbles"] == 7
    assert found.values["mean diameter"] == pytest.approx(2 * 2 * 9, rel=0.1)
