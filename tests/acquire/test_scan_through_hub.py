"""Simulated scans through a real hub: what a consumer gets is what was taken."""

import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomolive.acquire.session import Session
from tomolive.acquire.simulate import Simulation, run_simulation
from tomolive.files.frames import Frames
from tomolive.stream.dispatcher import RemoteDispatcher

TIMEOUT_S = 60
SMALL: dict[str, Any] = {"rows": 6, "columns": 32, "projections": 40, "darks": 3, "flats": 4, "rate": 100}


def uids(run: Any) -> list[str]:
    """Return the documents in their order; the events of a page one by one, as a dispatcher gives them."""
    found: list[str] = []
    for name, doc in run.documents:
        found += doc["uid"] if name == "event_page" else [doc.get("uid") or doc["datum_id"]]
    return found


def test_a_wrong_path_is_warned_of(hub: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mount that leads nowhere: no frames come, and the log says once which files are not where."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    elsewhere.mkdir()
    mounts = {str(data): str(elsewhere)}
    dispatcher = RemoteDispatcher(hub, start="all", roots=[elsewhere], mounts=mounts, patience=0.5)
    frames: list[Frames] = []
    over = threading.Event()
    dispatcher.subscribe(lambda *_: over.set(), "stop")
    dispatcher.subscribe_frames(frames.append)
    thread = threading.Thread(target=dispatcher.start)
    thread.start()
    try:
        with Session(hub, spool=tmp_path / "spool") as session:
            run_simulation(Simulation(**SMALL), session, data)
        assert over.wait(TIMEOUT_S)
    finally:
        dispatcher.stop()
        thread.join(TIMEOUT_S)
    assert not frames
    told = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert told
    assert all(str(elsewhere) in text for text in told)
    assert len(told) == len(set(told)) <= 8  # four images, late and given up


@pytest.mark.parametrize(("style", "plan"), [("async", "fly"), ("async", "step"), ("classic", "fly")])
def test_a_consumer_gets_every_document_and_frame(
    hub: str, recorded: Any, recorder: Any, tmp_path: Path, style: Any, plan: Any
) -> None:
    """Documents arrive as they were emitted, frames as they are in the files, none missing."""
    data = tmp_path / "data"
    arrived, frames, missing = recorder(), defaultdict(list), []
    dispatcher = RemoteDispatcher(hub, start="all", roots=[data])
    over = threading.Event()

    def collect(block: Frames) -> None:
        frames[block.stream, block.data_key].append(block)

    dispatcher.subscribe(arrived)
    dispatcher.subscribe(lambda *_: over.set(), "stop")
    dispatcher.subscribe_frames(collect, missing.append)
    thread = threading.Thread(target=dispatcher.start)
    thread.start()
    try:
        with Session(hub, spool=tmp_path / "spool", callbacks=[recorded]) as session:
            run_simulation(Simulation(**SMALL, style=style, plan=plan), session, data)
        assert over.wait(TIMEOUT_S)
    finally:
        dispatcher.stop()
        thread.join(TIMEOUT_S)
    assert uids(arrived) == uids(recorded)
    image = recorded.start["tomography"]["image_key"]
    for stream, keys in recorded.streams().items():
        blocks = frames[stream, image]
        assert [b.first for b in blocks] == np.cumsum([0] + [len(b.array) for b in blocks])[:-1].tolist()
        np.testing.assert_array_equal(np.concatenate([b.array for b in blocks]), keys[image])
    assert not missing
