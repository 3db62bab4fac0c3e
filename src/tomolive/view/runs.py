"""The list of scans: the one that runs, those in the results folder, and those in the catalog."""

import contextlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tomolive.errors import CatalogError
from tomolive.live.snapshot import SnapshotStore, Status
from tomolive.view.catalog_runs import CatalogRuns

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_NUMBER = re.compile(r"[0-9]{1,6}")
FILES = ("slices.png", "xy.tif", "xz.tif", "yz.tif", "summary.json")
_SLICE_ACROSS = {"z": "xy", "y": "xz", "x": "yz"}
_MEDIA = {".png": "image/png", ".tif": "image/tiff", ".json": "application/json"}
_MOST = 50
_MOST_READING = 4
"""Requests that read results out of the catalog at once; more wait for these."""
_TICK_NS = 2_000_000_000
_TOLD = (
    "run_uid", "scan_id", "sample", "plan", "outcome", "frames", "center", "center_source", "filter",
    "coverage_deg", "seconds_last_frame_to_final",
)  # fmt: skip


@dataclass
class _Seen:
    """What was found in the folder of one scan."""

    changed: int
    """When the folder did, nanoseconds."""
    finished: float | None
    """When its summary was written, Unix time; None without one."""
    told: dict[str, Any] | None = None
    """Of the summary; None until it is asked for, empty if it is none of ours."""


