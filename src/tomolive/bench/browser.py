"""A headless Chromium of the system's packages, and the page in it."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tomolive.bench.devtools import BrowserError, DevTools, devtools
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
_LOOKED_AT = (
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--hide-scrollbars",
    "--mute-audio",
)
"""All pages are looked at, though only one window can be in front."""
ADVICE = "install the system's chromium package, or set TOMOLIVE_CHROMIUM to a Chromium"


def find_chromium() -> str | None:
    """Return the path of a Chromium that is installed, or None."""
    names = (os.environ.get("TOMOLIVE_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[DevTools]:
    """Give a browser without a window.

    Raises
    ------
    SettingsError
        if there is no Chromium.
    """
    path = find_chromium()
    if path is None:
        raise SettingsError(f"no Chromium found: {ADVICE}")
    with devtools([path, "--headless", *OPTIONS, *_LOOKED_AT]) as browser:
        yield browser


# Both clocks are this machine's: the worker stamps a picture with time.time(), the browser with its own.
_LISTEN = """
window.drawn = [];
document.addEventListener("tomolive:drawn", ({detail}) => {
  const now = performance.timeOrigin + performance.now();
  window.drawn.push({...detail, at: now, drawing: now - 1000 * detail.updated});
});
"""
_LOADED = """(() => {
  const entries = ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind));
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  const bytes = entries.reduce((total, entry) => total + entry.transferSize, 0);
  return {first_paint_ms: paint?.startTime, kilobytes: bytes / 1000};
})()"""
_CHANGE = """by => {
  const now = performance.timeOrigin + performance.now();
  document.querySelector(`[data-step='${by}']`).click();
  return [now, Number(document.getElementById("center").value)];
}"""


_PAINTED = """location.href !== "about:blank" && document.readyState === "complete"
  && performance.getEntriesByName("first-contentful-paint").length > 0"""
_SCREEN = {"width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": False}
_PAINT_S = 60.0


class BrowserTab:
    """The page of 1280 x 720 in a context of its own, with the methods of `tomolive.bench.viewer.Viewer`."""

    def __init__(self, browser: DevTools, page: str) -> None:
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        tab = {"url": "about:blank", "browserContextId": context, "newWindow": True}
        target = browser.call("Target.createTarget", **tab)["targetId"]
        self._browser = browser
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")
        self._call("Emulation.setDeviceMetricsOverride", **_SCREEN)
        self._call("Page.addScriptToEvaluateOnNewDocument", source=_LISTEN)
        self._call("Page.navigate", url=page)
        self._await_paint()
        self.forget()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def _evaluate(self, expression: str) -> Any:
        """Return what JavaScript makes of an expression."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['result'].get('description')}")
        return answer["result"].get("value")

    def _await_paint(self) -> None:
        """Wait until the page is loaded, and something of it painted."""
        deadline = time.monotonic() + _PAINT_S
        while not self._evaluate(_PAINTED):
            if time.monotonic() > deadline:
                raise BrowserError(f"nothing was painted in {_PAINT_S:.0f} s")
            time.sleep(0.05)

    def loaded(self) -> dict[str, float] | None:
        """Return what the first paint took, and what was transferred for it."""
        return self._evaluate(_LOADED)

    @property
    def received(self) -> int:
        """Projections, by the top line."""
        return self._evaluate("Number(document.getElementById('progress').getAttribute('aria-valuenow'))")

    @property
    def is_final(self) -> bool:
        """Whether the scan is over, and its slices will not change by themselves."""
        return self._evaluate("document.getElementById('lag-name').textContent === 'Final after'")

    def forget(self) -> None:
        """Begin to count."""
        self._evaluate("drawn.length = 0")
        self._began = time.monotonic()

    def drawn(self) -> list[dict[str, Any]]:
        """Return when (``at``, Unix ms) pictures were drawn since `forget`, and what was told of them."""
        return self._evaluate("drawn")

    @property
    def rate(self) -> float:
        """Pictures a second since `forget`."""
        return self._evaluate("drawn.length") / (time.monotonic() - self._began)

    @property
    def processor_s(self) -> float:
        """Processor time, seconds, that the browser has taken for all its pages."""
        told = self._browser.call("SystemInfo.getProcessInfo")["processInfo"]
        return sum(process["cpuTime"] for process in told)

    def change_center(self, by: float) -> tuple[float, float]:
        """Press a button of the rotation centre; return when (Unix ms), and where it is to be."""
        began, wanted = self._evaluate(f"({_CHANGE})({by})")
        return began, wanted
