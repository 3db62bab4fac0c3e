"""Numbers that say whether a scan is worth going on with."""

import numpy as np
import pytest

from tomolive.errors import ReconstructionError
from tomolive.recon import normalize, quality, reconstruct


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
