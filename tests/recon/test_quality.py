"""Numbers that say whether a scan is worth going on with."""

import numpy as np
import pytest

from tomolive.errors import ReconstructionError
from tomolive.recon import normalize, quality, reconstruct
from tomolive.recon.flat_field import flat_field


def test_a_lost_beam_shows_in_the_mean_transmission():
    """The mean of exp(-p), frame by frame."""
    integrals = np.full((4, 3, 5), 0.5, "f4")
    integrals[2] = 9
    np.testing.assert_allclose(
        quality.mean_transmission(integrals), np.exp([-0.5, -0.5, -9, -0.5]), rtol=1e-6
    )


def test_saturation_counts_full_pixels():
    """The largest number of the type, or what the camera is said to count at most."""
    counts = np.zeros((2, 10, 10), "u2")
    counts[1, 0] = 65535
    np.testing.assert_allclose(quality.saturated_fraction(counts), [0, 0.1])
    np.testing.assert_allclose(quality.saturated_fraction(counts.astype("f4"), full=65535), [0, 0.1])
    with pytest.raises(ReconstructionError, match="full"):
        quality.saturated_fraction(counts.astype("f4"))


def test_flat_drift_ignores_the_current_and_sees_the_profile():
    """A weaker beam is no drift; one that moved is."""
    profile = 1000 * np.exp(-(((np.arange(100) - 50) / 40) ** 2))[None] * np.ones((20, 1))
    assert quality.flat_drift(profile, 0.8 * profile) == pytest.approx(0, abs=1e-12)
    assert quality.flat_drift(profile, np.roll(profile, 3, axis=1)) > 0.02


def test_noise_is_that_of_white_noise_whatever_the_sample(phantom):
    """A known amount of white noise on a phantom is found to a tenth."""
    image = phantom(200).image()
    noisy = image + np.random.default_rng(1).normal(0, 0.003, image.shape)
    assert quality.noise(noisy) == pytest.approx(0.003, rel=0.1)


def test_a_wrong_center_is_less_sharp(phantom, counts):
    """Sharpness falls as the picture blurs."""
    truth, angles = phantom(128), np.arange(180) * np.pi / 180
    p = normalize(*counts(truth.stack(angles, 1), 1e5))[:, 0]
    right, blurred = (reconstruct(p, angles, 63.5, filter=name)[0] for name in ("shepp-logan", "parzen"))
    assert quality.sharpness(right) > quality.sharpness(blurred)


def textured(rng, size=256, cutoff=0.5):
    """Return a picture with the same power at every frequency up to ``cutoff`` cycles per pixel."""
    spectrum = np.fft.fft2(rng.normal(0, 1, (size, size)))
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    return np.fft.ifft2(spectrum * (radius < cutoff)).real


@pytest.mark.parametrize("criterion", quality.CRITERIA)
@pytest.mark.parametrize("cutoff", [0.1, 0.2, 0.35])
def test_resolution_is_where_two_pictures_stop_agreeing(criterion, cutoff):
    """Common structure up to a known frequency, independent noise: one over that frequency."""
    rng = np.random.default_rng(5)
    common = textured(rng, cutoff=cutoff)
    pair = [common + rng.normal(0, 0.2, common.shape) for _ in range(2)]
    found = quality.resolution(*quality.ring_correlation(*pair), criterion)
    # to the width of the circle that both are seen through: four rings
    assert 1 / found == pytest.approx(cutoff, abs=4 / 256)


@pytest.mark.parametrize("criterion", quality.CRITERIA)
def test_resolution_follows_blur(criterion):
    """Gaussian blur of sigma s on white structure: where it falls to the noise, known in closed form."""
    rng = np.random.default_rng(6)
    sharp = rng.normal(0, 1, (512, 512))
    radius2 = np.fft.fftfreq(512)[:, None] ** 2 + np.fft.fftfreq(512) ** 2
    found, expected = [], []
    for sigma in (1.0, 1.5, 2.0):
        blurred = np.fft.ifft2(np.fft.fft2(sharp) * np.exp(-2 * (np.pi * sigma) ** 2 * radius2)).real
        noise = 0.02
        pair = [blurred + rng.normal(0, noise, sharp.shape) for _ in range(2)]
        found.append(quality.resolution(*quality.ring_correlation(*pair), criterion))
        # correlation = s / (s + 1) with s = exp(-(2 pi sigma f)^2) / noise^2; half-bit of large rings: 0.17
        threshold = 0.1716 if criterion == "half-bit" else 0.143
        ratio = threshold / (1 - threshold)
        expected.append(2 * np.pi * sigma / np.sqrt(-np.log(ratio * noise**2)))
    np.testing.assert_allclose(found, expected, rtol=0.12)
    assert sorted(found) == found


