"""The one thread that turns documents and frames into pictures and results."""

import json
import threading
import time

import numpy as np
import pytest
import tifffile
from prometheus_client import REGISTRY

from tomolive.config import CorrectionSettings, LiveSettings, PaganinSettings
from tomolive.live.controls import Controls, Wish
from tomolive.live.snapshot import SnapshotStore
from tomolive.live.worker import LiveReconstruction
from tomolive.recon import normalize, reconstruct


class Recorder(SnapshotStore):
    """Keeps every snapshot, not only the newest."""

    def __init__(self):
        super().__init__()
        self.all = []

    def publish(self, status, pictures):
        """As SnapshotStore."""
        self.all.append(super().publish(status, pictures))
        return self.all[-1]

    def states(self, run_uid):
        """The states of a run, each once, in order."""
        states = [s.status.state for s in self.all if s.status.run_uid == run_uid]
        return [s for i, s in enumerate(states) if i == 0 or states[i - 1] != s]


@pytest.fixture
def live(tmp_path, scan_of, monkeypatch):
    """Runs the live reconstruction over items; pictures are not throttled."""
    monkeypatch.setattr("tomolive.live.publication.PICTURE_PERIOD_S", 0.0)
    monkeypatch.setattr("tomolive.live.results.writing.QUIET_S", 0.0)

    class Live:
        def __init__(self, items=(), **more):
            self.store, self.controls = Recorder(), Controls()
            self.results = tmp_path
            self.feeder = scan_of.Feeder(items)
            settings = {"results": tmp_path, "settings": LiveSettings(center=21.5)} | more
            self.worker = LiveReconstruction(self.feeder, self.store, self.controls, **settings)

        def run(self):
            self.worker.run()
            return self.store.latest

        def summary(self, uid):
            return json.loads((tmp_path / uid / "summary.json").read_text())

    return Live


