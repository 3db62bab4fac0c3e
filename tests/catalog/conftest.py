"""A catalog, and runs as detectors announce them, with the files that they name."""

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tomolive.catalog.server import CatalogServer, Databases

Documents = list[tuple[str, dict[str, Any]]]
ROWS, COLUMNS = 5, 7


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where detectors write, and the catalog may read."""
    return tmp_path_factory.mktemp("detector")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, detector_folder: Path) -> Iterator[CatalogServer]:
    """One catalog for all tests; each looks only at its own runs."""
    with CatalogServer(tmp_path_factory.mktemp("catalog"), [detector_folder]) as running:
        yield running


@pytest.fixture(scope="session")
def postgresql_server(
    tmp_path_factory: pytest.TempPathFactory, detector_folder: Path, postgresql: Databases
) -> Iterator[CatalogServer]:
    """Another one, on PostgreSQL."""
    with CatalogServer(tmp_path_factory.mktemp("postgresql"), [detector_folder], postgresql) as running:
        yield running


@pytest.fixture
def catalog_server(request: pytest.FixtureRequest) -> CatalogServer:
    """The catalog on SQLite and DuckDB, or the one that a test asks for as its parameter."""
    return request.getfixturevalue(getattr(request, "param", "server"))


@pytest.fixture
def client(catalog_server: CatalogServer) -> Iterator[Any]:
    """The stock Tiled client of the catalog."""
    from tiled.client import from_uri

    client = from_uri(catalog_server.uri)
    yield client
    client.context.close()


@pytest.fixture(scope="session")
def scan(detector_folder: Path) -> "type[Scan]":
    """A maker of runs that write into the detector's folder."""
    return type("Scan", (Scan,), {"folder": detector_folder})


class Scan:
    """Documents of one run, made by hand in the shapes that ophyd and ophyd-async emit, and its file.

    Frame number k of the file holds the value k + 1 everywhere, so that a frame tells its number, and zeros,
    which nobody wrote, do not hide.
    """

    folder: Path

    def __init__(self, frames: int, **metadata: Any) -> None:
        self.uid = str(uuid.uuid4())
        self.path = self.folder / f"{self.uid}.h5"
        self.frames = np.broadcast_to(
            np.arange(1, frames + 1, dtype="u2")[:, None, None], (frames, ROWS, COLUMNS)
        )
        with h5py.File(self.path, "w", libver="latest") as file:
            file.create_dataset("entry/data/data", data=self.frames, chunks=(1, ROWS, COLUMNS))
        self.documents: Documents = []
        self._seq_nums: dict[str, Iterator[int]] = {}
        self._add("start", uid=self.uid, time=time.time(), scan_id=1, plan_name="test", **metadata)

    def _add(self, kind: str, /, **doc: Any) -> dict[str, Any]:
        self.documents.append((kind, doc))
        return doc

    def descriptor(self, stream: str, image: dict[str, Any] | None = None, **keys: dict[str, Any]) -> str:
        """Describe a stream with an image ``det`` and other keys."""
        if image is not None:
            keys["det"] = {"source": "sim", "dtype": "array", "dtype_numpy": "<u2", **image}
        doc = self._add(
            "descriptor", uid=str(uuid.uuid4()), run_start=self.uid, time=time.time(), name=stream,
            data_keys=keys, object_keys={"det": list(keys)}, configuration={}, hints={},
        )  # fmt: skip
        self._seq_nums.setdefault(stream, itertools.count(1))
        return doc["uid"]

    def event(self, descriptor: str, seq_num: int | None = None, **data: Any) -> None:
        """Add an event; with ``seq_num`` it belongs to frames that were announced before."""
        seq_num = seq_num or next(self._seq_nums[self._stream(descriptor)])
        now = time.time()
        self._add(
            "event", uid=str(uuid.uuid4()), descriptor=descriptor, seq_num=seq_num,
            time=now, data=data, timestamps=dict.fromkeys(data, now),
            filled={key: False for key, value in data.items() if key == "det" and isinstance(value, str)},
        )  # fmt: skip

    def stream_resource(self, **parameters: Any) -> str:
        """Announce the file, as ophyd-async does."""
        doc = self._add(
            "stream_resource", uid=str(uuid.uuid4()), run_start=self.uid, data_key="det",
            mimetype="application/x-hdf5", uri=f"file://localhost{self.path}",
            parameters={"dataset": "/entry/data/data", "chunk_shape": [1, ROWS, COLUMNS], **parameters},
        )  # fmt: skip
        return doc["uid"]

    def stream_datum(self, resource: str, descriptor: str, start: int, stop: int) -> None:
        """Announce the frames [start, stop) of the file as the stream's next ones."""
        numbers = self._seq_nums[self._stream(descriptor)]
        first = next(numbers)
        last = first + sum(1 for _ in itertools.islice(numbers, stop - start - 1)) + 1
        self._add(
            "stream_datum", uid=f"{resource}/{start}", stream_resource=resource, descriptor=descriptor,
            indices={"start": start, "stop": stop}, seq_nums={"start": first, "stop": last},
        )  # fmt: skip

    def resource(self) -> str:
        """Announce the file, as a classic area detector does."""
        doc = self._add(
            "resource", uid=str(uuid.uuid4()), run_start=self.uid, spec="AD_HDF5", root="/",
            resource_path=str(self.path)[1:], resource_kwargs={"frame_per_point": 1}, path_semantics="posix",
        )  # fmt: skip
        return doc["uid"]

    def datum(self, resource: str, frame: int) -> str:
        """Announce one frame of the file."""
        doc = self._add(
            "datum", datum_id=f"{resource}/{frame}", resource=resource, datum_kwargs={"point_number": frame}
        )
        return doc["datum_id"]

    def stop(self, exit_status: str = "success") -> None:
        """End the run."""
        self._add(
            "stop", uid=str(uuid.uuid4()), run_start=self.uid, time=time.time(), exit_status=exit_status,
            num_events={},
        )  # fmt: skip

    def _stream(self, descriptor: str) -> str:
        return next(doc["name"] for _, doc in self.documents if doc.get("uid") == descriptor)


