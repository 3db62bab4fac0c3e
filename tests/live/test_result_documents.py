"""Results as runs of their own: valid, complete, and readable by the standard tools."""

import contextlib
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from event_model import DocumentNames, schema_validators

from tomolive.config import CorrectionSettings, FilesSettings, LiveSettings, VolumeSettings
from tomolive.live.documents.rules import choose, shipped_rules
from tomolive.live.results.documents import About, ResultRun, emit_slices
from tomolive.live.results.files import write_results
from tomolive.live.snapshot import Change, Trend
from tomolive.live.volume.documents import DocumentSource
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.results import documents_of, make_result

LONG = 90


def collected(documents):
    """An ``emit`` that checks each document by event-model and keeps it."""

    def emit(name, doc):
        schema_validators[DocumentNames[name]].validate(json.loads(json.dumps(doc)))
        documents.append((name, doc))

    return emit


def summary_of(results: Path) -> dict:
    """A finished live reconstruction, written as the live process writes it."""
    rng = np.random.default_rng(1)
    slices = {"xy": (20, 20), "xz": (8, 20), "yz": (8, 20)}
    pictures = {plane: rng.normal(size=shape).astype(np.float32) for plane, shape in slices.items()}
    summary = {
        "run_uid": "11111111-2222", "scan_id": 4, "sample": "stone", "plan": "tomo_fly", "rules": "tomolive",
        "outcome": "success", "failure": "",
        "frames": {"planned": 90, "announced": 90, "received": 88, "missing": [[3, 5]]},
        "darks": 5, "flats": 5, "center": 9.75, "center_source": "given", "filter": "ramp",
        "corrections": {"rings": "sorting"},
        "coverage_deg": 180.0, "positions": {"xy": 4, "xz": 10, "yz": 10}, "units": "1/cm",
        "pixel_size_um": 1.0, "seconds_last_frame_to_final": 0.5, "version": "0",
    }  # fmt: skip
    path = write_results(results, summary, pictures)
    return json.loads(path.read_text())


SHAPES = {"xy": (20, 20), "xz": (8, 20), "yz": (8, 20)}


def test_slices_are_a_run_of_their_own(tmp_path):
    """The documents are valid and tell the raw run, the parameters, who changed what, and the versions."""
    documents = []
    changes = [Change("centre", "9.75", "Ada", 1000.0)]
    trends = [Trend("transmission", "", ((0, 0.5), (87, 0.25)))]
    summary = summary_of(tmp_path)
    uid = emit_slices(
        collected(documents), summary, tmp_path, changes=changes, trends=trends,
        analysis=[{"porosity": 0.2}, {"porosity": 0.25}],
        analysis_units={"porosity": "1"},
    )  # fmt: skip
    start, stop = documents[0][1], documents[-1][1]
    assert (start["uid"], stop["run_start"], stop["exit_status"]) == (uid, uid, "success")
    assert start["raw_run"] == start["tomolive"]["raw_run"] == summary["run_uid"]
    assert start["tomolive"]["parameters"]["center"] == 9.75
    assert start["tomolive"]["parameters"]["corrections"] == {"rings": "sorting"}
    assert start["tomolive"]["changes"][0]["who"] == "Ada"
    assert {"tomolive", "numpy", "python"} <= set(start["tomolive"]["software"])
    assert start["tomolive"]["rules"] == "tomolive"
    assert stop["num_events"] == {"slices": 1, "quality": 1, "trends": 2, "analysis": 2}
    events = [doc["data"] for name, doc in documents if name == "event"]
    assert events[0]["projections_missing"] == 2
    assert events[0]["trend_transmission"] == 0.25
    assert [e["porosity"] for e in events if "porosity" in e] == [0.2, 0.25]


def test_a_result_stays_what_it_was(tmp_path):
    """Slices that are written again after a change do not change those of the result before."""
    documents = []
    summary = summary_of(tmp_path)
    emit_slices(collected(documents), summary, tmp_path)
    resources = [doc for name, doc in documents if name == "stream_resource"]
    folder = Path(resources[0]["uri"].removeprefix("file://localhost"))
    before = tifffile.imread(folder / "xy_000000.tif")
    np.testing.assert_array_equal(before, tifffile.imread(summary["slices"]["xy"]))
    write_results(tmp_path, summary, {plane: np.zeros(shape, np.float32) for plane, shape in SHAPES.items()})
    assert not tifffile.imread(summary["slices"]["xy"]).any()
    np.testing.assert_array_equal(before, tifffile.imread(folder / "xy_000000.tif"))


def test_a_result_is_never_taken_for_a_scan(tmp_path):
    """No rule that is shipped, and none that matches everything, takes a result for a tomography scan."""
    documents = []
    emit_slices(collected(documents), summary_of(tmp_path), tmp_path)
    start = documents[0][1]
    assert choose(shipped_rules(), start) is None
    greedy = shipped_rules()[-1].model_copy(update={"match": ({"plan_name": "*"},)})
    assert choose([greedy], start) is None
    assert choose([greedy], {"plan_name": "tomo"}) is greedy


def test_values_of_any_plain_kind_are_events():
    """Numbers, text, booleans and lists become data keys that event-model accepts; numpy's as well."""
    documents = []
    run = ResultRun(collected(documents), About("slices", "raw", {"center": float("nan")}))
    run.event("analysis", {"a": np.float32(1.5), "b": True, "c": "word", "d": np.arange(3)})
    run.close("fail", "because")
    keys = next(doc["data_keys"] for name, doc in documents if name == "descriptor")
    assert [keys[k]["dtype"] for k in "abcd"] == ["number", "boolean", "string", "array"]
    assert documents[-1][1]["reason"] == "because"
    assert documents[0][1]["tomolive"]["parameters"]["center"] is None


