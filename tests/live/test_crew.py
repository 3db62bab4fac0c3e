"""Several workers reconstruct a scan by bands of rows: processes of this machine, and a Dask cluster."""

import contextlib
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
import zarr
from prometheus_client import REGISTRY

from tomolive import Publisher
from tomolive.config import CorrectionSettings, FilesSettings, LiveSettings, VolumeSettings
from tomolive.errors import AddressError, ScanError
from tomolive.live.controls import Controls, Wish
from tomolive.live.crew.crew import Crew
from tomolive.live.crew.engines import DaskEngine, Engine, LocalEngine
from tomolive.live.crew.follow import CrewReconstruction
from tomolive.live.crew.messages import Source
from tomolive.live.documents.fields import fields_of, tiles_of
from tomolive.live.documents.references import References
from tomolive.live.documents.rules import shipped_rules
from tomolive.live.documents.run import Batch, Scan
from tomolive.live.documents.scan import ScanReader
from tomolive.live.snapshot import SnapshotStore, Status
from tomolive.live.tomogram import Tomogram
from tomolive.live.volume.documents import DocumentSource
from tomolive.live.volume.reading import Reading, ScanRows
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.rows import RowStore
from tomolive.live.volume.tiles import read_field
from tomolive.live.volume.volume import make_volume
from tomolive.recon import reconstruct
from tomolive.recon.pipeline import correct_projections, references, retrieve_phase
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

    def __init__(
        self,
        folder: Path,
        publish: Publisher,
        counts: dict[str, dict[str, np.ndarray]] | None = None,
        **about: Any,
    ) -> None:
        self.publish = publish
        self.counts = counts or {camera: _counts(camera) for camera in SHAPES}
        self.shapes = {camera: stacks["flats"].shape[1:] for camera, stacks in self.counts.items()}
        tomography = {
            "version": 1, "image_key": "camera", "angle_key": "angle", "num_projections": len(ANGLES),
            "streams": {"darks": "darks", "flats": "flats", "projections": "projections"},
            "angle_start": 0.0, "angle_stop": 180.0, "pixel_size": 2.0, "pixel_size_units": "um",
            **about,
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
                parameters={"dataset": "/data", "chunk_shape": (1, *self.shapes[camera])},
            )  # fmt: skip
            publish("stream_resource", self.assets[camera].stream_resource_doc)
        self.at = 0
        self._stream("darks", 2, {})
        self._stream("flats", 4, {})
        angle = {"angle": {"source": "test", "dtype": "number", "shape": [], "units": "deg"}}
        self.turn = self._descriptor("projections", angle)
        self.first = self.at
        self.taken = 0
        assert publish.flush(60)  # who asks the hub for this run finds it

    def _descriptor(self, name: str, more: dict[str, Any]) -> Any:
        keys = {
            camera: {"source": "test", "dtype": "array", "shape": [1, *shape], "external": "STREAM:"}
            for camera, shape in self.shapes.items()
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

    def truth(self, camera: str, center: float, **settings: Any) -> Tomogram:
        """Return what one process makes of all projections."""
        stacks, references = self.counts[camera], References()
        scan = _scan(self.run.start_doc)
        for kind in ("dark", "flat"):
            references.add(Batch(kind, self.uid, 0, stacks[f"{kind}s"], None))
        live = LiveSettings(threads=1, center=center, **settings)
        tomogram = Tomogram(scan, SHAPES[camera], references, live, {})
        tomogram.add(Batch("projection", self.uid, 0, stacks["projections"], ANGLES))
        tomogram.finish(refine=False)
        return tomogram


def _scan(start: Any) -> Scan:
    reader = ScanReader()
    reader.document("start", start)
    scan = reader.scan(start["uid"])
    assert scan is not None
    return scan


@pytest.fixture
def scan(hub: str, tmp_path: Path) -> Iterator[TwoCameras]:
    """A scan of two cameras, ready for its projections."""
    (tmp_path / "data").mkdir()
    publisher = Publisher(hub, spool=tmp_path / "spool")
    yield TwoCameras(tmp_path / "data", publisher)
    publisher.close(10)


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalEngine]:
    """Two processes of this machine, for all tests: to start them takes longest."""
    engine = LocalEngine(2)
    yield engine
    engine.close()


