"""Every way to turn a sample, against the phantom."""

import importlib.util

import numpy as np
import pytest

from tomolive.errors import ReconstructionError
from tomolive.recon import find_axis, reconstruct, straighten
from tomolive.recon.slices import METHODS as ALL

METHODS = [m for m in ALL if m != "finufft" or importlib.util.find_spec("finufft")]
SIZE = 128
GOLDEN = (np.sqrt(5) - 1) / 2
RNG = np.random.default_rng(12)
SCANS = {
    "half a turn": np.arange(240) * np.pi / 240,
    "half a turn with both ends": np.linspace(0, np.pi, 241),
    "a whole turn": np.arange(480) * np.pi / 240,
    "three turns": np.arange(720) * 6 * np.pi / 721,
    "backwards": -np.arange(240) * np.pi / 240,
    "golden ratio": np.pi * (np.arange(300) * GOLDEN % 1),
    "golden ratio over whole turns": 2 * np.pi * np.arange(300) * GOLDEN,
    "any order": RNG.permutation(240) * np.pi / 240,
    "uneven": np.concatenate([np.arange(0, 90, 0.5), np.arange(90, 180, 1.0)]) * np.pi / 180,
    "jittered": np.arange(240) * np.pi / 240 + RNG.uniform(-0.004, 0.004, 240),
}


@pytest.fixture(scope="module")
def truth(phantom):
    """The phantom that is scanned."""
    return phantom(SIZE)


@pytest.fixture(scope="module")
def best(truth):
    """The error of an even scan, for each method."""
    angles = SCANS["half a turn"]
    return {m: truth.error(reconstruct(truth.sinogram(angles), angles, 63.5, method=m)[0]) for m in METHODS}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scan", SCANS)
def test_every_sequence_of_angles_gives_the_phantom(truth, best, scan, method):
    """Grey level to 0.1 %, and hardly more error than an even scan."""
    angles = SCANS[scan]
    image = reconstruct(truth.sinogram(angles, 58.3), angles, 58.3, method=method)[0]
    # the axis is off the middle: what only one side sees is padded, so look inside what both see
    mask = truth.inside(0.85)
    exact = truth.image()
    assert np.sqrt(np.mean((image - exact)[mask] ** 2)) < 1.25 * best[method]
    middle = truth.inside(0.5)
    assert image[middle].mean() == pytest.approx(exact[middle].mean(), rel=1e-3)


def test_finufft_gives_what_gridding_gives(truth):
    """Two programs, one sum."""
    pytest.importorskip("finufft")
    angles = SCANS["jittered"]
    sinogram = truth.sinogram(angles, 60.2)
    for name in ("ramp", "hann"):
        ours, theirs = (
            reconstruct(sinogram, angles, 60.2, filter=name, method=m)[0] for m in ("gridding", "finufft")
        )
        assert np.abs(ours - theirs)[truth.inside(0.85)].max() < 2e-3 * ours.max()


@pytest.mark.parametrize("method", METHODS)
def test_projections_without_beam_are_left_out(truth, best, method):
    """The beam was lost for a while: excluded, they leave a slice; not excluded, they spoil it."""
    angles = SCANS["half a turn"]
    sinogram = truth.sinogram(angles)
    lost = np.zeros(len(angles), bool)
    lost[[50, 100, 101, 170]] = True
    sinogram[lost] = 11 + RNG.normal(0, 1, (4, SIZE))
    options = {"center": 63.5, "method": method}
    assert truth.error(reconstruct(sinogram, angles, exclude=lost, **options)[0]) < 1.15 * best[method]
    assert truth.error(reconstruct(sinogram, angles, **options)[0]) > 3 * best[method]


