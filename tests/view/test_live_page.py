"""The page of a real scan: simulated beamline, hub, live reconstruction and browser, all as processes."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SCREENSHOTS = bool(os.environ.get("TOMOLIVE_SCREENSHOTS"))
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "page.png"
SUM = """plane => {
  const canvas = document.querySelector(`[data-plane=${plane}] .picture`);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return data.reduce((sum, value) => sum + value, 0);
}"""


@pytest.fixture
def demo_page(tmp_path: Path) -> Iterator[str]:
    """Address of the page of a running `tomolive demo`; small, unless screenshots are wanted."""
    size = [] if SCREENSHOTS else ["--rows", "64", "--columns", "128", "--projections", "400"]
    command = [sys.executable, "-m", "tomolive", "demo", "--dir", str(tmp_path / "demo"), *size]
    command += ["--page", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if address := re.search(r"http://\S+", line):
                yield address[0]
                break
        else:
            pytest.fail(f"the demo ended without an address: {said}")
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(60) == 130


def test_the_page_shows_a_running_scan(demo_page: str, open_page: Any, wait: Callable[..., Any]) -> None:
    """During a real scan all three slices change on the page while the progress goes on."""
    page = open_page(demo_page, 1440, 900, color_scheme="dark")

    def received() -> int:
        found = re.match(r"(\d+) of \d+ projections", page.locator("#progress-words").inner_text())
        return int(found[1]) if found else 0

    wait(lambda: received() > 20, "projections", 120)
    before = {plane: page.evaluate(SUM, plane) for plane in ("xy", "xz", "yz")}
    frames = received()
    wait(lambda: received() > frames, "progress", 60)
    for plane, was in before.items():
        wait(lambda p=plane, w=was: page.evaluate(SUM, p) != w, f"a change of {plane}", 60)
    for asked in ("xy.npy?position=3", "oblique.npy?tilt=90&turn=45&offset=0", "sinogram.npy?position=5"):
        reply = httpx.get(f"{demo_page}api/slices/{asked}", timeout=60)
        assert reply.status_code == 200, reply.text
        assert np.isfinite(np.load(io.BytesIO(reply.content))).any()
    if SCREENSHOTS:
        # The simulated axis; found by the reconstruction only when half a turn is over.
        page.fill("#center", "249.3")
        page.press("#center", "Enter")
        page.locator("#center").blur()
        wait(lambda: received() > 600, "most of the scan", 120)
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURE)
