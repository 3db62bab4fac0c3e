"""A page that is really served, with a simulated scan behind it, and a real browser in front."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tomolive.bench.browser import ADVICE, chromium, find_chromium
from tomolive.live.controls import Controls
from tomolive.live.snapshot import Picture, SnapshotStore, Status, Subject, Trend
from tomolive.view.server import create_app, serve

ROWS, COLUMNS = 128, 256
PLANNED = 180


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    """Return the first true value of ``condition``."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout} s for: {what}")


def ellipsoids(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Return a volume (rows, columns, columns) of nested ellipsoids, values 0 to 1."""
    z, y, x = np.meshgrid(
        np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), np.linspace(-1, 1, columns), indexing="ij",
        sparse=True,
    )  # fmt: skip
    volume = np.zeros((rows, columns, columns), np.float32)
    for value, (cx, cy, cz), (a, b, c) in (
        (0.5, (0, 0, 0), (0.78, 0.6, 0.85)),
        (-0.2, (0.05, 0.02, 0), (0.68, 0.5, 0.75)),
        (0.45, (-0.3, 0.1, 0.1), (0.16, 0.22, 0.3)),
        (-0.25, (0.25, -0.15, -0.1), (0.2, 0.12, 0.35)),
        (0.6, (0.3, 0.28, 0.2), (0.07, 0.07, 0.2)),
        (0.7, (-0.1, -0.32, -0.3), (0.05, 0.09, 0.1)),
    ):
        volume += value * (((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 + ((z - cz) / c) ** 2 < 1)
    return volume


class SimulatedScan:
    """Publishes what the reconstruction thread would: slices of a known volume whose noise falls."""

    def __init__(self) -> None:
        self.store = SnapshotStore()
        self.controls = Controls()
        self.wishes: list[Any] = []
        self.volume = ellipsoids()
        self.random = np.random.default_rng(7)
        self.version = 0
        self.pictures: dict[str, Picture] = {}
        self.status = Status(
            run_uid="3fa94c1e-55aa-4c9e-9d0a-b6ff3d1e8a11", scan_id=12, sample="simulated shell",
            plan="tomo_fly", frames_planned=PLANNED, center=126.4, center_source="provisional",
            pixel_size_um=1.3, darks=20, flats=20,
        )  # fmt: skip
        self.dark = range(0)
        self.at = {"xy": ROWS // 2, "xz": COLUMNS // 2, "yz": COLUMNS // 2}

    def picture(self, plane: str, frames: int) -> np.ndarray:
        """Return the pixels of one plane after so many projections."""
        at = self.at
        if plane == "projection":
            angle = int(frames / PLANNED * 40)
            counts = 40000 * np.exp(-0.012 * np.roll(self.volume, angle, axis=2).sum(axis=1))
            return self.random.poisson(counts).astype(np.float32)
        pixels = {
            "xy": self.volume[at["xy"]], "xz": self.volume[:, at["xz"]], "yz": self.volume[:, :, at["yz"]],
        }[plane]  # fmt: skip
        noise = self.random.normal(0, 2.5 / np.sqrt(frames + 1), pixels.shape)
        return (pixels + noise).astype(np.float32)

    def publish(self, frames: int, **changes: Any) -> None:
        """Publish the state after ``frames`` projections."""
        facts: dict[str, Any] = {
            "state": "finished" if frames >= PLANNED else "projections", "frames_received": frames,
            "frames_announced": min(PLANNED, frames + 4), "coverage": frames / PLANNED * 180, "lag_s": 0.18,
            "updated": time.time(), "trends": (self.trend(frames),),
        }  # fmt: skip
        self.status = replace(self.status, **{**facts, **changes})
        self.draw(frames)
        self.store.publish(self.status, self.pictures)

    def draw(self, frames: int) -> None:
        """Make all pictures anew, of the scan that the status tells of."""
        self.version += 1
        shared = Subject.__dataclass_fields__.keys() & Status.__dataclass_fields__.keys()
        of = Subject(**{name: getattr(self.status, name) for name in shared})
        for plane in ("xy", "xz", "yz", "projection"):
            position = frames if plane == "projection" else self.at[plane]
            units = "counts" if plane == "projection" else "1/cm"
            pixels = self.picture(plane, frames)
            self.pictures[plane] = Picture(plane, pixels, position, self.version, units, of)

    def trend(self, frames: int) -> Trend:
        """Return a mean transmission that varies a little; without beam in `dark` projections."""
        value = {True: 0.01, False: 0.55}
        points = ((n, value[n in self.dark] + 0.04 * np.sin(n / 9)) for n in range(frames + 1))
        warning = "projections 60 to 69 saw hardly any beam" if self.dark else ""
        return Trend("Transmission", "transmission", tuple(points), warning)

    def obey(self) -> None:
        """Grant what the page wished for."""
        for wish in self.controls.take():
            self.wishes.append(wish)
            if wish.center is not None:
                self.status = replace(self.status, center=wish.center, center_source=f"set by {wish.who}")
            if wish.estimate_center:
                self.status = replace(
                    self.status, center=125.5, center_source="estimated from 0 and 180 degrees"
                )
            if wish.filter is not None:
                self.status = replace(self.status, filter=wish.filter)
            if wish.plane is not None:
                self.at[wish.plane] = wish.position


class Beamline:
    """A thread that runs a simulated scan until it is told to stop."""

    def __init__(self, scan: SimulatedScan, first: int = 1) -> None:
        self.scan = scan
        self.stop = threading.Event()
        self.hold = threading.Event()
        self._first = first
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        frames = self._first
        while not self.stop.wait(0.12):
            self.scan.obey()
            self.scan.publish(frames)
            if not self.hold.is_set():
                frames = min(frames + 2, PLANNED - 1)

    def close(self) -> None:
        """End the thread."""
        self.stop.set()
        self._thread.join(30)


class ServedPage:
    """The page, served on a port that the system chose."""

    def __init__(self, scan: SimulatedScan, **options: Any) -> None:
        self.scan = scan
        self._stop = threading.Event()
        self._ready = threading.Event()
        self.url = ""
        app = create_app(scan.store, scan.controls, source="tcp://127.0.0.1:5569", **options)
        self._thread = threading.Thread(
            target=serve, args=(app, "127.0.0.1", 0, self._stop), kwargs={"ready": self._hear}
        )
        self._thread.start()
        assert self._ready.wait(60), "the page did not come up"

    def _hear(self, url: str) -> None:
        self.url = url
        self._ready.set()

    def close(self) -> None:
        """Stop serving."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the page did not stop"


@pytest.fixture
def scan() -> SimulatedScan:
    """A simulated scan of which nothing is published yet."""
    return SimulatedScan()


@pytest.fixture
def serve_page(scan: SimulatedScan) -> Iterator[Callable[..., ServedPage]]:
    """A function that serves the page with options of ``create_app``; all are stopped at the end."""
    pages: list[ServedPage] = []

    def start(**options: Any) -> ServedPage:
        pages.append(ServedPage(scan, **options))
        return pages[-1]

    yield start
    for page in pages:
        page.close()


@pytest.fixture
def page_server(serve_page: Callable[..., ServedPage]) -> ServedPage:
    """The page with its default options."""
    return serve_page()


@pytest.fixture
def beamline(scan: SimulatedScan) -> Iterator[Callable[..., Beamline]]:
    """A function that starts the scan."""
    running: list[Beamline] = []

    def start(first: int = 1) -> Beamline:
        running.append(Beamline(scan, first))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one the test is skipped, except where CI promises one."""
    if find_chromium() is None:
        if os.environ.get("CI"):
            pytest.fail(f"no Chromium: {ADVICE}")
        pytest.skip(f"no Chromium: {ADVICE}")
    pytest.importorskip("playwright.sync_api")
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens an address; afterwards no error may stand in the browser's console."""
    contexts: list[Any] = []
    errors: list[str] = []

    def start(url: str, width: int = 1280, height: int = 720, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(url)
        return page

    yield start
    for context in contexts:
        context.close()
    assert not [e for e in errors if "WebSocket connection" not in e], errors


@pytest.fixture(name="wait")
def wait_fixture() -> Callable[..., Any]:
    """``wait(condition, what)``: poll until true, or fail saying what was waited for."""
    return wait_until
