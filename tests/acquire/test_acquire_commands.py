"""``tomolive simulate``, ``replay`` and ``check`` as processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import h5py
import pytest

Write = Callable[..., Path]
TIMEOUT_S = 60
SMALL = ["--rows", "6", "--columns", "32", "--darks", "2", "--flats", "2"]


def tomolive(*arguments: object, environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "tomolive", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environ or {})},
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return exit code, output and errors."""
    output, errors = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, output, errors


def wait_for_frames(data: Path, process: subprocess.Popen[str]) -> None:
    """Wait until projections are being written."""
    deadline = time.monotonic() + TIMEOUT_S
    while not list(data.glob("*/encoder_0001.h5")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_simulate_says_when_it_begins_and_prints_the_uid_of_each_run(tmp_path: Path) -> None:
    """Readiness goes to the socket that systemd would give; two scans give two lines and two folders."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(TIMEOUT_S)
        process = tomolive(
            "simulate", "--data", tmp_path, *SMALL, "--projections", 5, "--rate", 200, "--count", 2,
            "--pause", 0, environ={"NOTIFY_SOCKET": str(path)},
        )  # fmt: skip
        assert b"READY=1" in notify.recv(1000)
    code, output, errors = finished(process)
    assert code == 0, errors
    first, second = map(UUID, output.split())
    assert first != second
    assert len(list(tmp_path.glob("*/camera_0003.h5"))) == 2
    assert "Traceback" not in errors


@pytest.mark.parametrize(("sent", "count", "code"), [(signal.SIGINT, 1, 130), (signal.SIGTERM, 0, 0)])
def test_a_signal_ends_the_scan_cleanly(tmp_path: Path, sent: signal.Signals, count: int, code: int) -> None:
    """The run gets its stop document, files are closed, the exit code says whether all was done."""
    process = tomolive("simulate", "--data", tmp_path, *SMALL, "--projections", 5000, "--count", count)
    wait_for_frames(tmp_path, process)
    process.send_signal(sent)
    returned, output, errors = finished(process)
    assert returned == code, errors
    UUID(output.strip())
    assert ": abort" in errors
    assert "Traceback" not in errors
    for path in tmp_path.glob("*/*.h5"):
        h5py.File(path, "r+").close()


def test_check_says_what_a_file_holds(nxtomo: Write) -> None:
    """Layout, frames, angles, what was assumed, and how to go on."""
    path = nxtomo()
    with h5py.File(path, "r+") as file:
        file["entry1/log"] = h5py.ExternalLink("gone.h5", "/log")
    code, output, errors = finished(tomolive("check", path))
    assert (code, errors) == (0, "")
    for text in (
        f"{path}: NXtomo", "9 frames of 4 x 24, uint16", "0 to 180 degrees", "Ammonite", "6.5 um", "25 keV",
        "/entry1/log leads to /log in gone.h5", f"tomolive replay {path}",
    ):  # fmt: skip
        assert text in output, output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "FILE/missing.h5"], "No such file"),
        (["replay", "FILE/text.h5", "--hub", "tcp://127.0.0.1:1", "--dir", "FILE/data"], "not an HDF5 file"),
        (["simulate", "--data", "FILE/data", "--hub", "nonsense"], "nonsense"),
        (["simulate", "--data", "FILE/text.h5/data"], "cannot make a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    """No traceback, nothing half-written."""
    (tmp_path / "text.h5").write_text("not a scan")
    code, output, errors = finished(tomolive(*(a.replace("FILE", str(tmp_path)) for a in arguments)))
    assert code == 2, errors
    assert output == ""
    assert says in errors
    assert len(errors.splitlines()) == 1, errors
    assert not (tmp_path / "data").exists()
