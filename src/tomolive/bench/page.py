"""``tomolive bench page``: from the announcement of a frame to changed pixels, in real browsers."""

import contextlib
import json
import os
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
from tomolive.bench.slow_line import slow_line
from tomolive.bench.viewer import Viewer
from tomolive.demo.processes import Service, Services
from tomolive.errors import SettingsError

ANY_PORT = "127.0.0.1:0"
_TIMEOUT_S = 300.0
_CALM_S = 2.5
"""Between two changes of the centre: results are written again a second after each."""
_LOOK_EVERY_S = 0.2
"""Each look at a page is work for it."""

Watcher = BrowserTab | Viewer
Open = Callable[..., Watcher]


@click.command()
@click.option("--rows", default=512, show_default=True, help="Camera rows.")
@click.option("--columns", default=512, show_default=True, help="Camera columns.")
@click.option("--projections", default=360, show_default=True)
@click.option("--rate", default=20.0, show_default=True, help="Frames a second.")
@click.option(
    "--browsers", type=click.IntRange(1), default=10, show_default=True,
    help="Pages in the last scan, one of them throttled; below 3 there is one scan, and one page.",
)  # fmt: skip
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
def page(
    rows: int, columns: int, projections: int, rate: float, browsers: int, json_file: Path | None
) -> None:
    """Measure the page during simulated scans: latency, centre changes, many viewers, first paint.

    Three scans: with one page, with all pages but one, and with all, one of which has a slow line. The pages
    are those of a headless Chromium, each in a context of its own, on this machine. Where there is no
    browser, WebSocket clients take their place: their figures end when pictures have come.
    """
    camera = ["--rows", str(rows), "--columns", str(columns), "--rate", str(rate)]
    scan = ["simulate", "--projections", str(projections), *camera]
    figures: dict[str, Any] = {"scan": {"rows": rows, "columns": columns, "rate": rate}}
    figures["scan"]["projections"] = projections
    with (
        tempfile.TemporaryDirectory(prefix="tomolive-bench-") as name,
        Services(Path(name)) as services,
        contextlib.ExitStack() as stack,
    ):
        hub, live = _start(services, Path(name))
        scan += ["--hub", hub, "--data", str(Path(name) / "data")]
        open_page, figures["without_browser"] = _opener(stack, live.fields["page"])

        def watch(number: int, pages: Sequence[Watcher], throttled: Watcher | None = None) -> dict[str, Any]:
            running = services.spawn(f"scan-{number}", scan)
            return _watch(services, live, pages, running, projections, throttled)

        first = open_page()
        figures["page"] = first.loaded()
        figures["one"] = watch(1, [first])
        if browsers > 2:
            pages = [first, *(open_page() for _ in range(browsers - 2))]
            figures["many"] = watch(2, pages)
            figures["throttled"] = watch(3, pages, open_page(throttled=True))
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    _print(figures)


def _opener(stack: contextlib.ExitStack, address: str) -> tuple[Open, str]:
    """Return what opens a page, and why that is none in a browser (empty: it is)."""
    try:
        browser = stack.enter_context(chromium())
    except SettingsError as error:

        def connect(*, throttled: bool = False) -> Viewer:
            viewer = Viewer(address, stalled=throttled)
            stack.callback(viewer.close)
            return viewer

        return connect, str(error)

    def open_page(*, throttled: bool = False) -> BrowserTab:
        end = stack.enter_context(slow_line(address)) if throttled else address
        return BrowserTab(browser, end)

    return open_page, ""


def _start(services: Services, folder: Path) -> tuple[str, Service]:
    """Start hub and live reconstruction; return the address of the one, and the other."""
    (folder / "data").mkdir()
    ports = [part for option in ("--native", "--in", "--out", "--http") for part in (option, ANY_PORT)]
    hub = services.start("hub", ["hub", "--journal", str(folder / "journal"), *ports]).fields["native"]
    where = ["--root", str(folder / "data"), "--results", str(folder / "results"), "--page", ANY_PORT]
    return hub, services.start("live", ["live", "--hub", hub, "--start", "new", *where])