ASYNC_IMAGE = {"shape": [1, ROWS, COLUMNS], "external": "STREAM:"}
CLASSIC_IMAGE = {"shape": [ROWS, COLUMNS], "external": "FILESTORE:"}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Databases]:
    """Two databases of a PostgreSQL server that lives as long as the tests, where one is installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb") or (programs and programs[-1] / "initdb")
    if not found:
        missing = "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    bin_folder = Path(found).resolve().parent
    # It refuses to run as root, and its user cannot enter the folders of pytest.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="tomolive-postgresql-"))
    if as_user:
        shutil.chown(folder, "postgres")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])

    def command(program: str, *options: str) -> list[str]:
        return [*as_user, str(bin_folder / program), *options]

    setup = command("initdb", "-D", str(folder / "db"), "-A", "trust", "-U", "tomolive", "--no-sync")
    subprocess.run(setup, check=True, stdout=subprocess.DEVNULL)
    place = ["-h", "127.0.0.1", "-p", port, "-U", "tomolive"]
    options = ["-p", port, "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    server = subprocess.Popen(
        command("postgres", "-D", str(folder / "db"), *options), stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(
            command("pg_isready", *place), check=False, stdout=subprocess.DEVNULL
        ).returncode:
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.1)
        for name in ("catalog", "storage"):
            subprocess.run(command("createdb", *place, name), check=True)
        address = f"postgresql://tomolive@127.0.0.1:{port}"
        yield Databases(f"{address}/catalog", f"{address}/storage")
    finally:
        stop = command("pg_ctl", "stop", "-D", str(folder / "db"), "-m", "fast")
        subprocess.run(stop, check=False, stdout=subprocess.DEVNULL)
        server.wait(60)
        shutil.rmtree(folder)
