"""Runs that are recorded and checked, and scan files in the field's layouts."""

import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import event_model
import h5py
import numpy as np
import pytest

ROWS, COLUMNS = 4, 24
TIMEOUT_S = 60

REFERENCES = {
    "run_start": ["start"],
    "descriptor": ["descriptor"],
    "stream_resource": ["stream_resource"],
    "resource": ["resource"],
}
"""Key of a document -> names of the documents that it may point to."""


class Recorded:
    """A RunEngine callback: keeps documents, and fails on one that breaks its schema or its run's order."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a document."""
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)
        for reference, names in REFERENCES.items():
            if reference in doc:
                assert doc[reference] in {d["uid"] for n in names for d in self.by_name[n]}, (name, doc)
        self.documents.append((name, doc))
        self.by_name[name].append(doc)

    @property
    def start(self) -> dict[str, Any]:
        """The newest run's start document."""
        return self.by_name["start"][-1]

    @property
    def stop(self) -> dict[str, Any]:
        """The newest run's stop document."""
        return self.by_name["stop"][-1]

    def streams(self) -> dict[str, dict[str, np.ndarray]]:
        """Return what the documents announce, read from the files: stream -> data key -> array."""
        names = {d["uid"]: d["name"] for d in self.by_name["descriptor"]}
        found: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
        resources = {d["uid"]: d for d in self.by_name["stream_resource"]}
        for datum in self.by_name["stream_datum"]:
            resource = resources[datum["stream_resource"]]
            with h5py.File(resource["uri"].removeprefix("file://localhost")) as file:
                indices = datum["indices"]
                block = file[resource["parameters"]["dataset"]][indices["start"] : indices["stop"]]
            assert len(block) == indices["stop"] - indices["start"]
            found[names[datum["descriptor"]]][resource["data_key"]].append(block)
        for event in self._events():
            for key, value in event["data"].items():
                block = self._datum(value) if key in event["filled"] else np.array([value])
                found[names[event["descriptor"]]][key].append(block)
        return {
            stream: {key: np.concatenate(blocks) for key, blocks in keys.items()}
            for stream, keys in found.items()
        }

    def _events(self) -> list[dict[str, Any]]:
        pages = (event_model.unpack_event_page(page) for page in self.by_name["event_page"])
        return [*self.by_name["event"], *(event for page in pages for event in page)]

    def _datum(self, datum_id: str) -> np.ndarray:
        datum = next(d for d in self.by_name["datum"] if d["datum_id"] == datum_id)
        resource = next(d for d in self.by_name["resource"] if d["uid"] == datum["resource"])
        number = datum["datum_kwargs"]["point_number"]
        with h5py.File(Path(resource["root"]) / resource["resource_path"]) as file:
            return file["/entry/data/data"][number : number + 1]


@pytest.fixture
def recorded() -> Recorded:
    """A callback that records one session's documents."""
    return Recorded()


@pytest.fixture(scope="session")
def recorder() -> type[Recorded]:
    """For fixtures that live longer than a test."""
    return Recorded


@pytest.fixture
def frames() -> Callable[..., np.ndarray]:
    """Make frames that all differ: (n, ROWS, COLUMNS)."""

    def make(n: int, first: int = 0, dtype: str = "u2") -> np.ndarray:
        numbers = np.arange(first, first + n)[:, None, None]
        return (numbers * 100 + np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)).astype(dtype)

    return make


@pytest.fixture
def data_exchange(tmp_path: Path, frames: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Write a Data Exchange file of 9 projections, 3 flats and 2 darks; None leaves a dataset out."""

    def write(name: str = "scan.h5", units: str | None = "deg", **changes: Any) -> Path:
        parts = {
            "data": frames(9),
            "data_white": frames(3, 100),
            "data_dark": frames(2, 200),
            "theta": np.linspace(0, 180, 9),
            **changes,
        }
        with h5py.File(tmp_path / name, "w") as file:
            for part, values in parts.items():
                if values is not None:
                    file[f"exchange/{part}"] = values
            if units is not None and parts["theta"] is not None:
                file["exchange/theta"].attrs["units"] = units
            file["measurement/sample/name"] = b"Walnut"
        return tmp_path / name

    return write


@pytest.fixture
def nxtomo(tmp_path: Path, frames: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Write an NXtomo file: 2 darks, 3 flats, 9 projections, 1 flat, 1 invalid frame."""

    def write(name: str = "scan.nxs", entry: str = "entry1/tomo_entry", units: str = "degrees") -> Path:
        keys = np.array([2, 2, 1, 1, 1, *[0] * 9, 1, 3])
        angles = np.zeros(len(keys))
        angles[5:14] = np.linspace(0, 180, 9)
        with h5py.File(tmp_path / name, "w") as file:
            group = file.create_group(entry)
            group["instrument/detector/data"] = frames(len(keys))
            group["instrument/detector/image_key"] = keys
            group["instrument/detector/x_pixel_size"] = 6.5e-6
            group["instrument/detector/x_pixel_size"].attrs["units"] = "m"
            group["sample/rotation_angle"] = angles
            group["sample/rotation_angle"].attrs["units"] = units
            group["sample/name"] = "Ammonite"
            group["instrument/beam/incident_energy"] = 25_000.0
            group["instrument/beam/incident_energy"].attrs["units"] = "eV"
            group["data/data"] = group["instrument/detector/data"]
        return tmp_path / name

    return write


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """The address of a hub in a process of its own."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(TIMEOUT_S)
        ports = [part for name in ("--native", "--in", "--out", "--http") for part in (name, "127.0.0.1:0")]
        process = subprocess.Popen(
            [sys.executable, "-m", "tomolive", "hub", "--journal", str(tmp_path / "journal"), *ports],
            env={**os.environ, "NOTIFY_SOCKET": str(path)},
            stdout=subprocess.DEVNULL,
        )
        fields = dict(line.split("=", 1) for line in notify.recv(4096).decode().splitlines())
    yield fields["X_NATIVE"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 0
