"""A headless Chromium of the system's packages, for the benchmark of the page and for its tests."""

import os
import shutil
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


class BrowserTab:
    """The page in a tab of 1280 x 720, with the methods of `tomolive.bench.viewer.Viewer`."""

    def __init__(self, browser: Any, page: str) -> None:
        self._tab = browser.new_page(viewport={"width": 1280, "height": 720})
        self._tab.add_init_script(_LISTEN)
        self._tab.goto(page)
        self._tab.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")

    def loaded(self) -> dict[str, float]:
        """Return what the first paint took, and what was transferred for it."""
        return self._tab.evaluate(_LOADED)

    def looks(self) -> dict[str, int]:
        """Return what the page said that it looks at."""
        return self._tab.evaluate("window.looks")

    @property
    def received(self) -> int:
        """Projections, by the top line."""
        bar = "document.getElementById('progress')"
        return self._tab.evaluate(f"Number({bar}.getAttribute('aria-valuenow'))")

    def forget(self) -> None:
        """Begin to count."""
        self._tab.evaluate("drawn.length = 0")

    def drawn(self) -> list[dict[str, Any]]:
        """Return when (``at``, Unix ms) pictures were drawn since `forget`, and what was told of them."""
        return self._tab.evaluate("drawn")

    def change_center(self, by: float) -> tuple[float, float]:
        """Press a button of the rotation centre; return when (Unix ms), and where it is to be."""
        began, wanted = self._tab.evaluate(_CHANGE, by)
        return began, wanted
