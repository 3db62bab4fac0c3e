"""A page that is really served, with a simulated scan behind it, and a real browser in front."""

import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomolive.bench.browser import ADVICE, OPTIONS, find_chromium
from tomolive.live.controls import Controls, Wish
from tomolive.live.snapshot import (
    Change,
    Picture,
    SnapshotStore,
    Status,
    Subject,
    Trend,
    VolumeProgress,
    parse_key,
)
from tomolive.view.server import create_app, serve

HERE = Path(__file__).parent
ROWS, COLUMNS = 128, 256
PLANNED = 180
TRUE_CENTER = 129.4


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
    """Publishes what the reconstruction thread would: slices of a known volume whose noise falls.

    `center_off` blurs the slices by a wrong centre: they are the volume's own when it is `TRUE_CENTER`.
    """

    def __init__(self) -> None:
        self.store = SnapshotStore()
        self.controls = Controls()
        self.wishes: list[Any] = []
        self.volume = ellipsoids()
        self.random = np.random.default_rng(7)
        self.version = 0
        self.pictures: dict[str, Picture] = {}
        self.taken: list[Wish] = []
        self.granting = True
        """Grants what is wished for; otherwise wishes stay pending."""
        self.status = Status(
            run_uid="3fa94c1e-55aa-4c9e-9d0a-b6ff3d1e8a11", scan_id=12, sample="simulated shell",
            plan="tomo_fly", frames_planned=PLANNED, center=126.4, center_source="provisional",
            pixel_size_um=1.3, darks=20, flats=20, volume_shape=(ROWS, COLUMNS, COLUMNS),
        )  # fmt: skip
        self.dark = range(0)
        self.at = {"xy": ROWS // 2, "xz": COLUMNS // 2, "yz": COLUMNS // 2}

    def pixels(self, key: str, frames: int) -> np.ndarray:
        """Return the pixels of one picture after so many projections."""
        plane, place = parse_key(key)
        if plane == "projection":
            angle = int(frames / PLANNED * 40)
            counts = 40000 * np.exp(-0.012 * np.roll(self.volume, angle, axis=2).sum(axis=1))
            return self.random.poisson(counts).astype(np.float32)
        if plane == "sinogram":
            turns = np.linspace(0, 40, max(2, frames)).astype(int)
            profile = self.volume[int(place[0])].sum(axis=0)
            return np.array([np.roll(profile, turn) for turn in turns], np.float32)
        if plane == "candidates":
            off = [abs(center - TRUE_CENTER) for center in self.status.candidates]
            return np.hstack([blurred(self.volume[self.at["xy"]], by) for by in off])
        if plane == "oblique":
            pixels = np.roll(self.volume[len(self.volume) // 2], int(sum(place)), axis=1)
        else:
            at = int(place[0]) if place else self.at[plane]
            pixels = self.volume.take(at, axis={"xy": 0, "xz": 1, "yz": 2}[plane])
        pixels = blurred(pixels, abs((self.status.center or 0) - TRUE_CENTER))
        return (pixels + self.random.normal(0, 2.5 / (frames + 1), pixels.shape)).astype(np.float32)

    def publish(self, frames: int, **changes: Any) -> None:
        """Publish the state after ``frames`` projections."""
        facts: dict[str, Any] = {
            "state": "finished" if frames >= PLANNED else "projections", "frames_received": frames,
            "frames_announced": min(PLANNED, frames + 4), "coverage": frames / PLANNED * 180, "lag_s": 0.18,
            "updated": time.time(), "trends": self.trends(frames),
        }  # fmt: skip
        self.status = replace(self.status, **{**facts, **changes})
        self.draw(frames)
        self.store.publish(self.status, self.pictures)
        self.controls.done(self.taken)

    def draw(self, frames: int) -> None:
        """Make all pictures that are looked at anew, of the scan that the status tells of."""
        self.version += 1
        shared = Subject.__dataclass_fields__.keys() & Status.__dataclass_fields__.keys()
        of = Subject(**{name: getattr(self.status, name) for name in shared})
        self.pictures = {}
        for key in {"xy", "xz", "yz", "projection"} | self.controls.looked_at:
            plane, place = parse_key(key)
            length = dict(zip(("xy", "xz", "yz"), self.volume.shape, strict=True)).get(
                plane, len(self.volume)
            )
            outside = plane != "oblique" and any(at >= length for at in place)
            if outside or (plane == "candidates" and not self.status.candidates):
                continue
            position = frames if plane == "projection" else (*place, self.at.get(plane, 0))[0]
            units = {"projection": "counts", "sinogram": ""}.get(plane, "1/cm")
            picture = Picture(plane, self.pixels(key, frames), position, self.version, units, of, key)  # type: ignore[arg-type]
            self.pictures[key] = picture

    def trends(self, frames: int) -> tuple[Trend, ...]:
        """Return a transmission that varies a little, without beam in `dark` projections; and a sharpness."""
        value = {True: 0.01, False: 0.55}
        points = tuple((n, value[n in self.dark] + 0.04 * np.sin(n / 9)) for n in range(frames + 1))
        lost = f"projections {self.dark[0]} to {self.dark[-1]} saw hardly any beam" if self.dark else ""
        sharpness = tuple((n, 1 - np.exp(-n / 60)) for n in range(0, frames + 1, 5))
        return (
            Trend("Transmission", "transmission", points, lost, low=0.4),
            Trend("Sharpness", "", sharpness, over="degrees"),
        )

    def obey(self) -> None:
        """Grant what the page wished for."""
        if self.granting:
            self.taken = self.controls.take()
            for wish in self.taken:
                self.wishes.append(wish)
                self.grant(wish)

    def grant(self, wish: Wish) -> None:
        """Do what one wish asks for, as the reconstruction would, and note who asked."""
        told: dict[str, Any] = {}
        if wish.center is not None:
            told = {"center": wish.center, "center_source": f"set by {wish.who}"}
        if wish.estimate_center:
            told = {"center": TRUE_CENTER, "center_source": "estimated from 0 and 180 degrees"}
        if wish.filter is not None:
            told = {"filter": wish.filter}
        if wish.corrections is not None:
            told = {"corrections": wish.corrections}
        if wish.candidates is not None:
            middle, step, count = wish.candidates
            centers = tuple(round(middle + (i - count // 2) * step, 3) for i in range(count))
            scores = tuple(1 / (0.1 + abs(center - TRUE_CENTER)) for center in centers)
            told = {"candidates": centers, "candidate_scores": scores}
        if wish.volume is not None:
            state = "running" if wish.volume == "start" else "cancelled"
            progress = VolumeProgress(state, self.status.run_uid, 32, ROWS, 16.0, 6.0)
            told = {"volume": progress}
        if wish.plane is not None and wish.position is not None:
            self.at[wish.plane] = wish.position
        if wish.about in ("centre", "filter", "corrections", "volume"):
            kept = tuple(change for change in self.status.changes if change.what != wish.about)
            told["changes"] = (*kept, Change(wish.about, str(told), wish.who, time.time()))
        self.status = replace(self.status, **told)


def blurred(pixels: np.ndarray, by: float) -> np.ndarray:
    """Return ``pixels`` with the double edges of a centre that is ``by`` pixels off."""
    shift = round(2 * by)
    doubled = (np.roll(pixels, shift, axis=1) + np.roll(pixels, -shift, axis=1)) / 2
    return doubled.astype(np.float32)


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
def npm_packages() -> Path:
    """The folder of what checks need from npm; without it they are skipped, except where CI promises it."""
    folder = HERE / "node_modules"
    needed = [folder / name for name in ("axe-core/axe.min.js", "typescript/bin/tsc")]
    with (HERE / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of several files may want them at the same moment
        if not all(path.exists() for path in needed) and shutil.which("npm"):
            command = ["npm", "ci", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=HERE, capture_output=True, check=False)
    if not (all(path.exists() for path in needed) and shutil.which("node")):
        reason = "no axe-core and TypeScript: run `npm ci` in tests/view"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one the test is skipped, except where CI promises one.

    It ends with its module: as long as it is there, no test of the same process can run a loop of its own.
    """
    if find_chromium() is None:
        if os.environ.get("CI"):
            pytest.fail(f"no Chromium: {ADVICE}")
        pytest.skip(f"no Chromium: {ADVICE}")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=list(OPTIONS))
        yield browser
        browser.close()


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
