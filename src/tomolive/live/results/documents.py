"""Results as documents: each live reconstruction, and each volume, is a run of its own.

The start document names the raw run (``start["raw_run"]``, and ``start["tomolive"]["raw_run"]``) and holds
all that is needed to make the result again. Pictures and volumes are announced as files by stream_resource
and stream_datum, numbers come as events, and the stop document has the outcome. The documents go through the
hub like those of a scan, and so into the catalog; ``client.search(Key("raw_run") == uid)`` finds them there.

=============  =========================================================================================
stream         what it holds
=============  =========================================================================================
``volume``     slices of the volume, as data key ``volume``
``slices``     the three planes ``xy``, ``xz`` and ``yz`` of a live reconstruction
``quality``    one event with the numbers that say how good the result is
``trends``     an event for each point of what was plotted during the scan
``analysis``   events of the user's own analysis, with the data keys that it chose
=============  =========================================================================================
"""

import math
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tomolive import __version__
from tomolive.live.results.files import PUBLISHED
from tomolive.live.snapshot import Change, Trend

Emit = Callable[[str, dict[str, Any]], object]

PLANS = {"volume": "volume_reconstruction", "slices": "live_reconstruction"}
"""Kind of result -> plan_name."""
_PACKAGES = ("numpy", "scipy", "numba", "zarr", "h5py")


@dataclass(frozen=True)
class About:
    """Where a result comes from."""

    kind: str
    """'volume' or 'slices'."""
    raw_run: str
    """Uid of the run that was reconstructed."""
    parameters: Mapping[str, Any]
    """Centre and where it comes from, filter, corrections, ...: plain values, mappings and lists."""
    scan_id: int | None = None
    sample: str = ""
    plan: str = ""
    rules: str = ""
    """Name of the rule set by which the raw run was understood."""
    changes: Sequence[Change] = ()
    """Who changed what, and when."""
    like: str = ""
    """Uid of the result that this one repeats."""


