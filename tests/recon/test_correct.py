"""Counts become line integrals, and pixels that say nothing stay where they are."""

import numpy as np
import pytest

from tomolive.errors import ReconstructionError
from tomolive.recon import normalize, reconstruct
from tomolive.recon.correct import flat_field

RNG = np.random.default_rng(4)
PROJECTIONS = RNG.integers(500, 40000, (6, 4, 50)).astype("u2")
FLATS = RNG.integers(41000, 45000, (5, 4, 50)).astype("u2")
DARKS = RNG.integers(90, 110, (5, 4, 50)).astype("u2")
SHUT = np.random.default_rng(5).normal(100, 3, (2, 5, 4, 50))
"""Flats and darks that differ by noise only."""


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


def test_a_shadow_stays_dark_and_is_not_bridged_by_its_brighter_pixels():
    """Behind much material noise carries counts around the dark: their mean attenuation stays high."""
    rng = np.random.default_rng(8)
    true = np.where(np.abs(np.arange(200) - 100) < 40, 12.0, 0.1)
    counts = rng.poisson(40000 * np.exp(-true), (20, 3, 200)) + rng.normal(100, 3, (20, 3, 200))
    found = normalize(np.round(counts).astype("u2"), np.full((1, 3, 200), 40100), np.full((1, 3, 200), 100))
    assert np.isfinite(found).all()
    shadow = np.abs(np.arange(200) - 100) < 39
    assert found[..., shadow].min() > 7
    assert np.median(found[..., shadow]) > 10
    np.testing.assert_allclose(found[..., np.abs(np.arange(200) - 100) > 41], 0.1, atol=0.05)


def test_starved_counts_take_the_attenuation_of_half_a_count():
    """Zero photons of a thousand; a row that is all shadow, too; counts of unknown step take the floor."""
    counts = np.full((1, 2, 12), 500, "u2")
    counts[0, 0, 3:8] = 0
    counts[0, 1] = 0
    found = normalize(counts, np.full((1, 2, 12), 1000, "u2"))
    np.testing.assert_allclose(found[0, 0, 3:8], np.log(2000), rtol=1e-5)
    np.testing.assert_allclose(found[0, 1], np.log(2000), rtol=1e-5)
    np.testing.assert_allclose(found[0, 0, :3], np.log(2), rtol=1e-5)
    unknown = normalize(counts.astype("f4"), np.full((1, 2, 12), 1000, "u2"))
    np.testing.assert_allclose(unknown[0, 1], -np.log(1e-6), rtol=1e-5)


def test_a_lost_reading_is_bridged_but_a_faint_neighbourhood_is_not():
    """A zero among bright pixels is no shadow; a zero among pixels of a few counts is."""
    counts = np.full((1, 2, 9), 800, "u2")
    counts[0, 1] = 4
    counts[0, :, 4] = 0
    found = normalize(counts, np.full((1, 2, 9), 1000, "u2"))
    assert found[0, 0, 4] == pytest.approx(-np.log(0.8))
    assert found[0, 1, 4] == pytest.approx(np.log(2000))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_bad_pixel_does_not_spread_into_the_slice(phantom, bad):
    """The slice of a scan with bad pixels is finite and nearly that of the clean scan."""
    angles = np.arange(90) * np.pi / 90
    counts = (30000 * np.exp(-phantom(64).stack(angles, 1)) + 100).astype("f4")
    flats, darks = np.full((1, 1, 64), 30100.0), np.full((1, 1, 64), 100.0)
    clean = reconstruct(normalize(counts, flats, darks)[:, 0], angles, 31.5)
    for place in ((10, 0, 20), (50, 0, 33), (51, 0, 33)):
        counts[place] = bad
    found = reconstruct(normalize(counts, flats, darks)[:, 0], angles, 31.5)
    assert np.abs(found - clean).max() < 0.02 * clean.max()


def test_flats_before_and_after_are_interpolated():
    """A beam that faded and moved between the flats leaves no trace, and the time of each frame counts."""
    profile = lambda t: 1000 * (1 - 0.3 * t) + 200 * t * np.linspace(-1, 1, 30) * np.ones((4, 30))  # noqa: E731
    darks = np.full((2, 4, 30), 10.0)
    before, after = (10 + np.stack([profile(t)] * 3) for t in (0.0, 1.0))
    times = np.linspace(0, 1, 5)
    raw = 10 + np.stack([profile(t) * np.exp(-0.4) for t in times])
    np.testing.assert_allclose(normalize(raw, before, darks, flats_after=after), 0.4, atol=1e-5)
    shuffled = np.array([3, 0, 4, 1, 2])
    found = normalize(raw[shuffled], before, darks, flats_after=after, at=times[shuffled])
    np.testing.assert_allclose(found, 0.4, atol=1e-5)
    assert np.abs(normalize(raw, before, darks) - 0.4).max() > 0.2


def test_a_pixel_dead_in_either_flat_is_bridged():
    """What has no beam once has no gain at all."""
    flats = np.full((1, 2, 9), 1000.0)
    after = flats.copy()
    after[0, 1, 4] = 0
    found = normalize(np.full((3, 2, 9), 500.0), flats, flats_after=after)
    np.testing.assert_allclose(found, np.log(2), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"flats_after": FLATS[:, :3]}, "flats have frames"),
        ({"flats_after": FLATS, "at": np.zeros(5)}, r"times has shape \(5,\) for 6 projections"),
        ({"flats_after": FLATS, "at": np.full(6, np.nan)}, "finite"),
        ({"at": np.zeros(6)}, "at is given without flats_after"),
    ],
)
def test_bad_times_and_flats_after_are_named(arguments, named):
    """Which argument, its shape, and what was expected."""
    with pytest.raises(ReconstructionError, match=named):
        normalize(PROJECTIONS, FLATS, DARKS, **arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((PROJECTIONS[0], FLATS, DARKS), r"projections has shape \(4, 50\)"),
        ((PROJECTIONS, FLATS[:, :3], DARKS), "darks"),
        ((PROJECTIONS[:, :3], FLATS, DARKS), "projections"),
        ((PROJECTIONS, FLATS[:0], DARKS), "flats has shape"),
        ((PROJECTIONS, DARKS, DARKS), "flats .* no brighter than darks"),
        ((PROJECTIONS, *SHUT), "flats .* no brighter than darks"),
    ],
)
def test_bad_input_is_named(arguments, named):
    """Arrays that do not fit say which, their shape, and what was expected."""
    with pytest.raises(ReconstructionError, match=named):
        normalize(*arguments)
