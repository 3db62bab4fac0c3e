"""Slices against an analytic phantom, by both methods."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from skimage.transform import iradon

from tomolive import geometry
from tomolive.errors import ReconstructionError
from tomolive.recon import FILTERS, normalize, reconstruct
from tomolive.recon.backproject import add_to_slice, slice_rows
from tomolive.recon.filters import filter_rows

METHODS = ("gridding", "backprojection")


def half_turn(count):
    """Evenly spaced angles over half a turn, the end left out."""
    return np.arange(count) * np.pi / count


def rms(difference, mask=...):
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(difference[..., mask], dtype="f8"))))


# no other library has butterworth
SIZES = [(129, 200, name) for name in FILTERS if name != "butterworth"]
SIZES += [(128, 180, "ramp"), (256, 360, "ramp"), (128, 180, "hann")]


@pytest.mark.parametrize(("size", "count", "name"), SIZES)
def test_error_is_no_worse_than_that_of_the_best_library(phantom, size, count, name):
    """On the same exact sinogram, inside the circle; lines drawn one by one come within a fiftieth of it."""
    truth, angles = phantom(size), half_turn(count)
    peers = {library: truth.error(picture) for library, picture in by_others(truth, angles, name)}
    assert peers, f"no library is installed that knows {name}"
    for method, allowed in (("gridding", 1.0), ("backprojection", 1.02)):
        picture = reconstruct(truth.sinogram(angles), angles, (size - 1) / 2, filter=name, method=method)[0]
        assert truth.error(picture) <= allowed * min(peers.values()), (method, peers)


def by_others(truth, angles, name):
    """Reconstruct with each library that is there and knows the filter: yield its name and the slice.

    The rows of all of them run the other way.
    """
    size, sinogram = truth.size, truth.sinogram(angles)
    if name in ("ramp", "hann", "parzen") and find_spec("algotom"):
        from algotom.rec.reconstruction import fbp_reconstruction

        window = None if name == "ramp" else name
        picture = fbp_reconstruction(
            sinogram, (size - 1) / 2, angles=angles, filter_name=window, apply_log=False, gpu=False, ncore=1
        )
        yield "algotom", picture[::-1]
    if find_spec("astra"):
        from tomolive.bench.astra_fbp import astra_fbp

        yield "astra", astra_fbp(size, angles, {"ramp": "ram-lak"}.get(name, name))(sinogram)[::-1]
    if name in ("ramp", "shepp-logan", "cosine", "hann"):
        # it turns about column size // 2
        moved = truth.sinogram(angles, size // 2)
        picture = iradon(moved.T, np.degrees(angles), filter_name=name)[::-1]
        yield "skimage", picture if size % 2 else _half_pixel(picture)


def _half_pixel(image):
    """Move a picture by half a pixel both ways, as exactly as a Fourier transform can."""
    ky, kx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None]
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(1j * np.pi * (kx + ky))).real


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FILTERS)
def test_grey_level_is_right_to_a_thousandth(phantom, method, name):
    """The mean of a uniform region is the phantom's with every filter."""
    truth, angles = phantom(256), half_turn(360)
    image = reconstruct(truth.sinogram(angles, 131.4), angles, 131.4, filter=name, method=method)[0]
    y, x = np.mgrid[:256, :256] - 127.5
    region = (x - 64) ** 2 + (y - 50) ** 2 < 10**2
    assert np.ptp(truth.image()[region]) < 1e-6
    assert image[region].mean() == pytest.approx(truth.image()[region].mean(), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [57.25, 63.5, 70.0])
def test_any_center_gives_the_same_slice(phantom, method, center):
    """The slice has the axis in its middle, wherever that is on the detector."""
    truth, angles = phantom(128), half_turn(200)
    small = np.mgrid[:128, :128] - 63.5
    mask = (small**2).sum(axis=0) < 50**2
    image = reconstruct(truth.sinogram(angles, center), angles, center, method=method)[0]
    assert rms(image - truth.image(), mask) < 4e-4


