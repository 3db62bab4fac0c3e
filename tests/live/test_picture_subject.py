"""Of which scan a published picture is."""

import pytest

from tomolive.config import LiveSettings
from tomolive.live.controls import Controls
from tomolive.live.snapshot import SnapshotStore
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
