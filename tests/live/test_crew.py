"""Several workers reconstruct a scan by bands of rows: processes of this machine, and a Dask cluster."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import event_model
import h5py
import numpy as np
import pytest
import tifffile

from tomolive import Publisher
from tomolive.config import LiveSettings
from tomolive.live.accumulate import SliceAccumulator
from tomolive.live.controls import Controls, Wish
from tomolive.live.crew.crew import Crew
from tomolive.live.crew.engines import DaskEngine, Engine, LocalEngine
from tomolive.live.crew.follow import CrewReconstruction
from tomolive.live.crew.share import Source
from tomolive.live.snapshot import SnapshotStore, Status
from tomolive.stream.dispatcher import RemoteDispatcher

pytestmark = pytest.mark.timeout(300)

ANGLES = np.linspace(0, np.pi, 40)
SHAPES = {"camera": (32, 48), "side": (24, 64)}
CENTERS = {"camera": 23.1, "side": 32.4}


def _counts(camera: str) -> dict[str, np.ndarray]:
    """Return darks, flats and projections of a camera that looks at two rods, raw counts."""
    rows, columns = SHAPES[camera]
    rng = np.random.default_rng(columns)
    column = np.arange(columns)
    frames = []
    for angle in ANGLES:
        integral = np.zeros((rows, columns))
        for x, y, radius in ((6.0, 2.0, 4.0), (-7.0, -3.0, 3.0)):
            at = CENTERS[camera] + x * np.cos(angle) + y * np.sin(angle)
            rod = 0.1 * 2 * np.sqrt(np.clip(radius**2 - (column - at) ** 2, 0, None))
            integral += rod * np.linspace(0.5, 1, rows)[:, None]
        frames.append(rng.poisson(20000 * np.exp(-integral)))
    flats = rng.poisson(20000, (4, rows, columns))
    projections = np.array(frames)
    return {
        "darks": np.full((2, rows, columns), 100, np.uint16),
        "flats": (flats + 100).astype(np.uint16),
        "projections": (projections + 100).astype(np.uint16),
    }


class TwoCameras:
    """A run of two cameras and one encoder: documents, and their HDF5 files, made step by step."""

    def __init__(self, folder: Path, publish: Publisher) -> None:
        self.publish = publish
        self.counts = {camera: _counts(camera) for camera in SHAPES}
        tomography = {
            "version": 1, "image_key": "camera", "angle_key": "angle", "num_projections": len(ANGLES),
            "streams": {"darks": "darks", "flats": "flats", "projections": "projections"},
            "angle_start": 0.0, "angle_stop": 180.0, "pixel_size": 2.0, "pixel_size_units": "um",
        }  # fmt: skip
        run = event_model.compose_run(metadata={"tomography": tomography, "plan_name": "tomo_fly"})
        self.run, self.uid = run, run.start_doc["uid"]
        publish("start", run.start_doc)
        self.assets = {}
        for camera, stacks in self.counts.items():
            with h5py.File(folder / f"{camera}.h5", "w") as file:
                file["data"] = np.concatenate([stacks["darks"], stacks["flats"], stacks["projections"]])
            self.assets[camera] = run.compose_stream_resource(
                mimetype="application/x-hdf5", uri=f"file://localhost{folder}/{camera}.h5", data_key=camera,
                parameters={"dataset": "/data", "chunk_shape": (1, *SHAPES[camera])},
            )  # fmt: skip
            publish("stream_resource", self.assets[camera].stream_resource_doc)
        self.at = 0
        self._stream("darks", 2, {})
        self._stream("flats", 4, {})
        angle = {"angle": {"source": "test", "dtype": "number", "shape": [], "units": "deg"}}
        self.turn = self._descriptor("projections", angle)
        self.first = self.at
        self.taken = 0

    def _descriptor(self, name: str, more: dict[str, Any]) -> Any:
        keys = {
            camera: {"source": "test", "dtype": "array", "shape": [1, *shape], "external": "STREAM:"}
            for camera, shape in SHAPES.items()
        }
        composed = self.run.compose_descriptor(name=name, data_keys=keys | more, object_keys={"det": [*keys]})
        self.publish("descriptor", composed.descriptor_doc)
        return composed

    def _announce(self, descriptor: Any, first: int, last: int, seq: int) -> None:
        for asset in self.assets.values():
            doc = asset.compose_stream_datum(
                indices={"start": first, "stop": last}, seq_nums={"start": seq, "stop": seq + last - first},
                descriptor=descriptor.descriptor_doc,
            )  # fmt: skip
            self.publish("stream_datum", doc)

    def _stream(self, name: str, count: int, more: dict[str, Any]) -> None:
        self._announce(self._descriptor(name, more), self.at, self.at + count, 1)
        self.at += count

    def project(self, count: int) -> None:
        """Take some projections."""
        for i in range(self.taken, self.taken + count):
            degrees = float(np.degrees(ANGLES[i]))
            event = self.turn.compose_event(data={"angle": degrees}, timestamps={"angle": time.time()})
            self.publish("event", event)
        self._announce(self.turn, self.first + self.taken, self.first + self.taken + count, self.taken + 1)
        self.taken += count

    def end(self) -> None:
        """Close the run."""
        self.publish("stop", self.run.compose_stop())

    def truth(self, camera: str, center: float, filter_: str = "ramp") -> dict[str, np.ndarray]:
        """Return the slices that one process makes of all projections, 1/pixel."""
        slices = SliceAccumulator(*SHAPES[camera], center=center, filter=filter_)
        stacks = self.counts[camera]
        slices.set_references(stacks["darks"], stacks["flats"])
        slices.add(stacks["projections"], ANGLES, range(len(ANGLES)))
        slices.finish()
        return slices.slices()


@pytest.fixture
def scan(hub: str, tmp_path: Path) -> Iterator[TwoCameras]:
    """A scan of two cameras, ready for its projections."""
    (tmp_path / "data").mkdir()
    publisher = Publisher(hub, spool=tmp_path / "spool")
    yield TwoCameras(tmp_path / "data", publisher)
    publisher.close(10)


def _crew(scan: TwoCameras, hub: str, folder: Path, engine: Engine, **settings: Any) -> Crew:
    live = LiveSettings(threads=1, **settings)
    return Crew(scan.uid, SHAPES, source=Source(hub, roots=(str(folder),)), engine=engine, settings=live)


def _until(crew: Crew, right: Any, what: str) -> None:
    deadline = time.monotonic() + 120
    while not right():
        crew.step()
        assert not crew.failure
        assert time.monotonic() < deadline, f"{what}: {crew.workers}"
        time.sleep(0.02)


def _assert_right(crew: Crew, scan: TwoCameras, filter_: str = "ramp") -> None:
    for camera in SHAPES:
        center = crew.center(camera)
        assert center == pytest.approx(CENTERS[camera], abs=0.3)
        truth = scan.truth(camera, center, filter_)
        for plane, pixels in crew.pictures(camera).items():
            assert np.abs(pixels - truth[plane]).max() <= 1e-5 * np.abs(truth[plane]).max(), (camera, plane)


def test_two_cameras_by_two_processes(scan: TwoCameras, hub: str, tmp_path: Path) -> None:
    """Slices of each camera, put together from bands, are those that one process makes; no row is missing."""
    engine = LocalEngine(2)
    crew = _crew(scan, hub, tmp_path / "data", engine)
    try:
        scan.project(40)
        scan.end()
        _until(crew, lambda: crew.is_done, "the end")
        assert len(crew.workers) == 4
        assert {crew.received(camera) for camera in SHAPES} == {40}
        _assert_right(crew, scan)
        crew.set_filter("hann")
        crew.set_center("camera", 22.0)
        _until(crew, lambda: crew.is_done and crew.center("camera") == 22.0, "the change")
        _until(crew, lambda: all(s.filter == "hann" for s in crew.reports), "the filter")
        truth = scan.truth("camera", 22.0, "hann")
        found = crew.pictures("camera")
        assert all(np.allclose(found[p], truth[p], atol=1e-5 * np.abs(truth[p]).max()) for p in truth)
    finally:
        engine.close()


def test_a_killed_process_is_replaced(scan: TwoCameras, hub: str, tmp_path: Path) -> None:
    """SIGKILL of a worker half way: its shares are begun anew, and every row is right in the end."""
    engine = LocalEngine(2)
    crew = _crew(scan, hub, tmp_path / "data", engine)
    try:
        scan.project(20)
        _until(crew, lambda: all(crew.received(camera) == 20 for camera in SHAPES), "half way")
        os.kill(int(crew.workers[0].name.split()[0].rpartition(":")[2]), signal.SIGKILL)
        scan.project(20)
        scan.end()
        _until(crew, lambda: crew.is_done, "the end")
        assert crew.replaced
        _assert_right(crew, scan)
    finally:
        engine.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A Dask scheduler and two workers, real processes; yield the address and the workers."""
    pytest.importorskip("distributed", reason="Dask distributed is an extra")
    file = tmp_path / "scheduler.json"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    scheduler = subprocess.Popen([*dask, "--host", "127.0.0.1", "--scheduler-file", str(file)], **quiet)
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        "--scheduler-file",
        str(file),
        "--no-nanny",
    ]
    worker += ["--nthreads", "2", "--no-dashboard", "--local-directory", str(tmp_path / "dask")]
    workers = [subprocess.Popen(worker, **quiet) for _ in range(2)]
    deadline = time.monotonic() + 60
    while not file.exists() or not file.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield json.loads(file.read_text())["address"], workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_two_dask_workers_of_which_one_is_killed(
    scan: TwoCameras, hub: str, tmp_path: Path, cluster: tuple[str, list[subprocess.Popen]]
) -> None:
    """A scan of two cameras over two workers, one killed on the way, ends right."""
    address, workers = cluster
    engine = DaskEngine(address, size=2)
    crew = _crew(scan, hub, tmp_path / "data", engine)
    try:
        scan.project(20)
        _until(crew, lambda: all(crew.received(camera) == 20 for camera in SHAPES), "half way")
        doing = {worker.name.split()[0].rpartition(":")[2] for worker in crew.workers}
        assert doing == {str(process.pid) for process in workers}
        workers[0].kill()
        workers[0].wait()
        scan.project(20)
        scan.end()
        _until(crew, lambda: crew.is_done, "the end")
        assert crew.replaced
        assert {worker.name.split()[0].rpartition(":")[2] for worker in crew.workers} == {str(workers[1].pid)}
        _assert_right(crew, scan)
    finally:
        engine.close()