def _crew(scan: TwoCameras, hub: str, folder: Path, engine: Engine, **settings: Any) -> Crew:
    live = LiveSettings(threads=1, **settings)
    fields = fields_of(SHAPES, {})
    source = Source(hub, roots=(str(folder),))
    return Crew(_scan(scan.run.start_doc), fields, source=source, engine=engine, settings=live)


def _until(crew: Crew, right: Any, what: str) -> None:
    deadline = time.monotonic() + 120
    while not right():
        crew.step()
        assert not crew.failure
        assert time.monotonic() < deadline, f"{what}: {crew.workers}"
        time.sleep(0.01)


def _received(crew: Crew) -> set[int]:
    return {team.received for team in crew.teams.values()}


def _assert_like(found: np.ndarray | None, truth: np.ndarray | None, what: Any) -> None:
    """The same to 1e-5 of the maximum, and not a number at the same places."""
    assert found is not None
    assert truth is not None
    assert found.shape == truth.shape, what
    assert np.array_equal(np.isnan(found), np.isnan(truth)), what
    assert np.nanmax(np.abs(found - truth)) <= 1e-5 * np.nanmax(np.abs(truth)), what


def _assert_right(crew: Crew, scan: TwoCameras) -> None:
    for camera, team in crew.teams.items():
        assert team.center == pytest.approx(CENTERS[camera], abs=0.3)
        truth = scan.truth(camera, team.center, filter=team.filter, corrections=team.corrections).slices()
        for plane, pixels in team.slices().items():
            _assert_like(pixels, truth[plane], (camera, plane))


def test_two_cameras_by_two_processes(
    scan: TwoCameras, hub: str, tmp_path: Path, processes: LocalEngine
) -> None:
    """Slices of each camera, put together from bands, are those that one process makes; no row is missing."""
    crew = _crew(scan, hub, tmp_path / "data", processes)
    scan.project(40)
    scan.end()
    _until(crew, lambda: crew.is_done, "the end")
    assert len(crew.workers) == 4
    assert _received(crew) == {40}
    _assert_right(crew, scan)
    camera = crew.teams["camera"]
    camera.change(Wish("someone", filter="hann", center=22.0))
    _until(crew, lambda: crew.is_done, "the change")
    truth = scan.truth("camera", 22.0, filter="hann")
    for plane, pixels in camera.slices().items():
        _assert_like(pixels, truth.slices()[plane], plane)


PAGANIN = {"energy_kev": 25, "distance_m": 0.01, "pixel_size_um": 2, "delta_beta": 50}


