"""``tomolive bench catalog``: writing runs to Tiled, beside the stock writer of bluesky-tiled-plugins."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

Pair = tuple[str, dict[str, Any]]
SIZE = 64


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    case: str
    what: str
    value: float
    unit: str
    note: str = ""


@click.command()
@click.option("--events", default=10_000, show_default=True, help="events of the long runs")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures there")
def catalog(events: int, json_file: Path | None) -> None:
    """Write runs to a catalog in a process of its own, and see how soon an image is served."""
    with tempfile.TemporaryDirectory() as name, _server(Path(name)) as uri:
        figures = list(_figures(uri, Path(name), events))
    click.echo(f"{'case':<44}{'written by':<34}{'figure':>10}")
    for figure in figures:
        click.echo(f"{figure.case:<44}{figure.what:<34}{figure.value:>10,.1f} {figure.unit}  {figure.note}")
    if json_file:
        json_file.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    options = ["--dir", str(folder / "catalog"), "--readable", str(folder), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tomolive", "catalog", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    words = process.stdout.readline().split()
    if not words:
        raise click.ClickException("the catalog did not start; `tomolive catalog` says why")
    try:
        yield words[-1]
    finally:
        process.terminate()
        process.wait()


def _figures(uri: str, folder: Path, events: int) -> Iterator[Figure]:
    from bluesky_tiled_plugins import TiledWriter
    from tiled.client import from_uri

    from tomolive.catalog.archive import Archive

    client = from_uri(uri)
    path = folder / "images.h5"
    _write(path, events)
    for case, images in (("events with two numbers", False), ("events with two numbers and an image", True)):
        with contextlib.closing(Archive(client)) as archive:
            rate, note = _rate(archive, _step_scan(path, events, images=images))
            yield Figure(case, "tomolive, seen as they come", rate, "events/s", f"{note}; target: 1,000")
        rate, note = _rate(TiledWriter(client, batch_size=1), _step_scan(path, 50, images=images))
        yield Figure(case, "TiledWriter, seen as they come", rate, "events/s", f"{note}; 50 events")
        rate, note = _rate(TiledWriter(client), _step_scan(path, events, images=images))
        yield Figure(case, "TiledWriter, seen after the run", rate, "events/s", note)
    with contextlib.closing(Archive(client)) as archive:
        p50, most = np.percentile(list(_seconds_to_serve(archive, client, path)), [50, 100])
    yield Figure("document to served image", "tomolive, median of 20", float(p50), "s", "target: 1 to 2 s")
    yield Figure("document to served image", "tomolive, slowest of 20", float(most), "s")


def _rate(write: Callable[[str, dict[str, Any]], object], pairs: list[Pair]) -> tuple[float, str]:
    """Return events a second, until the run is complete in the catalog, and what the writer's side cost."""
    events = sum(name == "event" for name, _ in pairs)
    began, began_cpu = time.perf_counter(), time.process_time()
    for name, doc in pairs:
        write(name, doc)
    took, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    return events / took, f"{1e3 * cpu / events:.2f} ms of a core for each"


def _seconds_to_serve(archive: Any, client: Any, path: Path) -> Iterator[float]:
    """Announce frames one by one, and wait until each is served."""
    start, descriptor, resource, *_ = _fly_scan(path)
    for name, doc in (start, descriptor, resource):
        archive(name, doc)
    run = start[1]["uid"]
    for number in range(20):
        began = time.perf_counter()
        archive("stream_datum", _stream_datum(resource[1]["uid"], descriptor[1]["uid"], number))
        while not _is_served(client, run, number):
            time.sleep(0.02)
        yield time.perf_counter() - began
    archive("stop", _stop(run))


def _is_served(client: Any, run: str, number: int) -> bool:
    try:
        return bool(client[run]["primary"]["det"][number, 0, 0] == number % 60_000 + 1)
    except (KeyError, IndexError):
        return False


def _write(path: Path, frames: int) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        images = file.create_dataset("entry/data/data", (frames, SIZE, SIZE), "<u2", chunks=(1, SIZE, SIZE))
        for number in range(frames):
            images[number] = number % 60_000 + 1


def _start_and_descriptor(keys: dict[str, Any]) -> tuple[Pair, Pair]:
    run = str(uuid.uuid4())
    descriptor = {
        "uid": str(uuid.uuid4()), "run_start": run, "time": time.time(), "name": "primary",
        "data_keys": keys, "object_keys": {}, "configuration": {}, "hints": {},
    }  # fmt: skip
    return ("start", {"uid": run, "time": time.time(), "scan_id": 1}), ("descriptor", descriptor)


def _image(external: str) -> dict[str, Any]:
    return {
        "source": "sim", "dtype": "array", "dtype_numpy": "<u2", "shape": [1, SIZE, SIZE],
        "external": external,
    }  # fmt: skip


def _stop(run: str) -> dict[str, Any]:
    return {"uid": str(uuid.uuid4()), "run_start": run, "time": time.time(), "exit_status": "success"}


def _step_scan(path: Path, events: int, *, images: bool) -> list[Pair]:
    """Return a classic step scan."""
    keys = {name: {"source": "sim", "dtype": "number", "shape": []} for name in ("angle", "current")}
    if images:
        keys["det"] = _image("FILESTORE:")
    start, descriptor = _start_and_descriptor(keys)
    resource = {
        "uid": str(uuid.uuid4()), "run_start": start[1]["uid"], "spec": "AD_HDF5", "root": "/",
        "resource_path": str(path)[1:], "resource_kwargs": {"frame_per_point": 1}, "path_semantics": "posix",
    }  # fmt: skip
    pairs: list[Pair] = [start, descriptor, *([("resource", resource)] if images else [])]
    for number in range(events):
        data: dict[str, Any] = {"angle": number / 7, "current": 400.0}
        if images:
            data["det"] = f"{resource['uid']}/{number}"
            datum = {
                "datum_id": data["det"],
                "resource": resource["uid"],
                "datum_kwargs": {"point_number": number},
            }
            pairs.append(("datum", datum))
        event = {
            "uid": str(uuid.uuid4()), "descriptor": descriptor[1]["uid"], "time": time.time(),
            "seq_num": number + 1, "data": data, "timestamps": dict.fromkeys(data, time.time()),
            "filled": {"det": False} if images else {},
        }  # fmt: skip
        pairs.append(("event", event))
    return [*pairs, ("stop", _stop(start[1]["uid"]))]


def _fly_scan(path: Path) -> tuple[Pair, Pair, Pair]:
    """Return the beginning of a fly scan."""
    start, descriptor = _start_and_descriptor({"det": _image("STREAM:")})
    resource = {
        "uid": str(uuid.uuid4()), "run_start": start[1]["uid"], "data_key": "det",
        "mimetype": "application/x-hdf5", "uri": f"file://localhost{path}",
        "parameters": {"dataset": "/entry/data/data", "chunk_shape": [1, SIZE, SIZE]},
    }  # fmt: skip
    return start, descriptor, ("stream_resource", resource)


def _stream_datum(resource: str, descriptor: str, number: int) -> dict[str, Any]:
    return {
        "uid": f"{resource}/{number}", "stream_resource": resource, "descriptor": descriptor,
        "indices": {"start": number, "stop": number + 1},
        "seq_nums": {"start": number + 1, "stop": number + 2},
    }  # fmt: skip
