"""Of which scan a published picture is."""

from types import SimpleNamespace

import numpy as np
import pytest

from tomolive.config import CorrectionSettings, LiveSettings
from tomolive.live.controls import Controls
from tomolive.live.looks import Looks
from tomolive.live.publication import Publication, Strip
from tomolive.live.snapshot import SnapshotStore, Status
from tomolive.live.worker import LiveReconstruction


def test_a_picture_knows_its_scan_when_the_next_takes_darks(tmp_path, scan_of, monkeypatch):
    """The status tells of the second scan already; the pictures still tell of the first, as it was."""
    monkeypatch.setattr("tomolive.live.publication.PICTURE_PERIOD_S", 0.0)
    one, two = scan_of.Scan(), scan_of.Scan()
    store, feeder, seen = SnapshotStore(), scan_of.Feeder([]), []
    feeder.items = [*one.whole(), *two.opening, *two.level("darks"), lambda: seen.append(store.latest)]
    settings = LiveSettings(center=21.5, filter="hann")
    LiveReconstruction(feeder, store, Controls(), results=tmp_path, settings=settings).run()
    (darks,) = seen
    assert darks.status.run_uid == two.uid
    for picture in darks.pictures.values():
        of = picture.of
        assert (of.run_uid, of.center, of.center_source, of.filter) == (one.uid, 21.5, "given", "hann")
        assert (of.frames_received, of.frames_planned, of.frames_missing) == (60, 60, 0)
        assert of.coverage == pytest.approx(of.coverage_wanted, abs=4)
        assert of.pixel_size_um == 2.0


def test_a_picture_learns_that_its_centre_was_found_again():
    """A picture that needs no drawing says how its centre is known now, not how another is."""
    scan = SimpleNamespace(run_uid="a", scan_id=1, sample="", plan="", planned=9, missing=(), pixel_size_um=1)
    tomogram = SimpleNamespace(
        scan=scan, received=9, without_beam=(), coverage=180.0, coverage_wanted=180.0, center=7.5,
        center_source="estimated", filter="ramp", corrections=CorrectionSettings(), units="1/cm",
    )  # fmt: skip
    store = SnapshotStore()
    publication = Publication(store)
    publication.show_strip(tomogram, Strip(np.zeros((2, 6), np.float32), (6.5, 7.5, 8.5), (1, 2, 1), 7.5))
    told = []
    for run, center, source in [("a", 7.5, "refined"), ("a", 8.0, "given"), ("b", 7.5, "given")]:
        publication.publish(Status(run_uid=run, center=center, center_source=source))
        told.append(store.latest.pictures["candidates"].of.center_source)
    assert told == ["refined"] * 3


def test_tilted_planes_wait_until_the_centre_stays(monkeypatch):
    """While someone slides the centre only the slices follow; the tilted plane is drawn when he is done."""
    drawn = []
    scan = SimpleNamespace(run_uid="a", scan_id=1, sample="", plan="", planned=9, missing=(), pixel_size_um=1)
    tomogram = SimpleNamespace(
        scan=scan, received=9, without_beam=(), coverage=180.0, coverage_wanted=180.0, center=7.5,
        center_source="given", filter="ramp", corrections=CorrectionSettings(), units="1/cm",
        volume_shape=(4, 8, 8), positions={"xy": 2, "xz": 4, "yz": 4}, grows=lambda _: False,
        look=lambda _: None, keep_sinograms=lambda _: None, projection=lambda: None,
        picture=lambda place: drawn.append(place[0]) or np.zeros((2, 2), np.float32),
    )  # fmt: skip
    looks, publication = Looks(), Publication(SnapshotStore())
    looks.update(["oblique@30,0,0"], tomogram.volume_shape)
    for calm_s, center, expected in [(1000, 7.5, 3), (1000, 7.6, 3), (0, 7.7, 4)]:
        monkeypatch.setattr("tomolive.live.publication._CALM_S", calm_s)
        tomogram.center, publication.redraw = center, True
        drawn.clear()
        publication.draw(tomogram, looks)
        assert (len(drawn), "oblique" in drawn) == (expected, expected == 4)
        publication.publish(Status())
        assert not publication.is_due
