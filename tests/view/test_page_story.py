"""The page as a new user meets it: with nothing but what stands on it, and a real scan that goes wrong."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tomolive.acquire.phantom import porous_sample
from tomolive.demo.processes import Services

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ROWS, COLUMNS, PROJECTIONS = 32, 128, 400
CENTER, WRONG = 62.3, 66.3
LOST = range(300, 310)
ANY = "127.0.0.1:0"
LONG_MS = 120_000


@dataclass(frozen=True)
class Started:
    """Processes, and where two of them are."""

    services: Services
    hub: str
    page: str


@pytest.fixture
def bad_scan(tmp_path: Path) -> Path:
    """A file with a scan of a simulated sample whose beam is lost at frame 300, for ten projections."""
    sample = porous_sample(ROWS, COLUMNS, CENTER)
    random = np.random.default_rng(5)
    angles = np.linspace(0, 180, PROJECTIONS, endpoint=False)
    beam = np.full(PROJECTIONS, 20000.0)
    beam[LOST] = 60
    integrals = np.stack([sample.projection(a, ROWS, COLUMNS, CENTER) for a in np.deg2rad(angles)])
    counts = {
        "data": beam[:, None, None] * np.exp(-integrals),
        "data_white": np.full((10, ROWS, COLUMNS), 20000.0),
        "data_dark": np.zeros((10, ROWS, COLUMNS)),
    }
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        for name, values in counts.items():
            file[f"exchange/{name}"] = (100 + random.poisson(values)).astype(np.uint16)
        file["exchange/theta"] = angles
    return tmp_path / "scan.h5"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """A hub, and a live reconstruction that was started with a wrong centre."""
    (tmp_path / "data").mkdir()
    with Services(tmp_path) as running:
        ports = [part for option in ("--native", "--in", "--out", "--http") for part in (option, ANY)]
        hub = running.start("hub", ["hub", "--journal", str(tmp_path / "journal"), *ports])
        where = ["--root", str(tmp_path / "data"), "--results", str(tmp_path / "results"), "--page", ANY]
        center = ["--center", str(WRONG)]
        live = running.start("live", ["live", "--hub", hub.fields["native"], *center, *where])
        yield Started(running, hub.fields["native"], live.fields["page"])


def test_a_new_user_mends_the_centre_sees_the_beam_go_and_saves_the_picture(
    started: Started, bad_scan: Path, open_page: Any, tmp_path: Path
) -> None:
    """The wrong centre is found and mended, the lost beam seen by its projections, the picture kept."""
    from PIL import Image

    page = open_page(started.page)
    page.get_by_text("No scan yet.", exact=True).wait_for()
    where = ["--hub", started.hub, "--dir", str(tmp_path / "data"), "--rate", "100"]
    started.services.spawn("scan", ["replay", str(bad_scan), *where])
    # Edges are double: is the centre wrong? It was given by someone, not found.
    page.locator("#center-source", has_text="given at the start").wait_for(timeout=LONG_MS)
    # The beam goes: the plot, the sentence and the title of the tab say so.
    words = f"rojections {LOST[0]} to {LOST[-1]} saw hardly any beam"
    page.locator(".trend.bad", has_text=words).wait_for(timeout=LONG_MS)
    page.locator("#message.important", has_text=words).wait_for()
    page.locator("#state-name", has_text="Finished").wait_for(timeout=LONG_MS)
    assert page.title().startswith("\u25b2 Finished")
    whole = re.compile(f"^P{words}, and are left out\\.$")
    page.locator("#message.important", has_text=whole).wait_for()
    # Candidates, side by side, tell which one is sharp.
    page.get_by_role("button", name="Candidates", exact=True).click()
    page.get_by_label("Columns between candidates").select_option("2")
    page.get_by_role("button", name=f"Rotation centre {CENTER} · best score").click()
    page.locator("#center-source", has_text=re.compile(r"set by viewer 1, \d\d:\d\d")).wait_for()
    page.get_by_role("button", name=f"Rotation centre {CENTER} · best score · in force").wait_for()
    assert page.input_value("#center") == str(CENTER)
    page.get_by_role("button", name="Close", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    download.value.save_as(tmp_path / "kept.png")
    with Image.open(tmp_path / "kept.png") as picture:
        assert picture.format == "PNG"
        assert picture.height > 2 * COLUMNS
