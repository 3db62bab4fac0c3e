"""The page as a new user meets it: with nothing but what stands on it, during a scan that goes wrong."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

pytestmark = pytest.mark.browser


def test_a_new_user_mends_the_centre_sees_the_beam_go_and_saves_the_picture(
    page_server: Any, open_page: Any, scan: Any, beamline: Any, wait: Callable[..., Any], tmp_path: Any
) -> None:
    """The wrong centre is found and mended, the lost beam seen by its projections, the picture kept."""
    from PIL import Image

    beam = beamline(60)
    page = open_page(page_server.url)
    page.locator("#center-source", has_text="provisional").wait_for()
    # Edges are double: is the centre wrong? Candidates, side by side, tell which one is sharp.
    page.get_by_role("button", name="Candidates", exact=True).click()
    page.get_by_label("Columns between candidates").select_option("1")
    page.get_by_role("button", name=re.compile("Rotation centre .* best score")).click()
    page.locator("#center-source", has_text=re.compile("set by viewer 1, \\d\\d:\\d\\d")).wait_for()
    assert scan.status.center == 129.4
    page.get_by_role("button", name="Close", exact=True).click()
    # The beam goes: the plot, the sentence and the title of the tab say so.
    scan.dark = range(80, 90)
    scan.status = replace(scan.status, message="Projections 80 to 89 saw hardly any beam.")
    wait(lambda: int(page.locator("#progress").get_attribute("aria-valuenow")) >= 90, "the end of the gap")
    page.locator(".trend.bad", has_text="projections 80 to 89 saw hardly any beam").wait_for()
    assert page.locator("#message.important").inner_text() == "Projections 80 to 89 saw hardly any beam."
    wait(lambda: page.title().startswith("\u25b2 Scanning"), "the title")
    beam.hold.set()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    download.value.save_as(tmp_path / "kept.png")
    with Image.open(tmp_path / "kept.png") as picture:
        assert picture.format == "PNG"
        assert picture.height > 2 * 256
