"""What a finished scan came to, in figures and in plain words."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomolive.demo.folder import Folder
from tomolive.demo.truth import STOCK_FILTERS, rms_error, stock_slice, true_slice
from tomolive.demo.volume import compare
from tomolive.errors import CatalogError
from tomolive.live.documents.run import in_words

ARCHIVE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Report:
    """The figures of one scan."""

    summary: Mapping[str, Any]
    """What the live reconstruction wrote."""
    taken: int
    """Projections that the RunEngine says it took, from the stop document in the catalog."""
    opening: tuple[str, ...]
    """Lines of Python that open the run."""
    catalog: Path
    center_true: float | None = None
    errors: Mapping[str, float] | None = None
    """Root-mean-square difference to the truth by plane, 1/pixel; only for a simulated scan."""
    stock_error: float | None = None
    """The same for scikit-image's iradon on the xy slice."""
    stock_filter: str = "ramp"
    """Its filter: the same, where it has that."""
    scale: float | None = None
    """Largest true attenuation, 1/pixel."""
    volume: Mapping[str, Any] | None = None
    """Path, error, seconds after the last frame, and uid of the result of the full volume."""

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` writes."""
        frames = self.summary["frames"]
        values = {
            "run_uid": self.summary["run_uid"],
            "frames": {
                "taken": self.taken,
                "received": frames["received"],
                "missing": sum(b - a for a, b in frames["missing"]) + self.taken - frames["announced"],
                "missing_ranges": frames["missing"],
                "without_beam": frames.get("without_beam", []),
            },
            "center": self.summary["center"],
            "center_source": self.summary["center_source"],
            "slices": self.summary["slices"],
            "slices_png": self.summary.get("slices_png"),
            "seconds_last_frame_to_final": self.summary["seconds_last_frame_to_final"],
            "lag_s": self.summary.get("lag_s"),
            "catalog": str(self.catalog),
            "open": list(self.opening),
        }
        if self.volume is not None:
            values["volume"] = dict(self.volume)
        if self.errors is not None:
            values["center_true"] = self.center_true
            values["errors"] = dict(self.errors)
            values["stock_error_xy"] = self.stock_error
        return values

    @property
    def complete(self) -> bool:
        """Whether every projection that was taken is in the slices of a scan that succeeded."""
        frames = self.as_dict()["frames"]
        return self.summary["outcome"] == "success" and frames["received"] == frames["taken"]

    def text(self) -> str:
        """Return the figures in plain words."""
        d = self.as_dict()
        lines = [
            "",
            f"run {d['run_uid'][:8]}  {self.summary.get('sample') or ''}  {self.summary['outcome']}",
            "  frames      {taken} taken, {received} received, {missing} missing".format(**d["frames"]),
            f"  centre      {self._center()}",
        ]
        if dark := d["frames"]["without_beam"]:
            lines.insert(3, f"  without beam {in_words(dark)}, left out of the slices")
        if failure := self.summary.get("failure"):
            lines.append(f"  failed      {failure}")
        if lag := d["lag_s"]:
            words = "from the announcement of a frame to its picture"
            lines.append(f"  lag         {lag['median']:.2f} s, at most {lag['most']:.2f} s, {words}")
        if (seconds := d["seconds_last_frame_to_final"]) is not None:
            lines.append(f"  final       slices {seconds:.2f} s after the last frame")
        if self.errors is not None:
            lines.append(
                f"  error       rms against the truth, in % of its maximum ({self.scale:.4g}/pixel), "
                f"filter {self.summary['filter']}"
            )
            lines += [
                f"              {plane}  {self._percent(error)}" for plane, error in self.errors.items()
            ]
            stock = f"by scikit-image's iradon, offline, filter {self.stock_filter}"
            lines.append(f"              xy  {self._percent(self.stock_error)}  {stock}")
        if self.volume is not None:
            error = self._percent(self.volume["error"])
            lines.append(f"  volume      {' x '.join(map(str, self.volume['shape']))}, "
                         f"{self.volume['seconds_after_last_frame']:.1f} s after the last frame")  # fmt: skip
            lines += [f"              {self.volume['path']}"]
            lines += [f"              rms error {error}"] if error else []
        if d["slices_png"]:
            lines.append(f"  pictures    {d['slices_png']}")
        # without indentation: to be pasted
        lines += ["  open it     in Python, when the demo has ended:", *self.opening]
        return "\n".join(lines) + "\n"

    def _center(self) -> str:
        if self.summary["center"] is None:
            return "none: there were no projections"
        found, source = self.summary["center"], self.summary["center_source"]
        if self.center_true is None:
            return f"{found:.2f} ({source})"
        return f"{found:.2f} found, {self.center_true:.2f} true ({source})"

    def _percent(self, error: float | None) -> str:
        return "" if error is None or not self.scale else f"{100 * error / self.scale:.3f} %"


def make_report(
    result: Path, folder: Folder, catalog_uri: str, volume: Mapping[str, Any] | None = None
) -> Report:
    """Read what the live reconstruction wrote to ``result``, and the same run from the catalog.

    ``volume`` is what `tomolive.demo.volume.make_volume` has returned.

    Raises
    ------
    CatalogError
        if the run is not complete in the catalog in time.
    """
    summary = json.loads((result / "summary.json").read_text())
    run = _finished_run(catalog_uri, summary["run_uid"])
    tomography = run.metadata["start"].get("tomography", {})
    stream = tomography["streams"]["projections"]
    report = {
        "summary": summary,
        "taken": run.metadata["stop"]["num_events"].get(stream, 0),
        "opening": opening_lines(folder, summary["run_uid"]),
        "catalog": folder.catalog,
    }
    if "simulation" in tomography and summary["slices"]:
        report |= _compare(run, tomography, summary)
    if volume is not None:
        report["volume"] = _of_volume(run, tomography, volume)
    return Report(**report)


def _of_volume(run: Any, tomography: Mapping[str, Any], volume: Mapping[str, Any]) -> dict[str, Any]:
    error = None
    if "simulation" in tomography:
        error, _ = compare(volume, tomography["simulation"])
    return {
        "path": volume["path"],
        "shape": volume["parameters"]["shape"],
        "result_uid": volume["result_uid"],
        "error": error,
        "seconds_after_last_frame": volume["finished"] - run.metadata["stop"]["time"],
    }


def opening_lines(folder: Folder, run_uid: str) -> tuple[str, str, str]:
    """Return three lines of Python that open the run from its folder, with nothing else running."""
    return (
        "from tiled.client import from_uri; from tomolive.catalog.server import CatalogServer",
        f"catalog = CatalogServer({str(folder.catalog)!r}, readable=[{str(folder.data)!r}]).start()",
        f"run = from_uri(catalog.uri)[{run_uid!r}]",
    )


def _finished_run(catalog_uri: str, run_uid: str) -> Any:
    """Return the run as the tiled client gives it, once its stop document is in the catalog."""
    from tiled.client import from_uri

    catalog = from_uri(catalog_uri)
    deadline = time.monotonic() + ARCHIVE_TIMEOUT_S
    while time.monotonic() < deadline:
        if run_uid in catalog and (run := catalog[run_uid]).metadata.get("stop"):
            return run
        time.sleep(0.2)
    raise CatalogError(
        f"run {run_uid} is not complete in the catalog {ARCHIVE_TIMEOUT_S:.0f} s after its end"
    )


def _compare(run: Any, tomography: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the slices with the sample that was simulated, and with an offline reconstruction."""
    import tifffile

    from tomolive.recon import normalize

    image_key, streams = tomography["image_key"], tomography["streams"]
    simulation = tomography["simulation"]
    positions = summary["positions"]
    scale = 1.0 if summary["units"] == "1/pixel" else summary["pixel_size_um"] * 1e-4
    rows, columns = run[streams["projections"]][image_key].shape[-2:]
    errors, largest = {}, 0.0
    for plane, path in summary["slices"].items():
        truth = true_slice(simulation, plane, positions[plane], rows, columns)
        errors[plane] = rms_error(tifffile.imread(path) * scale, truth, plane)
        largest = max(largest, float(truth.max()))

    row = int(positions["xy"])
    images = {
        kind: np.asarray(run[stream][image_key][:, row : row + 1, :]) for kind, stream in streams.items()
    }
    angles = np.deg2rad(np.asarray(run[streams["projections"]][tomography["angle_key"]][:]).ravel())
    sinogram = normalize(images["projections"], images["flats"], images["darks"])[:, 0]
    filter_ = summary["filter"] if summary["filter"] in STOCK_FILTERS else "ramp"
    stock = stock_slice(sinogram, angles, summary["center"], filter_)
    stock_truth = true_slice(simulation, "xy", row, rows, stock.shape[-1])
    return {
        "center_true": simulation["rotation_center"],
        "errors": errors,
        "stock_filter": filter_,
        "stock_error": rms_error(stock, stock_truth, "xy"),
        "scale": largest,
    }
