"""Simulated scans through a RunEngine, in both styles of ophyd and both ways to turn the stage."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bluesky.plans import count

from tomolive.acquire.plans import Scan, half_turn
from tomolive.acquire.scene import UniformScene
from tomolive.acquire.session import NumberedFiles, Session, new_scan_folder
from tomolive.acquire.simulate import JITTER, Simulation, beamline, run_simulation
from tomolive.errors import FileAccessError, ScanError

WAYS = [(style, plan) for style in ("async", "classic") for plan in ("fly", "step")]
SMALL: dict[str, Any] = {"rows": 6, "columns": 32, "projections": 21, "darks": 3, "flats": 4, "rate": 200}


def simulate(recorded: Any, data: Path, **changes: Any) -> str:
    """Run one small scan; return how it ended."""
    outcomes = []
    with Session(None, callbacks=[recorded]) as session:
        run_simulation(Simulation(**(SMALL | changes)), session, data, done=outcomes.append)
    return outcomes[0].exit_status


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def scanned(request: pytest.FixtureRequest, recorder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One scan of each style and plan, over."""
    style, plan = request.param
    recorded = recorder()
    simulate(recorded, tmp_path_factory.mktemp(f"{style}-{plan}"), style=style, plan=plan, center=14.75)
    return recorded


def test_every_frame_is_announced_in_its_stream(scanned: Any) -> None:
    """Darks, flats and projections of one run are in the files, as many as planned, as bright as they are."""
    recorded = scanned
    image = recorded.start["tomography"]["image_key"]
    streams = recorded.streams()
    assert {name: keys[image].shape for name, keys in streams.items()} == {
        "darks": (3, 6, 32), "flats": (4, 6, 32), "projections": (21, 6, 32),
    }  # fmt: skip
    brightness = [streams[name][image].mean() for name in ("darks", "projections", "flats")]
    assert brightness == sorted(brightness)
    assert recorded.stop["exit_status"] == "success"


def test_angles_come_from_the_encoder(scanned: Any) -> None:
    """Each projection has a measured angle in degrees, 0 to 180 with both ends."""
    recorded, plan = scanned, scanned.start["plan_name"]
    key = recorded.start["tomography"]["angle_key"]
    angles = recorded.streams()["projections"][key]
    np.testing.assert_allclose(angles, np.linspace(0, 180, 21), atol=6 * JITTER)
    assert (plan == "tomo_fly") == bool(np.abs(angles - np.linspace(0, 180, 21)).max())
    descriptor = next(d for d in recorded.by_name["descriptor"] if d["name"] == "projections")
    assert descriptor["data_keys"][key]["units"] == "deg"


def test_start_document_says_what_a_consumer_needs(scanned: Any) -> None:
    """Streams, keys, planned numbers and angles, units, and what the simulated truth is."""
    recorded = scanned
    tomography = recorded.start["tomography"]
    assert tomography["version"] == 1
    assert tomography["streams"] == {"darks": "darks", "flats": "flats", "projections": "projections"}
    planned = [tomography[f"num_{name}"] for name in ("darks", "flats", "projections")]
    assert planned == [3, 4, 21]
    assert (tomography["angle_start"], tomography["angle_stop"]) == (0.0, 180.0)
    assert (tomography["pixel_size"], tomography["pixel_size_units"]) == (1.0, "um")
    assert (tomography["energy"], tomography["energy_units"]) == (25.0, "keV")
    assert tomography["simulation"]["rotation_center"] == 14.75
    keys = {name for d in recorded.by_name["descriptor"] for name in d["data_keys"]}
    assert {tomography["image_key"], tomography["angle_key"]} <= keys


@pytest.mark.parametrize("style", ["async", "classic"])
def test_a_fly_scan_is_announced_while_it_runs(recorded: Any, tmp_path: Path, style: str) -> None:
    """Documents of projections come in several portions before the last is taken."""
    simulate(recorded, tmp_path, style=style, projections=60, rate=60)
    (uid,) = (d["uid"] for d in recorded.by_name["descriptor"] if d["name"] == "projections")
    kind = "stream_datum" if style == "async" else "event_page"
    portions = [d for d in recorded.by_name[kind] if d["descriptor"] == uid]
    assert len(portions) >= 3


