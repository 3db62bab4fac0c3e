"""The shipped notebook runs against a page, and both of its files hold the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "jupyter"
NOTEBOOK = json.loads((FOLDER / "watch_a_scan.ipynb").read_text())


def code_cells() -> list[str]:
    """Return the code of the notebook."""
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs_during_a_scan(
    page_server: Any, scan: Any, beamline: Any, monkeypatch: Any, capsys: Any
) -> None:
    """Its cells, from top to bottom, watch the scan, look at planes and mend the centre."""
    monkeypatch.setenv("TOMOLIVE_PAGE", page_server.url)
    monkeypatch.setenv("MPLBACKEND", "agg")
    beamline(60).hold.set()
    session: dict[str, Any] = {"__name__": "__main__"}
    for code in code_cells():
        exec(code, session)  # noqa: S102  our own notebook
    said = capsys.readouterr().out
    assert "scan 12, simulated shell: projections" in said
    assert "(256, 256) float32 (256, 256) (60, 256)" in said
    assert "rotation centre 126.9, set by notebook" in said
    assert "422 rotation centre -3 lies outside the detector, 0 to 255" in said
    assert "/api/corrections" in said
    assert scan.status.center == 126.9


def test_both_files_hold_the_same() -> None:
    """The script is the notebook's text in another form."""
    chunks = re.split(r"^# %%", (FOLDER / "watch_a_scan.py").read_text(), flags=re.MULTILINE)[1:]
    told = []
    for chunk in chunks:
        head, _, body = chunk.partition("\n")
        lines = body.strip("\n").splitlines()
        told.append([re.sub(r"^# ?", "", line) for line in lines] if "markdown" in head else lines)
    assert ["".join(cell["source"]).splitlines() for cell in NOTEBOOK["cells"]] == told


def test_no_output_is_kept_in_the_notebook() -> None:
    """What is shipped is code, not what it once printed."""
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("field", ["nbformat", "nbformat_minor", "metadata", "cells"])
def test_the_notebook_is_one(field: str) -> None:
    """The fields that Jupyter reads are there."""
    assert field in NOTEBOOK
