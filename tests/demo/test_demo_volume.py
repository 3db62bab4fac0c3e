"""A demo scan ends with its full volume."""

import json
import subprocess
import sys
from pathlib import Path

import zarr

LONG = 170


def test_demo_ends_with_a_volume_and_its_error(tmp_path: Path) -> None:
    """The volume is there, near the phantom, with its error printed; its result run is in the catalog."""
    options = ["--rows", "24", "--columns", "96", "--projections", "121", "--rate", "60"]
    where = ["--dir", tmp_path / "all", "--json", tmp_path / "figures.json", "--page", "127.0.0.1:0"]
    command = [sys.executable, "-m", "tomolive", "demo", "--once", "--volume", *options, *map(str, where)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    volume = figures["volume"]
    assert zarr.open_array(Path(volume["path"]) / "0", mode="r").shape == (24, 96, 96)
    assert volume["error"] < 2 * figures["stock_error_xy"]
    assert volume["seconds_after_last_frame"] > 0
    assert "rms error" in done.stdout
    assert "24 x 96 x 96" in done.stdout
