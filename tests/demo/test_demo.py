"""The main job, end to end, as real processes on a small scan."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tomolive.acquire.phantom import porous_sample
from tomolive.demo.folder import Folder

SMALL = ["--rows", "24", "--columns", "96", "--projections", "121", "--rate", "60"]
LONG = 180


def _tomolive(
    *arguments: object, timeout: float = LONG, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tomolive", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd)


def _one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that a command failed as it should: exit code 2, one line, nothing about Python."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("tomolive: ")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def _children_of(folder: Path) -> list[int]:
    """Return the processes whose command line names ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in command and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest):
    """One small demo scan that has ended: what it printed, its JSON, its folder."""
    folder = tmp_path_factory.mktemp("demo")
    options = ["--dir", folder / "all", "--json", folder / "figures.json", "--page", "127.0.0.1:0"]
    done = _tomolive("demo", "--once", *SMALL, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((folder / "figures.json").read_text()), folder / "all"


def test_no_frame_is_lost(demo) -> None:
    """What the RunEngine took is what the reconstruction received."""
    _, figures, _ = demo
    assert figures["frames"]["taken"] == 121
    assert figures["frames"]["received"] == 121
    assert figures["frames"]["missing"] == 0


def test_the_centre_is_found(demo) -> None:
    """The rotation centre, which nobody gave, is the simulated one to a fifth of a pixel."""
    _, figures, _ = demo
    assert figures["center"] == pytest.approx(figures["center_true"], abs=0.2)


def test_the_slices_are_as_good_as_an_offline_reconstruction(demo) -> None:
    """The xy slice is no further from the truth than iradon's of the same frames; all three planes exist."""
    _, figures, _ = demo
    assert figures["errors"]["xy"] <= figures["stock_error_xy"]
    shapes = {plane: tifffile.imread(path).shape for plane, path in figures["slices"].items()}
    assert shapes == {"xy": (96, 96), "xz": (24, 96), "yz": (24, 96)}
    assert Path(figures["slices_png"]).read_bytes().startswith(b"\x89PNG")


def test_the_summary_is_in_plain_words(demo) -> None:
    """Frames, centre, errors side by side, time and the lines that open the run are printed."""
    text, figures, _ = demo
    for words in ("121 taken, 121 received, 0 missing", "found", "true", "iradon", "after the last frame"):
        assert words in text
    assert figures["open"][-1] in text


def test_the_three_lines_open_the_run(demo) -> None:
    """In a fresh Python, with everything else ended, the printed lines give the images."""
    _, figures, _ = demo
    lines = [
        *figures["open"],
        "print(run['projections']['camera'][:].shape, run.metadata['stop']['exit_status'])",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=LONG
    )
    assert "(121, 24, 96) success" in done.stdout, done.stderr


def test_nothing_stays_behind(demo) -> None:
    """No process of the demo lives on, and no half-written file is left."""
    _, _, folder = demo
    assert _children_of(folder) == []
    assert list(folder.rglob("*.partial")) == []


def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    """In the middle of a scan, Ctrl-C ends the demo and all that it started."""
    command = [
        sys.executable,
        "-m",
        "tomolive",
        "demo",
        *SMALL,
        "--rate",
        "5",
        "--dir",
        str(tmp_path / "all"),
    ]
    with subprocess.Popen([*command, "--page", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        while "watch it here" not in (line := demo.stdout.readline()):
            assert line, "the demo ended early"
        deadline = time.monotonic() + LONG
        while not list((tmp_path / "all" / "data").rglob("*.h5")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(_children_of(tmp_path)) >= 5
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130
    assert _children_of(tmp_path) == []


def _data_exchange(path: Path) -> float:
    """Write a small Data Exchange file of the porous sample; return its centre."""
    rows, columns, center = 4, 64, 29.4
    sample = porous_sample(rows, columns, center)
    angles = np.linspace(0, 180, 91)
    stack = np.stack([sample.projection(np.deg2rad(a), rows, columns, center) for a in angles])
    with h5py.File(path, "w") as file:
        file["exchange/data"] = (100 + 20000 * np.exp(-stack)).astype("u2")
        file["exchange/data_white"] = np.full((5, rows, columns), 20100, "u2")
        file["exchange/data_dark"] = np.full((5, rows, columns), 100, "u2")
        file["exchange/theta"] = angles
    return center


def test_replay_reconstructs_an_existing_scan(tmp_path: Path) -> None:
    """``tomolive replay FILE --once`` ends with three slices at the right centre."""
    center = _data_exchange(tmp_path / "scan.h5")
    done = _tomolive("replay", "scan.h5", "--once", "--rate", "60", "--json", "figures.json",
                     "--page", "127.0.0.1:0", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["frames"] == {
        "taken": 91,
        "received": 91,
        "missing": 0,
        "missing_ranges": [],
        "without_beam": [],
    }
    assert figures["center"] == pytest.approx(center, abs=0.2)
    assert all(Path(path).exists() for path in figures["slices"].values())


def test_replay_of_the_real_scan_finds_its_centre(tooth: Path, tmp_path: Path) -> None:
    """The real tooth is reconstructed whole, about column 296 as its authors say."""
    done = _tomolive("replay", tooth, "--once", "--rate", "60", "--json", tmp_path / "figures.json",
                     "--dir", tmp_path / "all", "--page", "127.0.0.1:0")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["frames"]["missing"] == 0
    assert figures["center"] == pytest.approx(296, abs=0.5)


def test_a_centre_that_is_given_is_kept(tmp_path: Path) -> None:
    """``--center`` is not replaced by an estimate."""
    _data_exchange(tmp_path / "scan.h5")
    done = _tomolive("replay", "scan.h5", "--once", "--rate", "90", "--center", "31.5",
                     "--json", "figures.json", "--page", "127.0.0.1:0", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["center"] == 31.5


def test_an_option_that_would_do_nothing_is_refused(tmp_path: Path) -> None:
    """With --hub the reconstruction runs elsewhere: a centre given here is not ignored but refused."""
    _data_exchange(tmp_path / "scan.h5")
    hub = ["--hub", "tcp://127.0.0.1:9"]
    _one_line(
        _tomolive("replay", "scan.h5", *hub, "--center", "3", cwd=tmp_path), "--center", "tomolive live"
    )
    _one_line(_tomolive("replay", "scan.h5", "--spool", "s", cwd=tmp_path), "--spool", "--hub")


def test_an_endless_demo_removes_only_what_it_made(tmp_path: Path) -> None:
    """With --keep 1 the first scan's images go when the third comes, not a stranger's; SIGTERM ends it."""
    stranger = tmp_path / "all" / "data" / "my_thesis"
    stranger.mkdir(parents=True)
    (stranger / "chapter").write_text("precious")
    options = ["--keep", "1", "--rows", "8", "--columns", "64", "--projections", "31", "--rate", "90"]
    command = [sys.executable, "-m", "tomolive", "demo", *options, "--dir", str(tmp_path / "all")]
    with subprocess.Popen([*command, "--page", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        reports = 0
        while reports < 3:
            line = demo.stdout.readline()
            assert line, "the demo ended early"
            reports += line.startswith("run ")
        deadline = time.monotonic() + LONG  # four processes stay; with the fifth one a scan is under way
        while len(running := _children_of(tmp_path)) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(running) >= 5
        demo.send_signal(signal.SIGTERM)
        demo.stdout.read()
        assert demo.wait(60) == 130
    assert _children_of(tmp_path) == []
    assert (stranger / "chapter").read_text() == "precious"
    scans = [path for path in stranger.parent.iterdir() if path != stranger]
    assert 1 <= len(scans) <= 3


@pytest.mark.parametrize("option", [["--center", "9999"], ["--rate", "0"], ["--page", "127.0.0.1:99999"]])
def test_a_value_that_cannot_be_is_refused_at_once(tmp_path: Path, option: list[str]) -> None:
    """A centre outside the detector, no rate, no port: exit code 2 before anything starts."""
    _data_exchange(tmp_path / "scan.h5")
    done = _tomolive("replay", "scan.h5", "--once", *option, cwd=tmp_path)
    assert done.returncode == 2
    assert option[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert "starting" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["scan.h5"]


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second one is told which folder is taken, and which option names another."""
    with Folder(tmp_path).in_use():
        done = _tomolive("demo", "--once", *SMALL, "--dir", tmp_path, "--page", "127.0.0.1:0")
    _one_line(done, str(tmp_path), "--dir")


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    """Replay of a file that is not there ends with its name, and leaves nothing."""
    _one_line(_tomolive("replay", "nowhere.h5", "--once", cwd=tmp_path), "nowhere.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_a_scan_is_said_in_one_line(tmp_path: Path) -> None:
    """Replay of a text file, and of an HDF5 file without images, says what was found."""
    (tmp_path / "notes.txt").write_text("no scan\n")
    _one_line(_tomolive("replay", "notes.txt", "--once", cwd=tmp_path), "notes.txt")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["temperature"] = [1.0, 2.0]
    _one_line(_tomolive("replay", "other.h5", "--once", cwd=tmp_path), "other.h5", "--data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "other.h5"]


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    """The page's port, held by another program, is named with the option that changes it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = _tomolive("demo", "--once", *SMALL, "--dir", tmp_path / "all", "--page", f"127.0.0.1:{port}")
    _one_line(done, str(port), "--page")
    assert _children_of(tmp_path) == []


@pytest.mark.parametrize("option", ["--dir", "--json"])
def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path: Path, option: str) -> None:
    """A folder for results, or for the JSON, that cannot be: named in one line, before anything starts."""
    (tmp_path / "file").write_text("in the way")
    others = ["--dir", tmp_path / "all"] if option == "--json" else []
    page = ["--page", "127.0.0.1:0"]
    done = _tomolive("demo", "--once", *SMALL, *page, *others, option, tmp_path / "file" / "below")
    _one_line(done, str(tmp_path / "file"))


def test_a_hub_that_is_not_there_is_said_in_one_line(tmp_path: Path, free_port: int) -> None:
    """Replay to an address where nothing listens says so and what to do."""
    _data_exchange(tmp_path / "scan.h5")
    hub = f"tcp://127.0.0.1:{free_port}"
    done = _tomolive("replay", "scan.h5", "--hub", hub, "--dir", "data", "--spool", "spool", cwd=tmp_path)
    _one_line(done, hub, "tomolive hub")
