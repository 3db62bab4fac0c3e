"""Counts become line integrals, and pixels that say nothing stay where they are."""

import numpy as np
import pytest

from tomolive.errors import ReconstructionError
from tomolive.recon import normalize
from tomolive.recon.correct import flat_field

RNG = np.random.default_rng(4)
PROJECTIONS = RNG.integers(500, 40000, (6, 4, 50)).astype("u2")
FLATS = RNG.integers(41000, 45000, (5, 4, 50)).astype("u2")
DARKS = RNG.integers(90, 110, (5, 4, 50)).astype("u2")


def beer_lambert(projections, flats, darks):
    """The formula, in double precision."""
    dark = darks.mean(axis=0)
    return -np.log((projections - dark) / (flats.mean(axis=0) - dark))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", ">u2", "i4", "f4", "f8", ">f4"])
def test_any_number_type_gives_beer_lambert(dtype):
    """Counts of every type and byte order are corrected alike."""
    scale = 200 if dtype == "u1" else 1.5 if dtype == "i2" else 1
    projections, flats, darks = (np.floor(a / scale).astype(dtype) for a in (PROJECTIONS, FLATS, DARKS))
    projections = np.maximum(projections, darks.max() + 1).astype(dtype)
    found = normalize(projections, flats, darks)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, beer_lambert(projections, flats, darks), atol=2e-5)


def test_the_fast_logarithm_is_a_logarithm():
    """Over the range of transmissions, to float32 rounding."""
    transmission = np.geomspace(2e-6, 1e6, 2001).astype("f4")[None, None]
    found = normalize(transmission, np.ones((1, 2001), "f4"))
    np.testing.assert_allclose(found, -np.log(transmission.astype("f8")), rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -5.0])
def test_a_bad_pixel_is_bridged_and_does_not_spread(bad):
    """A pixel without a meaningful count takes the line between its neighbours; no other pixel changes."""
    projections = PROJECTIONS.astype("f4")
    clean = normalize(projections, FLATS, DARKS)
    projections[2, 1, 20] = bad
    found = normalize(projections, FLATS, DARKS)
    assert np.isfinite(found).all()
    assert found[2, 1, 20] == pytest.approx((clean[2, 1, 19] + clean[2, 1, 21]) / 2, rel=1e-5)
    found[2, 1, 20] = clean[2, 1, 20]
    np.testing.assert_array_equal(found, clean)


def test_dead_pixels_at_the_ends_and_whole_dead_rows_are_finite():
    """An end takes its neighbour's value; a row with no value at all becomes zero."""
    flats = FLATS.astype("f4")
    flats[:, 0, :3] = DARKS[:, 0, :3]
    flats[:, 3] = 0
    found = normalize(PROJECTIONS, flats, DARKS)
    assert (found[:, 0, :3] == found[:, 0, 3:4]).all()
    assert (found[:, 3] == 0).all()


def test_a_nan_in_one_reference_frame_is_left_out():
    """Means and medians of references ignore single bad values."""
    flats = np.full((5, 2, 3), 1000.0)
    flats[1, 0, 0] = np.nan
    for average in ("mean", "median"):
        np.testing.assert_allclose(flat_field(flats, average=average).gain, 1 / 1000)


def test_the_median_ignores_a_zinger_in_a_flat():
    """One wild flat frame moves the mean, not the median."""
    flats = FLATS.copy()
    flats[0, 1, 7] = 65535
    assert flat_field(flats, average="median").gain[1, 7] == pytest.approx(1 / np.median(flats[:, 1, 7]))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((PROJECTIONS[0], FLATS, DARKS), r"projections has shape \(4, 50\)"),
        ((PROJECTIONS, FLATS[:, :3], DARKS), "darks"),
        ((PROJECTIONS[:, :3], FLATS, DARKS), "projections"),
        ((PROJECTIONS, FLATS[:0], DARKS), "flats has shape"),
        ((PROJECTIONS, DARKS, DARKS), "flats .* nowhere brighter than darks"),
    ],
)
def test_bad_input_is_named(arguments, named):
    """Arrays that do not fit say which, their shape, and what was expected."""
    with pytest.raises(ReconstructionError, match=named):
        normalize(*arguments)