def test_volume_leaves_valid_documents_and_can_be_repeated(recorded_scan, tmp_path):
    """``--like``: from the documents alone the same volume comes again, also with an estimated centre."""
    scan = recorded_scan(rows=20)
    request = VolumeRequest(
        scan.uid,
        DocumentSource(file=str(scan.jsonl)),
        corrections=CorrectionSettings(rings="sorting"),
        volume=VolumeSettings(folder=str(tmp_path / "out"), processes=1, dtype="uint16"),
        files=FilesSettings(roots=(str(scan.folder),)),
    )
    result = make_result(request)
    documents = [json.loads(line) for line in documents_of(result.path).read_text().splitlines()]
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)
    fresh = VolumeRequest(
        "", request.source, volume=VolumeSettings(folder=str(tmp_path / "again"), processes=1),
        files=request.files,
    )  # fmt: skip
    again = make_result(fresh.repeated(result.uid, documents[0][1]))
    first, second = (p / "0" / "0" / "0" / "0" for p in (result.path, again.path))
    assert first.read_bytes() == second.read_bytes()
    assert again.about["like"] == result.uid


@contextlib.contextmanager
def archiving(hub: str, uri: str):
    """An archive between a hub and a catalog."""
    from tomolive.catalog.keeper import ArchiveKeeper

    keeper = ArchiveKeeper(hub, uri)
    thread = threading.Thread(target=keeper.run, name="archive")
    thread.start()
    try:
        yield
    finally:
        keeper.stop()
        thread.join(LONG)
        assert not thread.is_alive()


def test_results_reach_the_catalog_and_stock_clients(recorded_scan, hub, tmp_path):
    """Hub, archive, Tiled: found by the raw run's uid, read by stock tiled; a repeat finds it there too."""
    from tiled.client import from_uri
    from tiled.queries import Key

    from tomolive.catalog.server import CatalogServer
    from tomolive.stream.publisher import Publisher

    scan = recorded_scan(rows=20)
    results = tmp_path / "results"
    with CatalogServer(tmp_path / "catalog", [scan.folder, results]) as server, archiving(hub, server.uri):
        publisher = Publisher(hub, spool=tmp_path / "spool")
        for name, doc in scan.documents:
            publisher(name, doc)
        assert publisher.flush(LONG)
        request = VolumeRequest(
            scan.uid,
            DocumentSource(hub=hub),
            volume=VolumeSettings(folder=str(results), processes=1),
            files=FilesSettings(roots=(str(scan.folder),)),
            publish=hub,
            spool=str(tmp_path / "spool2"),
        )
        result = make_result(request)
        slices_uid = emit_slices(publisher, summary_of(results), results)
        publisher.close(LONG)
        client = from_uri(server.uri)
        run = _finished(client, result.uid)
        found = client.search(Key("raw_run") == scan.uid)
        assert list(found) == [result.uid]
        assert list(client.search(Key("tomolive.raw_run") == scan.uid)) == [result.uid]
        assert run.metadata["start"]["tomolive"]["parameters"]["center"] == pytest.approx(
            scan.center, abs=0.1
        )
        volume = run["volume"]["volume"]
        assert volume.shape == (20, 96, 96)
        read = volume[7:9]
        truth = np.stack([scan.truth(7), scan.truth(8)])
        assert np.sqrt(np.mean((read - truth)[:, 30:60, 30:60] ** 2)) < 0.12 * truth.max()
        assert run["quality"]["projections_used"][:].tolist() == [121]
        slices = _finished(client, slices_uid)
        assert slices["slices"]["xz"][:].shape == (1, 8, 20)
        # the documents that a catalog gives back are enough to do it again
        again = VolumeRequest(
            "", DocumentSource(catalog=server.uri), files=request.files,
            volume=VolumeSettings(folder=str(tmp_path / "again"), processes=1),
        )  # fmt: skip
        start = dict(run.metadata["start"])
        repeated = make_result(again.repeated(result.uid, start))
        _same_volume(repeated.path, result.path)
        client.context.close()


def _finished(client, uid):
    """The run, once its stop document is in the catalog."""
    deadline = time.monotonic() + LONG
    while uid not in client or "stop" not in client[uid].metadata:
        assert time.monotonic() < deadline, f"{uid} did not reach the catalog"
        time.sleep(0.2)
    return client[uid]


def _same_volume(one: Path, other: Path) -> None:
    import zarr

    np.testing.assert_array_equal(*(zarr.open_array(path / "0", mode="r")[:] for path in (one, other)))


def test_live_reconstruction_announces_its_results(scan_of, tmp_path, monkeypatch):
    """At the end of a scan, and again after a change, its slices are announced with what was in force."""
    from tomolive.live.controls import Controls, Wish
    from tomolive.live.snapshot import SnapshotStore
    from tomolive.live.worker import LiveReconstruction

    monkeypatch.setattr("tomolive.live.results.writing.QUIET_S", 0.0)
    documents, controls, scan = [], Controls(), scan_of.Scan()
    feeder = scan_of.Feeder(scan.whole())

    def change() -> None:
        controls.post(Wish("Ada", center=21.25))
        feeder.be_idle()

    feeder.items += [feeder.be_idle, change, feeder.be_idle]
    settings = {"results": tmp_path, "settings": LiveSettings(center=21.5), "publish": collected(documents)}
    LiveReconstruction(feeder, SnapshotStore(), controls, **settings).run()
    starts = [doc["tomolive"] for name, doc in documents if name == "start"]
    assert [told["raw_run"] for told in starts] == [scan.uid] * len(starts)
    assert len(starts) == 2
    assert starts[-1]["parameters"]["center"] == 21.25
    assert [change["who"] for change in starts[-1]["changes"]] == ["Ada"]
    assert starts[0]["changes"] == []
