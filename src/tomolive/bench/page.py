"""``tomolive bench page``: from the announcement of a frame to changed pixels, in a real browser."""

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tomolive.bench.browser import BrowserTab, chromium
from tomolive.bench.viewer import LOOKS, Viewer
from tomolive.demo.processes import Service, Services
from tomolive.errors import SettingsError

ANY_PORT = "127.0.0.1:0"
_TIMEOUT_S = 300.0

Watcher = BrowserTab | Viewer


@click.command()
@click.option("--rows", default=512, show_default=True, help="Camera rows.")
@click.option("--columns", default=512, show_default=True, help="Camera columns.")
@click.option("--projections", default=360, show_default=True)
@click.option("--rate", default=20.0, show_default=True, help="Frames a second.")
@click.option("--viewers", default=9, show_default=True, help="Further viewers of the second scan.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
def page(
    rows: int, columns: int, projections: int, rate: float, viewers: int, json_file: Path | None
) -> None:
    """Measure the page during a simulated scan: latency, centre changes, many viewers, first paint.

    Two scans: with one browser, and with the browser, further viewers, and one more that stalls. Where there
    is no browser a WebSocket client takes its place: its figures end when pictures have come.
    """
    camera = ["--rows", str(rows), "--columns", str(columns), "--rate", str(rate)]
    scan = ["simulate", "--projections", str(projections), *camera]
    with (
        tempfile.TemporaryDirectory(prefix="tomolive-bench-") as name,
        Services(Path(name)) as services,
        contextlib.ExitStack() as stack,
    ):
        hub, address = _start(services, Path(name))
        scan += ["--hub", hub, "--data", str(Path(name) / "data")]
        figures: dict[str, Any] = {"without_browser": "", "page": None}
        watcher: Watcher
        try:
            watcher = BrowserTab(stack.enter_context(chromium()), address)
            figures["page"], looks = watcher.loaded(), watcher.looks() or LOOKS
        except SettingsError as error:
            figures["without_browser"] = str(error)
            watcher, looks = Viewer(address), LOOKS
            stack.callback(watcher.close)
        figures["one_viewer"] = _watch(services, watcher, services.spawn("scan-1", scan), projections)
        crowd = [Viewer(address, looks) for _ in range(viewers)]
        stalled = Viewer(address, looks, stalled=True)
        figures["crowd"] = _watch(services, watcher, services.spawn("scan-2", scan), projections, crowd)
        figures["crowd"]["viewers"] = viewers
        for viewer in (stalled, *crowd):
            viewer.close()
    figures["scan"] = {"rows": rows, "columns": columns, "projections": projections, "rate": rate}
    _print(figures)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


def _start(services: Services, folder: Path) -> tuple[str, str]:
    """Start hub and live reconstruction; return their addresses."""
    (folder / "data").mkdir()
    ports = [part for option in ("--native", "--in", "--out", "--http") for part in (option, ANY_PORT)]
    hub = services.start("hub", ["hub", "--journal", str(folder / "journal"), *ports]).fields["native"]
    where = ["--root", str(folder / "data"), "--results", str(folder / "results"), "--page", ANY_PORT]
    live = services.start("live", ["live", "--hub", hub, "--start", "new", *where])
    return hub, live.fields["page"]


def _watch(
    services: Services, watcher: Watcher, scan: Service, projections: int, crowd: Sequence[Viewer] = ()
) -> dict[str, Any]:
    """Watch one scan, and change its centre near the end and after it."""
    _until(services, lambda: not watcher.received or watcher.received < projections // 2, "a new scan", scan)
    _until(services, lambda: watcher.received >= 10, "projections", scan)
    for one in (watcher, *crowd):
        one.forget()
    first, began = watcher.received, time.monotonic()
    _until(services, lambda: watcher.received >= 0.8 * projections, "most of the scan", scan)
    rates = [viewer.rate for viewer in crowd]
    frames_per_s = (watcher.received - first) / (time.monotonic() - began)
    drawn = [one for one in watcher.drawn() if one["lag_s"] is not None]
    change = [_change_center(services, watcher, by, scan) for by in (0.5, -0.5)]
    services.wait(scan, _TIMEOUT_S)
    # From the centre that an estimate at the end may have chosen, with nothing else to do.
    time.sleep(2.0)
    after = [_change_center(services, watcher, by) for by in (0.5, -0.5)]
    latency = np.array([1000 * one["lag_s"] + one["drawing"] for one in drawn])
    return {
        "pictures": len(drawn),
        "pictures_per_s": (len(drawn) - 1) / (drawn[-1]["at"] - drawn[0]["at"]) * 1000,
        "slowest_viewer_per_s": min(rates, default=None),
        "frames_per_s": frames_per_s,
        "latency_ms": {"p50": float(np.median(latency)), "p99": float(np.percentile(latency, 99))},
        "drawing_ms": {
            "p50": float(np.median([one["drawing"] for one in drawn])),
            "p99": float(np.percentile([one["drawing"] for one in drawn], 99)),
        },
        "center_change_ms": max(change),
        "center_change_after_ms": max(after),
    }


def _change_center(services: Services, watcher: Watcher, by: float, scan: Service | None = None) -> float:
    """Move the rotation centre; return milliseconds until its pictures are drawn."""
    began, wanted = watcher.change_center(by)

    def answers() -> list[float]:
        return [
            one["at"]
            for one in watcher.drawn()
            if one["at"] > began and abs((one["center"] or 0) - wanted) < 1e-6 and "xy" in one["planes"]
        ]

    _until(services, answers, f"pictures with the centre {wanted}", scan)
    return answers()[0] - began


def _until(
    services: Services, condition: Callable[[], object], what: str, scan: Service | None = None
) -> None:
    """Wait until a condition is true; only the scan may end meanwhile."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        services.check(may_end=scan)
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_TIMEOUT_S:.0f} s for {what}")
        time.sleep(0.05)


def _print(figures: dict[str, Any]) -> None:
    scan, one, crowd = figures["scan"], figures["one_viewer"], figures["crowd"]
    table = Table(
        title=f"page during a scan of {scan['rows']} x {scan['columns']}, {scan['projections']} projections "
        f"at {scan['rate']:g} frames/s"
    )
    one_client = "one WebSocket client" if figures["without_browser"] else "one browser"
    for name in ("", one_client, f"and {crowd['viewers']} viewers, one stalled", "must"):
        table.add_column(name, justify="left" if not name else "right")
    change = "< 1500" if max(scan["rows"], scan["columns"]) > 512 else "< 300"
    for name, must, key in (
        ("announcement to pixels, p50 (ms)", "< 150", ("latency_ms", "p50")),
        ("announcement to pixels, p99 (ms)", "< 500", ("latency_ms", "p99")),
        ("of that after publication, p50 (ms)", "", ("drawing_ms", "p50")),
        ("centre change to pixels, scan running (ms)", change, ("center_change_ms",)),
        ("centre change to pixels, scan over (ms)", change, ("center_change_after_ms",)),
        ("pictures a second", _share(one, crowd, "pictures_per_s"), ("pictures_per_s",)),
        ("pictures a second, slowest viewer", "", ("slowest_viewer_per_s",)),
        ("projections a second", _share(one, crowd, "frames_per_s"), ("frames_per_s",)),
    ):
        table.add_row(name, *(_figure(figures[column], key) for column in ("one_viewer", "crowd")), must)
    if loaded := figures["page"]:
        table.add_row("first paint (ms)", f"{loaded['first_paint_ms']:.0f}", "", "< 1000")
        table.add_row("transferred before pictures (kB)", f"{loaded['kilobytes']:.0f}", "", "< 300")
    console = Console()
    console.print(table)
    if reason := figures["without_browser"]:
        console.print(
            f"without a browser: {reason}; nothing was painted, figures end when pictures have come"
        )


def _share(one: dict[str, Any], crowd: dict[str, Any], key: str) -> str:
    return f"-10 % at most: {100 * (crowd[key] / one[key] - 1):+.0f} %"


def _figure(figures: Any, key: tuple[str, ...]) -> str:
    for part in key:
        figures = figures[part]
    return "" if figures is None else f"{figures:.1f}"
