"""``tomolive bench page``: from the announcement of a frame to changed pixels, in a real browser."""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tomolive.bench.browser import chromium
from tomolive.bench.viewer import Viewer
from tomolive.demo.processes import Service, Services

ANY_PORT = "127.0.0.1:0"
_TIMEOUT_S = 300.0

# Both clocks are this machine's: the worker stamps a picture with time.time(), the browser with its own.
_LISTEN = """
window.drawn = [];
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (text) {
  if (text.includes('"type":"view"')) window.looks = JSON.parse(text).pictures;
  send.call(this, text);
};
document.addEventListener("tomolive:drawn", ({detail}) => {
  const now = performance.timeOrigin + performance.now();
  window.drawn.push({...detail, at: now, drawing: now - 1000 * detail.updated});
});
"""
_LOOKS = {"xy": 490, "xz": 224, "yz": 224, "projection": 272}
_LOADED = """() => {
  const entries = ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind));
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  const bytes = entries.reduce((total, entry) => total + entry.transferSize, 0);
  return {first_paint_ms: paint?.startTime, kilobytes: bytes / 1000};
}"""


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

    Two scans: with one browser, and with the browser, further viewers, and one more that stalls.
    """
    camera = ["--rows", str(rows), "--columns", str(columns), "--rate", str(rate)]
    scan = ["simulate", "--projections", str(projections), *camera]
    with tempfile.TemporaryDirectory(prefix="tomolive-bench-") as name, Services(Path(name)) as services:
        folder = Path(name)
        hub, address = _start(services, folder)
        scan += ["--hub", hub, "--data", str(folder / "data")]
        with chromium() as browser:
            tab = browser.new_page(viewport={"width": 1280, "height": 720})
            tab.add_init_script(_LISTEN)
            tab.goto(address)
            tab.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            figures: dict[str, Any] = {"page": tab.evaluate(_LOADED)}
            figures["one_viewer"] = _watch(services, tab, services.spawn("scan-1", scan), projections)
            looks = tab.evaluate("window.looks") or _LOOKS
            crowd = [Viewer(address, looks) for _ in range(viewers)]
            stalled = Viewer(address, looks, stalled=True)
            figures["crowd"] = _watch(services, tab, services.spawn("scan-2", scan), projections, crowd)
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
    services: Services, tab: Any, scan: Service, projections: int, crowd: Sequence[Viewer] = ()
) -> dict[str, Any]:
    """Watch one scan in the browser and change its centre near the end."""
    received = "Number(document.getElementById('progress').getAttribute('aria-valuenow'))"
    _until(services, tab, f"{received} === 0 || {received} < {projections // 2}", scan)
    _until(services, tab, f"{received} >= 10", scan)
    for viewer in crowd:
        viewer.reset()
    first, began = tab.evaluate(f"(drawn.length = 0, {received})"), time.monotonic()
    _until(services, tab, f"{received} >= {0.8 * projections}", scan)
    rates = [viewer.rate for viewer in crowd]
    frames_per_s = (tab.evaluate(received) - first) / (time.monotonic() - began)
    drawn = tab.evaluate("drawn.filter(d => d.lag_s !== null)")
    change = [_change_center(services, tab, by, scan) for by in (0.5, -0.5)]
    services.wait(scan, _TIMEOUT_S)
    # From the centre that an estimate at the end may have chosen, with nothing else to do.
    after = [_change_center(services, tab, by) for by in (0.5, -0.5)]
    latency = np.array([1000 * d["lag_s"] + d["drawing"] for d in drawn])
    return {
        "pictures": len(drawn),
        "pictures_per_s": (len(drawn) - 1) / (drawn[-1]["at"] - drawn[0]["at"]) * 1000,
        "slowest_viewer_per_s": min(rates, default=None),
        "frames_per_s": frames_per_s,
        "latency_ms": {"p50": float(np.median(latency)), "p99": float(np.percentile(latency, 99))},
        "drawing_ms": {
            "p50": float(np.median([d["drawing"] for d in drawn])),
            "p99": float(np.percentile([d["drawing"] for d in drawn], 99)),
        },
        "center_change_ms": max(change),
        "center_change_after_ms": max(after),
    }


def _change_center(services: Services, tab: Any, by: float, scan: Service | None = None) -> float:
    """Press a button of the rotation centre; return milliseconds until its pictures are drawn."""
    began, wanted = tab.evaluate(
        "by => { const now = performance.timeOrigin + performance.now();"
        " document.querySelector(`[data-step='${by}']`).click();"
        " return [now, Number(document.getElementById('center').value)]; }",
        by,
    )
    same = f"d => d.at > {began} && Math.abs(d.center - {wanted}) < 1e-6 && d.planes.includes('xy')"
    _until(services, tab, f"drawn.some({same})", scan)
    return tab.evaluate(f"drawn.find({same}).at") - began


def _until(services: Services, tab: Any, condition: str, scan: Service | None = None) -> None:
    """Wait until a condition is true in the browser; only the scan may end meanwhile."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not tab.evaluate(condition):
        services.check(may_end=scan)
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_TIMEOUT_S:.0f} s for {condition}")
        time.sleep(0.05)


def _print(figures: dict[str, Any]) -> None:
    scan, one, crowd = figures["scan"], figures["one_viewer"], figures["crowd"]
    table = Table(
        title=f"page during a scan of {scan['rows']} x {scan['columns']}, {scan['projections']} projections "
        f"at {scan['rate']:g} frames/s"
    )
    for name in ("", "one browser", f"and {crowd['viewers']} viewers, one stalled", "must"):
        table.add_column(name, justify="left" if not name else "right")
    change = "< 1500" if max(scan["rows"], scan["columns"]) > 512 else "< 300"
    for name, must, key in (
        ("announcement to pixels, p50 (ms)", "< 150", ("latency_ms", "p50")),
        ("announcement to pixels, p99 (ms)", "< 500", ("latency_ms", "p99")),
        ("of that after publication, p50 (ms)", "", ("drawing_ms", "p50")),
        ("centre change to pixels, scan running (ms)", change, ("center_change_ms",)),
        ("centre change to pixels, scan over (ms)", change, ("center_change_after_ms",)),
        ("pictures a second, browser", _share(one, crowd, "pictures_per_s"), ("pictures_per_s",)),
        ("pictures a second, slowest viewer", "", ("slowest_viewer_per_s",)),
        ("projections a second", _share(one, crowd, "frames_per_s"), ("frames_per_s",)),
    ):
        table.add_row(name, *(_figure(figures[column], key) for column in ("one_viewer", "crowd")), must)
    table.add_row("first paint (ms)", f"{figures['page']['first_paint_ms']:.0f}", "", "< 1000")
    table.add_row("transferred before pictures (kB)", f"{figures['page']['kilobytes']:.0f}", "", "< 300")
    Console().print(table)


def _share(one: dict[str, Any], crowd: dict[str, Any], key: str) -> str:
    return f"-10 % at most: {100 * (crowd[key] / one[key] - 1):+.0f} %"


def _figure(figures: Any, key: tuple[str, ...]) -> str:
    for part in key:
        figures = figures[part]
    return "" if figures is None else f"{figures:.1f}"
