"""A demo scan ends with its full volume."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import zarr

from tomolive.stream.hub import Hub, HubSettings

LONG = 280
pytestmark = pytest.mark.timeout(600)
KILLED = """
import os, signal, sys
from tomolive.cli import main
from tomolive.live.volume import volume

volume._Making._count = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # when the first block is done
main()
"""


@contextlib.contextmanager
def hub_of(journal: Path) -> Iterator[str]:
    """A hub with the journal of a demo that has ended; its address."""
    here = "127.0.0.1:0"
    hub = Hub(HubSettings(journal=journal, native=here, stock_in=here, stock_out=here))
    thread = threading.Thread(target=hub.run)
    thread.start()
    try:
        yield hub.native
    finally:
        hub.stop()
        thread.join(60)
        hub.close()


def content(path: Path) -> dict[str, bytes]:
    """Every file below a path, to the byte."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A demo scan that has ended with its volume: what it printed, its figures and its folder."""
    folder = tmp_path_factory.mktemp("demo")
    options = ["--rows", "24", "--columns", "96", "--projections", "121", "--rate", "60"]
    where = ["--dir", folder / "all", "--json", folder / "figures.json", "--page", "127.0.0.1:0"]
    command = [sys.executable, "-m", "tomolive", "demo", "--once", "--volume", *options, *map(str, where)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((folder / "figures.json").read_text())
    return SimpleNamespace(printed=done.stdout, figures=figures, folder=folder / "all")


def test_demo_ends_with_a_volume_and_its_error(demo: SimpleNamespace) -> None:
    """The volume is there, near the phantom, with its error printed."""
    volume = demo.figures["volume"]
    assert zarr.open_array(Path(volume["path"]) / "0", mode="r").shape == (24, 96, 96)
    assert volume["error"] < 2 * demo.figures["stock_error_xy"]
    assert volume["seconds_after_last_frame"] > 0
    assert "rms error" in demo.printed
    assert "24 x 96 x 96" in demo.printed


def test_volume_of_a_demo_that_is_killed_half_way(demo: SimpleNamespace, tmp_path: Path) -> None:
    """SIGKILL after the first of two blocks and a second start: the demo's volume to the byte."""
    whole = Path(demo.figures["volume"]["path"])
    with hub_of(demo.folder / "journal") as address:
        where = ["--hub", address, "--no-publish", "--root", demo.folder / "data", "--out", tmp_path]
        command = ["reconstruct", whole.parent.name, *where, "--results", demo.folder / "results"]
        words = [str(word) for word in command]
        killed = subprocess.run([sys.executable, "-c", KILLED, *words], timeout=LONG)
        assert killed.returncode == -signal.SIGKILL
        assert not list(tmp_path.glob("*/volume-*.ome.zarr"))
        again = subprocess.run([sys.executable, "-m", "tomolive", *words], timeout=LONG)
        assert again.returncode == 0
    (made,) = tmp_path.glob("*/volume-*.ome.zarr")
    assert content(made) == content(whole)
