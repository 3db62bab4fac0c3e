"""Runs of three beamlines on their whole way: another process writes files, a hub carries the documents."""

import threading

import numpy as np
import pytest

from tomolive import Publisher, RemoteDispatcher
from tomolive.stream.hub import Hub, HubSettings

CAMERAS = {
    "hex_runs": ("/nsls2/data/hex", "kinetix-det1", {"dark": 4, "flat": 4, "tomo": 60}),
    "fxi_run": ("/nsls2/data/fxi-new", "Andor_image", {"dark": 4, "flat": 4, "primary": 60}),
    "dls_run": ("/dls/p46/data", "det", {"darks": 3, "flats": 3, "primary": 30}),
}
KINDS = {"dark": "dark", "darks": "dark", "flat": "flat", "flats": "flat"}


@pytest.fixture
def hub(tmp_path):
    """A hub in a thread."""
    any_port = "127.0.0.1:0"
    settings = HubSettings(
        native=any_port, stock_in=any_port, stock_out=any_port, journal=tmp_path / "journal"
    )
    hub = Hub(settings)
    thread = threading.Thread(target=hub.run)
    thread.start()
    yield hub
    hub.stop()
    thread.join(60)
    hub.close()


@pytest.mark.parametrize("generator", CAMERAS)
def test_every_frame_arrives(hub, from_process, tmp_path, seen, beamlines, generator):
    """Filled events and blocks of frames at once, under another mount, each compared with the truth."""
    announced, camera, streams = CAMERAS[generator]
    (tmp_path / "files").mkdir()
    (tmp_path / "mount").symlink_to(tmp_path / "files")
    dispatcher = RemoteDispatcher(
        hub.native, start="all", fill=True, mounts={announced: str(tmp_path / "mount")}, patience=30
    )
    dispatcher.subscribe(lambda name, doc: seen.documents.append((name, doc)))
    dispatcher.subscribe_frames(seen.frames.append, seen.missing.append)
    runs = 2 if generator == "hex_runs" else 1
    done = threading.Event()
    stops = []

    def count(name, doc):
        stops.append(doc)
        if len(stops) == runs:
            done.set()

    dispatcher.subscribe(count, "stop")
    thread = threading.Thread(target=dispatcher.start)
    thread.start()
    publisher = Publisher(hub.native, spool=tmp_path / "spool")
    try:
        with from_process("beamlines.py", generator, tmp_path / "files") as pairs:
            for name, doc in pairs:
                publisher(name, doc)
        assert done.wait(60)
    finally:
        publisher.close(30)
        dispatcher.stop()
        thread.join(60)

    for stream, number in streams.items():
        truth = beamlines.frames(KINDS.get(stream, "projection"), number)
        np.testing.assert_array_equal(seen.stack(stream, camera), truth)
        images = [event["data"][camera] for event in seen.events(stream)]
        if generator != "hex_runs":
            np.testing.assert_array_equal(
                np.concatenate([i.reshape(-1, *i.shape[-2:]) for i in images]), truth
            )
    assert not [missing for missing in seen.missing if missing.final]
