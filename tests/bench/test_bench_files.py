"""The benchmark of reading frames."""

import json

from click.testing import CliRunner

from tomolive.bench.files import files


def test_every_figure_is_made(tmp_path):
    """With small frames: each case is measured, every frame arrives, and the table is written as JSON too."""
    arguments = ["--quick", "--rounds", "1", "--directory", str(tmp_path), "--json", str(tmp_path / "f.json")]
    result = CliRunner().invoke(files, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "f.json").read_text())
    assert {figure["what"] for figure in figures} >= {
        "h5py read_direct into one buffer",
        "tomolive, stream_datum",
        "tomolive, datum, filled events",
        "event_model.Filler, correct handler",
        "tomolive, document to array, p99",
        "tomolive, one block, 2 threads",
    }
    assert all(figure["ms_per_frame"] > 0 for figure in figures)
    assert len(result.output.splitlines()) == len(figures) + 1