@pytest.mark.parametrize(
    "angles",
    [
        pytest.param(half_turn(240) * 2, id="full-turn"),
        pytest.param(np.arange(240) * np.pi * (np.sqrt(5) - 1) / 2, id="golden"),
        pytest.param(np.sort(np.random.default_rng(0).uniform(0, np.pi, 400)), id="random"),
        pytest.param(np.linspace(0, np.pi, 181), id="both-ends"),
        pytest.param(
            np.concatenate([np.linspace(0, 1, 150, endpoint=False), np.linspace(1, np.pi, 150)]),
            id="two-steps",
        ),
        pytest.param(half_turn(180)[::-1] - 7, id="backwards"),
        pytest.param(np.concatenate([half_turn(180), half_turn(90)]), id="repeated"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_every_sequence_of_angles_gives_the_phantom(phantom, method, angles):
    """Order, spacing and turns are in the weights."""
    truth = phantom(128)
    image = reconstruct(truth.sinogram(angles), angles, 63.5, method=method)[0]
    assert truth.error(image) < 6e-4
    mask = truth.inside(0.6)
    assert image[mask].mean() == pytest.approx(truth.image()[mask].mean(), rel=2e-3)


def test_gridding_and_backprojection_agree(phantom):
    """Two ways to the same picture, closer to each other than to the sharp-edged truth."""
    truth, angles = phantom(192), half_turn(300)
    sinograms = truth.stack(angles, 19, 93.3).transpose(1, 0, 2)
    by_grid = reconstruct(sinograms, angles, 93.3, filter="hann")
    by_lines = reconstruct(sinograms, angles, 93.3, filter="hann", method="backprojection")
    assert by_grid.shape == by_lines.shape == (19, 192, 192)
    assert rms(by_grid - by_lines, truth.inside(0.9)) < 0.01 * by_grid.max()


@pytest.mark.parametrize("method", METHODS)
def test_reconstruction_is_linear(phantom, method):
    """The slice of a sum is the sum of the slices."""
    rng = np.random.default_rng(8)
    angles = half_turn(60)
    a, b = rng.normal(size=(2, 3, 60, 48)).astype("f4")
    both = reconstruct(2 * a - 3 * b, angles, 22.2, method=method)
    apart = 2 * reconstruct(a, angles, 22.2, method=method) - 3 * reconstruct(b, angles, 22.2, method=method)
    np.testing.assert_allclose(both, apart, atol=2e-5 * np.abs(both).max())


@pytest.mark.parametrize("method", METHODS)
def test_a_quarter_turn_of_the_angles_turns_the_slice(phantom, method):
    """What was at (x, y) comes to (-y, x), as column = center + x cos t + y sin t."""
    rng = np.random.default_rng(9)
    angles = half_turn(64)
    sinogram = rng.normal(size=(64, 51)).astype("f4")
    straight = reconstruct(sinogram, angles, 25, method=method)[0]
    turned = reconstruct(sinogram, angles + np.pi / 2, 25, method=method)[0]
    np.testing.assert_allclose(turned, np.rot90(straight, -1), atol=3e-4 * np.abs(straight).max())


@pytest.mark.parametrize("method", METHODS)
def test_order_rows_and_threads_do_not_matter(phantom, method):
    """Shuffled angles, single rows and other numbers of threads give the same slices."""
    rng = np.random.default_rng(10)
    angles = half_turn(60)
    rows = rng.normal(size=(18, 60, 40)).astype("f4")
    whole = reconstruct(rows, angles, 19.1, method=method, threads=1)
    close = {"rtol": 0, "atol": 1e-5 * np.abs(whole).max()}
    order = rng.permutation(60)
    shuffled = reconstruct(rows[:, order], angles[order], 19.1, method=method)
    np.testing.assert_allclose(shuffled, whole, **close)
    last = reconstruct(rows[17:], angles, 19.1, method=method)
    np.testing.assert_allclose(last[0], whole[17], **close)
    np.testing.assert_array_equal(reconstruct(rows, angles, 19.1, method=method, threads=2), whole)


@pytest.mark.parametrize("method", METHODS)
def test_one_bad_pixel_stays_one_bad_pixel(phantom, counts, method):
    """NaN, infinity and zero in the counts change the slice by less than its noise."""
    truth, angles = phantom(96), half_turn(150)
    raw, flats, darks = counts(truth.stack(angles, 1), 20000)
    clean = reconstruct(normalize(raw, flats, darks).transpose(1, 0, 2), angles, 47.5, method=method)[0]
    for bad in (np.nan, np.inf, 0):
        spoilt = raw.astype("f4")
        spoilt[40, 0, 50] = bad
        integrals = normalize(spoilt, flats, darks).transpose(1, 0, 2)
        image = reconstruct(integrals, angles, 47.5, method=method)[0]
        assert np.abs(image - clean).max() < 0.1 * truth.error(clean) * np.sqrt(150)


@pytest.mark.parametrize("method", METHODS)
def test_edge_padding_takes_the_cupping_from_truncated_data(phantom, method):
    """An object wider than the detector: continued edges halve the cup that zeros make."""
    truth, angles = phantom(256), half_turn(360)
    cut = truth.sinogram(angles)[:, 60:196]
    middle = truth.image()[60:196, 60:196]
    y, x = np.mgrid[:136, :136] - 67.5
    inner, outer = x**2 + y**2 < 20**2, (x**2 + y**2 > 50**2) & (x**2 + y**2 < 60**2)

    def cupping(padding):
        error = reconstruct(cut, angles, 67.5, method=method, padding=padding)[0] - middle
        return abs(error[outer].mean() - error[inner].mean())

    assert cupping("edge") < 0.6 * cupping("zero")


def test_values_are_per_unit_of_the_pixel_size(phantom):
    """Half the pixel size doubles the attenuation per unit."""
    truth, angles = phantom(64), half_turn(90)
    one = reconstruct(truth.sinogram(angles), angles, 31.5)
    np.testing.assert_allclose(
        reconstruct(truth.sinogram(angles), angles, 31.5, pixel_size=0.5), 2 * one, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sinograms": np.zeros((2, 9, 30))}, "sinograms has shape"),
        ({"sinograms": np.full((2, 10, 30), np.nan)}, "600 values that are not finite"),
        ({"angles": np.full(10, np.nan)}, r"angles\[0\] is nan"),
        ({"angles": [0.0]}, "at least two angles"),
        ({"center": 30.0}, "center=30 is not on the detector"),
        ({"center": np.nan}, "center=nan"),
        ({"filter": "rampe"}, "filter='rampe'"),
        ({"method": "sirt"}, "method='sirt'"),
        ({"padding": "mirror"}, "padding='mirror'"),
        ({"pixel_size": 0}, "pixel_size=0"),
    ],
)
def test_bad_input_is_named(change, named):
    """Each mistake is a ReconstructionError that names the argument and its value."""
    arguments = {"sinograms": np.zeros((2, 10, 30)), "angles": half_turn(10), "center": 15.0} | change
    with pytest.raises(ReconstructionError, match=named):
        reconstruct(**arguments)


@pytest.mark.parametrize("span", [180, 360])
def test_degrees_are_warned_of(span):
    """Angles from 0 to 180 or 360 are taken as they are, with a warning; half a turn is not warned of."""
    sinogram = np.ones((90, 30), "f4")
    with pytest.warns(UserWarning, match="if they are degrees"):
        reconstruct(sinogram, np.linspace(0, span, 90, endpoint=False), 15.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reconstruct(sinogram, half_turn(90), 15.0)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_keep_a_constant_row_at_zero_and_are_symmetric(name):
    """With edges continued, a filter answers a constant with nothing, and mirrors mirror."""
    rng = np.random.default_rng(12)
    rows = rng.normal(size=(3, 42)).astype("f4")
    assert np.abs(filter_rows(np.ones((1, 64), "f4"), name)).max() < 1e-6
    np.testing.assert_allclose(
        filter_rows(rows[:, ::-1].copy(), name)[:, ::-1], filter_rows(rows, name), atol=1e-5
    )


def test_weights_come_from_geometry():
    """An incomplete scan keeps its grey level because its weights add up to pi."""
    assert geometry.angle_weights(half_turn(50)[:20]).sum() == pytest.approx(np.pi)


def test_rows_without_angles_are_refused():
    """Ten rows and four angles: an error, never rows that are drawn at an angle they do not have."""
    rows = slice_rows(np.ones((10, 33), "f4"))
    with pytest.raises(ValueError, match="broadcast"):
        add_to_slice(rows, np.zeros(4), 15.0, np.zeros((30, 30), "f4"))
