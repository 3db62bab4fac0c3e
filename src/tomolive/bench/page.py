"""``tomolive bench page``: from the announcement of a frame to changed pixels, in a real browser."""

import json
import tempfile
import time
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
document.addEventListener("tomolive:drawn", ({detail}) => {
  const now = performance.timeOrigin + performance.now();
  window.drawn.push({...detail, at: now, drawing: now - 1000 * detail.updated});
});
"""
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
            crowd = [Viewer(address) for _ in range(viewers)]
            stalled = Viewer(address, stalled=True)
            figures["crowd"] = _watch(services, tab, services.spawn("scan-2", scan), projections)
            figures["crowd"]["viewers"] = viewers
            stalled.close()
            for viewer in crowd:
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


def _watch(services: Services, tab: Any, scan: Service, projections: int) -> dict[str, Any]:
    """Watch one scan in the browser and change its centre near the end."""
    received = "Number(document.getElementById('progress').getAttribute('aria-valuenow'))"
    _until(services, tab, f"{received} === 0 || {received} < {projections // 2}")
    _until(services, tab, f"{received} >= 10")
    tab.evaluate("drawn.length = 0")
    _until(services, tab, f"{received} >= {0.8 * projections}")
    drawn = tab.evaluate("drawn.filter(d => d.lag_s !== null)")
    change = [_change_center(services, tab, by) for by in (0.5, -0.5)]
    services.wait(scan, _TIMEOUT_S)
    latency = np.array([1000 * d["lag_s"] + d["drawing"] for d in drawn])
    return {
        "pictures": len(drawn),
        "pictures_per_s": (len(drawn) - 1) / (drawn[-1]["at"] - drawn[0]["at"]) * 1000,
        "latency_ms": {"p50": float(np.median(latency)), "p99": float(np.percentile(latency, 99))},
        "drawing_ms": {
            "p50": float(np.median([d["drawing"] for d in drawn])),
            "p99": float(np.percentile([d["drawing"] for d in drawn], 99)),
        },
        "center_change_ms": max(change),
    }


def _change_center(services: Services, tab: Any, by: float) -> float:
    """Press a button of the rotation centre; return milliseconds until its pictures are drawn."""
    began, wanted = tab.evaluate(
        "by => { const now = performance.timeOrigin + performance.now();"
        " document.querySelector(`[data-step='${by}']`).click();"
        " return [now, Number(document.getElementById('center').value)]; }",
        by,
    )
    same = f"d => Math.abs(d.center - {wanted}) < 1e-6 && d.planes.includes('xy')"
    _until(services, tab, f"drawn.some({same})")
    return tab.evaluate(f"drawn.find({same}).at") - began


def _until(services: Services, tab: Any, condition: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not tab.evaluate(condition):
        services.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_TIMEOUT_S:.0f} s for {condition}")
        time.sleep(0.05)


def _print(figures: dict[str, Any]) -> None:
    scan = figures["scan"]
    table = Table(
        title=f"page during a scan of {scan['rows']} x {scan['columns']}, {scan['projections']} projections "
        f"at {scan['rate']:g} frames/s"
    )
    for name in ("", "one browser", f"and {figures['crowd']['viewers']} viewers, one stalled", "limit"):
        table.add_column(name, justify="left" if not name else "right")
    one, crowd = figures["one_viewer"], figures["crowd"]
    for name, limit, value in (
        ("announcement to pixels, p50 (ms)", "150", lambda f: f["latency_ms"]["p50"]),
        ("announcement to pixels, p99 (ms)", "500", lambda f: f["latency_ms"]["p99"]),
        ("of that after publication, p50 (ms)", "", lambda f: f["drawing_ms"]["p50"]),
        ("pictures a second", "", lambda f: f["pictures_per_s"]),
        ("centre change to pixels (ms)", "300", lambda f: f["center_change_ms"]),
    ):
        table.add_row(name, f"{value(one):.1f}", f"{value(crowd):.1f}", limit)
    table.add_row("first paint (ms)", f"{figures['page']['first_paint_ms']:.0f}", "", "1000")
    table.add_row("transferred before pictures (kB)", f"{figures['page']['kilobytes']:.0f}", "", "300")
    Console().print(table)