def software() -> dict[str, str]:
    """Return the versions of what a result is made with."""
    versions = {"tomolive": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


class ResultRun:
    """The documents of one result, in order, given to ``emit(name, doc)`` as they are made.

    Parameters
    ----------
    emit
        A Publisher, or anything else that takes documents.
    about
        Where the result comes from.
    uid
        Of the result's run; default: a new one.
    """

    def __init__(self, emit: Emit, about: About, uid: str | None = None) -> None:
        self._emit = emit
        self.uid = uid or str(uuid.uuid4())
        self._descriptors: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        start: dict[str, Any] = {
            "uid": self.uid,
            "time": time.time(),
            "plan_name": PLANS[about.kind],
            "raw_run": about.raw_run,
            "tomolive": {
                "version": 1,
                "kind": about.kind,
                "raw_run": about.raw_run,
                "raw_plan": about.plan,
                "parameters": plain(about.parameters),
                "rules": about.rules,
                "changes": [plain(asdict(change)) for change in about.changes],
                "software": software(),
                "like": about.like,
            },
        }
        if about.scan_id is not None:
            start["scan_id"] = about.scan_id
        if about.sample:
            start["sample"] = {"name": about.sample}
        emit("start", start)

    def event(
        self, stream: str, data: Mapping[str, Any], units: Mapping[str, str] | None = None, at: float = 0.0
    ) -> None:
        """Add an event with plain values; the first one of a stream says which data keys it has.

        Numbers, booleans, text, and lists of numbers of one length. A value that is not a finite number is
        left out as NaN.
        """
        values = {key: _value(value) for key, value in data.items()}
        if stream not in self._descriptors:
            self._describe(stream, {key: _data_key(values[key], (units or {}).get(key)) for key in values})
        self._counts[stream] += 1
        when = at or time.time()
        self._emit(
            "event",
            {
                "uid": str(uuid.uuid4()),
                "descriptor": self._descriptors[stream],
                "seq_num": self._counts[stream],
                "time": when,
                "data": values,
                "timestamps": dict.fromkeys(values, when),
                "filled": {},
            },
        )

    def files(self, stream: str, files: Sequence["ResultFile"]) -> None:
        """Add a stream whose data lie in files, each with as many entries as the others."""
        keys = {}
        for file in files:
            keys[file.key] = {
                "source": f"tomolive {__version__}",
                "dtype": "array",
                "dtype_numpy": file.dtype,
                "shape": list(file.shape),
                "external": "STREAM:",
                "units": file.units,
            }
        self._describe(stream, keys)
        self._counts[stream] = files[0].count
        for file in files:
            resource = str(uuid.uuid4())
            self._emit(
                "stream_resource",
                {
                    "uid": resource,
                    "run_start": self.uid,
                    "data_key": file.key,
                    "mimetype": file.mimetype,
                    "uri": f"file://localhost{file.path}",
                    "parameters": dict(file.parameters),
                },
            )
            self._emit(
                "stream_datum",
                {
                    "uid": f"{resource}/0",
                    "stream_resource": resource,
                    "descriptor": self._descriptors[stream],
                    "indices": {"start": 0, "stop": file.count},
                    "seq_nums": {"start": 1, "stop": file.count + 1},
                },
            )

    def close(self, exit_status: str = "success", reason: str = "") -> str:
        """End the run ('success', 'abort' or 'fail'); return its uid."""
        self._emit(
            "stop",
            {
                "uid": str(uuid.uuid4()),
                "run_start": self.uid,
                "time": time.time(),
                "exit_status": exit_status,
                "reason": reason,
                "num_events": dict(self._counts),
            },
        )
        return self.uid

    def _describe(self, stream: str, data_keys: Mapping[str, Any]) -> None:
        uid = self._descriptors[stream] = str(uuid.uuid4())
        self._counts[stream] = 0
        self._emit(
            "descriptor",
            {
                "uid": uid,
                "run_start": self.uid,
                "time": time.time(),
                "name": stream,
                "data_keys": dict(data_keys),
                "object_keys": {"tomolive": list(data_keys)},
                "configuration": {},
                "hints": {},
            },
        )


@dataclass(frozen=True)
class ResultFile:
    """A file of results, as a stream_resource announces it."""

    key: str
    path: str
    """Absolute; of a folder with a slash at the end, if ``parameters`` hold a template."""
    mimetype: str
    shape: tuple[int, ...]
    """Of one entry."""
    count: int
    """Entries."""
    dtype: str
    units: str
    parameters: Mapping[str, Any]


def emit_slices(
    emit: Emit,
    summary: Mapping[str, Any],
    results: Path,
    *,
    changes: Sequence[Change] = (),
    trends: Sequence[Trend] = (),
    analysis: Iterable[Mapping[str, Any]] = (),
    analysis_units: Mapping[str, str] | None = None,
) -> str:
    """Emit a finished live reconstruction; return the uid of its run.

    Parameters
    ----------
    summary
        As `tomolive.live.results.files.write_results` has written it, with the paths of the slices.
    results
        Folder of all results: the slices are linked into a folder of their own there, since a change after
        the scan writes them again, and this result must stay what it was.
    changes
        Who changed what, and when.
    trends
        What was plotted during the scan.
    analysis
        Data of events of the user's own analysis, see `ResultRun.event`; all with the same keys.
    """
    told = ("center", "center_source", "filter", "corrections", "positions", "units", "pixel_size_um")
    parameters = {key: summary.get(key) for key in told}
    parameters |= {key: summary[key] for key in ("camera", "tiles") if summary.get(key)}
    parameters["without_beam"] = summary["frames"].get("without_beam", [])
    about = About(
        "slices",
        summary["run_uid"],
        parameters,
        scan_id=summary.get("scan_id"),
        sample=summary.get("sample") or "",
        plan=summary.get("plan") or "",
        rules=summary.get("rules") or "",
        changes=changes,
    )
    run = ResultRun(emit, about)
    if summary.get("slices"):
        folder = _keep(results, run.uid, summary["slices"])
        run.files("slices", [_slice(folder, plane, summary) for plane in summary["slices"]])
    run.event("quality", _quality(summary, trends))
    for trend in trends:
        for at, value in trend.points:
            point = {"trend": trend.name, "at": float(at), "over": trend.over, "value": float(value)}
            run.event("trends", {**point, "units": trend.units})
    for data in analysis:
        run.event("analysis", data, analysis_units)
    failure = summary.get("failure") or ""
    outcome = "fail" if failure else summary.get("outcome", "success")
    return run.close(outcome if outcome in ("success", "abort", "fail") else "abort", failure)


def _quality(summary: Mapping[str, Any], trends: Iterable[Trend]) -> dict[str, Any]:
    frames = summary["frames"]
    numbers = {
        "center": summary.get("center"),
        "coverage_deg": summary.get("coverage_deg"),
        "projections_planned": frames.get("planned"),
        "projections_received": frames.get("received"),
        "projections_missing": sum(b - a for a, b in frames.get("missing", ())),
        "projections_without_beam": sum(b - a for a, b in frames.get("without_beam", ())),
        "seconds_last_frame_to_final": summary.get("seconds_last_frame_to_final"),
    }
    newest = {f"trend_{t.name.replace(' ', '_')}": t.points[-1][1] for t in trends if t.points}
    return {key: float("nan") if value is None else float(value) for key, value in (numbers | newest).items()}


def _keep(results: Path, uid: str, paths: Mapping[str, str]) -> Path:
    """Give the slices of a result names that no later result takes."""
    folder = results.absolute() / PUBLISHED / uid
    folder.mkdir(parents=True)
    for plane, path in paths.items():
        kept = folder / f"{plane}_000000.tif"
        try:
            os.link(path, kept)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, kept)
    return folder


def _slice(folder: Path, plane: str, summary: Mapping[str, Any]) -> ResultFile:
    import tifffile

    with tifffile.TiffFile(folder / f"{plane}_000000.tif") as file:
        shape = file.pages[0].shape
    parameters = {"template": plane + "_{:06d}.tif", "chunk_shape": [1, *shape]}
    mimetype = "multipart/related;type=image/tiff"
    return ResultFile(plane, f"{folder}/", mimetype, shape, 1, "<f4", summary.get("units", ""), parameters)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: tuples are lists, what is no finite number is None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _value(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def _data_key(value: Any, units: str | None) -> dict[str, Any]:
    key: dict[str, Any] = {"source": f"tomolive {__version__}", "shape": []}
    match value:
        case bool():
            key["dtype"] = "boolean"
        case int() | float():
            key["dtype"] = "number"
        case list():
            key["dtype"], key["shape"] = "array", [len(value)]
        case _:
            key["dtype"] = "string"
    return {**key, "units": units} if units else key
