"""The full volume of a demo scan, and how far it is from the sample that was simulated."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tomolive.demo.folder import Folder
from tomolive.demo.processes import ServiceFailedError, Services
from tomolive.demo.truth import rms_error, true_slice

_COMPARED = 16
"""Slices that are compared with the truth, spread over the height."""


def make_volume(
    services: Services, folder: Folder, hub: str, run_uid: str, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Run ``tomolive reconstruct`` for a run that has stopped; return what is known of its volume.

    Raises
    ------
    ServiceFailedError
        if it fails.
    """
    where = ["--root", str(folder.data), "--out", str(folder.volumes), "--results", str(folder.results)]
    process = services.spawn("reconstruct", ["reconstruct", run_uid, "--hub", hub, *where, *options])
    if services.wait(process):
        raise ServiceFailedError(process.last_words().removeprefix("tomolive: "))
    newest = max(folder.volumes.glob(f"{run_uid}/volume-*.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text()) | {
        "path": str(newest.with_suffix("")),
        "finished": time.time(),
    }


def compare(volume: Mapping[str, Any], simulation: Mapping[str, Any]) -> tuple[float, float]:
    """Return the rms error, 1/pixel, over slices spread over the height, and the largest true value there."""
    told = volume["parameters"]
    rows, _, columns = told["shape"]
    scale = told["pixel_size_um"] * 1e-4 if told["units"] == "1/cm" else 1.0
    squares, largest = [], 0.0
    for row in np.unique(np.linspace(0, rows - 1, min(rows, _COMPARED)).round().astype(int)):
        truth = true_slice(simulation, "xy", int(row), rows, columns)
        squares.append(rms_error(_slice(Path(volume["path"]), int(row)) * scale, truth, "xy") ** 2)
        largest = max(largest, float(truth.max()))
    return float(np.sqrt(np.mean(squares))), largest


def _slice(path: Path, row: int) -> np.ndarray:
    if path.suffix == ".nxs":
        import h5py

        with h5py.File(path) as file:
            data: Any = file["entry/data/data"]
            return data[row]
    import zarr

    return np.asarray(zarr.open_array(path / "0", mode="r")[row])
