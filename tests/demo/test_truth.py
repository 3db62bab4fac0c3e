"""The yardstick of the demo: the simulated sample, and the stock reconstruction beside ours."""

import numpy as np
import pytest

from tomolive.acquire.phantom import porous_sample
from tomolive.demo.truth import rms_error, stock_slice, true_slice

COLUMNS, ROWS, CENTER = 96, 12, 44.3


@pytest.fixture(scope="module")
def phantom():
    """A small porous stone."""
    return porous_sample(ROWS, COLUMNS, CENTER)


def test_the_stock_reconstruction_of_exact_projections_is_close_to_the_truth(phantom) -> None:
    """iradon, with the centre moved to where it wants it, finds the sample, and no other centre does."""
    angles = np.linspace(0, np.pi, 180, endpoint=False)
    row = 6
    sinogram = np.stack([phantom.projection(a, ROWS, COLUMNS, CENTER)[row] for a in angles])
    odd = COLUMNS + 1
    truth = true_slice({"phantom": phantom.to_dicts()}, "xy", row, ROWS, odd)
    error = rms_error(stock_slice(sinogram, angles, CENTER), truth, "xy")
    wrong = rms_error(stock_slice(sinogram, angles, CENTER + 4), truth, "xy")
    assert error < 0.2 * truth.max()
    assert wrong > 1.5 * error


def test_the_error_ignores_what_lies_outside_the_circle() -> None:
    """A corner of a slice holds no reconstruction and does not count."""
    truth = np.zeros((32, 32), np.float32)
    corner = truth.copy()
    corner[0, 0] = 1e6
    assert rms_error(corner, truth, "xy") == 0
    middle = truth.copy()
    middle[16, 16] = 1e3
    assert rms_error(middle, truth, "xy") > 1
