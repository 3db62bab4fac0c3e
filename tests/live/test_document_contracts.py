"""The page of document contracts names every key that is written."""

import re
from pathlib import Path

from tomolive.acquire.plans import Scan
from tomolive.live.results import documents as result_documents
from tomolive.live.results.documents import About, ResultRun

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "documents.md").read_text()


def _named() -> set[str]:
    return set(re.findall(r"`([a-z_.]+)`", PAGE))


def test_every_key_of_a_scan_is_on_the_page() -> None:
    """What tomolive's own plans put under `tomography`."""
    assert set(Scan().start_metadata("camera", "angle")) <= _named()


def test_every_key_of_a_result_is_on_the_page() -> None:
    """What the start document of a result holds, and the names of its streams."""
    emitted = []
    run = ResultRun(lambda name, doc: emitted.append((name, doc)), About("slices", "raw", {}, sample="stone"))
    run.close()
    start = emitted[0][1]
    assert set(start) - {"uid", "time", "tomolive"} <= _named()
    assert {f"tomolive.{key}" for key in start["tomolive"]} <= _named()
    streams = set(re.findall(r"^``(\w+)``", result_documents.__doc__ or "", re.MULTILINE))
    assert streams
    assert streams <= _named()
    assert set(result_documents.PLANS.values()) <= _named()
