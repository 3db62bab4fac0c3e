"""The pictures of the page that README and documentation show."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not os.environ.get("TOMOLIVE_SCREENSHOTS"), reason="TOMOLIVE_SCREENSHOTS=1 takes the pictures anew"
    ),
]

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "page.png"


@pytest.fixture
def demo_page(tmp_path: Path) -> Iterator[str]:
    """Address of the page of a running `tomolive demo`."""
    command = [sys.executable, "-m", "tomolive", "demo", "--dir", str(tmp_path / "demo")]
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


def test_the_page_of_the_demo(demo_page: str, open_page: Any, wait: Callable[..., Any]) -> None:
    """The demo's page, near the end of a scan, is the picture in README and documentation."""
    page = open_page(demo_page, 1440, 900, color_scheme="dark")

    def received() -> int:
        found = re.match(r"(\d+) of \d+ projections", page.locator("#progress-words").inner_text())
        return int(found[1]) if found else 0

    wait(lambda: received() > 20, "projections", 120)
    # The simulated axis; found by the reconstruction only when half a turn is over.
    page.fill("#center", "249.3")
    page.press("#center", "Enter")
    page.locator("#center").blur()
    wait(lambda: received() > 600, "most of the scan", 120)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURE)