def test_half_bit_asks_for_more_than_a_fixed_threshold_where_rings_are_small():
    """The fewer pixels a ring has, the higher the threshold."""
    frequencies = np.arange(33) / 64
    correlation = np.full(33, 0.3)
    correlation[0] = 1
    assert quality.resolution(frequencies, correlation, "0.143") == 2.0
    assert quality.resolution(frequencies, correlation, "half-bit") > 2.0
    with pytest.raises(ReconstructionError, match="criterion='3-sigma'"):
        quality.resolution(frequencies, correlation, "3-sigma")


def test_even_and_odd_projections_tell_the_resolution(phantom, counts):
    """More photons, finer resolution, in any order of the angles."""
    truth, angles = phantom(128), np.arange(360) * np.pi / 360
    found = []
    for photons in (300, 3000, 50000):
        p = normalize(*counts(truth.stack(angles, 1), photons))[:, 0]
        found.append(quality.even_odd_resolution(p, angles, 63.5))
    assert found[0] > found[1] > found[2] >= 2
    order = np.random.default_rng(3).permutation(360)
    assert quality.even_odd_resolution(p[order], angles[order], 63.5) == pytest.approx(found[2], rel=1e-3)
    with pytest.raises(ReconstructionError, match="at least 4 angles"):
        quality.even_odd_resolution(p[:3], angles[:3], 63.5)


@pytest.mark.parametrize("moved", [(0.0, 0.0), (1.3, -2.6), (-7.2, 11.45), (0.04, 0.3)])
def test_a_sample_that_moved_is_noticed(moved):
    """A repeated angle: a known shift, with noise, to a twentieth of a pixel."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:96, :128].astype(float)

    def sample(down, across):
        blobs = ((30, 40, 6, 1.0), (60, 70, 9, 0.7), (45, 95, 4, 1.3), (70, 30, 5, 0.5))
        picture = sum(
            v * np.exp(-((y - r - down) ** 2 + (x - c - across) ** 2) / (2 * s**2)) for r, c, s, v in blobs
        )
        return picture + rng.normal(0, 0.01, picture.shape)

    assert quality.shift(sample(0, 0), sample(*moved)) == pytest.approx(moved, abs=0.05)
    opposite = sample(*moved)[:, ::-1]
    assert quality.shift_of_opposite(sample(0, 0), opposite, 63.5) == pytest.approx(moved, abs=0.05)
    elsewhere = np.roll(opposite, 6, axis=1)
    assert quality.shift_of_opposite(sample(0, 0), elsewhere, 66.5) == pytest.approx(moved, abs=0.05)
    with pytest.raises(ReconstructionError, match="projections have shapes"):
        quality.shift(sample(0, 0), opposite[1:])


def test_bad_pixels_are_counted():
    """Two dead of two hundred, as the references tell."""
    flats = np.full((3, 10, 20), 1000.0)
    flats[:, 3, [4, 9]] = 0
    assert quality.bad_fraction(flat_field(flats)) == pytest.approx(0.01)


def test_resolution_gets_better_with_dose(phantom, counts):
    """Even against odd projections: more photons, finer resolution; the same picture, the best there is."""
    truth, angles = phantom(128), np.arange(360) * np.pi / 360
    found = []
    for photons in (200, 20000):
        p = normalize(*counts(truth.stack(angles, 1), photons))[:, 0]
        halves = [reconstruct(p[i::2], angles[i::2], 63.5)[0] for i in (0, 1)]
        found.append(quality.resolution(*quality.ring_correlation(*halves)))
    assert found[0] > found[1] >= 2.0
    assert quality.resolution(*quality.ring_correlation(halves[0], halves[0])) == 2.0
    with pytest.raises(ReconstructionError, match="slices have shapes"):
        quality.ring_correlation(halves[0], halves[0][:5])
