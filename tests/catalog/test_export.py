"""A run goes home: exported from a catalog, a hub or a recording, opened offline, and put back."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import event_model
import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tomolive import Publisher
from tomolive.catalog.archive import Archive
from tomolive.catalog.export import documents_of, export, read_export
from tomolive.catalog.exported import import_to_catalog, import_to_hub, open_export
from tomolive.catalog.hub_runs import from_hub, hub_has, read_journal
from tomolive.catalog.run_documents import from_catalog, from_file
from tomolive.errors import AddressError, DocumentError, SettingsError
from tomolive.files.locate import Locator
from tomolive.files.run_files import RunFiles
from tomolive.live.results.documents import About, ResultFile, ResultRun
from tomolive.stream.hub import Hub, HubSettings
from tomolive.stream.recorded import read_documents, write_documents

ROWS, COLUMNS = 5, 7
IMAGE = {"shape": [1, ROWS, COLUMNS], "external": "STREAM:"}


def three_streams(scan, **metadata):
    """Darks, flats and projections in one file, as a detector that is staged once writes them."""
    run = scan(9, **metadata)
    resource = run.stream_resource()
    for stream, (first, last) in {"darks": (0, 2), "flats": (2, 4), "projections": (4, 9)}.items():
        descriptor = run.descriptor(stream, IMAGE, angle={"source": "s", "dtype": "number", "shape": []})
        run.stream_datum(resource, descriptor, first, last)
        for number in range(last - first):
            run.event(descriptor, number + 1, angle=10.0 * number)
    run.stop()
    return run


def result_of(run, folder):
    """A result run: one slice as a TIFF file, and its quality."""
    folder.mkdir(parents=True)
    tifffile.imwrite(folder / "xy_000000.tif", np.full((4, 4), 0.5, "f4"))
    documents = []
    result = ResultRun(
        lambda name, doc: documents.append((name, doc)), About("slices", run.uid, {"center": 3.5})
    )
    words = {"template": "xy_{:06d}.tif", "chunk_shape": [1, 4, 4]}
    tiff = "multipart/related;type=image/tiff"
    result.files("slices", [ResultFile("xy", f"{folder}/", tiff, (4, 4), 1, "<f4", "1/pixel", words)])
    result.event("quality", {"coverage_deg": 180.0})
    result.close()
    return result.uid, documents


def in_catalog(client, *runs):
    """Write runs to a catalog."""
    archive = Archive(client)
    for documents in runs:
        for name, doc in documents:
            archive(name, doc)
    archive.close()


@pytest.fixture
def hubs(tmp_path):
    """Start hubs in threads."""
    running = []

    def start(name):
        any_port = "127.0.0.1:0"
        settings = HubSettings(
            native=any_port, stock_in=any_port, stock_out=any_port, journal=tmp_path / name
        )
        hub = Hub(settings)
        thread = threading.Thread(target=hub.run)
        thread.start()
        running.append((hub, thread))
        return hub.native

    yield start
    for hub, thread in running:
        hub.stop()
        thread.join(60)
        hub.close()


def test_a_run_of_the_catalog_opens_offline_as_its_readme_says(
    server, client, scan, detector_folder, tmp_path
):
    """In a fresh process, far from server and detector: frames, numbers, and those of its result."""
    run = three_streams(scan, sample="molar")
    result_uid, result = result_of(run, detector_folder / f"published-{run.uid}")
    in_catalog(client, run.documents, result)
    pictures = tmp_path / "results" / run.uid
    pictures.mkdir(parents=True)
    (pictures / "summary.json").write_text("{}")

    runs = from_catalog(server.uri, run.uid[:9])
    assert from_catalog(server.uri, result_uid) == runs
    home = tmp_path / "home"
    exported = export(runs, home, Locator({}, [detector_folder]), results=tmp_path / "results")

    assert (exported.runs, exported.files, exported.problems) == ([run.uid, result_uid], 2, [])
    assert (home / "results/summary.json").exists()
    run.path.unlink()
    (detector_folder / f"published-{run.uid}/xy_000000.tif").unlink()
    (block,) = re.findall(r"```python\n(.*?)```", (home / "README.md").read_text(), re.DOTALL)
    assert len(block.splitlines()) == 3
    more = f"""
