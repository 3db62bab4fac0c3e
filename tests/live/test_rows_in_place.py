"""Rows that are read in the files where they are: what is checked before they are believed."""

import os
from pathlib import Path

import numpy as np
import pytest

from tomolive.errors import FileAccessError
from tomolive.live.volume.in_place import MovedError, RowsInPlace
from tomolive.live.volume.rows import RowLayout

FRAMES = np.random.default_rng(5).integers(1, 1000, (3, 20, 8), "u2")
FRAMES[:, 0] = 0
LAYOUT = RowLayout(3, 20, 8, "<u2")


@pytest.fixture
def file(tmp_path):
    """Two frames behind a header; the third is nowhere."""
    path = tmp_path / "frames.raw"
    path.write_bytes(bytes(100) + FRAMES[:2].tobytes())
    return path


def rows_of(path: Path, shift: int = 0) -> RowsInPlace:
    """Its rows, or where they are not."""
    places = np.array([100, 100 + FRAMES[0].nbytes, -1]) + np.array([shift, shift, 0])
    return RowsInPlace(LAYOUT, [str(path)], np.zeros(3, np.int64), places)


def test_rows_of_a_band(file, tmp_path):
    """Those of all frames; zeros of the one that is nowhere. Written down they are found again."""
    rows = rows_of(file)
    rows.save(tmp_path)
    for each in (rows, RowsInPlace.load(tmp_path)):
        found = each.read(1)
        np.testing.assert_array_equal(found[:2], FRAMES[:2, 16:])
        assert not found[2].any()
        each.close()


def test_frames_that_are_elsewhere(file):
    """They are told by what a reader has seen of them, also where first rows are masked."""
    rows = rows_of(file)
    rows.write(0, FRAMES[:2])
    with pytest.raises(MovedError):
        rows.write(2, FRAMES[2:])
    with pytest.raises(MovedError):
        rows.write(0, FRAMES[:2].astype(">u2"))
    rows.close()
    shifted = rows_of(file, shift=-2)
    with pytest.raises(MovedError):
        shifted.write(0, FRAMES[:1])
    shifted.close()


@pytest.mark.parametrize("change", ["in it", "another", "cut off", "gone"])
def test_no_block_is_made_of_a_file_that_was_changed(file, tmp_path, change):
    """Neither by who has it open nor by who opens it then; the error says which file."""
    rows = rows_of(file)
    rows.save(tmp_path)
    match change:
        case "in it":
            before = file.stat()
            with file.open("r+b") as opened:
                opened.write(b"x")
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        case "another":
            other = tmp_path / "other"
            other.write_bytes(file.read_bytes())
            other.replace(file)
        case "cut off":
            os.truncate(file, 300)
        case "gone":
            file.unlink()
    with pytest.raises(FileAccessError):
        rows.read(0)
    rows.close()
    with pytest.raises(FileAccessError, match=r"frames\.raw was changed while a volume was being made"):
        RowsInPlace.load(tmp_path)
