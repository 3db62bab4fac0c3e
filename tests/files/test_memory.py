"""How much memory a consumer takes that is far behind."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tomolive import Publisher

FRAMES, SIDE, SETTING = 96, 1024, 16_000_000
"""Two hundred megabytes of frames, for a consumer that may take sixteen."""

CONSUMER = """
import json, sys, threading, time
from tomolive import RemoteDispatcher

address, folder, memory, fill = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "filled"
seen = {"frames": 0, "sum": 0, "events": 0, "missing": 0, "largest": 0, "stack": 0, "peak": 0}

def memory_now():
    # What lies in a file can be taken back at any time, and does not count.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024

def watch():
    while True:
        seen["peak"] = max(seen["peak"], memory_now())
        time.sleep(0.001)

def frames(block):
    seen["frames"] += len(block.array)
    seen["sum"] += int(block.array[:, 0, 0].sum())
    seen["largest"] = max(seen["largest"], block.array.nbytes)

def missing(word):
    seen["missing"] += 1

def document(name, doc):
    seen["events"] += name == "event" and "det" in doc["data"]
    if name == "event" and getattr(doc["data"].get("det"), "ndim", 0) == 3:
        seen["stack"] += sum(int(image[0, 0]) for image in doc["data"]["det"])
    if name == "descriptor":
        seen["before"] = memory_now()
        threading.Thread(target=watch, daemon=True).start()
    if name == "stop":
        dispatcher.stop()

dispatcher = RemoteDispatcher(
    address, start="all", fill=fill, mounts={"/detector": folder}, memory=memory, patience=30
)
dispatcher.subscribe(document)
dispatcher.subscribe_frames(frames, missing)
dispatcher.start()
print(json.dumps({**seen, "took": seen["peak"] - seen["before"]}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Far more frames than the consumer may hold; frame i is full of i + 1."""
    folder = tmp_path_factory.mktemp("detector")
    with h5py.File(folder / "camera.h5", "w", libver="latest") as file:
        images = file.create_dataset("entry/data/data", (FRAMES, SIDE, SIDE), "<u2", chunks=(1, SIDE, SIDE))
        for number in range(FRAMES):
            images[number] = np.full((SIDE, SIDE), number + 1, "<u2")
    yield folder
    (folder / "camera.h5").unlink()


@pytest.mark.parametrize("announced", [1, FRAMES], ids=["one by one", "all at once"])
@pytest.mark.parametrize("fill", ["filled", "frames only"])
def test_memory_is_bounded_by_the_setting(hub, tmp_path, folder, beamlines, announced, fill):
    """The whole scan is announced before the consumer begins; the setting counts, not the scan."""
    publisher = Publisher(hub.native, spool=tmp_path / "spool")
    run = beamlines.Run()
    publisher(*run.start())
    publisher(*run.descriptor("primary", det=beamlines.image_key((1, SIDE, SIDE))))
    place = "file://localhost/detector/camera.h5"
    publisher(*run.stream_resource("det", "application/x-hdf5", place, dataset="/entry/data/data"))
    for first in range(0, FRAMES, announced):
        publisher(*run.stream_datum("primary", "det", (first, first + announced), first + 1))
        for _ in range(announced):
            publisher(*run.event("primary"))
    publisher(*run.stop())
    publisher.close(60)

    seen = consume(hub, folder, fill)

    assert seen["events"] == (FRAMES if fill == "filled" else 0)
    assert seen["largest"] <= SETTING // 4


def test_one_event_may_be_bigger_than_the_memory(hub, tmp_path, folder, beamlines):
    """The stack of a whole scan in a single datum: the event's array lies in a file, and so do its frames."""
    publisher = Publisher(hub.native, spool=tmp_path / "spool")
    run = beamlines.Run()
    publisher(*run.start())
    key = beamlines.image_key((FRAMES, SIDE, SIDE), external="FILESTORE:")
    publisher(*run.descriptor("primary", det=key))
    publisher(*run.resource("AD_HDF5", "/detector", "camera.h5", frame_per_point=FRAMES))
    publisher(*(datum := run.datum(point_number=0)))
    publisher(*run.event("primary", det=datum[1]["datum_id"]))
    publisher(*run.stop())
    publisher.close(60)

    seen = consume(hub, folder, "filled")

    assert (seen["events"], seen["stack"]) == (1, FRAMES * (FRAMES + 1) // 2)


def consume(hub, folder, fill) -> dict:
    """Let a consumer in a process of its own have everything; return what it has seen."""
    command = [sys.executable, "-c", CONSUMER, hub.native, str(folder), str(SETTING), fill]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["frames"], seen["sum"], seen["missing"]) == (FRAMES, FRAMES * (FRAMES + 1) // 2, 0)
    # Besides the frames, there is what the process imports to read them.
    assert seen["took"] < SETTING + 24_000_000, f"{seen['took'] / 1e6:.0f} MB"
    return seen
