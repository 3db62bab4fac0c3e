"""What axe-core finds on the page: nothing, in both colour schemes, with and without a scan."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="session")
def axe(npm_packages: Path) -> str:
    """The source of axe-core."""
    return (npm_packages / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("state", ["empty", "scanning", "everything", "view-only"])
def test_axe_finds_nothing(
    serve_page: Any,
    open_page: Any,
    scan: Any,
    beamline: Any,
    wait: Callable[..., Any],
    axe: str,
    state: str,
    scheme: str,
) -> None:
    """Labels, contrast, roles and target sizes are right in every state and both colour schemes."""
    if state != "empty":
        scan.dark = range(60, 95)
        scan.publish(94, missing=((17, 18),), message="Projection 17 is missing.", lag_s=9.0)
    if state == "everything":
        beamline(94).hold.set()
    page = open_page(serve_page(read_only=state == "view-only").url, color_scheme=scheme)
    wait(lambda: page.locator("#link-words").inner_text() == "connected", "the connection")
    if state != "empty":
        wait(lambda: page.locator("body").get_attribute("data-empty") == "false", "pictures")
    if state == "everything":
        page.check("#paganin")
        page.get_by_role("button", name="Reconstruct the volume").click()
        page.get_by_role("button", name="Candidates", exact=True).click()
        wait(lambda: page.locator("#candidates li").count() == 7, "candidates")
        page.get_by_role("button", name="Cancel").wait_for()
    page.evaluate(axe)
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: rules}).then(found => found.violations.map("
        "v => ({id: v.id, help: v.help, nodes: v.nodes.map(n => n.html + ' ' + n.failureSummary)})))",
        RULES,
    )
    assert not found, json.dumps(found, indent=2)


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768), (1400, 900), (820, 1180)])
def test_nothing_overflows(
    page_server: Any, open_page: Any, scan: Any, wait: Callable[..., Any], size: tuple[int, int]
) -> None:
    """At each size nothing is cut off sideways; on a screen nothing scrolls, and pictures have names."""
    scan.publish(94, missing=((17, 18), (40, 44)), center=1249.34)
    page = open_page(page_server.url, *size)
    page.wait_for_selector("body[data-empty=false]")
    wait(lambda: page.input_value("#center") == "1249.34", "the centre")
    wide, high = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert wide <= size[0]
    assert high <= size[1] or size[0] < 900
    cut = page.evaluate(
        "[...document.querySelectorAll('header *, aside *, figcaption, figcaption *')].filter("
        "e => e.clientWidth > 1"
        " && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflow !== 'visible'"
        " && !e.matches('input:not(#center), select')).map(e => e.id || e.className || e.tagName)"
    )
    assert cut == []
    names = page.evaluate("[...document.querySelectorAll('.panel h2')].filter(e => e.clientWidth > 1).length")
    assert names == 6 or size == (1024, 768)  # where there is room for numbers only beside one


def test_all_settings_fit_on_a_laptop(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """At 1280 x 720 nothing scrolls, even with Paganin's fields open while a volume is made."""
    beamline(94).hold.set()
    page = open_page(page_server.url)
    page.wait_for_selector("body[data-empty=false]")
    page.check("#paganin")
    page.get_by_role("button", name="Reconstruct the volume").click()
    page.get_by_role("button", name="Cancel").wait_for()
    wait(lambda: scan.status.corrections.paganin, "Paganin")
    page.locator("#corrections-source", has_text="changed by").wait_for()
    high, room = page.evaluate("(e => [e.scrollHeight, e.clientHeight])(document.querySelector('aside'))")
    assert high <= room


def test_keyboard_reaches_every_control(page_server: Any, open_page: Any, scan: Any) -> None:
    """Tab goes through all controls, and each shows that it has the focus."""
    scan.publish(94)
    page = open_page(page_server.url)
    page.wait_for_selector("body[data-empty=false]")
    seen = set()
    for _ in range(110):
        page.keyboard.press("Tab")
        seen.add(page.evaluate(
            "(e => e.id || e.getAttribute('aria-label') || e.innerText)(document.activeElement)"
        ))  # fmt: skip
        outline = page.evaluate(
            "(e => e === document.body || getComputedStyle(e).outlineStyle !== 'none'"
            " || e.matches('[role=slider], .switch input'))(document.activeElement)"
        )
        assert outline, "a control without a visible focus"
    wanted = {"center", "estimate", "filter", "colors", "inverted", "freeze", "save", "Automatic", "rings"}
    wanted |= {"zingers", "paganin", "binning", "candidates-open", "Reconstruct the volume", "python", "name"}
    wanted |= {"Tilt of the oblique slice, degrees", "Detector row of the sinogram", "Enlarge: Sinogram"}
    wanted |= {"Position of the YZ slice along x", "Brightest level", "0.1 pixels left", "Enlarge: XZ"}
    assert wanted <= seen