_MEASURE = """
import json, sys, h5py
for line in sys.stdin:
    path, dataset = json.loads(line)
    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        print(len(file[dataset]), flush=True)
"""


@pytest.fixture(scope="module")
def measure() -> Iterator[Callable[[str, str], int]]:
    """Ask a process of its own, as on an analysis host, how many frames a growing file holds."""
    command = [sys.executable, "-c", _MEASURE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        asked, answers = reader.stdin, reader.stdout

        def ask(path: str, dataset: str) -> int:
            asked.write(json.dumps([path, dataset]) + "\n")
            asked.flush()
            return int(answers.readline())

        yield ask
        asked.close()
        assert reader.wait(30) == 0


@pytest.mark.parametrize(("style", "plan"), WAYS)
def test_an_announced_frame_is_in_the_file(
    recorded: Any, tmp_path: Path, measure: Callable[[str, str], int], style: str, plan: str
) -> None:
    """Another process that opens the growing file at the moment of the document sees the frame."""
    compared = []

    def look(name: str, doc: dict[str, Any]) -> None:
        recorded(name, doc)
        if name == "stream_datum":
            resource = next(
                r for r in recorded.by_name["stream_resource"] if r["uid"] == doc["stream_resource"]
            )
            path, dataset = (
                resource["uri"].removeprefix("file://localhost"),
                resource["parameters"]["dataset"],
            )
            announced = doc["indices"]["stop"]
        elif name == "datum":
            resource = next(r for r in recorded.by_name["resource"] if r["uid"] == doc["resource"])
            path, dataset = str(Path(resource["root"]) / resource["resource_path"]), "/entry/data/data"
            announced = doc["datum_kwargs"]["point_number"] + 1
        else:
            return
        compared.append((announced, measure(path, dataset)))

    with Session(None, callbacks=[look]) as session:
        run_simulation(Simulation(**SMALL, style=style, plan=plan), session, tmp_path)
    assert compared
    assert all(announced <= found for announced, found in compared), compared


@pytest.mark.parametrize(("style", "plan"), WAYS)
def test_an_aborted_scan_leaves_valid_documents_and_closed_files(
    recorded: Any, tmp_path: Path, style: str, plan: str
) -> None:
    """After a stop in mid-scan the run has its stop document, and the files hold all that was announced."""
    seen = threading.Event()

    def watch(name: str, doc: dict[str, Any]) -> None:
        recorded(name, doc)
        if name in ("stream_datum", "datum") and len(recorded.by_name["descriptor"]) == 3:
            seen.set()

    outcomes: list[Any] = []
    with Session(None, callbacks=[watch]) as session:

        def stop() -> None:
            assert seen.wait(60)
            session.stop()

        stopper = threading.Thread(target=stop)
        stopper.start()
        simulation = Simulation(**SMALL | {"projections": 5000, "style": style, "plan": plan})
        run_simulation(simulation, session, tmp_path, count=0, done=outcomes.append)
        stopper.join()
    assert [o.exit_status for o in outcomes] == ["abort"]
    assert recorded.stop["exit_status"] == "abort"
    image = recorded.start["tomography"]["image_key"]
    taken = len(recorded.streams()["projections"][image])
    assert 0 < taken < 5000
    for path in tmp_path.glob("*/*.h5"):
        h5py.File(path, "r+").close()


@pytest.mark.parametrize("style", ["async", "classic"])
def test_no_frame_is_lost_when_the_camera_is_slower_than_the_plan(
    recorded: Any, tmp_path: Path, style: str
) -> None:
    """At an impossible rate the scan takes longer, and has every frame."""
    assert simulate(recorded, tmp_path, style=style, rate=1e6, projections=100) == "success"
    assert len(recorded.streams()["projections"][recorded.start["tomography"]["image_key"]]) == 100


@pytest.mark.parametrize("style", ["async", "classic"])
def test_scan_without_darks_and_flats(recorded: Any, tmp_path: Path, style: str) -> None:
    """Zero frames make no stream."""
    simulate(recorded, tmp_path, style=style, darks=0, flats=0)
    assert set(recorded.streams()) == {"projections"}


def test_step_scan_keeps_one_file_and_fly_scan_has_one_for_each_stream(recorded: Any, tmp_path: Path) -> None:
    """Consumers meet both: one resource over three streams, and a resource for each."""
    simulate(recorded, tmp_path / "step", plan="step")
    assert len(recorded.by_name["stream_resource"]) == 1
    assert [p.name for p in (tmp_path / "step").glob("*/*")] == ["camera_0001.h5"]
    simulate(recorded, tmp_path / "fly", plan="fly")
    assert sorted(p.name for p in (tmp_path / "fly").glob("*/*")) == [
        "camera_0001.h5", "camera_0002.h5", "camera_0003.h5", "encoder_0001.h5",
    ]  # fmt: skip


@pytest.mark.parametrize("style", ["async", "classic"])
def test_camera_of_ones_in_a_plain_count(recorded: Any, tmp_path: Path, style: str) -> None:
    """``count([det], 3)`` of bluesky works with the camera as it is."""
    with Session(None, callbacks=[recorded]) as session:
        if style == "classic":
            from tomolive.acquire.devices_classic import Camera

            det = Camera(name="det", scene=UniformScene(), directory=tmp_path)
        else:
            from ophyd_async.core import init_devices

            from tomolive.acquire.devices_async import Camera

            with init_devices():
                det = Camera(UniformScene(), NumberedFiles(tmp_path))
        assert det.name == "det"
        session.run(count([det], 3))
    (images,) = recorded.streams()["primary"].values()
    assert images.shape == (3, 5, 5)
    assert images.sum() == 75


@pytest.mark.parametrize("style", ["async", "classic"])
def test_folder_that_cannot_be_written_is_named(recorded: Any, tmp_path: Path, style: str) -> None:
    """A file where a folder should be ends the run as failed, with our error and its path."""
    from tomolive.acquire.plans import tomo_fly

    (tmp_path / "file").touch()
    with Session(None, callbacks=[recorded]) as session:
        devices = beamline(style, UniformScene(), tmp_path / "file")
        with pytest.raises(FileAccessError, match=str(tmp_path / "file")):
            session.run(tomo_fly(devices, Scan(half_turn(5), 1, 1, 0.01)))
    assert all(stop["exit_status"] == "fail" for stop in recorded.by_name["stop"])
    with pytest.raises(FileAccessError, match="choose another"):
        new_scan_folder(tmp_path / "file")


def test_scans_follow_each_other_with_seeds_of_their_own(recorded: Any, tmp_path: Path) -> None:
    """``count=2`` makes two runs whose noise differs."""
    with Session(None, callbacks=[recorded]) as session:
        run_simulation(Simulation(**SMALL, seed=5), session, tmp_path, count=2)
    seeds = [start["tomography"]["simulation"]["seed"] for start in recorded.by_name["start"]]
    assert seeds == [5, 6]


def test_scans_are_numbered_through_by_their_folders(recorded: Any, recorder: Any, tmp_path: Path) -> None:
    """The next process goes on counting, and folders of old scans may be gone."""
    simulate(recorded, tmp_path)
    (tmp_path / "scan_00041").mkdir()
    (tmp_path / "scan_notes").mkdir()
    again = recorder()
    simulate(again, tmp_path)
    assert (recorded.start["scan_id"], again.start["scan_id"]) == (1, 42)
    assert (tmp_path / "scan_00042" / "camera_0001.h5").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"projections": 1},
        {"darks": -1},
        {"rate": 0},
        {"rate": -3},
        {"rows": 0},
        {"columns": 4},
        {"center": 40},
    ],
)
def test_impossible_scans_are_refused(recorded: Any, tmp_path: Path, wrong: dict[str, Any]) -> None:
    """A scan that cannot be is a ScanError, before any run begins."""
    with pytest.raises(ScanError):
        simulate(recorded, tmp_path, **wrong)
    assert not recorded.documents
