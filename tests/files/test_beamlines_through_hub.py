"""Runs of three beamlines on their whole way: another process writes files, a hub carries the documents."""

import random
import threading

import numpy as np
import pytest

from tomolive import Publisher, RemoteDispatcher
from tomolive.files.readers.hdf5 import CLOSE_FIRST

CAMERAS = {
    "hex_runs": ("/nsls2/data/hex", "kinetix-det1", {"dark": 4, "flat": 4, "tomo": 60}),
    "fxi_run": ("/nsls2/data/fxi-new", "Andor_image", {"dark": 4, "flat": 4, "primary": 60}),
    "dls_run": ("/dls/p46/data", "det", {"darks": 3, "flats": 3, "primary": 30}),
}
RUNS = {"hex_runs": 2, "fxi_run": 1, "dls_run": 1}
KINDS = {"dark": "dark", "darks": "dark", "flat": "flat", "flats": "flat"}


@pytest.fixture
def follow(hub, from_process, tmp_path, seen):
    """Publish what a process prints, and see it filled under another mount, up to the last stop document."""
    (tmp_path / "files").mkdir()
    (tmp_path / "mount").symlink_to(tmp_path / "files")

    def run(script, *arguments, announced, runs, patience=60.0, missing=seen.missing.append):
        dispatcher = RemoteDispatcher(
            hub.native, start="all", fill=True, mounts={announced: str(tmp_path / "mount")}, patience=patience
        )
        dispatcher.subscribe(lambda name, doc: seen.documents.append((name, doc)))
        dispatcher.subscribe_frames(seen.frames.append, missing)
        done, stops = threading.Event(), []

        def count(name, doc):
            stops.append(doc)
            if len(stops) == runs:
                done.set()

        dispatcher.subscribe(count, "stop")
        thread = threading.Thread(target=dispatcher.start)
        thread.start()
        publisher = Publisher(hub.native, spool=tmp_path / "spool")
        try:
            with from_process(script, *arguments) as pairs:
                for name, doc in pairs:
                    publisher(name, doc)
            assert done.wait(120)
        finally:
            publisher.close(30)
            dispatcher.stop()
            thread.join(60)
        return seen

    return run


def truth_of(beamlines, stream, count):
    """The frames that the camera took."""
    return beamlines.frames(KINDS.get(stream, "projection"), count)


def events_of(seen, stream, camera):
    """The events of a stream of one camera."""
    uids = {
        doc["uid"]
        for name, doc in seen.documents
        if name == "descriptor" and doc["name"] == stream and camera in doc["data_keys"]
    }
    return [doc for name, doc in seen.documents if name == "event" and doc["descriptor"] in uids]


def assert_all_came(seen, beamlines, generator):
    """Blocks of frames and filled events, each compared with the truth."""
    _, camera, streams = CAMERAS[generator]
    for stream, count in streams.items():
        truth = truth_of(beamlines, stream, count)
        np.testing.assert_array_equal(seen.stack(stream, camera), truth)
        assert seen.numbers(stream, camera) == list(range(count))
        events = events_of(seen, stream, camera)
        assert bool(events) == (generator != "hex_runs")
        if events:
            images = [event["data"][camera].reshape(-1, *beamlines.SHAPE) for event in events]
            np.testing.assert_array_equal(np.concatenate(images), truth)
    if generator == "hex_runs":
        np.testing.assert_array_equal(seen.stack("tomo", "Angle"), beamlines.hex_angles())
    assert not [missing for missing in seen.missing if missing.final]


@pytest.mark.parametrize("generator", CAMERAS)
def test_every_frame_arrives(follow, tmp_path, beamlines, generator):
    """Filled events and blocks of frames at once, while the files are being written."""
    announced = CAMERAS[generator][0]
    seen = follow("beamlines.py", generator, tmp_path / "files", announced=announced, runs=RUNS[generator])
    assert_all_came(seen, beamlines, generator)


@pytest.fixture
def seed():
    """Of what the troubled files leave to chance."""
    seed = random.randrange(1 << 30)
    print("seed", seed)  # noqa: T201
    return seed


@pytest.mark.parametrize("mode", ["slow", "late", "truncated", "locked", "reordered"])
def test_every_frame_arrives_in_spite_of_trouble(follow, tmp_path, seen, beamlines, seed, mode):
    """The files of all three beamlines give trouble; each frame and each filled event is right."""

    def missing(word):
        seen.missing.append(word)
        (tmp_path / "files/told").touch()

    arguments = ("files/troubled_beamlines.py", mode, tmp_path / "files", seed)
    follow(*arguments, announced="/detector", runs=4, missing=missing)

    for generator in CAMERAS:
        assert_all_came(seen, beamlines, generator)
    if mode == "locked":
        assert seen.missing
        assert all(word.reason.endswith(CLOSE_FIRST) for word in seen.missing)
    else:
        assert seen.missing == []


def test_frames_that_are_never_written_are_named(follow, tmp_path, seen, beamlines, seed):
    """Each by its number in its stream; all others come; the events without them say so."""
    arguments = ("files/troubled_beamlines.py", "missing", tmp_path / "files", seed)
    follow(*arguments, announced="/detector", runs=4, patience=0.3)

    gone = {  # what rows 1 and 4 of each file are
        ("dark", "kinetix-det1"): [1], ("flat", "kinetix-det1"): [1], ("tomo", "kinetix-det1"): [1, 4],
        ("dark", "Andor_image"): [1], ("flat", "Andor_image"): [1], ("primary", "Andor_image"): [1, 4],
        ("flats", "det"): [1], ("darks", "det"): [1], ("primary", "det"): [],
    }  # fmt: skip
    for _, camera, streams in CAMERAS.values():
        for stream, count in streams.items():
            lost = gone[stream, camera]
            left = [number for number in range(count) if number not in lost]
            assert seen.numbers(stream, camera) == left
            blocks = [f.array for f in seen.frames if (f.stream, f.data_key) == (stream, camera)]
            truth = truth_of(beamlines, stream, count)
            np.testing.assert_array_equal(np.concatenate(blocks), truth[left])
            final = [m for m in seen.missing if m.final and (m.stream, m.data_key) == (stream, camera)]
            assert [n for m in final for n in range(m.first, m.last)] == lost
    for event in events_of(seen, "flats", "det"):
        assert event["filled"]["det"] == (event["seq_num"] != 2)
    assert [event["filled"]["Andor_image"] for event in events_of(seen, "primary", "Andor_image")] == [False]
    np.testing.assert_array_equal(seen.stack("tomo", "Angle"), beamlines.hex_angles())
