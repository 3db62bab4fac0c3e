"""Finished scans, as the live reconstruction left them in its results folder."""

import contextlib
import json
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_FILES = ("slices.png", "xy.tif", "xz.tif", "yz.tif", "summary.json")
_MOST = 50
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


class FinishedRuns:
    """The routes below ``/api/runs``; looks at the disk again only when a result has come or gone."""

    def __init__(self, results: Path | None) -> None:
        self._results = results
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}
        self._listed: list[dict[str, Any]] = []
        self._changed: int | None = None
        """Of the results folder, when `_listed` was made; None if it may have changed since unnoticed."""

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
        """Return the newest summaries; ``finished`` is Unix time, ``folder`` a name for `file`.

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

    async def file(self, request: Request) -> Response:
        """Answer with one file of one scan; only known names below the results folder."""
        run, file = request.path_params["run"], request.path_params["file"]
        if self._results is None or not _NAME.fullmatch(run) or file not in _FILES:
            return JSONResponse({"error": f"no such file; there are {', '.join(_FILES)}"}, 404)
        path = self._results / run / file
        if not path.is_file() or not path.resolve().is_relative_to(self._results.resolve()):
            return JSONResponse({"error": f"scan {run} has no {file}"}, 404)
        return FileResponse(path, filename=f"{run}-{file}", content_disposition_type="inline")


def _finished(folder: Path) -> float | None:
    try:
        return (folder / "summary.json").stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
