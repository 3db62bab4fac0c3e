"""The transport benchmark measures both sides and says what it measured."""

import json
import os

from click.testing import CliRunner

from tomolive.bench.transport import transport

FIGURES = {
    "documents_per_s", "lost", "call_us", "burst_call_us", "burst_cpu_us", "p50_us_at_100", "p99_us_at_100",
    "p50_us_at_1000", "p99_us_at_1000", "memory_mb",
}  # fmt: skip


def test_benchmark_prints_and_writes_figures_of_both(tmp_path):
    """A short run prints a table and writes positive figures of bluesky and tomolive, which lost nothing."""
    figures, allowed = tmp_path / "figures.json", os.sched_getaffinity(0)
    arguments = ["--documents", "300", "--seconds", "0.2", "--json", str(figures)]
    result = CliRunner().invoke(transport, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "bluesky 0MQ" in result.output
    written = json.loads(figures.read_text())
    for kind in ("bluesky", "tomolive"):
        assert written[kind].keys() >= FIGURES
        assert all(written[kind][key] > 0 for key in FIGURES - {"lost"})
    assert written["tomolive"]["lost"] == 0
    assert written["tomolive"]["read_back_per_s"] > 0
    assert os.sched_getaffinity(0) == allowed
