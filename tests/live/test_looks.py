"""What is looked at is drawn, each picture by itself; what nobody looks at is not."""

import time

import numpy as np
import pytest

from tomolive.config import CorrectionSettings, LiveSettings
from tomolive.live.controls import Controls, Wish
from tomolive.live.looks import MOST_SINOGRAMS, Looks
from tomolive.live.snapshot import SnapshotStore
from tomolive.live.worker import LiveReconstruction
from tomolive.recon import normalize, reconstruct, reconstruct_plane
from tomolive.recon.oblique import oblique_plane

CENTER = 21.5


@pytest.fixture
def page(tmp_path, scan_of, monkeypatch):
    """A live reconstruction of items, and the hands of someone at the page."""
    monkeypatch.setattr("tomolive.live.publication.PICTURE_PERIOD_S", 0.0)
    monkeypatch.setattr("tomolive.live.publication._CALM_S", 0.0)
    monkeypatch.setattr("tomolive.live.results.writing.QUIET_S", 0.0)

    class Page:
        def __init__(self, settings=None):
            self.store, self.controls, self.feeder = SnapshotStore(), Controls(), scan_of.Feeder([])
            settings = settings or LiveSettings(center=CENTER)
            more = {"results": tmp_path, "settings": settings}
            self.worker = LiveReconstruction(self.feeder, self.store, self.controls, **more)

        def run(self, *items):
            self.feeder.items = list(items)
            self.worker.run()
            return self.store.latest

        def look(self, *keys, viewer="Ada"):
            def ask():
                self.controls.look(viewer, keys)
                self.feeder.be_idle()

            return ask

        def wish(self, **what):
            def ask():
                self.controls.post(Wish("Ada", **what))
                self.feeder.be_idle()

            return ask

        def until(self, done, seconds=30):
            def wait():
                deadline = time.monotonic() + seconds
                while not done(self.store.latest):
                    assert time.monotonic() < deadline, self.store.latest.status
                    time.sleep(0.01)
                    self.feeder.be_idle()

            return wait

    return Page


def line_integrals(scan):
    """The scan's projections, corrected."""
    return normalize(scan.counts, scan.sample.level("flats", 3), scan.sample.level("darks", 3))


def volume_of(scan, center=CENTER):
    """The volume of the scan in 1/cm, pixels of 2 um."""
    angles = np.deg2rad(scan.angles)
    sinograms = line_integrals(scan).transpose(1, 0, 2)
    return reconstruct(sinograms, angles, center, method="backprojection") / 2e-4


def assert_near(found, expected):
    """Equal to float32 rounding."""
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


def test_planes_that_are_looked_at_are_those_of_the_volume(page, scan_of):
    """Any plane, looked at before, during or after the scan, ends as the same plane of the offline volume."""
    scan = scan_of.Scan()
    live = page()
    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats")]
    early, late, after = ("xy@1", "xz@20"), ("yz@30", "oblique@35,20,1.5"), ("xy@3", "oblique@90,0,0")
    turn = [*scan.turn(0, 25), live.look(*early, *late), *scan.turn(25, 60)]
    final = live.run(
        live.look(*early), *opening, *turn, scan.run.stop(), live.look(*early, *late, *after)
    ).pictures
    volume = volume_of(scan)
    planes = {"xy@1": volume[1], "xz@20": volume[:, 20], "yz@30": volume[:, :, 30], "xy@3": volume[3]}
    planes |= {"xy": volume[2], "xz": volume[:, 24], "yz": volume[:, :, 24]}
    for key, pixels in planes.items():
        assert_near(final[key].pixels, pixels)
        assert final[key].key == key
    for key, at in (("oblique@35,20,1.5", (35, 20, 1.5)), ("oblique@90,0,0", (90, 0, 0))):
        rows, columns = scan.sample.rows, scan.sample.columns
        origin, down, right = oblique_plane(*at, rows=rows, columns=columns)
        expected = reconstruct_plane(
            line_integrals(scan), np.deg2rad(scan.angles), CENTER,
            origin=origin, down=down, right=right, shape=(columns, columns),
        )  # fmt: skip
        assert_near(final[key].pixels, expected / 2e-4)
        assert np.abs(final[key].pixels).max() > 0
    assert final["xz@20"].position == 20


def test_the_upright_oblique_plane_is_the_xz_plane(page, scan_of):
    """Tilted by 90 degrees an oblique plane lies along the axis, its rows running down the detector."""
    scan = scan_of.Scan()
    # between y = 23 and y = 24; the volume has 4 rows in the middle of 48
    final = page().run(*scan.whole()[:0], *scan.whole()).status
    assert final.volume_shape == (4, 48, 48)
    live = page()
    pictures = live.run(live.look("oblique@90,0,0", "xz@23", "xz@24"), *scan.whole()).pictures
    upright = pictures["oblique@90,0,0"].pixels[22:26]
    between = (pictures["xz@23"].pixels + pictures["xz@24"].pixels) / 2
    assert np.abs(upright - between).max() < 0.1 * between.max()
    assert not pictures["oblique@90,0,0"].pixels[:22].any()


