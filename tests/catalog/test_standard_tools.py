"""What the archive wrote, opened with the tools that everybody has, on both kinds of databases."""

import gc
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tomolive.catalog.archive import Archive
from tomolive.catalog.open import open_catalog, open_run
from tomolive.catalog.server import CatalogServer
from tomolive.config import VolumeSettings
from tomolive.errors import CatalogError
from tomolive.live.volume.documents import DocumentSource
from tomolive.live.volume.output import FORMATS, VolumeForm
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.results import emit_volume
from tomolive.live.volume.volume import VolumeResult

ROWS, COLUMNS = 5, 7
NUMBER = {"source": "sim", "dtype": "number", "shape": []}


def step_scan(scan: type, style: str, **metadata: Any) -> Any:
    """Return a step scan of six points with an image and an angle each."""
    run = scan(6, **metadata)
    external = "STREAM:" if style == "async" else "FILESTORE:"
    image = {"shape": [1, ROWS, COLUMNS], "external": external}
    descriptor = run.descriptor("primary", image, angle=NUMBER)
    resource = run.stream_resource() if style == "async" else run.resource()
    for frame in range(6):
        if style == "async":
            run.stream_datum(resource, descriptor, frame, frame + 1)
            run.event(descriptor, angle=frame * 30.0, seq_num=frame + 1)
        else:
            run.event(descriptor, det=run.datum(resource, frame), angle=frame * 30.0)
    run.stop()
    return run


VOLUME = np.float32(0.125) * np.arange(3 * 4 * 4, dtype=np.float32).reshape(3, 4, 4)