def offline(scan, numbers=slice(None), center=21.5):
    """The slices of the same frames, in 1/cm for pixels of 2 um."""
    flats, darks = scan.sample.level("flats", 3), scan.sample.level("darks", 3)
    sinograms = normalize(scan.counts[numbers], flats, darks).transpose(1, 0, 2)
    angles = np.deg2rad(scan.angles[numbers])
    volume = reconstruct(sinograms, angles, center, method="backprojection") / 2e-4
    middle = scan.sample.columns // 2
    return {"xy": volume[scan.sample.rows // 2], "xz": volume[:, middle], "yz": volume[:, :, middle]}


def assert_same(pictures, expected):
    """Equal to float32 rounding."""
    scale = np.abs(expected["xy"]).max()
    for plane, pixels in expected.items():
        found = getattr(pictures[plane], "pixels", pictures[plane])
        assert np.abs(found - pixels).max() < 2e-5 * scale, plane


def test_a_scan_from_start_to_results(live, scan_of):
    """States in order, final pictures equal to an offline reconstruction, results complete on disk."""
    scan = scan_of.Scan()
    runs = live(scan.whole())
    final = runs.run()
    assert runs.store.states(scan.uid) == ["waiting", "darks", "flats", "projections", "finished"]
    assert_same(final.pictures, offline(scan))
    summary = runs.summary(scan.uid)
    assert_same({p: tifffile.imread(f) for p, f in summary["slices"].items()}, offline(scan))
    frames = {"planned": 60, "announced": 60, "received": 60, "missing": [], "without_beam": []}
    assert summary["frames"] == frames
    assert (summary["darks"], summary["flats"], summary["outcome"]) == (3, 3, "success")
    assert (summary["units"], summary["pixel_size_um"], summary["sample"]) == ("1/cm", 2.0, "bean")
    assert (summary["center"], summary["center_source"]) == (21.5, "given")
    assert summary["positions"] == {"xy": 2, "xz": 24, "yz": 24}
    assert summary["seconds_last_frame_to_final"] >= 0
    assert final.status.coverage == pytest.approx(180, abs=0.1)
    assert final.status.coverage_wanted == 180
    assert final.status.message == ""


def test_projections_without_beam_are_left_out(live, scan_of):
    """Frames of a lost beam are in no slice, are named, and come back when somebody wants them in."""
    scan = scan_of.Scan()
    scan.counts[[0, 1, 30, 31, 32]] = 101
    documents, chosen = [], {}
    runs = live(scan.whole(), publish=lambda name, doc: documents.append((name, doc)))

    def use_all():
        chosen.update(runs.store.latest.pictures)
        runs.controls.post(Wish("me", corrections=CorrectionSettings(least_beam=0)))
        runs.feeder.be_idle()

    runs.feeder.items.append(use_all)
    final = runs.run()
    used = np.delete(np.arange(60), [0, 1, 30, 31, 32])
    assert_same(chosen, offline(scan, used))
    assert_same(final.pictures, offline(scan))
    told = next(s.status for s in runs.store.all if s.status.state == "finished")
    assert "Projections 0 to 1, 30 to 32 saw hardly any beam, and are left out." in told.message
    assert told.message.count("saw hardly any beam") == 1
    of = next(iter(chosen.values())).of
    assert (of.frames_received, of.frames_without_beam) == (60, 5)
    assert "left out" not in final.status.message
    assert (told.frames_received, told.missing) == (60, ())
    starts = [doc for name, doc in documents if name == "start"]
    assert starts[0]["tomolive"]["parameters"]["without_beam"] == [[0, 2], [30, 33]]
    assert starts[-1]["tomolive"]["parameters"]["without_beam"] == []
    assert runs.summary(scan.uid)["frames"]["without_beam"] == []


def test_a_scan_of_less_than_half_a_turn(live, scan_of):
    """What was planned is what is wanted: a complete scan of 60 degrees covers all of it."""
    scan = scan_of.Scan(projections=61, step=1.0)
    status = live(scan.whole()).run().status
    assert status.coverage_wanted == pytest.approx(61)
    assert status.coverage == pytest.approx(61)


def test_grey_levels_are_attenuation(live, scan_of):
    """Inside the disc the slice is its attenuation coefficient in 1/cm."""
    scan = scan_of.Scan(projections=180, step=1.0)
    xy = live(scan.whole()).run().pictures["xy"].pixels
    y, x = np.indices(xy.shape) - (xy.shape[0] - 1) / 2
    inside = (x - scan.sample.x) ** 2 + (y - scan.sample.y) ** 2 < (scan.sample.radius - 2) ** 2
    assert xy[inside].mean() == pytest.approx(scan.sample.attenuation / 2e-4, rel=0.01)


def test_pictures_come_while_the_scan_runs(live, scan_of):
    """Slices and the newest projection change with the frames; a partial scan has right grey levels."""
    scan = scan_of.Scan()
    runs = live(scan.whole())
    runs.run()
    partial = [s for s in runs.store.all if 0 < s.status.frames_received < 60 and s.pictures]
    versions = [s.pictures["xy"].version for s in partial]
    assert len(set(versions)) > 8
    assert versions == sorted(versions)
    projections = [s.pictures["projection"] for s in partial]
    assert projections[-1].units == "transmission"
    assert projections[-1].position == partial[-1].status.frames_received - 1
    assert projections[-1].pixels.max() == pytest.approx(1.0, abs=1e-3)
    assert all(s.status.lag_s is not None for s in partial[1:])
    half = partial[len(partial) // 2]
    assert 60 < half.status.coverage < 130


def test_flats_after_the_projections(live, scan_of):
    """Without flats the beam is guessed, and that is said; once they come, nothing of it is left."""
    scan = scan_of.Scan()
    seen = []
    items = [*scan.opening, *scan.level("darks"), *scan.turn(0, 60)]
    runs = live([*items, lambda: seen.append(runs.store.latest), *scan.level("flats"), scan.run.stop()])
    final = runs.run()
    assert "No flats" in seen[0].status.message
    assert np.abs(seen[0].pictures["xy"].pixels).max() > 0
    assert "No flats" not in final.status.message
    assert_same(final.pictures, offline(scan))
    assert_same({p: tifffile.imread(f) for p, f in runs.summary(scan.uid)["slices"].items()}, offline(scan))


def test_reordered_repeated_and_missing_frames(live, scan_of):
    """The result holds each frame once, whatever the order; missing ones are told by number."""
    scan = scan_of.Scan()
    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats")]
    lost = scan.run.missing("projections", "camera", 30, 33, "camera.h5 is too short", final=True)
    announced = [scan.run.datum("projections", key, 30, 33) for key in ("camera", "angle")]
    turn = [*scan.turn(33, 60), *scan.turn(10, 30), *scan.turn(0, 20), *announced, lost]
    runs = live([*opening, *turn, scan.run.stop()])
    final = runs.run()
    kept = np.r_[0:30, 33:60]
    assert_same(final.pictures, offline(scan, kept))
    assert final.status.missing == ((30, 33),)
    assert "30 to 32" in final.status.message
    assert "camera.h5 is too short" in final.status.message
    assert runs.summary(scan.uid)["frames"] == {
        "planned": 60, "announced": 60, "received": 57, "missing": [[30, 33]], "without_beam": [],
    }  # fmt: skip


def test_a_scan_that_aborts(live, scan_of):
    """A scan that ends at 45 degrees leaves its partial slices and says how it ended."""
    scan = scan_of.Scan()
    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats")]
    runs = live([*opening, *scan.turn(0, 15), scan.run.stop("abort", "beam dump")])
    final = runs.run()
    assert final.status.state == "finished"
    assert "beam dump" in final.status.message
    assert final.status.coverage == pytest.approx(45, abs=5)
    summary = runs.summary(scan.uid)
    assert (summary["outcome"], summary["frames"]["received"]) == ("abort", 15)
    assert set(summary["slices"]) == {"xy", "xz", "yz"}


def test_wishes_after_the_scan(live, scan_of):
    """Centre, filter and positions are changed from what is there; the results follow where they lay."""
    scan = scan_of.Scan()
    runs = live(settings=LiveSettings(center=24.0))

    def wish(**what):
        return lambda: (runs.controls.post(Wish("Ada", **what)), runs.feeder.be_idle())

    wishes = [wish(center=21.5), wish(plane="xz", position=20), wish(center=-5.0), runs.feeder.be_idle]
    runs.feeder.items = [*scan.whole(), *wishes]
    final = runs.run()
    expected = offline(scan)
    assert_same(final.pictures, {"xy": expected["xy"], "yz": expected["yz"]})
    assert final.pictures["xz"].position == 20
    assert (final.status.center, final.status.center_source) == (21.5, "set by Ada")
    assert "not on the detector" in final.status.message
    summary = runs.summary(scan.uid)
    assert (summary["center"], summary["center_source"]) == (21.5, "set by Ada")
    assert summary["positions"]["xz"] == 24
    assert_same({p: tifffile.imread(f) for p, f in summary["slices"].items()}, expected)


def test_results_are_written_again_when_pixels_are_binned_after_the_scan(live, scan_of):
    """The smaller volume has no plane where the slices lay; they are written where they lie now."""
    scan = scan_of.Scan()
    runs = live()

    def wish():
        runs.controls.post(Wish("Ada", corrections=CorrectionSettings(binning=2)))
        runs.feeder.be_idle()

    runs.feeder.items = [*scan.whole(), wish, runs.feeder.be_idle]
    final = runs.run()
    assert "could not be written" not in final.status.message
    rows, side, _ = final.status.volume_shape
    summary = runs.summary(scan.uid)
    assert summary["positions"] == {"xy": rows // 2, "xz": side // 2, "yz": side // 2}
    assert tifffile.imread(summary["slices"]["xy"]).shape == (side, side)


def test_looking_around_leaves_the_results_alone(live, scan_of):
    """A plane that is moved after the scan is only shown elsewhere; nothing is written."""
    scan = scan_of.Scan()
    runs = live()
    written = []

    def look():
        path = runs.results / scan.uid / "summary.json"
        written.append((path.stat().st_ino, path.stat().st_mtime_ns))

    def wish():
        runs.controls.post(Wish("Ada", plane="xz", position=20))
        runs.feeder.be_idle()

    runs.feeder.items = [*scan.whole(), look, wish, runs.feeder.be_idle, look]
    final = runs.run()
    look()
    assert final.pictures["xz"].position == 20
    assert len(set(written)) == 1


def test_a_change_while_the_next_scan_begins(live, scan_of):
    """Results are written again of the scan that was changed, not of the one that is shown meanwhile."""
    one, two = scan_of.Scan(), scan_of.Scan()
    runs = live()
    found = []

    def wish():
        runs.controls.post(Wish("Ada", center=12.0))

    def look():
        runs.feeder.be_idle()
        found.extend((runs.summary(one.uid)["center"], (runs.results / two.uid).exists()))

    second = [*two.opening, *two.level("darks"), *two.level("flats"), *two.turn(0, 10), look]
    runs.feeder.items = [*one.whole(), wish, *second, *two.turn(10, 60), two.run.stop()]
    runs.run()
    assert found == [12.0, False]
    assert runs.summary(two.uid)["center"] == 21.5


def test_a_change_just_before_the_stop(live, scan_of, monkeypatch):
    """The results on disk are those that the page showed last, however soon the process is stopped."""
    monkeypatch.setattr("tomolive.live.results.writing.QUIET_S", 3600.0)
    scan = scan_of.Scan()
    runs = live()

    def wish():
        runs.controls.post(Wish("Ada", center=12.0))
        runs.feeder.be_idle()

    runs.feeder.items = [*scan.whole(), wish]
    assert runs.run().status.center == 12.0
    assert runs.summary(scan.uid)["center"] == 12.0


def test_a_dragged_slider_is_drawn_once(live, scan_of):
    """Of many wishes for the same thing only the newest is drawn."""
    scan = scan_of.Scan()
    runs = live()

    def drag():
        for center in np.linspace(15, 25, 40):
            runs.controls.post(Wish("Ada", center=float(center)))
        before = len(runs.store.all)
        runs.feeder.be_idle()
        assert len(runs.store.all) == before + 1

    runs.feeder.items = [*scan.whole(), drag]
    assert runs.run().status.center == 25.0


def test_the_centre_is_found(live, scan_of):
    """Without a given centre it is estimated from opposite projections, and the status says how."""
    scan = scan_of.Scan(projections=61)
    runs = live(scan.whole(), settings=LiveSettings())
    final = runs.run()
    assert final.status.center == pytest.approx(21.5, abs=0.1)
    assert "estimated" in final.status.center_source


def test_the_next_scan_begins_with_the_centre_of_the_one_before(live, scan_of):
    """Until its own can be estimated, a scan with the same camera is drawn about the last centre known."""
    one, two = scan_of.Scan(projections=61), scan_of.Scan(projections=61)
    seen = []
    runs = live(settings=LiveSettings())
    opening = [*two.opening, *two.level("darks"), *two.level("flats"), *two.turn(0, 20)]
    runs.feeder.items = [*one.whole(), *opening, lambda: seen.append(runs.store.latest.status)]
    runs.run()
    assert seen[0].run_uid == two.uid
    assert seen[0].center == pytest.approx(21.5, abs=0.1)
    assert "the scan before" in seen[0].center_source


def test_the_next_scan(live, scan_of):
    """The pictures of a scan stay until the first one of the next; filter and positions are kept."""
    one, two = scan_of.Scan(), scan_of.Scan()
    seen = []
    runs = live()

    def between():
        runs.controls.post(Wish("Ada", filter="hann"))
        runs.feeder.be_idle()
        seen.append(runs.store.latest)

    opening = [*two.opening, *two.level("darks"), *two.level("flats")]
    second = [*opening, lambda: seen.append(runs.store.latest), *two.turn(0, 60), two.run.stop()]
    runs.feeder.items = [*one.whole(), between, *second]
    final = runs.run()
    finished, waiting = seen
    assert (waiting.status.run_uid, waiting.status.state) == (two.uid, "flats")
    assert waiting.pictures["xy"] is finished.pictures["xy"]
    assert final.pictures["xy"] is not finished.pictures["xy"]
    assert final.status.filter == "hann"
    assert runs.summary(two.uid)["filter"] == "hann"


def test_scans_side_by_side(live, scan_of):
    """Two scans whose documents interleave both end in the right result."""
    one, two = scan_of.Scan(), scan_of.Scan()
    runs = live([item for pair in zip(one.whole(), two.whole(), strict=True) for item in pair])
    runs.run()
    for scan in (one, two):
        summary = runs.summary(scan.uid)
        assert_same({p: tifffile.imread(f) for p, f in summary["slices"].items()}, offline(scan))


def test_a_scan_that_cannot_be_reconstructed(live, scan_of):
    """Frames that change their size fail that scan with a sentence; the next one works."""
    one, two = scan_of.Scan(), scan_of.Scan()
    other = one.run.frames("projections", "camera", 5, np.zeros((5, 3, 3), np.uint16))
    opening = [*one.opening, *one.level("darks"), *one.level("flats"), *one.turn(0, 5)]
    angles = one.run.frames("projections", "angle", 5, one.angles[5:10])
    runs = live([*opening, angles, other, *one.turn(10, 60), one.run.stop(), *two.whole()])
    final = runs.run()
    assert runs.store.states(one.uid)[-1] == "failed"
    failed = [s.status.message for s in runs.store.all if s.status.run_uid == one.uid][-1]
    assert "expected (5, 4, 48)" in failed
    summary = runs.summary(one.uid)
    assert summary["failure"] in failed
    assert summary["frames"]["missing"] == []
    assert final.status.state == "finished"
    assert_same(final.pictures, offline(two))


def test_references_of_an_earlier_run(live, scan_of):
    """Darks and flats of a run that the start document names are used if this process has seen them."""
    first, second = scan_of.Scan(), scan_of.Scan()
    second = scan_of.Scan(**second_start(second, first.uid))
    references = [*first.opening, *first.level("darks"), *first.level("flats"), first.run.stop()]
    runs = live([*references, *second.opening, *second.turn(0, 60), second.run.stop()])
    final = runs.run()
    assert_same(final.pictures, offline(second))
    assert "No flats" not in final.status.message


def second_start(scan, earlier):
    """A start document that names an earlier run."""
    return {"tomography": scan.run.start[1]["tomography"] | {"references": earlier}}


def test_references_that_this_process_has_not_seen(live, scan_of):
    """They are fetched again and used while the scan runs on without a pause, as if they had been there."""
    first, second = scan_of.Scan(), scan_of.Scan()
    second = scan_of.Scan(**second_start(second, first.uid))
    asked = []

    def earlier(uid):
        asked.append(uid)
        return scan_of.Feeder(
            [*first.opening, *first.level("darks"), *first.level("flats"), first.run.stop()]
        )

    def until_fetched():
        deadline = time.monotonic() + 60
        while "No flats" in runs.store.latest.status.message:
            assert time.monotonic() < deadline
            runs.feeder.give(second.run.resource("camera"))
            time.sleep(0.01)

    runs = live(earlier=earlier)
    runs.feeder.items = [*second.opening, *second.turn(0, 60), until_fetched, second.run.stop()]
    assert_same(runs.run().pictures, offline(second))
    assert asked == [first.uid]


def test_results_wait_for_references_that_are_looked_for(live, scan_of):
    """A scan whose darks and flats are found only after the next one has begun has results with them."""
    first, next_one, found = scan_of.Scan(), scan_of.Scan(), threading.Event()
    second = scan_of.Scan(**second_start(scan_of.Scan(), first.uid))
    references = [*first.opening, *first.level("darks"), *first.level("flats"), first.run.stop()]

    def until_written():
        found.set()
        deadline = time.monotonic() + 60
        while not (runs.results / second.uid / "summary.json").exists():
            assert time.monotonic() < deadline
            runs.feeder.be_idle()
            time.sleep(0.01)

    runs = live(earlier=lambda _: scan_of.Feeder([lambda: found.wait(60), *references]))
    runs.feeder.items = [*second.opening, *second.turn(0, 60), second.run.stop(), runs.feeder.be_idle]
    runs.feeder.items += [*next_one.whole(), runs.feeder.be_idle, until_written]
    runs.run()
    summary = runs.summary(second.uid)
    assert summary["notes"] == []
    assert_same({p: tifffile.imread(f) for p, f in summary["slices"].items()}, offline(second))


def test_references_are_asked_for_again(live, scan_of):
    """The next scan that names the same run looks for it again: the hub may have been away."""
    first, there = scan_of.Scan(), []
    second, third = (scan_of.Scan(**second_start(scan_of.Scan(), first.uid)) for _ in range(2))

    def earlier(_):
        if not there:
            raise ConnectionError("the hub is away")
        return scan_of.Feeder(
            [*first.opening, *first.level("darks"), *first.level("flats"), first.run.stop()]
        )

    def until(words, told):
        def wait():
            deadline = time.monotonic() + 60
            while (words in runs.store.latest.status.message) != told:
                assert time.monotonic() < deadline
                runs.feeder.be_idle()
                time.sleep(0.01)

        return wait

    runs = live(earlier=earlier)
    runs.feeder.items = [*second.opening, *second.turn(0, 60), until("is away", True), second.run.stop()]
    again = [*third.opening, *third.turn(0, 60), until("No flats", False), third.run.stop()]
    runs.feeder.items += [lambda: there.append(True), *again]
    assert_same(runs.run().pictures, offline(third))


def test_references_of_another_size(live, scan_of):
    """Flats that do not fit those before are left out, and that is said; the scan goes on."""
    scan = scan_of.Scan()
    small = scan.run.frames("flats", "camera", 3, np.zeros((2, 3, 3), np.uint16))
    flats = [*scan.level("flats"), scan.run.datum("flats", "camera", 3, 5), small]
    final = live([*scan.opening, *scan.level("darks"), *flats, *scan.turn(0, 60), scan.run.stop()]).run()
    assert "Flats cannot be used" in final.status.message
    assert_same(final.pictures, offline(scan))


def test_references_that_cannot_be_had(live, scan_of):
    """A scan that names a run which the hub does not have says so, and is drawn without."""
    scan = scan_of.Scan()
    scan = scan_of.Scan(**second_start(scan, "no-such-run"))

    def until_told():
        deadline = time.monotonic() + 60
        while "no-such-" not in runs.store.latest.status.message:
            assert time.monotonic() < deadline
            runs.feeder.be_idle()
            time.sleep(0.01)

    runs = live(earlier=lambda _: scan_of.Feeder([]))
    runs.feeder.items = [*scan.opening, *scan.turn(0, 60), until_told, scan.run.stop()]
    message = runs.run().status.message
    assert "not found" in message
    assert "No flats" in message


def test_a_scan_without_stop_document(live, scan_of):
    """A scan that went silent is closed once another has begun; its results say how it ended."""
    one, two = scan_of.Scan(), scan_of.Scan()
    opening = [*one.opening, *one.level("darks"), *one.level("flats"), *one.turn(0, 30)]
    runs = live(silence=0.0)
    seen = []
    before_next = [runs.feeder.be_idle, lambda: seen.append(runs.store.latest)]
    runs.feeder.items = [
        *opening,
        *before_next,
        *two.opening,
        runs.feeder.be_idle,
        *two.whole()[len(two.opening) :],
    ]
    final = runs.run()
    assert seen[0].status.state == "projections"
    assert "has not ended" in seen[0].status.message
    summary = runs.summary(one.uid)
    assert (summary["outcome"], summary["frames"]["received"]) == ("no stop document", 30)
    assert_same(final.pictures, offline(two))


def test_a_scan_that_goes_on_after_a_silence(live, scan_of):
    """While another scan runs, a silent one is written but not forgotten: what still comes of it is taken."""
    one, two = scan_of.Scan(), scan_of.Scan()
    runs = live(silence=0.0)
    found = []

    def look():
        runs.feeder.be_idle()
        found.append(runs.summary(one.uid))

    first = [*one.opening, *one.level("darks"), *one.level("flats"), *one.turn(0, 30)]
    second = [*two.opening, look, *two.level("darks"), *two.level("flats"), *two.turn(0, 60)]
    runs.feeder.items = [*first, *second, *one.turn(30, 60), look, two.run.stop(), one.run.stop()]
    runs.run()
    assert [s["frames"]["received"] for s in found] == [30, 60]
    assert found[0]["outcome"] == "no stop document"
    for scan in (one, two):
        summary = runs.summary(scan.uid)
        assert (summary["outcome"], summary["frames"]["received"]) == ("success", 60)
        assert_same({p: tifffile.imread(f) for p, f in summary["slices"].items()}, offline(scan))


def test_silent_scans_do_not_pile_up(live, scan_of, monkeypatch):
    """Of many scans that were broken off only the newest few are held in memory."""
    monkeypatch.setattr("tomolive.live.worker.SILENT_KEPT", 2)
    scans = [scan_of.Scan(projections=5) for _ in range(5)]
    runs = live(silence=0.0)
    held = []
    for scan in scans:
        runs.feeder.items += [*scan.opening, *scan.level("flats"), *scan.turn(0, 4), runs.feeder.be_idle]
    runs.feeder.items.append(lambda: held.extend(runs.worker._scans.open))
    runs.run()
    assert held == [scan.uid for scan in scans[-3:]]
    assert [runs.summary(scan.uid)["frames"]["received"] for scan in scans] == [4] * 5


def test_stopping_in_the_middle_of_a_scan(live, scan_of):
    """What is there when the process is stopped is written."""
    scan = scan_of.Scan()
    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats"), *scan.turn(0, 30)]
    runs = live()
    runs.feeder.items = [*opening, runs.worker.stop, *scan.turn(30, 60)]
    runs.run()
    assert runs.summary(scan.uid)["frames"]["received"] == 30


def test_other_runs_do_not_touch_the_pictures(live, scan_of, scans):
    """A run that is no tomography scan changes nothing that is shown."""
    scan = scan_of.Scan()
    other = scans.Run(plan_name="count")
    more = [other.start, other.descriptor("primary", det=scans.image), other.stop()]
    runs = live([*scan.whole(), *more])
    final = runs.run()
    assert final.status.run_uid == scan.uid
    assert final.status.message == ""


def test_results_that_cannot_be_written(live, scan_of, tmp_path):
    """A folder that cannot be written is told on the page; the pictures stay and the next scan works."""
    one, two = scan_of.Scan(), scan_of.Scan()
    results = tmp_path / "results"
    results.mkdir()
    runs = live(results=results)
    seen = []
    spoil, mend = (results.rmdir, results.touch), (results.unlink, results.mkdir)
    parts = [*spoil, *one.whole(), lambda: seen.append(runs.store.latest), *mend, *two.whole()]
    runs.feeder.items = parts
    runs.run()
    assert "Results could not be written" in seen[0].status.message
    assert seen[0].status.state == "finished"
    assert (results / two.uid / "summary.json").exists()


def test_a_scan_without_projections(live, scan_of):
    """A run of darks and flats only leaves no results and says that it is over."""
    scan = scan_of.Scan()
    items = [*scan.opening, *scan.level("darks"), *scan.level("flats"), scan.run.stop()]
    runs = live(items)
    assert runs.run().status.state == "finished"
    with pytest.raises(FileNotFoundError):
        runs.summary(scan.uid)


def test_lag_counts_the_time_that_documents_waited(live, scan_of, monkeypatch):
    """A consumer that is slower than the camera says how old its picture is, not only how long it took."""
    clock = [1000.0]
    monkeypatch.setattr("tomolive.live.worker.time.monotonic", lambda: clock[0])
    scan = scan_of.Scan()
    items = [*scan.opening, *scan.level("darks"), *scan.level("flats"), *scan.turn(0, 60)]
    documents = sum(isinstance(item, tuple) for item in items)
    runs, taken = live(), []

    def slowly(item):
        if isinstance(item, tuple):
            taken.append(item)
            runs.feeder.behind = documents - len(taken)
            clock[0] += 1.0
        return item

    class Slow(list):
        def __iter__(self):
            return map(slowly, super().__iter__())

    runs.feeder.items = Slow(items)
    runs.run()
    lags = [s.status.lag_s for s in runs.store.all if s.status.lag_s is not None]
    assert lags[-1] == pytest.approx(documents - 1, abs=2)
    assert lags == sorted(lags)


@pytest.mark.parametrize("projections", [0, 30])
def test_silence_is_told(live, scan_of, monkeypatch, projections):
    """When nothing comes of a scan any more, the status says so, again and again, without any document."""
    clock = [1000.0]
    monkeypatch.setattr("tomolive.live.worker.time.monotonic", lambda: clock[0])
    scan = scan_of.Scan()
    items = [*scan.opening, *scan.level("darks"), *scan.level("flats"), *scan.turn(0, projections)]
    runs = live()
    told = []

    def wait():
        for _ in range(100):
            clock[0] += 1.0
            runs.feeder.be_idle()
        told.extend(s.status.message for s in runs.store.all if "Nothing has come" in s.status.message)

    runs.feeder.items = [*items, wait]
    runs.run()
    assert 3 <= len(set(told)) <= 10


def test_a_sample_that_is_not_a_name(live, scan_of):
    """Start documents hold all sorts of things under `sample`; only words are shown."""
    scan = scan_of.Scan(sample={"composition": {"Si": 1}}, sample_name="wafer")
    runs = live(scan.whole())
    assert runs.run().status.sample == "wafer"


def test_wishes_before_the_first_picture(live, scan_of):
    """What was asked for while darks and flats are taken is done with the first picture."""
    scan = scan_of.Scan()
    runs = live(settings=LiveSettings())
    opening = [*scan.opening, *scan.level("darks")]

    def ask():
        runs.controls.post(Wish("Ada", center=21.5))
        runs.controls.post(Wish("Ada", plane="xz", position=20))

    runs.feeder.items = [*opening, ask, *scan.level("flats"), *scan.turn(0, 60), scan.run.stop()]
    status = runs.run().status
    assert (status.center, status.center_source) == (21.5, "set by Ada")
    assert runs.summary(scan.uid)["positions"]["xz"] == 20


def test_a_wish_overtakes_a_backlog_of_frames(live, scan_of):
    """What was asked for before many frames come at once is done, and shown, before all are drawn."""
    scan = scan_of.Scan()
    runs = live([*scan.opening, *scan.level("darks"), *scan.level("flats")])
    runs.feeder.items += [lambda: runs.controls.post(Wish("Ada", center=20.0)), *scan.turn(0, 60)]
    runs.run()
    first = next(s for s in runs.store.all if s.pictures and s.pictures["xy"].of.center == 20.0)
    assert first.pictures["xy"].of.frames_received < 60


def test_a_wish_for_the_scan_that_begins(live, scan_of):
    """It waits for the first picture of that scan; the one before, which is still shown, stays as it is."""
    one, two = scan_of.Scan(), scan_of.Scan()
    runs = live()

    def ask():
        runs.controls.post(Wish("Ada", two.uid, center=12.0))

    opening = [*two.opening, *two.level("darks"), ask, *two.level("flats")]
    runs.feeder.items = [*one.whole(), *opening, *two.turn(0, 60), two.run.stop()]
    runs.run()
    assert runs.summary(one.uid)["center"] == 21.5
    assert (runs.summary(two.uid)["center"], runs.summary(two.uid)["center_source"]) == (12.0, "set by Ada")


def test_a_wish_for_the_scan_before(live, scan_of):
    """A centre that comes too late is not given to the next scan, and that is said; a filter is."""
    one, two = scan_of.Scan(), scan_of.Scan()
    runs = live()
    seen = []

    def ask():
        runs.controls.post(Wish("Ada", one.uid, center=12.0))
        runs.controls.post(Wish("Ada", one.uid, filter="hann"))
        runs.feeder.be_idle()
        seen.append(runs.store.latest.status)

    opening = [*two.opening, *two.level("darks"), *two.level("flats")]
    runs.feeder.items = [*one.whole(), *opening, *two.turn(0, 30), ask, *two.turn(30, 60), two.run.stop()]
    runs.run()
    assert one.uid[:8] in seen[0].message
    assert (seen[0].center, seen[0].filter) == (21.5, "hann")


def test_a_wish_that_cannot_be_granted(live, scan_of):
    """It is told on the page, and the next scan is not touched by it."""
    one, two = scan_of.Scan(), scan_of.Scan()
    runs = live()

    def ask():
        runs.controls.post(Wish("Ada", filter="sharpest"))
        runs.controls.post(Wish("Ada", plane="xy", position=1000))
        runs.feeder.be_idle()
        message = runs.store.latest.status.message
        assert "sharpest" in message
        assert "1000" in message

    runs.feeder.items = [*one.whole(), ask, *two.whole()]
    final = runs.run()
    assert final.status.state == "finished"
    assert final.status.message == ""
    assert_same(final.pictures, offline(two))


def test_corrections_that_were_set_for_another_detector(live, scan_of):
    """Too much binning becomes what this scan can have, and a pixel size that is another one is told."""
    phase = PaganinSettings(energy_kev=25, distance_m=0.01, pixel_size_um=1, delta_beta=10)
    corrections = CorrectionSettings(binning=8, paganin=phase)
    scan = scan_of.Scan()
    runs = live(scan.whole(), settings=LiveSettings(center=21.5, corrections=corrections))
    status = runs.run().status
    assert (status.state, status.frames_received) == ("finished", 60)
    assert (status.corrections.binning, status.volume_shape) == (4, (1, 12, 12))
    assert "Binning 8 is too much for frames of 4 x 48 pixels" in status.message
    assert "pixels of 1 um; the documents of the scan say 2 um" in status.message
    assert runs.worker._wishes.settings.corrections == corrections


def test_figures_of_the_process(live, scan_of):
    """Projections, missing ones and scans are counted for Prometheus."""

    def counted():
        names = ("projections_total", "missing_total", "scans_total")
        labels = ({}, {}, {"outcome": "abort"})
        pairs = zip(names, labels, strict=True)
        return [REGISTRY.get_sample_value(f"tomolive_live_{name}", label) or 0 for name, label in pairs]

    before = counted()
    scan = scan_of.Scan()
    lost = scan.run.missing("projections", "camera", 30, 33, "not there", final=True)
    announced = [scan.run.datum("projections", key, 30, 33) for key in ("camera", "angle")]
    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats")]
    live([*opening, *scan.turn(0, 30), *announced, lost, scan.run.stop("abort")]).run()
    assert [b - a for a, b in zip(before, counted(), strict=True)] == [30, 3, 1]


def test_a_slow_scan_keeps_its_references_beside_quick_ones(live, scan_of):
    """Flats at its end are used with the darks and flats of its beginning, many scans ago."""
    slow = scan_of.Scan()
    flats = slow.run.frames("flats", "camera", 3, slow.sample.level("flats", 3))
    items = [*slow.opening, *slow.level("darks"), *slow.level("flats"), *slow.turn(0, 30)]
    for _ in range(5):
        quick = scan_of.Scan(projections=6, step=30.0)
        items += [*quick.opening, *quick.level("darks"), *quick.level("flats"), *quick.turn(0, 6)]
        items += [quick.run.stop()]
    items += [*slow.turn(30, 60), slow.run.datum("flats", "camera", 3, 6), flats, slow.run.stop()]
    runs = live(items)
    runs.run()
    assert runs.summary(slow.uid)["notes"] == []
    assert_same({p: tifffile.imread(f) for p, f in runs.summary(slow.uid)["slices"].items()}, offline(slow))


def test_a_run_that_comes_twice(live, scan_of):
    """Documents of a run that is over, come again, leave its results as they are."""
    scan = scan_of.Scan()
    runs = live([*scan.whole(), *scan.whole(), scan.run.start])
    final = runs.run()
    assert_same({p: tifffile.imread(f) for p, f in runs.summary(scan.uid)["slices"].items()}, offline(scan))
    assert runs.summary(scan.uid)["earlier"] == []
    assert final.status.state == "finished"
    assert final.status.frames_received == 60


def test_flats_without_beam_do_not_end_a_scan(live, scan_of):
    """The page says that they are of no use, the slices go on, and later flats that are of use are used."""
    scan = scan_of.Scan()
    closed = scan.run.frames("flats", "camera", 0, scan.sample.level("darks", 1))
    good = scan.run.frames("flats", "camera", 1, scan.sample.level("flats", 300))
    seen = []
    items = [*scan.opening, *scan.level("darks"), scan.run.datum("flats", "camera", 0, 1), closed]
    items += [*scan.turn(0, 5), lambda: seen.append(runs.store.latest)]
    items += [scan.run.datum("flats", "camera", 1, 301), good, *scan.turn(5, 60), scan.run.stop()]
    runs = live(items)
    final = runs.run()
    assert "no brighter than darks" in seen[0].status.message
    assert seen[0].pictures["xy"].of.frames_received == 5
    assert final.status.state == "finished"
    assert final.status.message == ""
    assert runs.summary(scan.uid)["frames"]["received"] == 60


def test_flats_of_a_lost_beam_are_left_out(live, scan_of):
    """Those that were taken again after the beam was gone are named; the others are used as if alone."""
    scan = scan_of.Scan()
    noise = np.random.default_rng(3).normal(100, 3, (5, *scan.counts.shape[1:]))
    closed = scan.run.frames("flats", "camera", 3, noise)
    again = [scan.run.datum("flats", "camera", 3, 8), closed, scan.run.stop()]
    final = live([*scan.whole()[:-1], *again]).run()
    assert "The flats taken after projection 59 saw no beam, and are left out." in final.status.message
    assert_same(final.pictures, offline(scan))
