"""Finished scans, as the live reconstruction left them in its results folder."""

import json
import re
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_FILES = ("slices.png", "xy.tif", "xz.tif", "yz.tif", "summary.json")
_MOST = 50
_TOLD = (
    "run_uid", "scan_id", "sample", "plan", "outcome", "frames", "center", "center_source", "filter",
    "coverage_deg", "seconds_last_frame_to_final",
)  # fmt: skip


class FinishedRuns:
    """The routes below ``/api/runs``; reads each summary once, until it is written anew."""

    def __init__(self, results: Path | None) -> None:
        self._results = results
        self._read: dict[Path, tuple[float, dict[str, Any]]] = {}

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/runs", self.runs),
            Route("/api/runs/{run}/{file}", self.file),
        ]

    async def runs(self, _: Request) -> Response:
        """Answer with what is known of the newest scans, newest first."""
        return JSONResponse(await anyio.to_thread.run_sync(self.newest))

    def newest(self) -> list[dict[str, Any]]:
        """Return the newest summaries; ``finished`` is Unix time, ``folder`` a name for `file`."""
        if self._results is None:
            return []
        found = sorted(self._times(), reverse=True)[:_MOST]
        self._read = {path: self._read[path] for _, path in found if path in self._read}
        return [summary for time, path in found if (summary := self._summary(path, time))]

    def _times(self) -> list[tuple[float, Path]]:
        assert self._results is not None  # noqa: S101  newest has looked
        times = []
        for path in self._results.glob("*/summary.json"):
            try:
                times.append((path.stat().st_mtime, path))
            except OSError:  # replaced by a newer reconstruction at this moment
                continue
        return times

    def _summary(self, path: Path, time: float) -> dict[str, Any] | None:
        known = self._read.get(path)
        if known and known[0] == time:
            return known[1]
        try:
            summary = json.loads(path.read_text())
        except (OSError, ValueError):  # as above, or not ours
            return None
        told = {key: summary.get(key) for key in _TOLD}
        told |= {"finished": time, "folder": path.parent.name}
        told["picture"] = (path.parent / "slices.png").exists()
        self._read[path] = (time, told)
        return told

    async def file(self, request: Request) -> Response:
        """Answer with one file of one scan; only known names below the results folder."""
        run, file = request.path_params["run"], request.path_params["file"]
        if self._results is None or not _NAME.fullmatch(run) or file not in _FILES:
            return JSONResponse({"error": f"no such file; there are {', '.join(_FILES)}"}, 404)
        path = self._results / run / file
        if not path.is_file() or not path.resolve().is_relative_to(self._results.resolve()):
            return JSONResponse({"error": f"scan {run} has no {file}"}, 404)
        return FileResponse(path, filename=f"{run}-{file}", content_disposition_type="inline")
