"""The benchmark of the reconstruction, on a detector so small that its figures mean nothing."""

import json

import pytest
from click.testing import CliRunner

from tomolive.bench.recon import recon


def test_table_and_json_hold_the_same_lines(tmp_path):
    """Each contestant has a line with its time; slices have an error, and limits say whether they are met."""
    file = tmp_path / "figures.json"
    parts = [
        option for part in ("slices", "live", "center", "stripes", "artefacts") for option in ("--part", part)
    ]
    run = CliRunner().invoke(
        recon, ["--size", "64", "--rounds", "1", "--no-peers", "--json", str(file), *parts]
    )
    assert run.exit_code == 0, run.output
    figures = json.loads(file.read_text())
    lines = [line for line in run.output.splitlines() if " tomolive" in line]
    assert len(lines) == sum("tomolive" in figure["by"] for figure in figures)
    assert all(figure["milliseconds"] > 0 for figure in figures)
    assert all((figure["together"] or 0) > 0 for figure in figures if figure["by"].startswith("tomolive"))
    slices = [figure for figure in figures if figure["work"].startswith("slice ")]
    assert [figure["error"] for figure in slices] == pytest.approx([0.045] * 3, abs=0.004)
    assert all((figure["met"] is None) == (figure["must"] == "") for figure in figures)