def _watch(
    services: Services,
    live: Service,
    pages: Sequence[Watcher],
    scan: Service,
    projections: int,
    throttled: Watcher | None = None,
) -> dict[str, Any]:
    """Watch one scan, and change its centre near the end and after it."""
    first = pages[0]
    _until(services, lambda: not first.received or first.received < projections // 2, "a new scan", scan)
    _until(services, lambda: first.received >= 10, "projections", scan)
    for one in (*pages, *([throttled] if throttled else [])):
        one.forget()
    came, began = first.received, time.monotonic()
    server, browser = _processor_s(live), first.processor_s
    _until(services, lambda: first.received >= 0.8 * projections, "most of the scan", scan)
    lasted = time.monotonic() - began
    frames_per_s, cores = (first.received - came) / lasted, (_processor_s(live) - server) / lasted
    drawing_s = None if browser is None else (first.processor_s or 0.0) - browser
    rates = [one.rate for one in pages]
    slow = throttled.rate if throttled else None
    pictures = sum(len(one.drawn()) for one in (*pages, *([throttled] if throttled else [])))
    drawn = [one for one in first.drawn() if one["lag_s"] is not None and "xy" in one["planes"]]
    change = [_change_center(services, first, by, scan) for by in (0.5, -0.5)]
    services.wait(scan, _TIMEOUT_S)
    # From the centre that an estimate at the end may have chosen, with nothing else to do.
    _until(services, lambda: first.is_final, "final slices", scan)
    time.sleep(_CALM_S)
    after = [_change_center(services, first, by) for by in (0.5, -0.5)]
    latency = np.array([1000 * one["lag_s"] + one["drawing"] for one in drawn])
    drawing = np.array([one["drawing"] for one in drawn])
    return {
        "pages": len(pages),
        "pictures": len(drawn),
        "pictures_per_s": float(np.mean(rates)),
        "slowest_per_s": min(rates),
        "throttled_per_s": slow,
        "frames_per_s": frames_per_s,
        "live_cores": cores,
        "browser_ms": None if drawing_s is None else 1000 * drawing_s / pictures,
        "latency_ms": {"p50": float(np.median(latency)), "p99": float(np.percentile(latency, 99))},
        "drawing_ms": {"p50": float(np.median(drawing)), "p99": float(np.percentile(drawing, 99))},
        "center_change_ms": max(change),
        "center_change_after_ms": max(after),
    }


def _processor_s(service: Service) -> float:
    """Return the processor time, seconds, that a process has taken."""
    user, system = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _change_center(services: Services, watcher: Watcher, by: float, scan: Service | None = None) -> float:
    """Move the rotation centre; return milliseconds until the three slices with it are drawn."""
    began, wanted = watcher.change_center(by)

    def answers() -> list[float]:
        return [
            one["at"]
            for one in watcher.drawn()
            if one["at"] > began
            and abs((one["center"] or 0) - wanted) < 1e-6
            and {"xy", "xz", "yz"} <= set(one["planes"])
        ]

    _until(services, answers, f"pictures with the centre {wanted}", scan)
    time.sleep(_CALM_S)
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
        time.sleep(_LOOK_EVERY_S)


def _print(figures: dict[str, Any]) -> None:
    scan = figures["scan"]
    watched = [name for name in ("one", "many", "throttled") if name in figures]
    table = Table(
        title=f"page during a scan of {scan['rows']} x {scan['columns']}, {scan['projections']} projections "
        f"at {scan['rate']:g} frames/s"
    )
    what = "WebSocket clients" if figures["without_browser"] else "pages"
    table.add_column("")
    for name in watched:
        heads = {"one": f"1 of {what}", "throttled": "and 1 throttled"}
        table.add_column(heads.get(name, str(figures[name]["pages"])), justify="right")
    table.add_column("must", justify="right")
    large = max(scan["rows"], scan["columns"]) > 512
    p50, p99, change = ("", "", "< 1500") if large else ("< 150", "< 500", "< 300")
    for name, must, *key in (
        ("announcement to pixels, p50 (ms)", p50, "latency_ms", "p50"),
        ("announcement to pixels, p99 (ms)", p99, "latency_ms", "p99"),
        ("of that after publication, p50 (ms)", "", "drawing_ms", "p50"),
        ("of that after publication, p99 (ms)", "", "drawing_ms", "p99"),
        ("centre change to pixels, scan running (ms)", change, "center_change_ms"),
        ("centre change to pixels, scan over (ms)", change, "center_change_after_ms"),
        ("pictures a second and page", _share(figures, "pictures_per_s"), "pictures_per_s"),
        ("pictures a second, slowest page", "", "slowest_per_s"),
        ("pictures a second, throttled page", "", "throttled_per_s"),
        ("projections a second", _share(figures, "frames_per_s"), "frames_per_s"),
        ("processor of reconstruction and server (cores)", "", "live_cores"),
        ("processor of the browser for a picture (ms)", "", "browser_ms"),
    ):
        table.add_row(name, *(_figure(figures[column], key) for column in watched), must)
    if loaded := figures["page"]:
        empty = [""] * (len(watched) - 1)
        table.add_row("first paint (ms)", f"{loaded['first_paint_ms']:.0f}", *empty, "< 1000")
        table.add_row("transferred before pictures (kB)", f"{loaded['kilobytes']:.0f}", *empty, "< 300")
    console = Console()
    console.print(table)
    if reason := figures["without_browser"]:
        console.print(
            f"without a browser: {reason}; nothing was painted, figures end when pictures have come"
        )


def _share(figures: dict[str, Any], key: str) -> str:
    """Return what a throttled page changes of a figure."""
    if "throttled" not in figures:
        return ""
    before, after = figures["many"][key], figures["throttled"][key]
    if not before:
        return "the scan was over too soon: take more projections"
    return f"-10 % at most: {100 * (after / before - 1):+.0f} %"


def _figure(figures: Any, key: Sequence[str]) -> str:
    for part in key:
        figures = figures[part]
    return "" if figures is None else f"{figures:.2f}" if figures < 1 else f"{figures:.1f}"
