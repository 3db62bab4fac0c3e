"""Finished scans on the page: from the folder that the reconstruction writes to what a click shows."""

import io
import json
import os
import runpy
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile

from tomolive.live.results.figure import draw
from tomolive.live.results.files import write_results
from tomolive.view.catalog_runs import CatalogRuns
from tomolive.view.runs import FinishedRuns

SUMMARY = {
    "scan_id": 3, "sample": "tooth", "plan": "tomo_fly", "outcome": "success", "center": 296.1,
    "center_source": "given", "filter": "ramp", "coverage_deg": 180.0, "seconds_last_frame_to_final": 0.2,
    "frames": {"planned": 180, "announced": 180, "received": 178, "missing": [[4, 6]]},
    "positions": {"xy": 8, "xz": 16, "yz": 16}, "units": "1/cm", "pixel_size_um": 1.0, "version": "0",
}  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with one scan in it."""
    folder = tmp_path / "results"
    folder.mkdir()
    (tmp_path / "secret.tif").write_bytes(b"secret")
    shapes = {"xy": (32, 32), "xz": (16, 32), "yz": (16, 32)}
    slices = {plane: np.random.default_rng(1).random(shape, np.float32) for plane, shape in shapes.items()}
    write_results(folder, {**SUMMARY, "run_uid": "aaaa-1"}, slices)
    return folder


def listed(url: str) -> list[dict[str, Any]]:
    """Return the scans that a page lists."""
    return httpx.get(url + "api/runs", timeout=60).json()["runs"]


def test_finished_scans_are_listed_newest_first(serve_page: Any, results: Path) -> None:
    """Each scan tells its outcome and frames; a folder that is damaged is left out."""
    url = serve_page(results=results).url
    assert [run["run_uid"] for run in listed(url)] == ["aaaa-1"]
    write_results(results, {**SUMMARY, "run_uid": "bbbb-2", "outcome": "abort"}, {})
    (results / "damaged").mkdir()
    (results / "damaged" / "summary.json").write_text("{")
    runs = listed(url)
    assert [(run["run_uid"], run["outcome"], run["picture"]) for run in runs] == [
        ("bbbb-2", "abort", False),
        ("aaaa-1", "success", True),
    ]


def test_the_disk_is_looked_at_again_when_a_result_came(results: Path) -> None:
    """Listing ever more results costs nothing while none comes; what comes is told at once."""
    write_results(results, {**SUMMARY, "run_uid": "bbbb-2"}, {})
    os.utime(results, (1e9, 1e9))
    runs = FinishedRuns(results)
    first = runs.newest()
    (results / "bbbb-2" / "summary.json").unlink()
    assert runs.newest() is first
    write_results(results, {**SUMMARY, "run_uid": "aaaa-1", "sample": "again"}, {})
    assert [(run["run_uid"], run["sample"]) for run in runs.newest()] == [("aaaa-1", "again")]


def test_many_readers_see_every_result(results: Path) -> None:
    """While scans finish, each of several threads that list them finds all that were there before."""
    runs = FinishedRuns(results)
    written = ["aaaa-1"]
    ended = threading.Event()

    def watch() -> int:
        looked = 0
        while not ended.is_set():
            before = set(written)
            listed = [(run["finished"], run["run_uid"]) for run in runs.newest()]
            assert before <= {uid for _, uid in listed}
            assert listed == sorted(listed, reverse=True)
            looked += 1
        return looked

    with ThreadPoolExecutor(6) as threads:
        watching = [threads.submit(watch) for _ in range(6)]
        try:
            for number in range(30):
                write_results(results, {**SUMMARY, "run_uid": f"b-{number:02}"}, {})
                written.append(f"b-{number:02}")
        finally:
            ended.set()
        assert all(one.result(60) for one in watching)
    assert len(runs.newest()) == 31


def test_files_of_a_scan_can_be_fetched_and_no_others(serve_page: Any, results: Path) -> None:
    """The slices are served as written; names that lead elsewhere are not, nor links out of the folder."""
    (results / "link").symlink_to(results.parent)
    (results / "aaaa-1" / "other.txt").write_text("private")
    url = serve_page(results=results).url + "api/runs/"
    body = httpx.get(url + "aaaa-1/xy.tif")
    assert body.content == (results / "aaaa-1" / "xy.tif").read_bytes()
    assert httpx.get(url + "aaaa-1/slices.png").headers["content-type"] == "image/png"
    (results.parent / "xy.tif").write_bytes(b"outside")
    for path in ("aaaa-1/other.txt", "..%2Fxy.tif", "../xy.tif", "%2e%2e/xy.tif", "link/xy.tif", "no/xy.tif"):
        reply = httpx.get(url + path)
        assert (reply.is_success, b"outside" in reply.content) == (False, False), path


def test_without_a_results_folder_there_are_none(page_server: Any) -> None:
    """A page that knows no results folder and no catalog lists nothing, and says how to name a catalog."""
    reply = httpx.get(page_server.url + "api/runs").json()
    assert reply == {"runs": [], "catalog": "no catalog: name one with --catalog"}


def test_the_running_scan_comes_first(serve_page: Any, scan: Any, results: Path) -> None:
    """The scan that runs stands above the finished ones until its own results are there."""
    url = serve_page(results=results).url
    scan.publish(60, missing=((4, 6),))
    first, second = listed(url)
    assert (first["from"], first["run_uid"], first["outcome"]) == (
        "running",
        scan.status.run_uid,
        "projections",
    )
    assert (first["frames"]["received"], first["frames"]["missing"], second["from"]) == (
        60,
        [[4, 6]],
        "results",
    )
    write_results(results, {**SUMMARY, "run_uid": scan.status.run_uid}, {})
    assert [run["from"] for run in listed(url)] == ["results", "results"]


def test_scans_of_the_catalog_are_listed_with_their_results(
    serve_page: Any, results: Path, tmp_path: Path, wait: Callable[..., Any]
) -> None:
    """Runs that only the catalog knows are listed; the slices of their result run can be fetched."""
    pytest.importorskip("tiled.server")
    import zarr
    from bluesky_tiled_plugins import TiledWriter
    from tiled.client import from_uri

    from tomolive.catalog.server import CatalogServer
    from tomolive.live.results.documents import About, ResultFile, ResultRun, emit_slices

    shapes = {"xy": (32, 32), "xz": (16, 32), "yz": (16, 32)}
    slices = {plane: np.random.default_rng(2).random(shape, np.float32) for plane, shape in shapes.items()}
    kept = tmp_path / "kept, 100%20"
    kept.mkdir()
    summary = json.loads(write_results(kept, {**SUMMARY, "run_uid": "cccc-3"}, slices).read_text())
    with CatalogServer(tmp_path / "catalog", [kept]) as catalog:
        client = from_uri(catalog.uri)
        writer = TiledWriter(client)
        start = {
            "uid": "cccc-3",
            "time": 1.0,
            "scan_id": 9,
            "plan_name": "tomo_fly",
            "sample": {"name": "bone"},
        }
        writer("start", start)
        writer("stop", {"uid": "s", "time": 2.0, "run_start": "cccc-3", "exit_status": "success"})
        emit_slices(writer, summary, kept)
        volume = np.random.default_rng(3).random((6, 32, 32), np.float32)
        zarr.create_array(kept / "volume.ome.zarr" / "0", data=volume, chunks=(2, 32, 32))
        path = f"{kept}/volume.ome.zarr/0"
        told = {"center": 296.1, "shape": [6, 32, 32], "units": "1/cm", "pixel_size_um": 2.0}
        result = ResultRun(writer, About("volume", "cccc-3", told))
        entry = ResultFile("volume", path, "application/x-zarr", (32, 32), 6, "<f4", "1/cm", {})
        result.files("volume", [entry])
        result.close()
        url = serve_page(results=results, catalog=catalog.uri).url
        ours, theirs = listed(url)
        assert (ours["run_uid"], ours["from"]) == ("aaaa-1", "results")
        assert (theirs["run_uid"], theirs["from"], theirs["sample"]) == ("cccc-3", "catalog", "bone")
        assert (theirs["picture"], theirs["center"], theirs["outcome"]) == (True, 296.1, "success")
        tif = httpx.get(url + "api/runs/cccc-3/xz.tif", timeout=60)
        assert np.array_equal(tifffile.imread(io.BytesIO(tif.content)), slices["xz"])
        png = httpx.get(url + "api/runs/cccc-3/slices.png", timeout=60)
        assert png.content.startswith(b"\x89PNG")
        assert theirs["volume"] == [6, 32, 32]
        about = httpx.get(url + "api/runs/cccc-3/volume.json", timeout=60).json()
        assert (about["shape"], about["uri"]) == ([6, 32, 32], f"file://localhost{path}")
        for place, expected in {"z=4": volume[4], "y=9": volume[:, 9], "x=30": volume[:, :, 30]}.items():
            tif = httpx.get(f"{url}api/runs/cccc-3/volume.tif?{place}", timeout=60)
            assert np.array_equal(tifffile.imread(io.BytesIO(tif.content)), expected), place
            png = httpx.get(f"{url}api/runs/cccc-3/volume.png?{place}", timeout=60)
            assert png.content.startswith(b"\x89PNG"), place
        wrong = ("z=6", "z=-1", "y=32", "x=32", "z=1&y=1")
        missing = (
            "unknown/xz.tif",
            "unknown/volume.json",
            *(f"cccc-3/volume.tif?{place}" for place in wrong),
        )
        for name in missing:
            assert httpx.get(f"{url}api/runs/{name}", timeout=60).status_code == 404, name
        client.context.close()


def test_slices_of_which_little_is_told_are_drawn() -> None:
    """Any one slice, or all of them, make a picture when a result does not say where they lie."""
    slices = {plane: np.eye(32, dtype=np.float32) for plane in ("xy", "xz", "yz")}
    sizes = [
        draw(some, {}, title="run", units="", pixel_size_um=None).size
        for some in (slices, {"xz": slices["xz"]}, {"yz": slices["yz"]})
    ]
    assert sizes[0][0] > 2 * sizes[1][0]
    assert sizes[1] == sizes[2]


def test_a_catalog_that_does_not_answer_is_told(serve_page: Any, results: Path) -> None:
    """Without it the other scans are listed, and a sentence says what is wrong."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    url = serve_page(results=results, catalog=f"http://127.0.0.1:{port}").url
    reply = httpx.get(url + "api/runs", timeout=60).json()
    assert [run["run_uid"] for run in reply["runs"]] == ["aaaa-1"]
    assert "does not answer" in reply["catalog"]