@pytest.mark.parametrize("corrections", [{"zingers": True, "binning": 2}, {"paganin": PAGANIN}])
def test_what_is_looked_at_is_what_one_process_shows(
    scan: TwoCameras, hub: str, tmp_path: Path, processes: LocalEngine, corrections: dict[str, Any]
) -> None:
    """Corrections across the edges of bands, oblique planes, sinograms, the newest projection."""
    crew = _crew(scan, hub, tmp_path / "data", processes)
    scan.project(40)
    scan.end()
    _until(crew, lambda: crew.is_done, "the end")
    team, wanted = crew.teams["camera"], CorrectionSettings.model_validate(corrections)
    team.change(Wish("someone", corrections=wanted, center=CENTERS["camera"]))
    rows, columns, _ = team.volume_shape
    row = rows // 2  # the first of the second band
    places: list[Any] = [("oblique", (63.0, 20.0, 1.5)), ("xy", (row - 1.0,)), ("xz", (columns // 3,))]

    def is_there() -> bool:
        team.look(places)  # as a page does with each picture
        team.keep_sinograms({row})
        known = [post.pictures for post in team.posts]
        seen = all("oblique@63,20,1.5" in one for one in known) and team.projection() is not None
        return seen and crew.is_done

    _until(crew, is_there, "what is looked at")
    truth = scan.truth("camera", CENTERS["camera"], corrections=wanted)
    for place in places:
        _assert_like(team.picture(place), truth.picture(place), place)
    for plane, pixels in team.slices().items():
        _assert_like(pixels, truth.slices()[plane], plane)
    _assert_like(team.sinogram(row), truth.sinogram(row), "the sinogram")
    found, expected = team.projection(), truth.projection()
    assert found is not None
    assert expected is not None
    assert (found[0], found[2]) == (expected[0], expected[2])
    _assert_like(found[1], expected[1], "the projection")


def test_a_killed_process_is_replaced(
    scan: TwoCameras, hub: str, tmp_path: Path, processes: LocalEngine
) -> None:
    """SIGKILL of a worker half way: its shares are begun anew, and every row is right in the end."""
    crew = _crew(scan, hub, tmp_path / "data", processes)
    scan.project(20)
    _until(crew, lambda: _received(crew) == {20}, "half way")
    os.kill(int(crew.workers[0].name.split()[0].rpartition(":")[2]), signal.SIGKILL)
    scan.project(20)
    scan.end()
    _until(crew, lambda: crew.is_done, "the end")
    assert crew.replaced
    assert _received(crew) == {40}
    _assert_right(crew, scan)


FIELD, FIELD_CENTER = (40, 72), 34.6
TILES = {
    "beside": {"camera": ((2, 0), (38, 42)), "side": ((0, 30), (39, 42))},
    "above": {"camera": ((0, 0), (24, 72)), "side": ((17, 0), (23, 72))},
}
"""Of each camera row and column in the field, and shape."""


def _field_integrals() -> np.ndarray:
    """Return the line integrals of two rods, without noise, (angles, rows, columns) of the field."""
    column = np.arange(FIELD[1])
    frames = []
    for angle in ANGLES:
        integral = np.zeros(FIELD)
        for x, y, radius in ((14.0, 3.0, 9.0), (-14.0, -4.0, 7.0)):
            at = FIELD_CENTER + x * np.cos(angle) + y * np.sin(angle)
            rod = 0.05 * 2 * np.sqrt(np.clip(radius**2 - (column - at) ** 2, 0, None))
            integral += rod * np.linspace(0.5, 1, FIELD[0])[:, None]
        frames.append(integral)
    return np.array(frames)


def _seen(integrals: np.ndarray, place: tuple[int, int], shape: tuple[int, int], full: int) -> dict[str, Any]:
    """Return the counts of a camera that sees a part of the field, with a beam and a noise of its own."""
    rng = np.random.default_rng(full)
    part = integrals[:, place[0] : place[0] + shape[0], place[1] : place[1] + shape[1]]
    beam = full * rng.uniform(0.8, 1.2, shape)
    return {
        "darks": np.full((2, *shape), 100, np.uint16),
        "flats": (100 + np.tile(beam, (4, 1, 1))).round().astype(np.uint16),
        "projections": (100 + rng.normal(beam * np.exp(-part), 3)).round().astype(np.uint16),
    }


def _stitched(counts: dict[str, Any], how: str) -> np.ndarray:
    """Return the line integrals of the field, in rows that are seen over its whole width."""
    found, weight = np.zeros((len(ANGLES), *FIELD)), np.zeros(FIELD)
    (_, (rows, columns)), (b, _) = TILES[how]["camera"], TILES[how]["side"]
    for camera, (place, shape) in TILES[how].items():
        stacks, window = counts[camera], np.s_[place[0] : place[0] + shape[0], place[1] : place[1] + shape[1]]
        field = references(stacks["flats"], stacks["darks"])
        integrals = correct_projections(stacks["projections"], field)
        # a line from 1 to 0 over what both see
        first, last = (b[1], columns) if how == "beside" else (b[0], rows)
        at = np.arange(FIELD[1])[None] if how == "beside" else np.arange(FIELD[0])[:, None]
        share = np.clip((last - at) / (last - first + 1), 0, 1) * np.ones(FIELD)
        share = np.where(at < first, 1, share)
        share = (share if camera == "camera" else 1 - share)[window]
        found[:, window[0], window[1]] += integrals * share
        weight[window] += share
    assert np.allclose(weight[2 if how == "beside" else 0 : 39 if how == "beside" else 40], 1)
    return found[:, 2:39] if how == "beside" else found


@pytest.mark.parametrize("how", ["beside", "above"])
def test_two_cameras_see_one_field(hub: str, tmp_path: Path, processes: LocalEngine, how: str) -> None:
    """Side by side or above each other: slices are those of one detector as large as both together."""
    integrals = _field_integrals()
    (tmp_path / "data").mkdir()
    counts = {
        camera: _seen(integrals, place, shape, full)
        for (camera, (place, shape)), full in zip(TILES[how].items(), (20000, 50000), strict=True)
    }
    tiles = {camera: {"row": place[0], "column": place[1]} for camera, (place, _) in TILES[how].items()}
    with contextlib.closing(Publisher(hub, spool=tmp_path / "spool")) as publisher:
        scan = TwoCameras(tmp_path / "data", publisher, counts, tiles=tiles)
        start = _scan(scan.run.start_doc)
        fields = fields_of(scan.shapes, tiles_of(start.start, start.rules, {}))
        live = LiveSettings(threads=1, center=FIELD_CENTER)
        source = Source(hub, roots=(str(tmp_path),))
        crew = Crew(start, fields, source=source, engine=processes, settings=live)
        scan.project(25)
        scan.project(15)
        scan.end()
        _until(crew, lambda: crew.is_done, "the end")
    (team,) = crew.teams.values()
    joined = _stitched(counts, how)
    assert team.received == 40
    assert team.volume_shape == (joined.shape[1], 72, 72)
    volume = reconstruct(joined.transpose(1, 0, 2), ANGLES, FIELD_CENTER, method="backprojection") * 1e4 / 2
    positions = team.positions
    truth = {"xy": volume[positions["xy"]], "xz": volume[:, positions["xz"]]}
    truth["yz"] = volume[:, :, positions["yz"]]
    for plane, pixels in team.slices().items():
        _assert_like(pixels, truth[plane], (how, plane))
    # the rods are as dense as they were made, across the seam
    wide = slice(2, 39) if how == "beside" else slice(None)
    ideal = reconstruct(integrals[:, wide].transpose(1, 0, 2), ANGLES, FIELD_CENTER, method="backprojection")
    assert np.abs(volume * 2 / 1e4 - ideal).max() < 0.1 * np.abs(ideal).max()

    if how == "beside":
        _assert_volume_right(hub, scan.uid, tmp_path, joined)


def _assert_volume_right(hub: str, run_uid: str, folder: Path, joined: np.ndarray) -> None:
    """A volume of the documents, with a correction across the seam, is that of one large detector."""
    corrections = CorrectionSettings.model_validate({"paganin": PAGANIN})
    request = VolumeRequest(
        run_uid, DocumentSource(hub=hub), center=FIELD_CENTER, corrections=corrections,
        volume=VolumeSettings(folder=str(folder / "volumes"), processes=1),
        files=FilesSettings(roots=(str(folder),), patience_s=0.5),
    )  # fmt: skip
    made = np.asarray(zarr.open_array(make_volume(request).path / "0", mode="r")[:])
    smooth = retrieve_phase(joined.astype(np.float32), corrections)
    expected = reconstruct(smooth.transpose(1, 0, 2), ANGLES, FIELD_CENTER) * 1e4 / 2
    assert made.shape == expected.shape
    # slices are made in blocks of other sizes, which gridding rounds in another way
    assert np.abs(made - expected).max() <= 1e-4 * np.abs(expected).max()


class Recorder:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, Any]] = []

    def __call__(self, name: str, doc: Any) -> None:
        """Keep a document."""
        self.documents.append((name, doc))

    def flush(self, timeout: float) -> bool:  # noqa: ARG002  as a `Publisher` has it
        """Nothing is under way."""
        return True


def _rows_of(scan: TwoCameras, recorder: Recorder, folder: Path) -> ScanRows:
    how = Reading(FilesSettings(roots=(str(folder),), patience_s=0.5))
    return read_field(recorder.documents, lambda _: (), RowStore.in_memory, how)


def _bytes_read() -> float:
    """Return what the readers of this process have read so far."""
    return REGISTRY.get_sample_value("tomolive_files_bytes_total") or 0.0


@pytest.mark.parametrize("together", [False, True])
def test_a_volume_reads_each_file_once_and_no_others(tmp_path: Path, together: bool) -> None:
    """Of two cameras the one that is reconstructed; both, if they see one field."""
    recorder: Any = Recorder()
    tiles = {"camera": {}, "side": {"column": 20}} if together else {}
    scan = TwoCameras(
        tmp_path, recorder, {"camera": _counts("camera"), "side": _counts("camera")}, tiles=tiles
    )
    scan.project(40)
    scan.end()
    before = _bytes_read()
    rows = _rows_of(scan, recorder, tmp_path)
    rows.store.close()
    assert rows.present.all()
    used = ("camera", "side") if together else ("camera",)
    assert _bytes_read() - before == sum(a.nbytes for one in used for a in scan.counts[one].values())


def test_cameras_that_saw_the_beam_one_after_the_other_make_no_field(tmp_path: Path) -> None:
    """Where one has beam the other has none: said, instead of a volume of nothing."""
    recorder: Any = Recorder()
    counts = {"camera": _counts("camera"), "side": _counts("camera")}
    counts["camera"]["projections"][:24] = 100
    counts["side"]["projections"][16:] = 100
    scan = TwoCameras(tmp_path, recorder, counts, tiles={"camera": {}, "side": {"column": 20}})
    scan.project(40)
    scan.end()
    with pytest.raises(ScanError, match=r"camera\+side have no two projections"):
        _rows_of(scan, recorder, tmp_path)


def test_tiles_that_leave_a_gap_or_have_no_camera_are_refused() -> None:
    """With what is open, or which cameras there are; one camera at several heights is not stitched."""
    shapes = {"a": (20, 30), "b": (20, 30)}
    with pytest.raises(ScanError, match="columns 30 to 34"):
        fields_of(shapes, {"a": (0, 0), "b": (0, 35)})
    with pytest.raises(ScanError, match="rows 20 to 24"):
        fields_of(shapes, {"a": (0, 0), "b": (25, 0)})
    with pytest.raises(ScanError, match=r"'c'.*'a', 'b'.*several positions"):
        fields_of(shapes, {"a": (0, 0), "c": (10, 0)})
    start = {"tomography": {"version": 1, "tiles": {"a": {"row": 0.5}, "b": {}}}}
    rules = shipped_rules()[0]
    with pytest.raises(ScanError, match="whole pixels"):
        tiles_of(start, rules, {})


MORTAL = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
"""Has the kernel end a program when the one that started it ends, however that ends (PR_SET_PDEATHSIG)."""


class Cluster:
    """A Dask scheduler and workers, real processes that end with the tests."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / "scheduler.json"
        self._all: list[subprocess.Popen] = []
        self.workers: list[subprocess.Popen] = []
        self.scheduler = self.start_scheduler(0)
        deadline = time.monotonic() + 60
        while not self._file.exists() or not self._file.read_text().strip():
            assert time.monotonic() < deadline, (folder / "dask.log").read_text()
            time.sleep(0.05)
        self.address: str = json.loads(self._file.read_text())["address"]

    def start_scheduler(self, port: int) -> subprocess.Popen:
        """Start the scheduler, or another one in its place."""
        where = ["--host", "127.0.0.1", "--port", str(port), "--scheduler-file", str(self._file)]
        self.scheduler = self._start("scheduler", *where)
        return self.scheduler

    def start_worker(self) -> None:
        """Start a worker more."""
        about = ["--no-nanny", "--nthreads", "2", "--local-directory", str(self._folder / "dask")]
        self.workers.append(self._start("worker", self.address, *about))

    def close(self) -> None:
        """End all of them."""
        for process in self._all:
            process.kill()
            process.wait()

    def _start(self, what: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, "--no-dashboard"]
        with (self._folder / "dask.log").open("ab") as log:
            self._all.append(
                subprocess.Popen([sys.executable, "-c", MORTAL, *command], stdout=log, stderr=log)
            )
        return self._all[-1]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A Dask cluster of two workers."""
    pytest.importorskip("distributed", reason="Dask distributed is an extra")
    with contextlib.closing(Cluster(tmp_path)) as cluster:
        cluster.start_worker()
        cluster.start_worker()
        yield cluster


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_two_dask_workers_of_which_one_is_killed_and_then_the_scheduler(
    scan: TwoCameras, hub: str, tmp_path: Path, cluster: Cluster
) -> None:
    """A scan of two cameras ends right, one worker killed on the way; so does a change after a restart."""
    engine = DaskEngine(cluster.address, size=2)
    crew = _crew(scan, hub, tmp_path / "data", engine)

    def pids() -> set[str]:
        return {worker.name.split()[0].rpartition(":")[2] for worker in crew.workers}

    try:
        scan.project(20)
        _until(crew, lambda: _received(crew) == {20}, "half way")
        assert pids() == {str(process.pid) for process in cluster.workers}
        cluster.workers[0].kill()
        cluster.workers[0].wait()
        scan.project(20)
        scan.end()
        _until(crew, lambda: crew.is_done, "the end")
        assert crew.replaced
        assert pids() == {str(cluster.workers[1].pid)}
        _assert_right(crew, scan)

        for process in (cluster.scheduler, cluster.workers[1]):
            process.kill()
            process.wait()
        _until(crew, lambda: f"at {cluster.address} does not answer" in crew.trouble, "the trouble")
        assert _received(crew) == {40}
        crew.teams["side"].change(Wish("someone", filter="hann"))
        cluster.start_scheduler(int(cluster.address.rpartition(":")[2]))
        cluster.start_worker()
        _until(crew, lambda: crew.is_done, "the change")
        assert pids() == {str(cluster.workers[2].pid)}
        _assert_right(crew, scan)
    finally:
        engine.close()


def test_a_cluster_that_is_not_there_is_named_with_what_to_do() -> None:
    """The address, and the commands that start a scheduler and a worker."""
    pytest.importorskip("distributed", reason="Dask distributed is an extra")
    with pytest.raises(AddressError, match=r"127\.0\.0\.1:1 .*`dask scheduler`.*`dask worker tcp://127"):
        DaskEngine("tcp://127.0.0.1:1", timeout=0.2)


def test_the_page_is_told_and_results_are_written(
    scan: TwoCameras, hub: str, tmp_path: Path, processes: LocalEngine
) -> None:
    """Status, workers with their rows, a choice of camera; a folder and a result run for each camera."""
    store, controls = SnapshotStore(), Controls()
    source = Source(hub, roots=(str(tmp_path / "data"),))
    documents: list[tuple[str, dict[str, Any]]] = []
    lasting: Any = Lasting(processes)
    follow = CrewReconstruction(
        RemoteDispatcher(hub, start=scan.uid), source, lasting, store, controls,
        results=tmp_path / "results", settings=LiveSettings(threads=1),
        publish=lambda name, doc: documents.append((name, doc)),
    )  # fmt: skip
    thread = threading.Thread(target=follow.run)
    thread.start()
    try:
        scan.project(40)
        scan.end()
        _status(store, lambda s: s.state == "finished")
        # the camera that is not shown may end later
        status = _status(store, lambda s: {w.done for w in s.workers} == {40})
        assert status.cameras == ("camera", "side")
        assert sorted(w.rows for w in status.workers) == [(0, 16), (0, 16), (16, 24), (16, 32)]
        assert status.frames_received == 40
        assert "Transmission" in {trend.name for trend in status.trends}
        controls.post(Wish("someone", camera="side"))
        _status(store, lambda s: s.camera == "side")
        assert store.latest.pictures["xz"].pixels.shape == SHAPES["side"]
        _status(store, lambda s: s.camera == "side" and "projection" in store.latest.pictures)
        assert store.latest.pictures["projection"].pixels.shape == SHAPES["side"]
        controls.post(Wish("someone", center=CENTERS["side"]))
        _status(store, lambda _: len([name for name, _ in documents if name == "stop"]) == 3)
        _status(store, lambda _: not controls.pending)
    finally:
        follow.stop()
        thread.join(60)
    for camera, folder in (("camera", tmp_path / "results"), ("side", tmp_path / "results" / "side")):
        summary = json.loads((folder / scan.uid / "summary.json").read_text())
        assert summary["frames"]["received"] == 40
        assert summary["camera"] == camera
        written = tifffile.imread(folder / scan.uid / "xz.tif")
        _assert_like(written, scan.truth(camera, summary["center"]).slices()["xz"], camera)
    assert summary["center"] == CENTERS["side"]
    for name, doc in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)
    starts = [doc for name, doc in documents if name == "start"]
    assert {doc["raw_run"] for doc in starts} == {scan.uid}
    told = [doc["tomolive"]["parameters"] for doc in starts]
    assert sorted(one["camera"] for one in told if one["center"] != CENTERS["side"]) == ["camera", "side"]
    assert [one["camera"] for one in told if one["center"] == CENTERS["side"]] == ["side"]


class Lasting:
    """An engine that lasts longer than who follows scans with it."""

    trouble = ""

    def __init__(self, engine: LocalEngine) -> None:
        self.size, self.lost = engine.size, engine.lost
        self.ask, self.replace = engine.ask, engine.replace

    def close(self) -> None:
        """Others need it."""


def _status(store: SnapshotStore, right: Any) -> Status:
    deadline = time.monotonic() + 120
    while not right(store.latest.status):
        assert time.monotonic() < deadline, store.latest.status
        time.sleep(0.02)
    return store.latest.status
