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