class SlowCatalog:
    """A catalog, its result and the volume in it, which cannot be read before ``go_on`` is set."""

    shape = (4, 8, 8)

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.metadata = {"start": {"tomolive": {"parameters": {}}}}

    def search(self, _: object) -> "SlowCatalog":
        """As Tiled's client."""
        return self

    def values(self) -> "list[SlowCatalog]":
        """As Tiled's client."""
        return [self]

    def __contains__(self, _: object) -> bool:
        return True

    def __getitem__(self, part: object) -> Any:
        if part == "volume":
            return self
        self.go_on.wait(60)
        return np.zeros((4, 8))


def test_who_looks_through_volumes_keeps_nobody_from_pictures(
    serve_page: Any, scan: Any, monkeypatch: Any
) -> None:
    """While more slices of a volume are asked for than are read at once, list and pictures are served."""
    pytest.importorskip("tiled.queries")
    catalog = SlowCatalog()
    monkeypatch.setattr(CatalogRuns, "_open", lambda _: catalog)
    monkeypatch.setattr(CatalogRuns, "_look", lambda _: [])
    url = serve_page(catalog="http://catalog.test").url
    scan.publish(40)
    host, port = url.split("/")[2].split(":")
    ask = f"GET /api/runs/a/volume.tif?y=1 HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    lines = [socket.create_connection((host, int(port)), 60) for _ in range(50)]
    try:
        for line in lines:
            line.sendall(ask)
        assert [run["from"] for run in listed(url)] == ["running"]
        assert httpx.get(url + "api/slices/xy.tif", timeout=60).status_code == 200
        catalog.go_on.set()
        assert {line.recv(12, socket.MSG_WAITALL) for line in lines} == {b"HTTP/1.1 200"}
    finally:
        catalog.go_on.set()
        for line in lines:
            line.close()


