"""What is on the canvas is what the server has, for each picture and after each control."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.browser

LEVELS = {"slices": (-0.2, 0.9), "projection": (0.0, 45000.0), "sinogram": (0.0, 130.0)}
HASH = "levels=-0.2,0.9&projection=0,45000&sinogram=0,130"

PAINTED = """async ([plane, width, height]) => {
  const {place} = await import("/static/draw.js");
  const canvas = document.querySelector(`[data-plane=${plane}] .picture`);
  const view = {zoom: 1, x: .5, y: .5};
  const {scale, down, left, top} = place(canvas, width, height, view, plane === "sinogram");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const grey = [];
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const [x, y] = [left + (column + .5) * scale, top + (row + .5) * down].map(Math.floor);
      grey.push(data[4 * (y * canvas.width + x)]);
    }
  return grey;
}"""


class Watcher:
    """A page, and the scan behind it, which moves only when it is told to."""

    def __init__(self, page: Any, scan: Any, wait: Callable[..., Any]) -> None:
        self.page, self.scan, self.wait = page, scan, wait
        self.frames = 60
        self.publish()
        wait(lambda: "oblique@35,30,0" in scan.controls.looked_at, "the page to look")
        self.publish()

    def publish(self) -> None:
        """Grant what was asked for, and draw what is looked at."""
        self.frames += 1
        self.scan.obey()
        self.scan.publish(self.frames)

    def enlarge(self, plane: str) -> None:
        """Have a picture so large that each pixel is seen."""
        figure = self.page.locator(f"[data-plane={plane}]")
        if "big" not in figure.get_attribute("class").split():
            figure.locator("[data-act=big]").click()
        self.wait(lambda: "big" in figure.get_attribute("class").split(), f"{plane} to be large")

    def compare(self, plane: str, key: str) -> None:
        """Compare every pixel on the canvas with the array of the picture named ``key``."""
        self.enlarge(plane)
        self.wait(lambda: key in self.scan.controls.looked_at, f"the page to look at {key}")
        self.publish()
        pixels = self.scan.store.latest.pictures[key].pixels
        low, high = LEVELS.get(plane, LEVELS["slices"])
        expected = np.clip(np.rint((pixels - low) / (high - low) * 255), 0, 255)
        height, width = pixels.shape
        # A grey may differ by one where rounding a value to 16 bits and rounding it to 8 disagree.
        self.wait(
            lambda: (
                np.abs(
                    np.reshape(self.page.evaluate(PAINTED, [plane, width, height]), (height, width))
                    - expected
                ).max()
                <= 1
            ),
            f"the pixels of {key}",
        )


@pytest.fixture
def watcher(page_server: Any, open_page: Any, scan: Any, wait: Callable[..., Any]) -> Watcher:
    """A page of 1600 x 900 with fixed levels, on which everything is drawn once."""
    scan.publish(60)
    return Watcher(open_page(f"{page_server.url}#{HASH}", 1600, 900), scan, wait)


@pytest.mark.parametrize(
    ("plane", "key"),
    [
        ("xy", "xy"), ("xz", "xz"), ("yz", "yz"), ("oblique", "oblique@35,30,0"), ("sinogram", "sinogram@64"),
        ("projection", "projection"),
    ],
)  # fmt: skip
def test_each_picture_shows_its_array(watcher: Watcher, plane: str, key: str) -> None:
    """Each pixel has, on the screen, the grey that its value and the levels give."""
    watcher.compare(plane, key)


def test_after_each_control_the_pictures_show_the_new_array(watcher: Watcher) -> None:
    """Planes, oblique slice, centre, filter, corrections, a candidate: what is drawn is what there is."""
    page = watcher.page
    page.get_by_label("Position of the XY slice along z").fill("40")
    page.keyboard.press("Enter")
    watcher.compare("xy", "xy@40")
    watcher.compare("sinogram", "sinogram@40")
    page.get_by_label("Turn of the oblique slice").fill("-20")
    page.keyboard.press("Enter")
    watcher.compare("oblique", "oblique@35,-20,0")
    before = watcher.scan.store.latest.pictures["xy@40"].pixels
    page.fill("#center", "129.4")
    page.press("#center", "Enter")
    watcher.wait(lambda: watcher.scan.controls.pending, "the wish for a centre")
    watcher.compare("xy", "xy@40")
    assert np.abs(watcher.scan.store.latest.pictures["xy@40"].pixels - before).max() > 0.1
    for control, value in (("#filter", "hann"), ("#rings", "sorting"), ("#binning", "2")):
        page.select_option(control, value)
        watcher.wait(lambda: watcher.scan.controls.pending, f"the wish of {control}")
        watcher.publish()
    watcher.compare("xz", "xz")
    page.get_by_role("button", name="Candidates", exact=True).click()
    watcher.wait(lambda: "candidates" in watcher.scan.controls.looked_at, "the strip")
    watcher.wait(lambda: watcher.scan.controls.pending, "the wish for candidates")
    watcher.publish()
    page.get_by_role("button", name="Rotation centre 128.9").click()
    watcher.wait(lambda: watcher.scan.controls.pending, "the wish for a candidate")
    page.get_by_role("button", name="Close", exact=True).click()
    watcher.compare("yz", "yz")
    assert watcher.scan.status.center == 128.9
