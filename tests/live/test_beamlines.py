"""Runs in the exact shapes of real beamlines, through a hub, from files under another mount."""

import json
import threading
import time
import uuid
from types import SimpleNamespace

import numpy as np
import pytest

from tomolive.config import LiveSettings
from tomolive.live.controls import Controls
from tomolive.live.documents.run import Batch
from tomolive.live.documents.scan import ScanReader
from tomolive.live.snapshot import SnapshotStore
from tomolive.live.worker import LiveReconstruction
from tomolive.stream.dispatcher import RemoteDispatcher
from tomolive.stream.publisher import Publisher


@pytest.fixture
def follow(hub, tmp_path):
    """Publishes runs and follows them with the live reconstruction; returns batches, states and summaries."""
    opened = []

    def connect(start, mounts):
        return RemoteDispatcher(hub, start=start, mounts=mounts, patience=5.0)

    def close():
        while opened:
            dispatcher, thread = opened.pop()
            dispatcher.stop()
            thread.join(60)
            assert not thread.is_alive()

    def run(pairs, mounts, *, start="new", pause=0.0, expect=1):
        close()
        results = tmp_path / "results"
        results.mkdir(exist_ok=True)
        dispatcher, store, reader, batches = connect(start, mounts), SnapshotStore(), ScanReader(), []
        worker = LiveReconstruction(
            dispatcher,
            store,
            Controls(),
            results=results,
            settings=LiveSettings(center=7.5),
            earlier=lambda uid: connect(uid, mounts),
        )

        def collect(out):
            batches.extend(b for b in out if isinstance(b, Batch))

        dispatcher.subscribe(lambda name, doc: collect(reader.document(name, doc)))
        dispatcher.subscribe_frames(
            lambda frames: collect(reader.frames(frames)), lambda missing: collect(reader.missing(missing))
        )
        thread = threading.Thread(target=worker.run, name="live")
        thread.start()
        opened.append((dispatcher, thread))
        assert dispatcher.wait_ready(60)
        with_spool = Publisher(hub, spool=tmp_path / f"spool-{uuid.uuid4()}")
        for name, doc in pairs:
            with_spool(name, doc)
            time.sleep(pause)
        with_spool.close(60)
        deadline = time.monotonic() + 60
        while len(found := list(results.glob("*/summary.json"))) < expect:
            assert time.monotonic() < deadline, store.latest.status
            time.sleep(0.02)
        return SimpleNamespace(
            batches=batches, store=store, reader=reader, summaries=[json.loads(p.read_text()) for p in found]
        )

    yield run
    close()


def assert_true(beamlines, batches, kind, count, angles=None):
    """All frames of a kind are those that the camera took, at the angles of the encoder."""
    found = {}
    for batch in (b for b in batches if b.kind == kind):
        for i, pixels in enumerate(batch.array):
            assert batch.first + i not in found
            found[batch.first + i] = (pixels, batch.angles[i] if batch.angles is not None else None)
    assert sorted(found) == list(range(count))
    for number, (pixels, angle) in found.items():
        assert np.array_equal(pixels, beamlines.frame(kind, number)), (kind, number)
        if angles is not None:
            assert np.rad2deg(angle) == pytest.approx(angles[number], abs=1e-6)


@pytest.mark.parametrize("swmr", [True, False])
def test_hex(follow, beamlines, tmp_path, swmr):
    """Two runs, angles in a PandA file, no events; files that open only when the detector closes them."""
    pairs = beamlines.hex_runs(tmp_path / "mounted", swmr=swmr)
    end = follow(pairs, {"/nsls2/data/hex": str(tmp_path / "mounted")}, pause=0.02)
    for kind, count in (("dark", 4), ("flat", 4)):
        assert_true(beamlines, end.batches, kind, count)
    assert_true(beamlines, end.batches, "projection", 60, beamlines.hex_angles(60))
    (summary,) = end.summaries
    assert summary["rules"] == "hex"
    assert summary["frames"] == {
        "planned": 60,
        "announced": 60,
        "received": 60,
        "missing": [],
        "without_beam": [],
    }
    assert summary["notes"] == []


def test_hex_whose_darks_and_flats_were_missed(follow, beamlines, tmp_path):
    """They are read again from the hub when the scan begins; nothing else is asked for them."""
    pairs = list(beamlines.hex_runs(tmp_path / "mounted", swmr=True))
    second = next(i for i, (name, _) in enumerate(pairs) if name == "start" and i)
    mounts = {"/nsls2/data/hex": str(tmp_path / "mounted")}
    missed = follow(pairs[:second], mounts, expect=0)
    assert missed.summaries == []
    end = follow(pairs[second:], mounts, pause=0.1)
    assert [b.kind for b in end.batches if b.kind != "projection"] == []
    (summary,) = end.summaries
    assert summary["frames"]["received"] == 60
    assert summary["notes"] == []


def test_fxi(follow, beamlines, tmp_path):
    """One event for each stack; angles from a monitor stream, at the frames' own times."""
    pairs = beamlines.fxi_run(tmp_path / "mounted")
    end = follow(pairs, {"/nsls2/data/fxi-new": str(tmp_path / "mounted")})
    for kind, count in (("dark", 4), ("flat", 4)):
        assert_true(beamlines, end.batches, kind, count)
    times, readings = beamlines.fxi_monitor(60)
    expected = np.interp(beamlines.fxi_times(60), times, readings)
    assert_true(beamlines, end.batches, "projection", 60, expected)
    (summary,) = end.summaries
    assert (summary["rules"], summary["darks"], summary["flats"]) == ("fxi", 4, 4)
    assert summary["frames"] == {
        "planned": None,
        "announced": 60,
        "received": 60,
        "missing": [],
        "without_beam": [],
    }


def test_dls(follow, beamlines, tmp_path):
    """A step scan, one resource over three streams, the motor's angle in each event."""
    pairs = beamlines.dls_run(tmp_path / "mounted")
    end = follow(pairs, {"/dls/p46/data": str(tmp_path / "mounted")})
    for kind, count in (("dark", 3), ("flat", 3)):
        assert_true(beamlines, end.batches, kind, count)
    assert_true(beamlines, end.batches, "projection", 30, np.linspace(0, 180, 30))
    (summary,) = end.summaries
    assert summary["rules"] == "dls-step"
    assert summary["frames"] == {
        "planned": 30,
        "announced": 30,
        "received": 30,
        "missing": [],
        "without_beam": [],
    }


def test_images_that_cannot_be_read_here(follow, beamlines, tmp_path):
    """Without the detector's file system every frame is missing, by number, with the reason."""
    (tmp_path / "elsewhere").mkdir()
    pairs = beamlines.dls_run(tmp_path / "written")
    end = follow(pairs, {"/dls/p46/other": str(tmp_path / "elsewhere")})
    (summary,) = end.summaries
    assert summary["frames"] == {
        "planned": 30,
        "announced": 30,
        "received": 0,
        "missing": [[0, 30]],
        "without_beam": [],
    }
    assert summary["slices"] == {}
    status = end.store.latest.status
    assert "0 to 29" in status.message
    assert status.frames_received == 0