import json
frames = {{s: run[s]["det"].read()[:, 0, 0].tolist() for s in ("darks", "flats", "projections")}}
slice_ = open_export(".", {result_uid!r})["slices"]["xy"].read()
print(json.dumps([run.start["sample"], frames, run["flats"]["angle"].read().tolist(), float(slice_.mean())]))
"""
    moved = home.rename(tmp_path / "elsewhere")
    done = subprocess.run(
        [sys.executable, "-c", block + more], cwd=moved, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    sample, frames, angles, mean = json.loads(done.stdout.splitlines()[-1])
    assert sample == "molar"
    assert frames == {"darks": [1, 2], "flats": [3, 4], "projections": [5, 6, 7, 8, 9]}
    assert (angles, mean) == ([0.0, 10.0], 0.5)


@pytest.mark.parametrize("links", [False, True])
def test_a_recorded_classic_run_opens_too(scan, detector_folder, tmp_path, links):
    """Out of JSON lines, with copies or links; the documents are what they were."""
    run = scan(3)
    descriptor = run.descriptor("primary", {"shape": [ROWS, COLUMNS], "external": "FILESTORE:"})
    resource = run.resource()
    for number in range(3):
        run.event(descriptor, det=run.datum(resource, number))
    run.stop()
    write_documents(tmp_path / "run.jsonl", run.documents)

    exported = export(
        from_file(tmp_path / "run.jsonl"), tmp_path / "home", Locator({}, [detector_folder]), links=links
    )

    assert exported.problems == []
    (file,) = [path for path in (tmp_path / "home/files").rglob("*") if path.is_file()]
    assert file.is_symlink() is links
    assert list(read_documents(documents_of(tmp_path / "home", run.uid))) == run.documents
    opened = open_export(tmp_path / "home")
    try:
        assert opened["primary"]["det"].read()[:, 0, 0].tolist() == [1, 2, 3]
    finally:
        opened.context.close()


def test_a_run_goes_through_hubs_once(scan, hubs, detector_folder, tmp_path):
    """Out of one hub's journal with its result, into another's; a second time nothing is doubled."""
    run, other = three_streams(scan), three_streams(scan)
    result_uid, result = result_of(run, detector_folder / f"published-{run.uid}")
    publisher = Publisher(hubs("first"), spool=tmp_path / "spool")
    for name, doc in [*other.documents, *three_streams(scan).documents, *run.documents, *result]:
        publisher(name, doc)
    publisher.close(60)

    runs = from_hub(publisher.address, run.uid[:10])
    assert list(runs) == [run.uid, result_uid]
    assert runs[run.uid] == run.documents
    assert from_hub(publisher.address, "newest") == runs  # a result is not the newest run
    export(runs, tmp_path / "home", Locator({}, [detector_folder]))

    second = hubs("second")
    assert list(import_to_hub(tmp_path / "home", second)) == [
        (run.uid, "imported"), (result_uid, "imported")
    ]  # fmt: skip
    assert {what for _, what in import_to_hub(tmp_path / "home", second)} == {"is there already"}
    assert from_hub(second, run.uid)[run.uid] == run.documents
    with pytest.raises(AddressError, match="no run 'nonsense'"):
        from_hub(second, "nonsense")


def test_a_catalog_takes_a_run_once(client, server, scan, detector_folder, tmp_path):
    """Its images come from the export; a run that is there already is left alone."""
    run = three_streams(scan)
    write_documents(tmp_path / "run.jsonl", run.documents)
    home = detector_folder / f"home-{run.uid}"  # the server may read here
    export(from_file(tmp_path / "run.jsonl", run.uid), home, Locator({}, [detector_folder]))
    run.path.unlink()

    assert list(import_to_catalog(home, client)) == [(run.uid, "imported")]
    assert client[run.uid]["projections"]["det"].read()[:, 0, 0].tolist() == [5, 6, 7, 8, 9]
    before = len(client)
    assert list(import_to_catalog(home, client)) == [(run.uid, "is there already")]
    assert len(client) == before
    again = from_catalog(server.uri, run.uid)
    exported = export(again, tmp_path / "again", Locator({}, [home]))
    assert (exported.files, exported.problems) == (1, [])


@pytest.mark.parametrize("first", [0, 3])
def test_a_series_of_images_comes_out_of_a_catalog_as_it_went_in(
    server, client, scan, detector_folder, first
):
    """Its template, its first number, and the numbers of its events, whatever Tiled makes of them."""
    run = scan(1)
    folder = detector_folder / f"series-{run.uid}"
    folder.mkdir()
    for number in range(2):
        for frame in range(first, first + number + 1):
            tifffile.imwrite(folder / f"{number}_{frame:04d}.tif", np.full((ROWS, COLUMNS), frame, "u2"))
    for number, stream in enumerate(("one", "two")):
        descriptor = run.descriptor(stream, {"shape": [ROWS, COLUMNS], "external": "STREAM:"})
        resource = run.stream_resource(template=f"{number}_{{:04d}}.tif")
        run.documents[-1][1].update(
            uri=f"file://localhost{folder}/", mimetype="multipart/related;type=image/tiff"
        )
        run.stream_datum(resource, descriptor, first, first + number + 1)
    run.stop()
    in_catalog(client, run.documents)

    again = from_catalog(server.uri, run.uid)[run.uid]

    files = RunFiles(Locator({}, [detector_folder]))
    files.take(again)
    assert len(files.found) == 3
    assert {doc["seq_nums"]["start"] for name, doc in again if name == "stream_datum"} == {1}
    upstream = [doc for name, doc in client[run.uid].documents() if name == "stream_resource"]
    assert any("template" not in doc["parameters"] for doc in upstream), "mended upstream: see `mended`"


def test_only_allowed_files_are_taken(scan, tmp_path):
    """A document may name anything; what lies outside the roots stays there, and is told."""
    run = three_streams(scan)
    (tmp_path / "allowed").mkdir()
    exported = export({run.uid: run.documents}, tmp_path / "home", Locator({}, [tmp_path / "allowed"]))
    assert exported.files == 0
    assert "outside the folders that may be read" in exported.problems[0]
    assert "Not taken along" in (tmp_path / "home/README.md").read_text()


def announce(scan, uri, mimetype, frames=3, **parameters):
    """A run with one stream in another kind of file."""
    run = scan(1)
    descriptor = run.descriptor("primary", IMAGE)
    resource = run.stream_resource(**parameters)
    run.documents[-1][1].update(uri=uri, mimetype=mimetype)
    run.stream_datum(resource, descriptor, 0, frames)
    run.stop()
    return {run.uid: run.documents}


def test_an_image_series_takes_its_own_files_only(scan, tmp_path):
    """Other images of the folder stay; one that was never written is told."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("img_000000.tif", "img_000001.tif", "other_000000.tif"):
        tifffile.imwrite(folder / name, np.ones((ROWS, COLUMNS), "u2"))
    tiff = "multipart/related;type=image/tiff"
    runs = announce(scan, "file://localhost/there/", tiff, template="img_{:06d}.tif")
    exported = export(runs, tmp_path / "home", Locator({"/there": str(folder)}))
    assert sorted(path.name for path in (tmp_path / "home/files/there").iterdir()) == [
        "img_000000.tif", "img_000001.tif"
    ]  # fmt: skip
    assert "1 announced images have no file" in exported.problems[0]


