"""`tomolive hub`, `live` and `simulate` as real processes."""

import json
import signal
import socket
import subprocess
import sys
import time

import h5py
import httpx
import numpy as np
import pytest
import tifffile

from tomolive.demo.processes import Services
from tomolive.live.slices.accumulate import SliceAccumulator

ANY = "127.0.0.1:0"
HUB = ["hub", "--native", ANY, "--in", ANY, "--out", ANY, "--http", ANY]
SCAN = [
    "--rows",
    "32",
    "--columns",
    "64",
    "--projections",
    "60",
    "--darks",
    "5",
    "--flats",
    "5",
    "--rate",
    "60",
]


@pytest.fixture
def services(tmp_path):
    """Child processes, ended at the end; a hub among them."""
    with Services(tmp_path) as running:
        hub = running.start("hub", [*HUB, "--journal", str(tmp_path / "journal")])
        (tmp_path / "data").mkdir()
        running.hub = hub.fields["native"]
        yield running


def live(tmp_path, services, *more):
    """The arguments of the command."""
    return [
        "live",
        "--hub",
        services.hub,
        "--root",
        str(tmp_path / "data"),
        "--results",
        str(tmp_path / "results"),
        *more,
    ]


def simulate(tmp_path, services, *more):
    """Run one scan; return its exit code."""
    data = ["--hub", services.hub, "--data", str(tmp_path / "data"), "--spool", str(tmp_path / "spool")]
    return services.wait(services.spawn("simulate", ["simulate", *data, *SCAN, *more]), 100)


def summaries(tmp_path, count, timeout=60):
    """Wait for the results of so many scans."""
    deadline = time.monotonic() + timeout
    while len(found := sorted((tmp_path / "results").glob("*/summary.json"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [json.loads(path.read_text()) for path in found]


@pytest.mark.parametrize(("style", "plan"), [("async", "fly"), ("classic", "step")])
def test_a_simulated_scan(tmp_path, services, style, plan):
    """Every frame arrives; results and page are there; SIGTERM ends it with exit code 0."""
    running = services.start("live", live(tmp_path, services, "--page", ANY))
    assert simulate(tmp_path, services, "--style", style, "--plan", plan) == 0
    (summary,) = summaries(tmp_path, 1)
    assert summary["frames"] == {
        "planned": 60,
        "announced": 60,
        "received": 60,
        "missing": [],
        "without_beam": [],
    }
    assert (summary["darks"], summary["flats"], summary["outcome"]) == (5, 5, "success")
    assert summary["center"] == pytest.approx(0.487 * 64, abs=0.3)
    assert tifffile.imread(summary["slices"]["xz"]).shape == (32, 64)
    state = httpx.get(running.fields["page"] + "api/state", timeout=30).json()
    assert state["run_uid"] == summary["run_uid"]
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0


def test_a_scan_that_is_over_already(tmp_path, services):
    """`--start newest` reconstructs the newest run from its start, from the hub's journal."""
    assert simulate(tmp_path, services) == 0
    services.start("live", live(tmp_path, services, "--start", "newest", "--center", "31.2"))
    (summary,) = summaries(tmp_path, 1)
    assert summary["frames"]["received"] == 60
    assert (summary["center"], summary["center_source"]) == (31.2, "given")


def tomolive(*arguments):
    """Run a command that is expected to end by itself."""
    command = [sys.executable, "-m", "tomolive", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def assert_one_line(done, *told):
    """Exit code 2 and one line, with no traceback; log lines do not count."""
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tomolive: ")]
    assert "Traceback" not in done.stderr
    for words in told:
        assert words in line


def test_bad_options(tmp_path, services):
    """What is wrong and what to do, in one line, before anything starts."""
    (tmp_path / "file").write_text("")
    more = live(tmp_path, services)
    assert_one_line(tomolive(*more, "--results", str(tmp_path / "file")), "results cannot be written")
    assert_one_line(tomolive(*more, "--filter", "sharp"), "sharp", "ramp")
    assert_one_line(tomolive(*more, "--mount", "there"), "--mount")
    assert_one_line(tomolive(*more, "--rules", str(tmp_path / "none.yaml")), "none.yaml")


def test_a_page_that_cannot_be_served(tmp_path, services):
    """A port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = tomolive(*live(tmp_path, services, "--page", f"127.0.0.1:{port}"))
    assert_one_line(done, str(port), "--page")


def test_a_hub_that_is_not_there(tmp_path, free_port):
    """Nobody listens where documents should come from."""
    address = f"tcp://127.0.0.1:{free_port}"
    done = tomolive("live", "--hub", address, "--root", str(tmp_path), "--results", str(tmp_path / "results"))
    assert_one_line(done, address, "tomolive hub")


def test_two_cameras_by_two_workers(tmp_path, services):
    """`tomolive live --workers 2`: both cameras of a scan are reconstructed, each about its own centre."""
    page = services.start("live", live(tmp_path, services, "--workers", "2", "--page", ANY)).fields["page"]
    assert simulate(tmp_path, services, "--cameras", "2") == 0
    deadline = time.monotonic() + 120
    state = {"state": "waiting"}  # the camera that is not shown may end later
    while state["state"] != "finished" or {worker["done"] for worker in state["workers"]} != {60}:
        assert time.monotonic() < deadline, state
        time.sleep(0.2)
        state = httpx.get(page + "api/state").json()
    assert state["cameras"] == ["camera", "camera2"]
    run = state["run_uid"]
    for folder, columns in ((tmp_path / "results", 64), (tmp_path / "results" / "camera2", 32)):
        while not (folder / run / "summary.json").exists():
            assert time.monotonic() < deadline, list(folder.iterdir())
            time.sleep(0.2)
        summary = json.loads((folder / run / "summary.json").read_text())
        assert summary["center"] == pytest.approx(0.487 * columns, abs=0.3)
        truth = offline(tmp_path, summary["camera"], summary["center"])
        found = tifffile.imread(folder / run / "xy.tif") * 1e-4  # pixels are 1 um
        assert np.abs(found - truth).max() <= 1e-5 * np.abs(truth).max()


def offline(tmp_path, camera, center):
    """Return the xy slice that one accumulator makes of the files of the only scan, 1/pixel."""
    (folder,) = (tmp_path / "data").iterdir()
    stacks = []
    for number in (1, 2, 3):
        with h5py.File(folder / f"{camera}_{number:04d}.h5") as file:
            stacks.append(file["entry/data/data"][()])
    with h5py.File(folder / "encoder_0001.h5") as file:
        angles = np.deg2rad(file["Angle"][()])
    darks, flats, projections = stacks
    slices = SliceAccumulator(*projections.shape[1:], center=center)
    slices.set_references(darks, flats)
    slices.add(projections, angles, range(len(angles)))
    slices.finish()
    return slices.slices()["xy"]
