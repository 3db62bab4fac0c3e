"""The report of a scan that did not go well."""

from pathlib import Path

from tomolive.demo.report import Report

SUMMARY = {
    "run_uid": "0123456789", "sample": "stone", "outcome": "success", "failure": "", "center": 31.5,
    "center_source": "given", "slices": {}, "slices_png": None, "seconds_last_frame_to_final": 0.5,
    "frames": {"planned": 10, "announced": 10, "received": 10, "missing": []},
}  # fmt: skip


def _report(taken: int = 10, **changes: object) -> Report:
    return Report(SUMMARY | changes, taken, ("first line", "second line"), Path("catalog"))


def test_a_scan_without_projections_is_reported() -> None:
    """Nothing was reconstructed: the report says so, and that the scan is not complete."""
    frames = {"planned": 10, "announced": 0, "received": 0, "missing": []}
    report = _report(
        0, outcome="abort", center=None, center_source="", seconds_last_frame_to_final=None, frames=frames
    )
    assert "no projections" in report.text()
    assert not report.complete


def test_a_failure_is_told_in_its_words() -> None:
    """The sentence of the failure is part of the report."""
    assert (
        "The reconstruction failed: too dark" in _report(failure="The reconstruction failed: too dark").text()
    )


def test_frames_that_never_came_count_as_missing() -> None:
    """Both those that no file holds and those that were taken but never announced."""
    report = _report(12, frames={"planned": 12, "announced": 10, "received": 7, "missing": [[2, 4], [8, 9]]})
    assert report.as_dict()["frames"]["missing"] == 5
    assert "12 taken, 7 received, 5 missing" in report.text()
    assert not report.complete


def test_a_good_scan_is_complete() -> None:
    """Everything that was taken is in the slices."""
    assert _report().complete