def volume_of(run: Any, format_: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents of a volume of ``run``, as a reconstruction emits them, with its file."""
    parameters = {"center": 1.5, "dtype": "float32", "shape": list(VOLUME.shape), "units": "1/cm"}
    request = VolumeRequest(run.uid, DocumentSource(), volume=VolumeSettings.model_validate(
        {"folder": str(run.folder), "format": format_}
    ))  # fmt: skip
    request.path.parent.mkdir(exist_ok=True)
    file = FORMATS[format_](request.path, VolumeForm(VOLUME.shape))
    file.create({})
    file.write(0, VOLUME)
    about = {
        "run_uid": run.uid, "parameters": parameters, "scan_id": 1, "sample": "bone", "plan": "", "rules": "",
        "frames": {"used": 6, "missing": []}, "coverage_deg": 180.0, "values_cut": 0, "asset": file.asset(),
        "seconds": {"reading": 1.0, "wall": 2.0}, "notes": [],
    }  # fmt: skip
    documents: list[tuple[str, dict[str, Any]]] = []
    result = VolumeResult(request.path, about, str(uuid.uuid4()))
    emit_volume(lambda name, doc: documents.append((name, doc)), request, result)
    return documents


class Stored:
    """Two runs in a catalog, and before them the volumes of one."""

    def __init__(self, server: CatalogServer, scan: type) -> None:
        self.uri = server.uri
        client = open_catalog(server.uri)
        archive = Archive(client)
        self.by_async = step_scan(scan, "async", sample="tooth")
        self.classic = step_scan(scan, "classic", sample="bone")
        volumes = {format_: volume_of(self.classic, format_) for format_ in FORMATS}
        self.volumes = {format_: documents[0][1]["uid"] for format_, documents in volumes.items()}
        for documents in (*volumes.values(), self.by_async.documents, self.classic.documents):
            for name, doc in documents:
                archive(name, doc)
        archive.close()
        client.context.close()


@pytest.fixture(scope="module", params=["server", "postgresql_server"], ids=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, scan: type) -> Stored:
    """A catalog on either kind of databases, with the runs."""
    return Stored(request.getfixturevalue(request.param), scan)


@pytest.fixture
def catalog(stored: Stored) -> Iterator[Any]:
    """The stock Tiled client."""
    client = open_catalog(stored.uri)
    yield client
    client.context.close()


def test_runs_are_found(catalog: Any, stored: Stored) -> None:
    """By uid, by its first characters, by scan_id, as the newest, and by metadata."""
    from tiled.queries import Eq

    uid = stored.by_async.uid
    assert catalog[uid].start["uid"] == uid
    assert catalog[uid[:8]].start["uid"] == uid
    assert catalog[-1].start["uid"] == stored.classic.uid
    assert catalog[1].start["scan_id"] == 1
    assert set(catalog.search(Eq("raw_run", stored.classic.uid))) == set(stored.volumes.values())
    found = catalog.search(Eq("sample", "tooth"))
    assert list(found) == [uid]


def test_data_are_read(catalog: Any, stored: Stored) -> None:
    """The image, one frame of it, a scalar, and the stream as one xarray Dataset."""
    for run in (stored.by_async, stored.classic):
        primary = catalog[run.uid]["primary"]
        assert primary["det"].read()[:, 2, 3].tolist() == [1, 2, 3, 4, 5, 6]
        assert primary["det"][4, 0, 0] == 5
        assert primary["angle"].read().tolist() == [0, 30, 60, 90, 120, 150]
        dataset = primary.read()
        assert dataset["det"].shape == (6, ROWS, COLUMNS)
        assert dataset["angle"].values.tolist() == [0, 30, 60, 90, 120, 150]


@pytest.mark.parametrize("format_", FORMATS)
def test_volumes_are_read(catalog: Any, stored: Stored, format_: str) -> None:
    """Slices of a volume, its numbers, its provenance and its documents, in either format."""
    run = catalog[stored.volumes[format_]]
    np.testing.assert_array_equal(run["volume"]["volume"].read(), VOLUME)
    np.testing.assert_array_equal(run["volume"]["volume"][1:3, 2], VOLUME[1:3, 2])
    assert run["quality"]["projections_used"].read().tolist() == [6]
    assert run.start["tomolive"]["parameters"]["center"] == 1.5
    names = [name for name, _ in run.documents()]
    assert [names.count(name) for name in ("stream_resource", "stream_datum", "event")] == [1, 1, 1]
    assert run.validate()


def test_documents_are_those_of_the_run(catalog: Any, stored: Stored) -> None:
    """run.documents() gives start, descriptor, events and stop with the values that were taken."""
    for run in (stored.by_async, stored.classic):
        documents = list(catalog[run.uid].documents())
        start, stop = documents[0][1], documents[-1][1]
        assert (start["uid"], start["sample"]) == (run.uid, run.documents[0][1]["sample"])
        assert stop["exit_status"] == "success"
        angles = [doc["data"]["angle"] for name, doc in documents if name == "event"]
        assert angles == [0, 30, 60, 90, 120, 150]


def test_the_run_is_valid(catalog: Any, stored: Stored) -> None:
    """run.validate() finds nothing to mend."""
    for run in (stored.by_async, stored.classic):
        assert catalog[run.uid].validate()
        assert "notes" not in catalog[run.uid].metadata


DATABROKER = """
import sys, warnings
warnings.simplefilter("ignore")
from databroker.v1 import Broker
from tiled.client import from_uri
db = Broker(from_uri(sys.argv[1]))
for uid in sys.argv[2:4]:
    table = db[uid].table(fill=True)
    print([int(image.max()) for image in table["det"]], table["angle"].tolist())
for uid in sys.argv[4:]:
    slices = db[uid].table("volume", fill=True)["volume"]
    print([float(slice_[3, 2]) for slice_ in slices], db[uid].table("quality")["center"].tolist())
print(db[-1].start["uid"], [header.start["uid"] for header in db(sample="bone")])
"""


def test_databroker_reads_it(stored: Stored) -> None:
    """databroker.v1 fills tables with images and slices, finds the newest run, and searches."""
    # In a process of its own: databroker changes what Tiled's client returns in the whole process.
    runs = [stored.by_async.uid, stored.classic.uid]
    command = [sys.executable, "-c", DATABROKER, stored.uri, *runs, *stored.volumes.values()]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    expected = "[1, 2, 3, 4, 5, 6] [0.0, 30.0, 60.0, 90.0, 120.0, 150.0]"
    slices = f"{VOLUME[:, 3, 2].tolist()} [1.5]"
    assert printed[-5:] == [expected, expected, slices, slices, f"{runs[1]} {runs[1:]}"]


def test_open_run_in_one_line(stored: Stored) -> None:
    """open_run gives the run, or says in one line what is wrong."""
    run = open_run(stored.uri, stored.classic.uid[:8])
    assert run["primary"]["det"].shape == (6, ROWS, COLUMNS)
    run.context.close()
    with pytest.raises(CatalogError, match="has no run 'nothing'"):
        open_run(stored.uri, "nothing")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_key_that_is_refused(stored: Stored) -> None:
    """A wrong key is called one."""
    with pytest.raises(CatalogError, match="refuses the key"):
        open_run(stored.uri.partition("?")[0] + "?api_key=abcd")
    gc.collect()  # Tiled's client leaves its socket to the collector when it is refused


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_key_that_is_left_out(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key it is said that one is wanted, and where it goes."""
    for name in ("TILED_API_KEY", "TILED_SINGLE_USER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CatalogError, match=r"wants a key; give it as \?api_key= or TILED_API_KEY"):
        open_run(stored.uri.partition("?")[0])
    gc.collect()  # Tiled's client leaves its socket to the collector when it is refused


def test_nobody_at_the_address(free_port: int) -> None:
    """An address where nothing listens is said at once."""
    with pytest.raises(CatalogError, match="does not answer"):
        open_run(f"http://127.0.0.1:{free_port}")