def test_looking_elsewhere_draws_nothing_again(page, scan_of):
    """A new plane is drawn by itself: the other pictures are the very same objects."""
    scan = scan_of.Scan()
    live = page()
    seen = []

    def keep():
        seen.append(live.store.latest.pictures)

    live.run(*scan.whole(), live.look("xy@1"), keep, live.look("xy@1", "xz@5"), keep)
    before, after = seen
    assert set(after) - set(before) == {"xz@5"}
    assert all(after[key] is picture for key, picture in before.items())
    assert after["xz@5"].version > max(picture.version for picture in before.values())


def test_planes_that_nobody_looks_at_are_dropped(page, scan_of, monkeypatch):
    """After a moment they are neither drawn nor shown; those of another viewer stay."""
    monkeypatch.setattr("tomolive.live.looks.KEPT_S", 0.05)
    scan = scan_of.Scan()
    live = page()
    turn = [live.look("xy@1"), live.look("xy@3", viewer="Bob"), *scan.turn(0, 30), live.look()]
    pause = [lambda: time.sleep(0.1)]
    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats")]
    final = live.run(*opening, *turn, *pause, *scan.turn(30, 60), scan.run.stop())
    assert "xy@3" in final.pictures
    assert "xy@1" not in final.pictures


def test_more_planes_than_can_grow_are_drawn_on_demand(page, scan_of, monkeypatch):
    """Beyond the limit planes are shown too, later, and the user is told."""
    monkeypatch.setattr("tomolive.live.looks.MOST_GROWING", 2)
    monkeypatch.setattr("tomolive.live.publication._ON_DEMAND_S", 0.0)
    scan = scan_of.Scan()
    live = page()
    keys = [f"yz@{x}" for x in (5, 15, 25, 35)]
    final = live.run(*scan.whole(), live.look(*keys), live.until(lambda s: set(keys) <= set(s.pictures)))
    volume = volume_of(scan)
    for key in keys:
        assert_near(final.pictures[key].pixels, volume[:, :, int(key[3:])])
    assert "2 more" in final.status.message


@pytest.mark.parametrize("key", ["xy@99", "xz@-1", "oblique@1,2", "sinogram@99", "nothing@1", "xy@a"])
def test_a_plane_that_does_not_exist_is_left_out(page, scan_of, key):
    """Nothing is drawn for it, and nothing else suffers."""
    scan = scan_of.Scan()
    live = page()
    final = live.run(live.look(key, "xy@1"), *scan.whole())
    assert key not in final.pictures
    assert_near(final.pictures["xy@1"].pixels, volume_of(scan)[1])
    assert final.status.message == ""


def test_a_sinogram_grows_line_by_line(page, scan_of):
    """It has a line for each planned projection; those that are not there yet are not a number."""
    scan = scan_of.Scan()
    live = page()
    half = []
    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats")]
    turn = [*scan.turn(30, 60), lambda: half.append(live.store.latest.pictures["sinogram@2"])]
    final = live.run(live.look("sinogram@2"), *opening, *turn, *scan.turn(0, 30), scan.run.stop())
    expected = line_integrals(scan)[:, 2]
    assert np.isnan(half[0].pixels[:30]).all()
    np.testing.assert_allclose(half[0].pixels[30:], expected[30:], atol=1e-6)
    np.testing.assert_allclose(final.pictures["sinogram@2"].pixels, expected, atol=1e-6)


def test_corrections_redraw_what_is_there(page, scan_of):
    """Binning makes a volume of half the size with the same grey levels; who asked for it is told."""
    scan = scan_of.Scan(projections=180, step=1.0)
    live = page()
    two = CorrectionSettings(binning=2, zingers=True)
    final = live.run(*scan.whole(), live.wish(corrections=two))
    assert final.status.volume_shape == (2, 24, 24)
    assert final.status.corrections == two
    assert final.pictures["xy"].of.corrections == two
    (change,) = final.status.changes
    assert (change.what, change.value, change.who) == ("corrections", "zingers, binning 2", "Ada")
    xy = final.pictures["xy"].pixels
    y, x = (np.indices(xy.shape) - 11.5) * 2
    inside = (x - scan.sample.x) ** 2 + (y - scan.sample.y) ** 2 < (scan.sample.radius - 3) ** 2
    assert xy[inside].mean() == pytest.approx(scan.sample.attenuation / 2e-4, rel=0.02)
    assert final.status.center == CENTER
    assert final.pictures["projection"].pixels.shape == (2, 24)


