"""What pages take for granted: a hub, a catalog, an archive and a page that run, with one scan taken."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bluesky.callbacks.json_writer import JSONLinesWriter

from tomolive.bench.brokers import KafkaMock
from tomolive.catalog.open import open_catalog
from tomolive.demo.processes import Service, Services
from tomolive.stream.dispatcher import RemoteDispatcher

TIMEOUT = 120.0
SMALL = "--rows 16 --columns 64 --projections 40 --darks 3 --flats 3 --rate 200"
ANY = "127.0.0.1:0"


@dataclass(frozen=True)
class Stage:
    """Where everything is."""

    folder: Path
    """The catalog may read everything below it."""
    images: Path
    settings: Path
    hub: str
    stock_in: str
    stock_out: str
    page: str
    catalog: str
    """With its key."""
    run: str
    """Uid of the scan that was taken."""
    start: dict[str, Any]
    """Its start document."""
    kafka: str
    """HOST:PORT of something that speaks its protocol."""

    def volume(self) -> str:
        """Return the uid of a volume of the scan, once one is in the catalog."""

        def newest() -> str | None:
            found = [start for start in starts_in(self.catalog) if start.get("raw_run") == self.run]
            return next((start["uid"] for start in found if "volume" in str(start.get("plan_name"))), None)

        return wait_for(newest, "a volume of the scan in the catalog")


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true value of ``condition``."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return value


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start it all once, and take a small scan."""
    folder = tmp_path_factory.mktemp("stage")
    images, results = folder / "images", folder / "results"
    images.mkdir()
    written = {"live": {"results": str(results)}, "volume": {"folder": f"{folder}/volumes"}}
    (folder / "live.yml").write_text(json.dumps(written))  # JSON is YAML
    with ExitStack() as stack:
        services = stack.enter_context(Services(folder))

        def begin(command: str) -> Service:
            return services.begin(command.split()[0], command.split())

        waiting = [
            begin(f"hub --journal {folder}/journal --native {ANY} --in {ANY} --out {ANY} --http {ANY}"),
            begin(f"catalog --dir {folder}/catalog --readable {folder} --listen {ANY}"),
        ]
        hub, catalog = (services.wait_ready(service).fields for service in waiting)
        source, uri = hub["native"], catalog["uri"]
        waiting = [
            begin(f"archive --hub {source} --catalog {uri} --http {ANY}"),
            begin(f"live --config {folder}/live.yml --hub {source} --root {images} --page {ANY} --start all"),
        ]
        scan = f"simulate --hub {source} --data {images} --spool {folder}/spool {SMALL}"
        simulate = services.spawn("simulate", scan.split())
        kafka = stack.enter_context(KafkaMock(folder / "kafka"))
        archive, live = (services.wait_ready(service).fields for service in waiting)
        assert services.wait(simulate, TIMEOUT) == 0
        start = wait_for(lambda: _finished(uri, results), "the scan and its slices")
        _make_scan_file(folder / "scan.h5")
        _record(source, start["uid"], folder)
        settings = {
            "hub": {"native": _place(source), "http": _place(hub["http"]), "journal": f"{folder}/journal"},
            "files": {"roots": [str(images)]},
            "live": {"results": str(results), "memory_mb": 500},
            "volume": {"folder": f"{folder}/volumes", "memory_mb": 500, "processes": 1},
            "page": {"listen": _place(live["page"])},
            "archive": {"http": _place(archive["http"])},
            "catalog": {"uri": uri},
        }
        (folder / "beamline.yml").write_text(json.dumps(settings))  # JSON is YAML
        yield Stage(
            folder=folder,
            images=images,
            settings=folder / "beamline.yml",
            hub=source,
            stock_in=_place(hub["in"]),
            stock_out=_place(hub["out"]),
            page=_place(live["page"]),
            catalog=uri,
            run=start["uid"],
            start=start,
            kafka=f"127.0.0.1:{kafka.port}",
        )


def _place(address: str) -> str:
    return address.partition("://")[2].rstrip("/") if "://" in address else address


def starts_in(catalog: str) -> list[dict[str, Any]]:
    """Return the start documents of the runs that have ended."""
    client = open_catalog(catalog)
    with contextlib.closing(client.context):
        return [dict(run.start) for run in client.values() if run.metadata.get("stop")]


def _finished(catalog: str, results: Path) -> dict[str, Any] | None:
    """Return the scan's start document when the catalog has it, and the result that was made of it."""
    starts = starts_in(catalog)
    raw = {start["raw_run"] for start in starts if "raw_run" in start}
    made = (start for start in starts if start["uid"] in raw)
    return next((start for start in made if (results / start["uid"] / "summary.json").exists()), None)


def _record(hub: str, run: str, folder: Path) -> None:
    """Write the documents of a run to a file of JSON lines."""
    dispatcher = RemoteDispatcher(hub, start=run)
    dispatcher.subscribe(JSONLinesWriter(str(folder), "run.jsonl"))
    dispatcher.subscribe(lambda _name, _doc: dispatcher.stop(), "stop")
    dispatcher.start()


def _make_scan_file(path: Path) -> None:
    """Write a scan that is Data Exchange, and has the same again in datasets of other names."""
    rng = np.random.default_rng(1)
    frames = {
        name: rng.integers(200, 900, (count, 4, 32)).astype("u2")
        for name, count in [("data", 12), ("flat", 2), ("dark", 2)]
    }
    kinds = np.repeat([2, 1, 0], [2, 2, 12])
    with h5py.File(path, "w") as file:
        exchange = {"data": "data", "data_white": "flat", "data_dark": "dark"}
        own = {"/tomo/pictures": "data", "/before/no_sample": "flat", "/before/no_beam": "dark"}
        for place, name in {**{f"/exchange/{key}": name for key, name in exchange.items()}, **own}.items():
            file[place] = frames[name]
        angles = np.linspace(0, 165, 12)
        file["/exchange/theta"] = file["/tomo/rotation"] = angles
        file["/pictures"] = np.concatenate([frames["dark"], frames["flat"], frames["data"]])
        file["/kinds"] = kinds


@pytest.fixture
def files(stage: Stage) -> dict[str, Path]:
    """Files that pages speak of, where they are at hand."""
    beside = Path(__file__).parents[3] / "shared" / "data" / "tooth.h5"
    tooth = Path(os.environ.get("TOMOLIVE_TEST_TOOTH", beside))
    there = {"scan.h5": "scan.h5", "own.h5": "scan.h5", "run.jsonl": "run.jsonl"}
    there = {name: stage.folder / file for name, file in there.items()}
    return there | ({"tooth.h5": tooth} if tooth.exists() else {})
