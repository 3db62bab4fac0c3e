"""The page in a real browser during a scan: what is on the canvas, and what hands do."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tomolive.live.snapshot import Status, WorkerShare

pytestmark = pytest.mark.browser

CANVAS = """plane => {
  const canvas = document.querySelector(`[data-plane=${plane}] .picture`);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let hash = 0;
  for (let i = 0; i < data.length; i += 4) hash = (hash * 31 + data[i]) | 0;
  return hash;
}"""


def until(page: Any, script: str, argument: Any = None, timeout: float = 30.0) -> None:
    """Wait until a script is true; the page forbids the evaluation that Playwright's own wait needs."""
    deadline = time.monotonic() + timeout
    while not page.evaluate(script, argument):
        assert time.monotonic() < deadline, f"waited {timeout} s for {script}"
        time.sleep(0.05)


def drawn(page: Any) -> None:
    """Wait until pictures are on the screen."""
    page.wait_for_selector("body[data-empty=false]")
    until(page, "document.querySelector('[data-plane=xy] .picture').ariaLabel.includes('pixels')")


def address(page: Any) -> str:
    """Return what stands in the address bar now."""
    return page.evaluate("location.href")


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag with the mouse."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def test_all_pictures_change_during_a_scan(page_server: Any, open_page: Any, beamline: Any) -> None:
    """The three slices and the projection are drawn, and drawn anew while the scan runs."""
    beamline()
    page = open_page(page_server.url)
    drawn(page)
    for plane in ("xy", "xz", "yz", "projection"):
        before = page.evaluate(CANVAS, plane)
        assert before != 0
        until(page, f"plane => ({CANVAS})(plane) !== {before}", plane)


def test_empty_state_teaches(page_server: Any, open_page: Any) -> None:
    """Without a scan the page says where documents would come from, and what to try."""
    page = open_page(page_server.url)
    page.get_by_text("No scan yet.", exact=True).wait_for()
    page.get_by_text("tcp://127.0.0.1:5569").wait_for()
    page.get_by_text("tomolive demo").wait_for()


def test_top_line_tells_how_the_scan_goes(page_server: Any, open_page: Any, scan: Any) -> None:
    """Scan, sample, progress, angles, missing frames and a message stand in the top line."""
    scan.publish(94, missing=((17, 18), (40, 44)), message="Projections 40 to 43 are missing.")
    page = open_page(page_server.url)
    drawn(page)
    text = page.locator("header").inner_text()
    for words in (
        "Scan 12 · simulated shell",
        "3fa94c1e",
        "Scanning",
        "94 of 180",
        "94° of 180°",
        "5: 17, 40\u201343",
    ):
        assert words in text
    assert page.locator("#message").inner_text() == "Projections 40 to 43 are missing."
    assert page.locator("[data-plane=xy] .badge").inner_text() == "partial: 94 of 180 degrees"
    until(page, "document.getElementById('announcer').textContent.includes('40 to 43')")
    scan.publish(180, message="")
    page.locator("#state-name", has_text="Finished").wait_for()
    until(page, "document.querySelector('[data-plane=xy] .badge').hidden")