class RunList:
    """The routes below ``/api/runs``."""

    def __init__(self, store: SnapshotStore, finished: "FinishedRuns", catalog: CatalogRuns) -> None:
        self._store = store
        self._finished = finished
        self._catalog = catalog

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/runs", self.runs),
            Route("/api/runs/{run}/volume.{format}", self.volume),
            Route("/api/runs/{run}/{file}", self.file),
        ]

    # Threads of their own: who waits for a catalog, or looks through volumes, keeps nobody from live
    # pictures, nor from the list.

    @cached_property
    def _listing(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(1)

    @cached_property
    def _reading(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(_MOST_READING)

    async def runs(self, _: Request) -> Response:
        """Answer with what is known of the newest scans, newest first, and why others are not listed."""
        runs = await anyio.to_thread.run_sync(self.newest, limiter=self._listing)
        return JSONResponse({"runs": runs, "catalog": self._catalog.problem})

    def newest(self) -> list[dict[str, Any]]:
        """Return each scan once: the one that runs, then what is newest of results and catalog."""
        listed = self._catalog.newest()
        volumes = {run["run_uid"]: run["volume"] for run in listed}
        here = [
            {**run, "from": "results", "volume": volumes.get(run["run_uid"])}
            for run in self._finished.newest()
        ]
        known = {run["run_uid"] for run in here}
        running = _running(self._store.latest.status, known)
        known |= {run["run_uid"] for run in running}
        there = [run for run in listed if run["run_uid"] not in known]
        return running + sorted(here + there, key=lambda run: run["finished"], reverse=True)

    async def file(self, request: Request) -> Response:
        """Answer with one file of one scan: of its results here, or made from those in the catalog."""
        run, file = request.path_params["run"], request.path_params["file"]
        if not _NAME.fullmatch(run) or file not in FILES:
            return JSONResponse({"error": f"no such file; there are {', '.join(FILES)}"}, 404)
        path = self._finished.path(run, file)
        if path is not None:
            return FileResponse(path, filename=f"{run}-{file}", content_disposition_type="inline")
        try:
            body = await anyio.to_thread.run_sync(
                _from_catalog, self._catalog, run, file, limiter=self._reading
            )
        except CatalogError as error:
            return JSONResponse({"error": str(error)}, 502)
        if body is None:
            return JSONResponse({"error": f"scan {run} has no {file}"}, 404)
        return Response(body, media_type=_MEDIA[Path(file).suffix])

    async def volume(self, request: Request) -> Response:
        """Answer with what the catalog knows of the volume of a run, or with one of its slices."""
        run, form = request.path_params["run"], request.path_params["format"]
        places = [
            (axis, request.query_params[axis]) for axis in _SLICE_ACROSS if axis in request.query_params
        ]
        (axis, asked), *others = places or [("z", "0")]
        known = _NAME.fullmatch(run) and form in ("json", "png", "tif")
        if not known or others or not _NUMBER.fullmatch(asked):
            expected = "expected volume.json, or volume.png or volume.tif with one of ?z=, ?y= and ?x="
            return JSONResponse({"error": expected}, 404)
        try:
            body = await anyio.to_thread.run_sync(
                _of_volume, self._catalog, run, form, axis, int(asked), limiter=self._reading
            )
        except CatalogError as error:
            return JSONResponse({"error": str(error)}, 502)
        if body is None:
            return JSONResponse({"error": f"the catalog has no such slice of a volume of scan {run}"}, 404)
        return Response(body, media_type=_MEDIA[f".{form}"])


def _running(status: Status, known: set[str]) -> list[dict[str, Any]]:
    """Return the scan that runs, or has just ended and left no results yet."""
    if not status.run_uid or status.run_uid in known:
        return []
    frames = {"planned": status.frames_planned, "received": status.frames_received}
    told = {key: getattr(status, key, None) for key in _TOLD}
    return [{
        **told, "outcome": status.state, "frames": {**frames, "missing": [list(r) for r in status.missing]},
        "coverage_deg": status.coverage, "finished": status.updated, "folder": status.run_uid,
        "picture": False, "volume": None, "from": "running",
    }]  # fmt: skip


def _from_catalog(catalog: CatalogRuns, run: str, file: str) -> bytes | None:
    """Return a file of a scan as its results folder would have it; None if there is no result."""
    found = catalog.slices(run)
    if found is None:
        return None
    slices, parameters = found
    body = io.BytesIO()
    if file == "summary.json":
        body.write(json.dumps({"run_uid": run, **parameters}).encode())
    elif file == "slices.png":
        from tomolive.live.results.figure import draw

        places = parameters.get("positions") or {}
        draw(slices, places, title=f"run {run[:8]}", **_units(parameters)).save(body, "png")
    else:
        import tifffile

        tifffile.imwrite(body, slices[Path(file).stem].astype(np.float32), metadata={"run_uid": run})
    return body.getvalue()


def _units(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return units and pixel size, as far as a result tells of them."""
    return {"units": parameters.get("units") or "", "pixel_size_um": parameters.get("pixel_size_um")}


def _of_volume(catalog: CatalogRuns, run: str, form: str, axis: str, position: int) -> bytes | None:
    """Return what is known of a volume, or one slice of it; None if there is none."""
    if form == "json":
        told = catalog.volume(run)
        return json.dumps(told).encode() if told else None
    found = catalog.slice_of_volume(run, axis, position)
    if found is None:
        return None
    pixels, parameters = found
    body = io.BytesIO()
    if form == "png":
        from tomolive.live.results.figure import draw

        plane, title = _SLICE_ACROSS[axis], f"volume of run {run[:8]}"
        draw({plane: pixels}, {plane: position}, title=title, **_units(parameters)).save(body, "png")
    else:
        import tifffile

        tifffile.imwrite(body, pixels, metadata={"run_uid": run, axis: position})
    return body.getvalue()


class FinishedRuns:
    """The results folder; looks at the disk again only when a result has come or gone."""

    def __init__(self, results: Path | None) -> None:
        self._results = results
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}
        self._listed: list[dict[str, Any]] = []
        self._changed: int | None = None
        """Of the results folder, when `_listed` was made; None if it may have changed since unnoticed."""

    def newest(self) -> list[dict[str, Any]]:
        """Return the newest summaries; ``finished`` is Unix time, ``folder`` a name for `path`.

        Any thread may call this.
        """
        if self._results is None:
            return []
        with self._lock:
            try:
                changed = self._results.stat().st_mtime_ns
            except OSError:
                return []
            if changed != self._changed:
                self._look(self._results)
                # Two changes within a tick of the file system's clock leave one time.
                self._changed = changed if time.time_ns() - changed > _TICK_NS else None
            return self._listed

    def _look(self, results: Path) -> None:
        seen: dict[str, _Seen] = {}
        with os.scandir(results) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # replaced by a newer reconstruction at this moment
                    changed = entry.stat().st_mtime_ns
                    known = self._seen.get(entry.name)
                    if known is None or known.changed != changed:
                        known = _Seen(changed, _finished(results / entry.name))
                    seen[entry.name] = known
        self._seen = seen
        found = sorted(
            ((s.finished, name) for name, s in seen.items() if s.finished is not None), reverse=True
        )
        told = (self._told(results / name, seen[name]) for _, name in found[:_MOST])
        self._listed = [summary for summary in told if summary]

    def _told(self, folder: Path, seen: _Seen) -> dict[str, Any]:
        if seen.told is None:
            try:
                summary = json.loads((folder / "summary.json").read_text())
            except (OSError, ValueError):  # as above, or not ours
                seen.told = {}
                return seen.told
            seen.told = {key: summary.get(key) for key in _TOLD}
            seen.told |= {"finished": seen.finished, "folder": folder.name}
            seen.told["picture"] = (folder / "slices.png").exists()
        return seen.told

    def path(self, run: str, file: str) -> Path | None:
        """Return where a file of a scan is, if it is below the results folder."""
        if self._results is None:
            return None
        path = self._results / run / file
        if not path.is_file() or not path.resolve().is_relative_to(self._results.resolve()):
            return None
        return path


def _finished(folder: Path) -> float | None:
    try:
        return (folder / "summary.json").stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