@pytest.mark.browser
def test_any_slice_of_a_volume_can_be_looked_at(
    page_server: Any, open_page: Any, wait: Callable[..., Any]
) -> None:
    """It is shown wherever it lies, and the TIFF and the Python that are offered are those of this slice."""
    run = {
        **SUMMARY, "run_uid": "eeee-5", "folder": "eeee-5", "from": "catalog", "finished": 0,
        "picture": False, "volume": [6, 32, 40],
    }  # fmt: skip
    png = io.BytesIO()
    draw({"xy": np.eye(8, dtype=np.float32)}, {}, title="", units="", pixel_size_um=None).save(png, "png")
    page = open_page(page_server.url)
    page.route("**/api/runs", lambda route: route.fulfill(json={"runs": [run], "catalog": ""}))
    page.route(
        "**/volume.json", lambda route: route.fulfill(json={"uri": "file://localhost/kept/100%25.zarr"})
    )
    page.route("**/volume.png?*", lambda route: route.fulfill(body=png.getvalue(), content_type="image/png"))
    page.reload()
    wait(lambda: page.locator("#runs").is_enabled(), "the list")
    page.click("#runs")
    page.locator("dialog dl", has_text="6 \u00d7 32 \u00d7 40 in /kept/100%25.zarr").wait_for()
    code, tiff = page.locator("dialog pre"), page.get_by_role("link", name="TIFF", exact=True)
    shown = [(code.inner_text(), tiff.get_attribute("href"))]
    page.get_by_label("Which way the slice of the volume lies").select_option("x")
    page.get_by_label("Position of the slice in the volume").press("ArrowRight")
    wait(lambda: page.locator("dialog img").get_attribute("src").endswith("?x=21"), "the slice")
    shown.append((code.inner_text(), tiff.get_attribute("href")))
    for (offered, link), (plane, place) in zip(shown, [("xy", "z=3"), ("yz", "x=21")], strict=True):
        assert f"volume.tif?{place}" in offered
        assert f"{plane} = tifffile" in offered
        assert link.endswith(f"api/runs/eeee-5/volume.tif?{place}")
    assert code.get_attribute("aria-label") == "Python that opens the YZ slice"