def test_the_page_is_told_and_results_are_written(scan: TwoCameras, hub: str, tmp_path: Path) -> None:
    """Status, workers with their rows, a choice of camera, and a folder for each camera."""
    store, controls = SnapshotStore(), Controls()
    source = Source(hub, roots=(str(tmp_path / "data"),))
    follow = CrewReconstruction(
        RemoteDispatcher(hub, start=scan.uid), source, LocalEngine(2), store, controls,
        results=tmp_path / "results", settings=LiveSettings(threads=1),
    )  # fmt: skip
    thread = threading.Thread(target=follow.run)
    thread.start()
    try:
        scan.project(40)
        scan.end()
        status = _status(store, lambda s: s.state == "finished")
        assert status.cameras == ("camera", "side")
        assert sorted(w.rows for w in status.workers) == [(0, 12), (0, 16), (12, 24), (16, 32)]
        assert {w.done for w in status.workers} == {40}
        controls.post(Wish("someone", camera="side"))
        _status(store, lambda s: s.camera == "side")
        assert store.latest.pictures["xz"].pixels.shape == SHAPES["side"]
        assert not controls.pending
    finally:
        follow.stop()
        thread.join(60)
    for camera, folder in (("camera", tmp_path / "results"), ("side", tmp_path / "results" / "side")):
        summary = json.loads((folder / scan.uid / "summary.json").read_text())
        assert summary["frames"]["received"] == 40
        assert summary["camera"] == camera
        truth = scan.truth(camera, summary["center"])["xz"] * 1e4 / 2.0
        written = tifffile.imread(folder / scan.uid / "xz.tif")
        assert np.abs(written - truth).max() <= 1e-5 * np.abs(truth).max()


def _status(store: SnapshotStore, right: Any) -> Status:
    deadline = time.monotonic() + 120
    while not right(store.latest.status):
        assert time.monotonic() < deadline, store.latest.status
        time.sleep(0.05)
    return store.latest.status
