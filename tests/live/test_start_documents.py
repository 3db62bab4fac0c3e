"""Start documents that no plan of ours would write."""

import math

import pytest

from tomolive.live.documents.run import Note
from tomolive.live.documents.scan import ScanReader


@pytest.mark.parametrize("count", [math.inf, math.nan, -1.0])
def test_a_number_of_projections_that_is_none(scans, count):
    """The scan is followed as one that does not tell how many there will be."""
    run = scans.Run(**scans.tomolive_start())
    start = {**run.start[1], "tomography": scans.tomolive_start(num_projections=count)["tomography"]}
    reader = ScanReader()
    reader.document("start", start)
    scan = reader.scan(run.uid)
    assert scan is not None
    assert scan.planned is None


def test_a_start_document_that_is_not_understood(scans):
    """It is said, and that run is left alone; the next one is a scan."""
    run, following = scans.Run(**scans.tomolive_start()), scans.Run(**scans.tomolive_start())
    start = {**run.start[1], "tomography": scans.tomolive_start(pixel_size=10**400)["tomography"]}
    reader = ScanReader()
    (note,) = reader.document("start", start)
    assert isinstance(note, Note)
    assert note.problem
    assert "OverflowError" in note.text
    assert scans.feed(reader, run.descriptor("projections", camera=scans.image), run.stop()) == []
    reader.document(*following.start)
    assert reader.scan(following.uid) is not None
