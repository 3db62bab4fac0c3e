"""A headless Chromium of the system's packages, for the benchmark of the page and for its tests."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tomolive.errors import SettingsError

OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
ADVICE = "install the system's chromium package, or set TOMOLIVE_CHROMIUM to a Chromium"


def find_chromium() -> str | None:
    """Return the path of a Chromium that is installed, or None."""
    names = (os.environ.get("TOMOLIVE_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Give a Playwright browser.

    Raises
    ------
    SettingsError
        if there is no Chromium, or no Playwright to drive it.
    """
    path = find_chromium()
    if path is None:
        raise SettingsError(f"no Chromium found: {ADVICE}")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SettingsError("Playwright is not installed: pip install playwright") from None
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(OPTIONS))
        yield browser
        browser.close()


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
_CHANGE = """by => {
  const now = performance.timeOrigin + performance.now();
  document.querySelector(`[data-step='${by}']`).click();
  return [now, Number(document.getElementById("center").value)];
}"""


# A hutch's laptop behind a bad line: a picture takes seconds.
_SLOW_LINE = {
    "offline": False, "latency": 200, "downloadThroughput": 250_000, "uploadThroughput": 20_000,
}  # fmt: skip


class BrowserTab:
    """The page of 1280 x 720 in a context of its own, with the methods of `tomolive.bench.viewer.Viewer`.

    Parameters
    ----------
    throttled
        Its line is slow.
    """

    def __init__(self, browser: Any, page: str, *, throttled: bool = False) -> None:
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        self._tab = context.new_page()
        self._tab.add_init_script(_LISTEN)
        self._tab.goto(page)
        self._tab.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        if throttled:
            line = context.new_cdp_session(self._tab)
            line.send("Network.enable")
            line.send("Network.emulateNetworkConditions", _SLOW_LINE)
            self._tab.reload()  # a socket that is open stays as fast as it was
        self.forget()

    def loaded(self) -> dict[str, float] | None:
        """Return what the first paint took, and what was transferred for it."""
        return self._tab.evaluate(_LOADED)

    @property
    def received(self) -> int:
        """Projections, by the top line."""
        bar = "document.getElementById('progress')"
        return self._tab.evaluate(f"Number({bar}.getAttribute('aria-valuenow'))")

    def forget(self) -> None:
        """Begin to count."""
        self._tab.evaluate("drawn.length = 0")
        self._began = time.monotonic()

    def drawn(self) -> list[dict[str, Any]]:
        """Return when (``at``, Unix ms) pictures were drawn since `forget`, and what was told of them."""
        return self._tab.evaluate("drawn")

    @property
    def rate(self) -> float:
        """Pictures a second since `forget`."""
        return self._tab.evaluate("drawn.length") / (time.monotonic() - self._began)

    def change_center(self, by: float) -> tuple[float, float]:
        """Press a button of the rotation centre; return when (Unix ms), and where it is to be."""
        began, wanted = self._tab.evaluate(_CHANGE, by)
        return began, wanted