def test_given_weights_are_used(truth):
    """The weights that follow from the angles are those of an even scan; others scale the slice."""
    angles = SCANS["half a turn"]
    sinogram = truth.sinogram(angles)
    usual = reconstruct(sinogram, angles, 63.5)
    np.testing.assert_allclose(
        reconstruct(sinogram, angles, 63.5, weights=np.full(240, 2 * np.pi / 240)), 2 * usual, atol=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rows", [1, 6])
def test_a_region_is_a_part_of_the_slice(truth, method, rows):
    """Rows and columns of the slice, for one slice and for a block of them."""
    angles = SCANS["half a turn"]
    sinograms = np.stack([truth.sinogram(angles)] * rows)
    region = (slice(20, 61), slice(100, None))
    whole = reconstruct(sinograms, angles, 63.5, method=method)
    part = reconstruct(sinograms, angles, 63.5, method=method, region=region)
    assert part.shape == (rows, 41, 28)
    np.testing.assert_allclose(part, whole[:, *region], atol=1e-6)


@pytest.mark.parametrize("rows", [1, 4])
def test_binning_averages_and_keeps_centre_and_units(truth, rows):
    """Half as many pixels, the same grey level per unbinned pixel, the centre in unbinned columns."""
    angles = SCANS["half a turn"]
    sinograms = np.stack([truth.sinogram(angles, 66.8)] * rows)
    found = reconstruct(sinograms, angles, 66.8, binning=2)
    assert found.shape == (max(1, rows // 2), 64, 64)
    exact = truth.image().reshape(64, 2, 64, 2).mean(axis=(1, 3))
    inside = truth.inside(0.8)[::2, ::2]
    assert np.sqrt(np.mean((found[0] - exact)[inside] ** 2)) < 0.05 * exact.max()
    assert found[0][inside].mean() == pytest.approx(exact[inside].mean(), rel=2e-3)


def test_a_tilted_axis_is_straightened(phantom):
    """Three degrees of the camera: after turning the projections back, a slice is nearly that of no tilt."""
    truth, rows, slope = phantom(64), 33, np.tan(np.radians(3))
    angles = np.arange(91) * np.pi / 90
    # the same sample at every height, so that only its place on the detector depends on the tilt
    centers = 31.1 + slope * (np.arange(rows) - 16)
    tilted = np.stack([truth.sinogram(angles, c) for c in centers], axis=1)
    axis = find_axis(tilted, angles)
    upright = straighten(tilted, axis)
    crooked, straight = (reconstruct(p[:, 4], angles, axis.center)[0] for p in (tilted, upright))
    best = truth.error(reconstruct(truth.sinogram(angles, 31.1), angles, 31.1)[0])
    assert truth.error(straight) < 1.5 * best
    assert truth.error(crooked) > 1.8 * best
    with pytest.raises(ReconstructionError, match="projections has shape"):
        straighten(tilted[0], axis)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"exclude": np.zeros(9, bool)}, r"exclude has shape \(9,\)"),
        ({"exclude": np.arange(10) > 0}, "at least two that are of use"),
        ({"weights": np.ones(9)}, r"weights has shape \(9,\)"),
        ({"weights": np.full(10, np.nan)}, "finite"),
        ({"region": (slice(5, 5), slice(0, 3))}, "region="),
        ({"region": (slice(0, 5, 2), slice(0, 3))}, "region="),
        ({"binning": 0}, "binning=0"),
        ({"binning": 99}, "binning=99"),
        ({"center": -1}, "center=-1"),
        ({"center": np.nan}, "center=nan"),
        ({"filter": "rampart"}, "rampart"),
        ({"method": "magic"}, "method='magic'"),
        ({"padding": "round"}, "padding='round'"),
        ({"pixel_size": 0}, "pixel_size=0"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    """Which argument, its shape or value, and what was expected."""
    with pytest.raises(ReconstructionError, match=named):
        reconstruct(np.ones((10, 16), "f4"), np.arange(10) / 4, **{"center": 7.5, **arguments})


@pytest.mark.parametrize(
    ("sinograms", "angles", "named"),
    [
        (np.ones((9, 16)), np.arange(10), r"sinograms has shape \(9, 16\)"),
        (np.ones((10, 16)), np.array([0, np.nan, *range(8)]), r"angles\[1\] is nan"),
        (np.ones((1, 16)), np.zeros(1), "at least two angles"),
        (np.full((10, 16), np.inf), np.arange(10), "not finite"),
    ],
)
def test_bad_arrays_are_named(sinograms, angles, named):
    """Shapes that do not fit, values that are not finite, fewer than two projections."""
    with pytest.raises(ReconstructionError, match=named):
        reconstruct(sinograms, angles, 7.5)
