"""tomolive's own plans on their whole way: another process takes the scan, a hub carries its documents."""

import json
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import h5py
import numpy as np
import pytest

from tomolive import RemoteDispatcher
from tomolive.live.documents.run import Batch
from tomolive.live.documents.scan import ScanReader


def recorded(path):
    """The truth: stream -> data key -> what the documents announce, read from the closed files."""
    names, resources, datums, found = {}, {}, {}, defaultdict(lambda: defaultdict(list))
    for name, doc in map(json.loads, path.read_text().splitlines()):
        match name:
            case "descriptor":
                names[doc["uid"]] = doc["name"]
            case "stream_resource" | "resource":
                resources[doc["uid"]] = doc
            case "datum":
                datums[doc["datum_id"]] = doc
            case "stream_datum":
                resource = resources[doc["stream_resource"]]
                with h5py.File(resource["uri"].removeprefix("file://localhost")) as file:
                    indices = doc["indices"]
                    block = file[resource["parameters"]["dataset"]][indices["start"] : indices["stop"]]
                found[names[doc["descriptor"]]][resource["data_key"]].append(block)
            case "event":
                for key, value in doc["data"].items():
                    if value not in datums:
                        found[names[doc["descriptor"]]][key].append(np.array([value]))
                        continue
                    resource = resources[datums[value]["resource"]]
                    point = datums[value]["datum_kwargs"]["point_number"]
                    with h5py.File(Path(resource["root"], resource["resource_path"])) as file:
                        found[names[doc["descriptor"]]][key].append(file["entry/data/data"][point][None])
    return {
        stream: {key: np.concatenate(blocks) for key, blocks in keys.items()}
        for stream, keys in found.items()
    }


@pytest.mark.parametrize("plan", ["fly", "step"])
@pytest.mark.parametrize("style", ["async", "classic"])
def test_own_scans_are_filled_under_another_mount(hub, tmp_path, seen, style, plan):
    """Blocks of frames, filled events and projections at their angles, all compared with the closed files."""
    (tmp_path / "data").mkdir()
    (tmp_path / "mount").symlink_to(tmp_path / "data")
    mounts = {"/beamline/data": str(tmp_path / "mount")}
    dispatcher = RemoteDispatcher(hub.native, start="all", fill=True, mounts=mounts, patience=60)
    reader, out, over = ScanReader(), [], threading.Event()

    def document(name, doc):
        seen.documents.append((name, doc))
        out.extend(reader.document(name, doc))

    def frames(block):
        seen.frames.append(block)
        out.extend(reader.frames(block))

    dispatcher.subscribe(document)
    dispatcher.subscribe(lambda *_: over.set(), "stop")
    dispatcher.subscribe_frames(frames, seen.missing.append)
    thread = threading.Thread(target=dispatcher.start)
    thread.start()
    script = Path(__file__).with_name("own_plan.py")
    try:
        command = [sys.executable, str(script), style, plan, hub.native, str(tmp_path)]
        subprocess.run(command, check=True, timeout=120)
        assert over.wait(60)
    finally:
        dispatcher.stop()
        thread.join(60)

    truth = recorded(tmp_path / "documents.jsonl")
    (start,) = [doc for name, doc in seen.documents if name == "start"]
    image, angle = start["tomography"]["image_key"], start["tomography"]["angle_key"]
    assert {stream: len(truth[stream][image]) for stream in ("darks", "flats", "projections")} == {
        "darks": 3, "flats": 4, "projections": 24
    }  # fmt: skip
    for stream in ("darks", "flats", "projections"):
        np.testing.assert_array_equal(seen.stack(stream, image), truth[stream][image])
        assert seen.numbers(stream, image) == list(range(len(truth[stream][image])))
        events = seen.events(stream)
        if plan == "step" or style == "classic":
            arrays = [event["data"][image].reshape(-1, 6, 32) for event in events]
            np.testing.assert_array_equal(np.concatenate(arrays), truth[stream][image])
            assert all(event["filled"][image] for event in events)
    batches = [b for b in out if isinstance(b, Batch) and b.kind == "projection"]
    np.testing.assert_array_equal(np.concatenate([b.array for b in batches]), truth["projections"][image])
    degrees = np.rad2deg(np.concatenate([b.angles for b in batches]))
    np.testing.assert_allclose(degrees, truth["projections"][angle].reshape(-1), atol=1e-9)
    assert reader.scan(start["uid"]).complete
    assert seen.missing == []