def test_rings_are_removed_where_they_can_be(page, scan_of):
    """At the end the slice across the axis is the offline one without stripes; it is said what is not."""
    scan = scan_of.Scan()
    scan.counts[:, :, 30] = (scan.counts[:, :, 30] * 0.95).astype(np.uint16)
    live = page(LiveSettings(center=CENTER, corrections=CorrectionSettings(rings="sorting")))
    final = live.run(*scan.whole())
    from tomolive.recon.pipeline import correct_sinograms

    sinogram = correct_sinograms(line_integrals(scan)[:, 2], CorrectionSettings(rings="sorting"))
    angles = np.deg2rad(scan.angles)
    expected = reconstruct(sinogram, angles, CENTER, method="backprojection")[0] / 2e-4
    assert_near(final.pictures["xy"].pixels, expected)
    assert "Rings are removed from slices across the axis" in final.status.message


def test_a_strip_of_candidates(page, scan_of):
    """The slices of a few centres are side by side; the true one has the best score."""
    scan = scan_of.Scan(projections=180, step=1.0)
    live = page()
    asked = live.wish(candidates=(CENTER + 1, 0.5, 9))
    final = live.run(*scan.whole(), asked, live.until(lambda s: s.status.candidates))
    assert final.status.candidates == tuple(CENTER + 1 + np.arange(-4, 5) * 0.5)
    best = int(np.argmax(final.status.candidate_scores))
    assert final.status.candidates[best] == pytest.approx(CENTER, abs=0.5)
    strip = final.pictures["candidates"].pixels
    assert strip.shape == (48, 9 * 48)
    assert not live.controls.pending


def test_wishes_are_pending_until_a_picture_shows_them(page, scan_of):
    """One that is granted, refused or overtaken is not pending any more."""
    scan = scan_of.Scan()
    live = page()
    pending = []

    def ask():
        for center in (12.0, 13.0, -4.0):
            live.controls.post(Wish("Ada", center=center))
        pending.append(len(live.controls.pending))
        live.feeder.be_idle()
        pending.append(len(live.controls.pending))

    live.run(*scan.whole(), ask)
    assert pending == [3, 0]


def test_wishes_are_granted_while_the_centre_is_refined(page, scan_of, monkeypatch):
    """A centre that someone sets meanwhile stays; the page is told that it is being refined."""
    import threading

    scan = scan_of.Scan(projections=61)
    live = page(LiveSettings())
    go_on = threading.Event()
    slow = live.worker._estimates._questions._pool.submit(go_on.wait, 60)
    seen = []

    def look():
        seen.append(live.store.latest.status)

    final = live.run(*scan.whole(), look, live.wish(center=20.0), look, go_on.set)
    assert slow.result()
    during, after = seen
    assert (during.state, during.refining) == ("finished", True)
    assert (after.center, after.refining) == (20.0, True)
    assert (final.status.center, final.status.refining) == (20.0, False)
    summary = (live.worker._results._folder / scan.uid / "summary.json").read_text()
    assert '"center": 20.0' in summary
    assert '"who": "Ada"' in summary


def test_slices_are_not_kept_waiting_for_a_tilted_plane(page, scan_of):
    """After a change the slices are shown first, beside the tilted plane as it was; that one follows."""
    scan = scan_of.Scan()
    live = page()
    shown = []

    def keep():
        pictures = live.store.latest.pictures
        shown.append({key: pictures[key].of.center for key in ("xy", "yz@7", "oblique@35,20,0")})

    looking = live.look("yz@7", "oblique@35,20,0")
    live.run(*scan.whole(), looking, keep, live.wish(center=20.0), keep, live.feeder.be_idle, keep)
    before, at_once, then = shown
    assert before == {"xy": CENTER, "yz@7": CENTER, "oblique@35,20,0": CENTER}
    assert at_once == {"xy": 20.0, "yz@7": 20.0, "oblique@35,20,0": CENTER}
    assert then == {"xy": 20.0, "yz@7": 20.0, "oblique@35,20,0": 20.0}


def test_a_plane_left_a_moment_ago_is_not_drawn_again(page, scan_of):
    """A change draws what is looked at; a plane that was looked at until now is dropped, not drawn anew."""
    scan = scan_of.Scan()
    live = page()
    final = live.run(*scan.whole(), live.look("xy@1"), live.look("xy@3"), live.wish(center=20.0)).pictures
    assert final["xy@3"].of.center == 20.0
    assert "xy@1" not in final


def test_so_many_sinograms_are_kept_and_no_more(monkeypatch):
    """Whoever looks at every row of a detector does not fill the memory; the newest ones are drawn."""
    monkeypatch.setattr("tomolive.live.looks.KEPT_S", 1e9)
    looks = Looks()
    for first in (0, 30):
        looks.update([f"sinogram@{row}" for row in range(first, first + 20)], (64, 8, 8))
        time.sleep(0.001)  # the clock must have gone on
    rows = looks.rows()
    assert len(rows) == MOST_SINOGRAMS
    assert set(range(30, 50)) < set(rows.values())
    assert looks.notes((64, 8, 8)) == ["24 sinograms are drawn at once; 16 older ones are not"]