def test_a_zarr_folder_comes_whole(scan, tmp_path):
    """With its metadata and all of its chunks."""
    array = zarr.create_array(
        tmp_path / "v.zarr", shape=(3, ROWS, COLUMNS), chunks=(1, ROWS, COLUMNS), dtype="u2"
    )
    array[:] = np.arange(3)[:, None, None] + 1
    runs = announce(scan, f"file://localhost{tmp_path}/v.zarr", "application/x-zarr")
    assert export(runs, tmp_path / "home", Locator({}, [tmp_path])).problems == []
    copied: Any = zarr.open_array(tmp_path / f"home/files{tmp_path}/v.zarr", mode="r")
    np.testing.assert_array_equal(copied[:], array[:])


def test_files_that_a_file_leads_to_come_along(scan, tmp_path):
    """Where its links look for them; an absolute link, and one that leads outside, are told."""
    data = tmp_path / "data/deep"
    data.mkdir(parents=True)
    with h5py.File(data.parent / "camera.h5", "w") as file:
        file["d"] = np.ones((3, ROWS, COLUMNS))
    with h5py.File(data / "scan.nxs", "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("../camera.h5", "d")
    runs = announce(scan, "file://localhost/there/deep/scan.nxs", "application/x-hdf5")
    exported = export(runs, tmp_path / "home", Locator({"/there": str(tmp_path / "data")}))
    assert exported.problems == []
    (tmp_path / "data").rename(tmp_path / "gone")
    with h5py.File(tmp_path / "home/files/there/deep/scan.nxs") as file:
        data: Any = file["entry/data/data"]
        assert data.shape == (3, ROWS, COLUMNS)


def test_what_is_no_export_is_said(tmp_path, scan):
    """Before anything is written: no run, a folder that is in use, an export that was cut short."""
    run = three_streams(scan)
    write_documents(tmp_path / "run.jsonl", run.documents)
    with pytest.raises(DocumentError, match="has no run 'other'"):
        from_file(tmp_path / "run.jsonl", "other")
    with pytest.raises(SettingsError, match="not an empty folder"):
        export({run.uid: run.documents}, tmp_path, Locator())
    with pytest.raises(SettingsError, match="no whole export"):
        read_export(tmp_path)
    with pytest.raises(SettingsError, match="cannot be part of a file name"):
        export({"../x": run.documents}, tmp_path / "home", Locator())


KILLED = """
import os, signal, sys
from pathlib import Path
from tomolive.catalog.export import export
from tomolive.catalog.run_documents import from_file
from tomolive.files.locate import Locator

recording, home, root = map(Path, sys.argv[1:])
export(from_file(recording), home, Locator({}, [root]), say=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_an_export_that_is_killed_is_made_by_the_next(scan, detector_folder, tmp_path):
    """What it has left is no export, is not taken for somebody's folder, and goes; other files stay."""
    run, home = three_streams(scan), tmp_path / "home"
    write_documents(tmp_path / "run.jsonl", run.documents)
    command = [sys.executable, "-c", KILLED, tmp_path / "run.jsonl", home, detector_folder]
    assert subprocess.run(list(map(str, command)), timeout=180).returncode == -signal.SIGKILL
    with pytest.raises(SettingsError, match="no whole export"):
        read_export(home)
    (home / "mine").touch()
    export({run.uid: run.documents}, home, Locator({}, [detector_folder]))
    assert read_export(home) == [run.uid]
    names = {"README.md", "documents", "export.json", "files", "mine"}
    assert {path.name for path in home.iterdir()} == names


@pytest.mark.parametrize("is_there", [False, True])
def test_an_export_that_fails_leaves_nothing(scan, detector_folder, tmp_path, monkeypatch, is_there):
    """A full disk is said, and the folder is as it was, so that the same command can be given again."""
    run, home = three_streams(scan), tmp_path / "home"
    if is_there:
        home.mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copy2", full)
        with pytest.raises(SettingsError, match="No space left"):
            export({run.uid: run.documents}, home, Locator({}, [detector_folder]))
    assert list(tmp_path.iterdir()) == ([home] if is_there else [])
    assert not is_there or not list(home.iterdir())


def test_an_import_that_was_killed_is_completed(client, scan, hubs, detector_folder, tmp_path):
    """Half a run that an import left is written anew in a catalog, and gets its rest at a hub."""
    run, others = three_streams(scan), three_streams(scan)
    home = detector_folder / f"home-{run.uid}"
    export({run.uid: run.documents, others.uid: others.documents}, home, Locator({}, [detector_folder]))
    half = len(run.documents) // 2
    archive = Archive(client, mark={"imported": True})
    for name, doc in run.documents[:half]:
        archive(name, doc)
    archive.close()
    in_catalog(client, others.documents[:half])
    publisher = Publisher(hubs("half"), spool=tmp_path / "spool")
    for name, doc in run.documents[:half]:
        publisher(name, doc)
    publisher("start", others.documents[0][1] | {"more": 1})
    publisher.close(60)

    left = "is there already, and not whole: left alone"
    assert dict(import_to_catalog(home, client)) == {run.uid: "imported", others.uid: left}
    assert client[run.uid]["projections"]["det"].read()[:, 0, 0].tolist() == [5, 6, 7, 8, 9]
    assert client[run.uid]["projections"]["angle"].read().tolist() == [0, 10, 20, 30, 40]
    assert dict(import_to_hub(home, publisher.address)) == {run.uid: "imported", others.uid: left}
    assert from_hub(publisher.address, run.uid)[run.uid] == run.documents


def test_a_hub_that_falls_silent_is_said():
    """Whoever reads a run out of a journal does not wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(AddressError, match="has sent nothing for"):
            read_journal(address, "newest", lambda *_: None, silence=0.5)


def test_the_commands(server, client, scan, detector_folder, tmp_path):
    """``tomolive export`` and ``tomolive import``, as a user types them."""
    run = three_streams(scan)
    write_documents(tmp_path / "run.jsonl", run.documents)

    def tomolive(*words):
        command = [sys.executable, "-m", "tomolive", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=tmp_path)

    home = detector_folder / f"home-{run.uid}"
    done = tomolive("export", "run.jsonl", home, "--root", detector_folder)
    assert done.returncode == 0, done.stderr
    assert "1 runs, 1 files" in done.stdout
    done = tomolive("import", home, "--catalog", server.uri)
    assert done.stdout == f"catalog: run {run.uid} imported\n", done.stderr
    assert client[run.uid]["flats"]["det"].read()[:, 0, 0].tolist() == [3, 4]
    done = tomolive("export", run.uid, home, "--catalog", server.uri)
    assert (done.returncode, "not an empty folder" in done.stderr) == (2, True)
    done = tomolive("export", run.uid, Path("new"))
    assert (done.returncode, "say where the run is" in done.stderr) == (2, True)


def test_a_run_is_read_while_others_go_on(hubs, tmp_path):
    """What came until then is read, although the hub never falls silent."""
    run: Any = event_model.compose_run(metadata={"plan_name": "count"})
    stream = run.compose_descriptor(
        name="primary", data_keys={"x": {"source": "", "dtype": "number", "shape": []}}, object_keys={}
    )
    read = threading.Event()
    publisher: Any = Publisher(hubs("busy"), spool=tmp_path / "spool")

    def measure() -> None:
        while not read.wait(0.01):
            publisher("event", stream.compose_event(data={"x": 1.0}, timestamps={"x": 0.0}))

    publisher("start", run.start_doc)
    publisher("descriptor", stream.descriptor_doc)
    assert publisher.flush(60)
    thread = threading.Thread(target=measure)
    thread.start()
    try:
        assert hub_has(publisher.address, run.start_doc["uid"])
        documents = from_hub(publisher.address, run.start_doc["uid"])[run.start_doc["uid"]]
        assert [name for name, _ in documents[:2]] == ["start", "descriptor"]
        assert thread.is_alive()
    finally:
        read.set()
        thread.join(60)
        publisher.close(10)
