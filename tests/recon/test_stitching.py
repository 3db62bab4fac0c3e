"""Detectors side by side and above each other make one field."""

import numpy as np
import pytest

from tomolive.errors import ReconstructionError
from tomolive.recon.stitching import Joining, Mosaic, Tile

GRID = [Tile(12, 20, 0, 0), Tile(12, 18, 1, 15), Tile(10, 20, 9, 0), Tile(11, 18, 8, 15)]


def _cut(field: np.ndarray, tile: Tile) -> np.ndarray:
    return field[:, tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns]


@pytest.mark.parametrize("rows", [(0, 18), (3, 11), (14, 18)])
def test_what_each_detector_sees_makes_the_field(rows):
    """Four detectors at slightly different heights, any rows: the field is what it was, to rounding."""
    rng = np.random.default_rng(5)
    whole = rng.random((3, 20, 33), np.float32)
    mosaic = Mosaic(GRID)
    assert (mosaic.rows, mosaic.columns) == (18, 33)
    field = whole[:, 1:19]  # of its first and last row one half is not seen
    seen = [_cut(whole, tile) for tile in GRID]
    which = mosaic.covering(rows)
    joining = Joining(mosaic, which, rows)
    beside = joining.beside([seen[i] for i in which])
    assert beside.shape[1:] == joining.shape
    assert np.allclose(joining.join(beside), field[:, slice(*rows)], atol=1e-6)
    some = slice(1, 3)
    assert np.array_equal(joining.join(beside[:, some], some), joining.join(beside)[:, some])


def test_weights_fall_to_the_edge_of_a_detector():
    """No jump where a detector begins or ends: its weight there is small, and all weights add up to 1."""
    mosaic = Mosaic([Tile(4, 20), Tile(4, 20, 0, 10)])
    left, right = mosaic.weights((0, 1), (0, 4))
    assert np.allclose(left[:, 10:] + right[:, :10], 1)
    assert (left[:, :10] == 1).all()
    assert left[0, 19] == pytest.approx(1 / 11)
    assert right[0, 0] == pytest.approx(1 / 11)
    assert np.allclose(np.diff(right[0, :10]), 1 / 11)


@pytest.mark.parametrize(
    ("tiles", "open_"),
    [
        ([Tile(10, 10), Tile(10, 10, 0, 12)], "columns 10 to 11"),
        ([Tile(10, 10), Tile(10, 10, 14, 0)], "rows 10 to 13"),
        ([Tile(10, 10), Tile(10, 10, 10, 10)], "columns 10 to 19"),
    ],
)
def test_a_gap_is_named(tiles, open_):
    """Which columns or rows nobody sees."""
    with pytest.raises(ReconstructionError, match=open_):
        Mosaic(tiles)