def test_controls_reach_the_reconstruction(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """Centre by box, by buttons and by an estimate, and the filter become wishes; who asked is told."""
    beamline(60)
    page = open_page(page_server.url)
    drawn(page)
    page.fill("#center", "127.2")
    page.press("#center", "Enter")
    wait(lambda: any(wish.center == 127.2 for wish in scan.wishes), "the centre")
    page.get_by_role("button", name="0.5 pixels right").click()
    wait(lambda: any(wish.center == 127.7 for wish in scan.wishes), "half a pixel more")
    page.locator("#center-source", has_text="set by viewer 1").wait_for()
    page.get_by_role("button", name="Estimate").click()
    wait(lambda: any(wish.estimate_center for wish in scan.wishes), "the estimate")
    page.locator("#center-source", has_text="estimated from 0 and 180 degrees").wait_for()
    page.select_option("#filter", "hann")
    wait(lambda: any(wish.filter == "hann" for wish in scan.wishes), "the filter")
    page.locator("#corrections-source", has_text="changed by viewer 1").wait_for()


def test_corrections_reach_the_reconstruction(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """Binning, rings, zingers and Paganin with its four numbers are set, and shown to everybody."""
    beamline(60).hold.set()
    page, other = open_page(page_server.url), open_page(page_server.url)
    drawn(page)
    page.select_option("#rings", "sorting")
    page.check("#zingers")
    page.select_option("#binning", "2")
    page.select_option("#half-acquisition", "false")
    page.check("#paganin")
    wait(lambda: scan.status.corrections.paganin is not None, "Paganin")
    for name, value in (("energy-kev", "30"), ("distance-m", "0.25"), ("delta-beta", "500")):
        page.fill(f"#{name}", value)
        page.press(f"#{name}", "Enter")
    wait(lambda: scan.status.corrections.paganin.delta_beta == 500, "the ratio")
    told = scan.status.corrections
    assert (told.rings, told.zingers, told.binning) == ("sorting", True, 2)
    assert told.half_acquisition is False
    assert told.paganin.model_dump() == {
        "energy_kev": 30, "distance_m": 0.25, "pixel_size_um": 1.3, "delta_beta": 500, "generalised": True,
    }  # fmt: skip
    wait(lambda: other.locator("#delta-beta").input_value() == "500", "the other page")
    assert other.locator("#rings").input_value() == "sorting"
    other.locator("#corrections-source", has_text="changed by viewer 1").wait_for()
    page.uncheck("#paganin")
    wait(lambda: scan.status.corrections.paganin is None, "no Paganin")
    assert page.locator("#paganin-fields").is_hidden()


def test_what_is_not_done_yet_is_told(page_server: Any, open_page: Any, scan: Any) -> None:
    """Beside a control stands that its change is on its way, and what is being refined, until it is done."""
    scan.publish(60)
    scan.granting = False
    page = open_page(page_server.url)
    drawn(page)
    page.get_by_role("button", name="0.5 pixels right").click()
    page.locator("#center-source.pending", has_text="viewer 1 changed it").wait_for()
    page.select_option("#rings", "combined")
    page.locator("#corrections-source.pending", has_text="viewer 1 changed it").wait_for()
    scan.granting = True
    scan.obey()
    scan.publish(61)
    page.locator("#center-source:not(.pending)", has_text="set by viewer 1").wait_for()
    page.locator("#corrections-source:not(.pending)", has_text="changed by viewer 1").wait_for()
    scan.publish(180, refining=True)
    page.locator("#message", has_text="is being refined").wait_for()
    page.locator("#center-source", has_text="being refined").wait_for()


def test_a_candidate_centre_can_be_chosen(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """The strip shows seven centres and marks the best score; a click sets it; closed, it costs nothing."""
    beamline(60).hold.set()
    page = open_page(page_server.url)
    drawn(page)
    assert "candidates" not in scan.controls.looked_at
    page.get_by_role("button", name="Candidates", exact=True).click()
    page.get_by_label("Columns between candidates").select_option("1")
    best = page.get_by_role("button", name="Rotation centre 129.4 · best score")
    best.wait_for()
    assert page.locator("#candidates li").count() == 7
    assert scan.status.candidates == (123.4, 124.4, 125.4, 126.4, 127.4, 128.4, 129.4)
    until(
        page, "document.querySelector('#candidates canvas').getContext('2d').getImageData(9, 9, 1, 1).data[3]"
    )
    best.click()
    wait(lambda: scan.status.center == 129.4, "the centre")
    page.get_by_role("button", name="Rotation centre 129.4 · best score · in force").wait_for()
    scan.publish(20, run_uid="next", scan_id=13, candidates=(), candidate_scores=())
    page.locator("#candidates .note", has_text="The next scan has begun").wait_for()
    assert page.locator("#candidates li").count() == 0
    page.keyboard.press("Escape")
    assert page.locator("#candidates").is_hidden()
    wait(lambda: "candidates" not in scan.controls.looked_at, "nobody to look at candidates")


def test_the_volume_is_started_watched_and_cancelled(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """Slices done, rate and time left stand beside the bar; the same button cancels."""
    beamline(60).hold.set()
    page = open_page(page_server.url)
    drawn(page)
    page.get_by_role("button", name="Reconstruct the volume").click()
    page.get_by_text("32 of 128 slices · 16 a second · 6.0 s left").wait_for()
    bar = page.get_by_role("progressbar", name="Slices of the volume")
    assert (bar.get_attribute("value"), bar.get_attribute("max")) == ("32", "128")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("cancelled · 32 of 128 slices").wait_for()
    assert [wish.volume for wish in scan.wishes] == ["start", "cancel"]


def test_the_centre_can_be_slid_and_tells_who_did(
    page_server: Any, open_page: Any, scan: Any, wait: Callable[..., Any], beamline: Any
) -> None:
    """The slider sets the centre by tenths; a name given once stands with it, even after a reload."""
    beamline(60)
    page = open_page(page_server.url)
    drawn(page)
    page.get_by_label("Your name").fill("Ada <3")
    page.get_by_label("Your name").press("Tab")
    page.reload()
    drawn(page)
    assert page.get_by_label("Your name").input_value() == "Ada 3"
    page.get_by_role("slider", name="Rotation centre").press("ArrowRight")
    wish = wait(lambda: next((w for w in scan.wishes if w.center is not None), None), "the centre")
    assert (wish.center, wish.who) == (126.5, "Ada 3")
    page.get_by_text("set by Ada 3").wait_for()


def shows(page: Any, plane: str, place: str) -> bool:
    """Tell whether a picture that lies there is drawn."""
    return f"at {place}," in page.locator(f"[data-plane={plane}] .picture").get_attribute("aria-label")


def test_cross_hair_moves_the_other_planes(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """Dragging in XY moves YZ and XZ; the wheel, arrow keys, full stop and number boxes move planes too."""
    beamline(60).hold.set()
    page = open_page(page_server.url)
    drawn(page)
    box = page.locator("[data-plane=xy] .well").bounding_box()
    side = min(box["width"], box["height"])
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    drag(page, middle, (middle[0] + side / 4, middle[1] - side / 8))
    x, y = (int(page.locator(f"[data-plane={plane}] input").input_value()) for plane in ("yz", "xz"))
    assert (abs(x - 192) <= 1, abs(y - 96) <= 1) == (True, True)
    wait(lambda: shows(page, "yz", f"x {x}") and shows(page, "xz", f"y {y}"), "both planes")
    page.mouse.wheel(0, 120)
    wait(lambda: shows(page, "xy", "z 66"), "two slices on")
    page.locator("[data-plane=xz] .well").focus()
    for key in ("ArrowRight", "Shift+ArrowDown", "."):
        page.keyboard.press(key)
    wait(lambda: shows(page, "yz", f"x {x + 1}"), "the arrow key")
    wait(lambda: shows(page, "xy", "z 76") and shows(page, "sinogram", "row 76"), "ten slices on")
    wait(lambda: shows(page, "xz", f"y {y + 1}"), "the full stop")
    page.get_by_label("Position of the XY slice along z").fill("30")
    page.keyboard.press("Enter")
    wait(lambda: shows(page, "xy", "z 30"), "the number box")
    page.get_by_label("Detector row of the sinogram").fill("900")
    page.keyboard.press("Enter")
    wait(lambda: shows(page, "sinogram", "row 127") and shows(page, "xy", "z 127"), "the last row")
    assert scan.wishes == [], "one person's planes are nobody else's"


def test_the_oblique_slice_can_be_turned(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """Dragging turns and tilts it, the wheel moves it, keys and number boxes do all three."""
    beamline(60).hold.set()
    page = open_page(page_server.url)
    drawn(page)
    well = page.locator("[data-plane=oblique] .well")
    wait(lambda: shows(page, "oblique", "tilt 35\u00b0, turn 30\u00b0, offset 0"), "the oblique slice")
    box = well.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    drag(page, middle, (middle[0] + 40, middle[1] - 20))
    wait(lambda: shows(page, "oblique", "tilt 25\u00b0, turn 50\u00b0, offset 0"), "the turned slice")
    page.mouse.wheel(0, 180)
    wait(lambda: shows(page, "oblique", "tilt 25\u00b0, turn 50\u00b0, offset 3"), "the moved slice")
    well.focus()
    for key in ("ArrowLeft", "Shift+ArrowDown", ","):
        page.keyboard.press(key)
    wait(lambda: shows(page, "oblique", "tilt 35\u00b0, turn 49\u00b0, offset 2"), "keys")
    for name, value in (("Tilt", "90"), ("Turn", "-200.5"), ("Offset", "-7.5")):
        page.get_by_label(f"{name} of the oblique slice").fill(value)
        page.keyboard.press("Enter")
    wait(lambda: shows(page, "oblique", "tilt 90\u00b0, turn 159.5\u00b0, offset -7.5"), "number boxes")
    assert "oblique@90,159.5,-7.5" in scan.controls.looked_at


def test_planes_are_each_viewers_own_and_stand_in_the_address(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """One moves, the other does not; a reload and a colleague with the link see the same."""
    beamline(60).hold.set()
    page, other = open_page(page_server.url), open_page(page_server.url)
    for one in (page, other):
        drawn(one)
    page.get_by_label("Position of the XY slice along z").fill("30")
    page.get_by_label("Tilt of the oblique slice").fill("80")
    page.keyboard.press("Enter")
    wait(lambda: "z=30" in address(page) and "oblique=80,30,0" in address(page), "the address")
    wait(lambda: shows(page, "xy", "z 30"), "the first")
    assert shows(other, "xy", "z 64")
    page.reload()
    other.goto(address(page))
    other.reload()
    for one in (page, other):
        wait(lambda o=one: shows(o, "xy", "z 30"), "the same height")
        wait(lambda o=one: shows(o, "oblique", "tilt 80\u00b0, turn 30\u00b0, offset 0"), "the same tilt")
    assert scan.wishes == []


@pytest.mark.parametrize("text", ["x=1e9&y=-3&z=ab", "oblique=1,2", "zoom-xy=NaN,0,0&levels=3,1&big=no"])
def test_nonsense_in_the_address_is_passed_over(
    page_server: Any, open_page: Any, beamline: Any, text: str
) -> None:
    """Whatever stands in the address, pictures are drawn."""
    beamline(60)
    page = open_page(f"{page_server.url}#{text}")
    drawn(page)
    assert page.locator("#refused").is_hidden()


def test_opening_an_address_changes_only_this_view(
    page_server: Any, open_page: Any, scan: Any, wait: Callable[..., Any]
) -> None:
    """An address, opened or loaded again, changes nothing that is shared."""
    scan.publish(60)
    page = open_page(page_server.url + "#colors=viridis&zoom-xy=2,0.5,0.5")
    drawn(page)
    scan.publish(61)
    page.reload()
    drawn(page)
    page.get_by_role("button", name="0.5 pixels right").click()
    wishes = [wait(scan.controls.take, "the wish")]
    assert [(wish.plane, wish.center) for wish in wishes[0]] == [(None, 126.9)]
    assert page.locator("#colors").input_value() == "viridis"
    assert page.locator("[data-plane=xy] .zoom").inner_text() == "2.0\u00d7"


def test_a_volume_of_another_size_is_looked_at_where_the_old_one_was(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """When pixels are binned, or the next scan is smaller, planes stay inside it."""
    beamline(60).hold.set()
    page = open_page(page_server.url)
    drawn(page)
    page.get_by_label("Position of the XY slice along z").fill("100")
    page.keyboard.press("Enter")
    wait(lambda: shows(page, "xy", "z 100"), "the plane")
    scan.at = {"xy": 32, "xz": 64, "yz": 64}
    scan.status = replace(scan.status, volume_shape=(64, 128, 128))
    scan.volume = scan.volume[::2, ::2, ::2]
    wait(lambda: shows(page, "xy", "z 50"), "the same height")
    assert page.locator("#refused").is_hidden()


def test_axis_can_be_dragged_on_the_projection(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """Taking the axis line on the projection and moving it sets the rotation centre."""
    beamline(60).hold.set()
    page = open_page(page_server.url)
    drawn(page)
    box = page.locator("[data-plane=projection] .well").bounding_box()
    scale = min(box["width"] / 256, box["height"] / 128)
    left = box["x"] + (box["width"] - 256 * scale) / 2
    at = (left + 126.9 * scale, box["y"] + box["height"] / 4)
    drag(page, at, (at[0] + 10 * scale, at[1]))
    wait(lambda: any(w.center and abs(w.center - 136.4) < 0.7 for w in scan.wishes), "the dragged centre")


def test_levels_lock_when_touched_and_survive(
    page_server: Any, open_page: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """A handle that is touched locks the levels; updates and a reload keep them; one button goes back."""
    beamline(20)
    page = open_page(page_server.url)
    drawn(page)
    low = page.locator("#levels .ends input").first
    assert page.locator("#levels .mode").inner_text() == "0 to 99 %"
    page.get_by_role("slider", name="Darkest level").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert page.locator("#levels .mode").inner_text() == "locked by you"
    value = low.input_value()
    first = page.evaluate(CANVAS, "xy")
    until(page, f"plane => ({CANVAS})(plane) !== {first}", "xy")
    assert low.input_value() == value
    page.select_option("#colors", "viridis")
    wait(lambda: "colors=viridis" in address(page) and "levels=" in address(page), "the address")
    page.reload()
    drawn(page)
    assert (low.input_value(), page.locator("#colors").input_value()) == (value, "viridis")
    page.get_by_role("button", name="Automatic").click()
    wait(lambda: "levels=" not in address(page), "the address without levels")
    wait(lambda: low.input_value() != value, "automatic levels")


def test_freeze_holds_the_pictures_and_letting_go_shows_the_newest(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """Frozen pictures stay while the top line goes on; then the newest is drawn."""
    beamline(20)
    page = open_page(page_server.url)
    drawn(page)
    page.get_by_role("button", name="Freeze").click()
    before, words = page.evaluate(CANVAS, "xy"), page.locator("#progress-words").inner_text()
    wait(lambda: page.locator("#progress-words").inner_text() != words, "progress")
    assert page.evaluate(CANVAS, "xy") == before
    page.get_by_role("button", name="Frozen").click()
    until(page, f"plane => ({CANVAS})(plane) !== {before}", "xy")


def test_a_scan_may_end_while_a_plane_is_dragged(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """The end of a scan and the beginning of the next leave hand and page as they are."""
    running = beamline(60)
    page = open_page(page_server.url)
    drawn(page)
    box = page.locator("[data-plane=xy] .well").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(6):
        if step == 3:
            running.close()
            scan.publish(180)
            scan.publish(5, run_uid="next", scan_id=13)
        page.mouse.move(box["x"] + box["width"] / 2 + 10 * step, box["y"] + box["height"] / 2)
    page.mouse.up()
    page.locator("#scan", has_text="Scan 13").wait_for()
    position = page.get_by_label("Position of the YZ slice along x")

    def is_drawn() -> bool:
        scan.publish(6)  # again, because what the page looks at reaches the server when it will
        return shows(page, "yz", f"x {position.input_value()}")

    wait(is_drawn, "the plane under the hand, of the next scan")
    assert page.locator("#refused").is_hidden()


def test_page_comes_back_when_the_server_does(
    serve_page: Any, open_page: Any, scan: Any, wait: Callable[..., Any]
) -> None:
    """When the line is cut the page says so, and goes on by itself."""
    scan.publish(20)
    served = serve_page()
    page = open_page(served.url)
    drawn(page)
    page.evaluate("""() => {
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function (text) { window.line = this; send.call(this, text); };
    }""")
    scan.publish(30)
    wait(lambda: page.evaluate("Boolean(window.line)"), "an acknowledgement")
    page.evaluate("window.line.close()")
    page.locator("#link-words", has_text="reconnecting").wait_for()
    page.locator("#link-words", has_text="connected").wait_for()
    scan.publish(77)
    page.get_by_text("77 of 180 projections").wait_for()


def test_save_writes_a_png_with_provenance(
    page_server: Any, open_page: Any, scan: Any, tmp_path: Any
) -> None:
    """Save gives a PNG of all pictures, named after the scan."""
    from PIL import Image

    scan.publish(60)
    page = open_page(page_server.url)
    drawn(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    assert download.value.suggested_filename == "scan-12-3fa94c1e-60.png"
    download.value.save_as(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 900
        assert len(picture.getcolors(1 << 24)) > 100


def test_lost_beam_is_seen(page_server: Any, open_page: Any, scan: Any, wait: Callable[..., Any]) -> None:
    """Each number has a plot; the one beyond its threshold says so in words, in its colour and its label."""
    scan.publish(50)
    page = open_page(page_server.url)
    drawn(page)
    plot = page.locator(".trend", has_text="Transmission")
    plot.wait_for()
    assert "bad" not in plot.get_attribute("class")
    assert page.locator(".trend", has_text="Sharpness").is_visible()
    scan.dark = range(60, 70)
    scan.publish(65)
    plot.get_by_text("\u25b2 0.0423, below 0.4").wait_for()
    scan.publish(94)
    plot.get_by_text("\u25b2 projections 60 to 69 saw hardly any beam").wait_for()
    assert "bad" in plot.get_attribute("class")
    label = plot.get_by_role("img").get_attribute("aria-label")
    assert "projections 60 to 69 saw hardly any beam" in label
    box = plot.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 65 / 179, box["y"] + 5)
    wait(lambda: plot.locator("output").inner_text().startswith("65: 0.0"), "the value under the pointer")


def test_the_title_of_the_tab_tells_the_state(
    page_server: Any, open_page: Any, scan: Any, wait: Callable[..., Any]
) -> None:
    """A tab that is not looked at tells state, progress, scan, and that something is wrong."""
    page = open_page(page_server.url)
    wait(lambda: page.title() == "Waiting \u00b7 tomolive", "a page without a scan")
    scan.publish(90)
    wait(lambda: page.title() == "\u25cf Scanning 50 % \u00b7 scan 12 \u00b7 tomolive", "a scan")
    scan.publish(90, message="Beam lost.")
    wait(lambda: page.title().startswith("\u25b2 Scanning 50 %"), "a warning")
    scan.publish(180, message="")
    wait(lambda: page.title() == "\u2713 Finished \u00b7 scan 12 \u00b7 tomolive", "the end")


WRITE_TWICE = """async () => {
  const {mark, write} = await import("/static/write.js");
  const line = document.createElement("p");
  const seen = new MutationObserver(() => {});
  seen.observe(line, {attributes: true, childList: true, subtree: true});
  return [["12 of 90", true], ["12 of 90", true], ["13 of 90", true]].map(([textContent, hidden]) => {
    write(line, {textContent, hidden});
    mark(line, {"aria-valuenow": textContent});
    return seen.takeRecords().length;
  });
}"""


def test_what_stands_there_is_not_written_again(page_server: Any, open_page: Any) -> None:
    """Only what is new touches the page: text, property and attribute at first, text and attribute then."""
    assert open_page(page_server.url).evaluate(WRITE_TWICE) == [3, 0, 2]


LOOK = """hidden => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_tab_that_nobody_looks_at_is_told_and_draws_when_somebody_does(
    page_server: Any, open_page: Any, scan: Any
) -> None:
    """Hidden, its numbers go on and its pictures stand still; looked at again it draws the newest."""
    scan.publish(30)
    page = open_page(page_server.url)
    drawn(page)
    page.evaluate(LOOK, True)
    page.evaluate("new Promise(requestAnimationFrame)")  # one that was asked for before may still come
    page.evaluate("window.draws = 0; document.addEventListener('tomolive:drawn', () => window.draws++)")
    for frames in (60, 90):
        scan.publish(frames)
        page.locator("#progress-words", has_text=f"{frames} of 180").wait_for()
    assert page.evaluate("window.draws") == 0
    page.evaluate(LOOK, False)
    until(page, "window.draws > 0")
    page.locator("[data-plane=xy] .badge", has_text="90 of 180 degrees").wait_for()


def test_workers_and_their_share_are_shown(page_server: Any, open_page: Any, scan: Any) -> None:
    """With more than one worker each one's rows, projections and state are listed; one alone is not."""
    one, two = WorkerShare("a", (0, 64), 60), WorkerShare("b", (64, 128), 58, "lost")
    scan.publish(60, workers=(one,))
    page = open_page(page_server.url)
    drawn(page)
    assert page.locator(".workers").is_hidden()
    scan.publish(61, workers=(one, two))
    page.get_by_text("a: rows 0\u201363, 60 projections, working").wait_for()
    page.get_by_text("b: rows 64\u2013127, 58 projections, lost").wait_for()


def test_pictures_of_the_scan_before_say_so(page_server: Any, open_page: Any, scan: Any) -> None:
    """Until the first projection of a new scan the old pictures are marked."""
    scan.publish(180)
    page = open_page(page_server.url)
    drawn(page)
    scan.store.publish(Status(state="flats", run_uid="another", flats=3), scan.pictures)
    page.locator("[data-plane=xy] .badge", has_text="previous scan: 12").wait_for()
    assert page.locator("#center").input_value() == "126.4"
    failed = Status(state="failed", run_uid="third", frames_received=8, frames_planned=8, coverage=180)
    scan.store.publish(failed, scan.pictures)
    page.locator("#state-name", has_text="Failed").wait_for()
    assert page.locator("[data-plane=xy] .badge").inner_text() == "previous scan: 12"


def test_frozen_pictures_say_what_they_are(
    page_server: Any, open_page: Any, scan: Any, wait: Callable[..., Any]
) -> None:
    """While more comes, and the next scan, badge, file name and wishes are those of what is on the screen."""
    scan.publish(60)
    page = open_page(page_server.url)
    drawn(page)
    badge = page.locator("[data-plane=xy] .badge")
    page.get_by_role("button", name="Freeze").click()
    scan.publish(94)
    page.locator("#progress-words", has_text="94 of 180").wait_for()
    assert badge.inner_text() == "partial: 60 of 180 degrees"
    frozen = scan.status.run_uid
    scan.publish(20, run_uid="next", scan_id=13, center=99.0, pixel_size_um=7.0)
    page.locator("#scan", has_text="Scan 13").wait_for()
    assert badge.inner_text() == "previous scan: 12, 60 of 180 degrees"
    assert page.locator("#center").input_value() == "126.4"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    assert download.value.suggested_filename == "scan-12-3fa94c1e-60.png"
    page.get_by_role("button", name="0.5 pixels right").click()
    (wish,) = wait(scan.controls.take, "the wish")
    assert (wish.run_uid, wish.center) == (frozen, 126.9)
    page.get_by_role("button", name="Frozen").click()
    wait(lambda: badge.inner_text() == "partial: 20 of 180 degrees", "the next scan's badge")


def test_view_only_page_says_why(
    serve_page: Any, open_page: Any, scan: Any, wait: Callable[..., Any]
) -> None:
    """Without the token the settings are locked and say why; the token in the address opens them."""
    url = serve_page(token="open sesame").url
    scan.publish(60)
    page = open_page(url)
    page.get_by_text("View only: control needs the token.").wait_for()
    assert page.locator("#center").is_disabled()
    page = open_page(url + "?token=open+sesame")
    drawn(page)
    wait(lambda: page.locator("#center").is_enabled(), "control")
    assert "sesame" not in page.url


def test_pictures_without_contrast_or_numbers_are_drawn(page_server: Any, open_page: Any, scan: Any) -> None:
    """All-zero, all-NaN and infinite pixels break nothing."""
    scan.publish(60)
    pictures = dict(scan.store.latest.pictures)
    for plane, fill in (("xy", 0.0), ("xz", np.nan), ("yz", np.inf)):
        kind = type(pictures[plane])
        pictures[plane] = kind(plane, np.full_like(pictures[plane].pixels, fill), 5, 99, "1/cm")
    scan.store.publish(scan.status, pictures)
    page = open_page(page_server.url)
    drawn(page)
    page.locator("[data-plane=xz] .well").hover()
    until(page, "document.getElementById('cursor').textContent.includes('not a number')")
