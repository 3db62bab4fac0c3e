"""What holds for every scan, tried on many small ones; hypothesis prints the case that fails."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomolive import geometry
from tomolive.config import CorrectionSettings
from tomolive.recon import normalize, reconstruct, reconstruct_plane, remove_stripes
from tomolive.recon.pipeline import correct_projections, references

METHODS = ("gridding", "backprojection")
COLUMNS = 33
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32 - 1)


def scan(seed, count=24):
    """Return angles in any order and a smooth random sinogram that is zero at its ends."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * np.pi, count)
    fade = np.sin(np.pi * np.arange(COLUMNS) / (COLUMNS - 1)) ** 2
    return angles, (rng.normal(0, 1, (count, COLUMNS)).cumsum(axis=1) * fade).astype("f4")


def inside(size=COLUMNS, radius=0.9):
    """Return the circle that every projection sees."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return x**2 + y**2 < (radius * size / 2) ** 2


@pytest.mark.parametrize("method", METHODS)
@few
@given(seed=seeds, factor=st.floats(-3, 3), center=st.floats(12, 20))
def test_reconstruction_is_linear(method, seed, factor, center):
    """The slice of a sum is the sum of the slices, of any multiple too."""
    angles, first = scan(seed)
    _, second = scan(seed + 1)
    whole, one, two = (
        reconstruct(s, angles, center, method=method, threads=1)[0]
        for s in (first + np.float32(factor) * second, first, second)
    )
    scale = max(np.abs(one).max(), np.abs(factor * two).max())
    assert np.abs(whole - one - factor * two).max() < 1e-4 * scale


@pytest.mark.parametrize("method", METHODS)
@few
@given(seed=seeds, quarters=st.integers(-5, 5))
def test_turning_the_scan_turns_the_slice(method, seed, quarters):
    """By quarter turns, for which no pixel has to be interpolated."""
    angles, sinogram = scan(seed)
    still, turned = (
        reconstruct(sinogram, a, 16, method=method, threads=1)[0]
        for a in (angles, angles + quarters * np.pi / 2)
    )
    expected = np.rot90(still, -quarters)
    assert np.abs(turned - expected)[inside()].max() < 2e-3 * np.abs(still).max()


@pytest.mark.parametrize("method", METHODS)
@few
@given(seed=seeds, turns=st.integers(-3, 3))
def test_order_and_number_of_turns_do_not_matter(method, seed, turns):
    """Projections in any order, some a number of whole turns later."""
    angles, sinogram = scan(seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(angles))
    later = angles[order] + 2 * np.pi * turns * rng.integers(0, 2, len(angles))
    once, again = (
        reconstruct(s, a, 15.3, method=method, threads=1)[0]
        for s, a in ((sinogram, angles), (sinogram[order], later))
    )
    assert np.abs(once - again).max() < 1e-4 * np.abs(once).max()


@few
@given(seed=seeds, opposite=st.integers(0, 23))
def test_a_projection_from_behind_is_its_mirror_image(seed, opposite):
    """Half a turn later, mirrored about the centre, the same rays are seen."""
    angles, sinogram = scan(seed)
    mirrored = sinogram.copy()
    mirrored[opposite] = mirrored[opposite, ::-1]
    turned = angles.copy()
    turned[opposite] += np.pi
    once, again = (reconstruct(s, a, 16, threads=1)[0] for s, a in ((sinogram, angles), (mirrored, turned)))
    assert np.abs(once - again)[inside()].max() < 2e-3 * np.abs(once).max()


@few
@given(seed=seeds, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), zingers=st.booleans())
def test_batching_does_not_matter_to_the_chain(seed, sizes, zingers):
    """Counts corrected in batches of any sizes are counts corrected at once."""
    rng = np.random.default_rng(seed)
    raw = rng.poisson(200, (sum(sizes), 5, 17)).astype("u2")
    field = references(rng.poisson(1000, (3, 5, 17)), rng.poisson(10, (3, 5, 17)))
    chosen = CorrectionSettings(zingers=zingers)
    ends = np.cumsum(sizes)
    parts = [
        correct_projections(raw[a:b], field, chosen, threads=1)
        for a, b in zip(ends - sizes, ends, strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), correct_projections(raw, field, chosen, threads=2))


@few
@given(
    seed=seeds,
    bad=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1e9]),
    places=st.sets(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 18)), min_size=1, max_size=6
    ),
)
def test_bad_pixels_do_not_spread(seed, bad, places):
    """NaN, infinite, zero and absurd counts change their own pixels, and those only, to something finite."""
    rng = np.random.default_rng(seed)
    counts = rng.uniform(5000, 20000, (6, 4, 20)).astype("f4")
    flats, darks = np.full((4, 20), 20100.0), np.full((4, 20), 100.0)
    clean = normalize(counts, flats, darks)
    hit = np.zeros(counts.shape, bool)
    for place in places:
        hit[place] = True
    # four beside each other without counts are a shadow, not lost readings
    runs = hit[..., 3:] & hit[..., 2:-1] & hit[..., 1:-2] & hit[..., :-3]
    found = normalize(np.where(hit, np.float32(bad), counts), flats, darks)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[~hit], clean[~hit])
    if not runs.any():
        assert found[hit].max() <= clean.max() + 1e-6


@few
@given(seed=seeds, method=st.sampled_from(["sorting", "combined", "fourier-wavelet"]), rows=st.integers(1, 4))
def test_stripes_are_removed_row_by_row(seed, method, rows):
    """A block of sinograms is cleaned as each of them by itself, and stays finite."""
    rng = np.random.default_rng(seed)
    block = rng.normal(1, 0.1, (rows, 40, COLUMNS)).astype("f4")
    found = remove_stripes(block, 5, method=method, threads=1)
    assert np.isfinite(found).all()
    for row in range(rows):
        np.testing.assert_array_equal(found[row], remove_stripes(block[row], 5, method=method))


@few
@given(seed=seeds, z=st.floats(0, 4), y=st.integers(0, COLUMNS - 1))
def test_planes_are_what_the_volume_holds_there(seed, z, y):
    """Across the axis at any height, and along it through any line."""
    angles, sinogram = scan(seed)
    scale = 1 + 0.2 * np.arange(5, dtype="f4")
    projections = sinogram[:, np.newaxis] * scale[:, np.newaxis]
    volume = reconstruct(projections.transpose(1, 0, 2), angles, 16, method="backprojection", threads=1)
    low = min(int(z), 3)
    across = reconstruct_plane(
        projections, angles, 16, origin=(z, 0, 0), down=(0, 1, 0), right=(0, 0, 1), shape=(COLUMNS, COLUMNS)
    )
    along = reconstruct_plane(
        projections, angles, 16, origin=(0, y, 0), down=(1, 0, 0), right=(0, 0, 1), shape=(5, COLUMNS)
    )
    limit = 1e-4 * np.abs(volume).max()
    assert np.abs(across - volume[low] - (z - low) * (volume[low + 1] - volume[low])).max() < limit
    assert np.abs(along - volume[:, y]).max() < limit


@settings(max_examples=100, deadline=None)
@given(angles=st.lists(st.floats(-20, 20), min_size=2, max_size=60))
def test_weights_add_up_and_are_never_negative(angles):
    """Whatever the angles: pi in all, each at least zero, and never more covered than there is."""
    weights = geometry.angle_weights(angles)
    assert weights.sum() == pytest.approx(np.pi)
    assert (weights >= 0).all()
    assert 0 <= geometry.covered(angles) <= np.pi