@pytest.mark.browser
def test_a_finished_scan_can_be_looked_at(
    serve_page: Any, open_page: Any, scan: Any, results: Path, wait: Callable[..., Any], tmp_path: Path
) -> None:
    """The list opens, a click shows picture and figures, and the offered Python opens the slice."""
    url = serve_page(results=results).url
    scan.publish(60)
    page = open_page(url)
    wait(lambda: page.locator("#runs").is_enabled(), "the list")
    write_results(results, {**SUMMARY, "run_uid": "bbbb-2", "sample": "newer"}, {})
    scan.publish(180)
    wait(lambda: "3" in page.locator("#runs").inner_text(), "the newer scan")
    page.click("#runs")
    page.get_by_role("button", name="tooth").click()
    wait(lambda: page.evaluate("document.querySelector('dialog img').naturalWidth > 0"), "the picture")
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 1280
    facts = page.locator("dialog dl").inner_text()
    assert "178 of 180" in facts
    assert "4\u20135" in facts
    (tmp_path / "offered.py").write_text(page.locator("dialog pre").inner_text())
    names = runpy.run_path(str(tmp_path / "offered.py"))
    assert np.array_equal(names["xy"], tifffile.imread(results / "aaaa-1" / "xy.tif"))
    page.keyboard.press("Escape")
    wait(lambda: not page.evaluate("document.querySelector('dialog').open"), "the list to close")
    assert json.loads((results / "aaaa-1" / "summary.json").read_text())["sample"] == "tooth"
