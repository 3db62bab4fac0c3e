"""Rings, zingers, bad pixels and phase."""

import numpy as np
import pytest
from scipy.ndimage import median_filter

from tomolive.errors import ReconstructionError
from tomolive.recon import normalize, reconstruct
from tomolive.recon.correct import flat_field, line_integrals
from tomolive.recon.defects import bad_pixels, remove_zingers
from tomolive.recon.phase import paganin
from tomolive.recon.rings import METHODS, remove_stripes

ANGLES = np.arange(180) * np.pi / 180


@pytest.fixture(scope="module")
def striped(phantom):
    """A clean sinogram, and the same with columns that answer differently."""
    clean = phantom(128).sinogram(ANGLES)
    stripes = np.zeros(128, "f4")
    stripes[[20, 47, 48, 90]] = [0.05, -0.04, 0.03, 0.06]
    return clean, clean + stripes


@pytest.mark.parametrize("size", [5, 21, 20])
def test_sorting_is_the_published_method(striped, size):
    """Sort each column, take the median over columns, put the values back: step by step, in plain numpy."""
    sinogram = striped[1]
    order = np.argsort(sinogram, axis=0, kind="stable")
    smooth = median_filter(np.take_along_axis(sinogram, order, axis=0), (1, size), mode="reflect")
    expected = np.empty_like(sinogram)
    np.put_along_axis(expected, order, smooth, axis=0)
    np.testing.assert_array_equal(remove_stripes(sinogram, size), expected)


def test_sorting_agrees_with_algotom(striped):
    """The maintained implementation gives the same sinogram."""
    removal = pytest.importorskip("algotom.prep.removal")
    np.testing.assert_allclose(
        remove_stripes(striped[1], 21), removal.remove_stripe_based_sorting(striped[1], 21), atol=1e-6
    )


@pytest.fixture(scope="module")
def all_stripes(phantom, counts):
    """A noisy sinogram (201 angles) of 256 columns, and the same with small, large, dead and wild columns."""
    angles = np.arange(201) * np.pi / 201
    clean = normalize(*counts(phantom(256).stack(angles, 1), 20000, seed=5))[:, 0]
    # whole counts repeat, and which of two equal values comes first is nobody's business
    clean += np.random.default_rng(6).uniform(-1e-4, 1e-4, clean.shape).astype("f4")
    bad = clean.copy()
    bad[:, [40, 90, 91]] += [0.05, -0.04, 0.06]
    bad[:, 120:132] += 0.15
    bad[:, 200:203] = 0.3
    bad[:, 160] += np.random.default_rng(7).normal(0, 0.5, 201).astype("f4")
    return angles, clean, bad


def test_combined_agrees_with_algotom(all_stripes):
    """Dead, large and small stripes, one after the other, as the authors' implementation removes them."""
    removal = pytest.importorskip("algotom.prep.removal")
    for sinogram in all_stripes[1:]:
        seen = np.exp(-sinogram)
        expected = -np.log(removal.remove_all_stripe(seen, snr=3.0, la_size=51, sm_size=21))
        apart = np.abs(remove_stripes(sinogram, method="combined") - expected)
        # two values that differ by their last bit may change places
        assert np.quantile(apart, 0.999) < 2e-5
        assert apart.max() < 1e-3


def test_fourier_wavelet_agrees_with_algotom(striped):
    """Where the coefficients are odd in number, so that both have frequency zero at the same place."""
    removal = pytest.importorskip("algotom.prep.removal")
    # 2 x 12 rows of padding make 145; 81 coefficients at the first scale, 49 at the second
    sinogram = np.ascontiguousarray(striped[1][:121])
    expected = removal.remove_stripe_based_wavelet_fft(sinogram, level=2, size=2)
    found = remove_stripes(sinogram, method="fourier-wavelet", level=2, damping=2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - sinogram).max() > 0.01


@pytest.mark.parametrize(("method", "left"), [("sorting", 0.9), ("combined", 0.35), ("fourier-wavelet", 0.9)])
def test_every_method_brings_the_slice_nearer_to_the_truth(phantom, all_stripes, method, left):
    """Of the error that all kinds of stripes make, only the combined method takes nearly everything."""
    angles, clean, bad = all_stripes
    truth = phantom(256)
    error = [
        truth.error(reconstruct(s, angles, 127.5)[0])
        for s in (clean, bad, remove_stripes(bad, method=method))
    ]
    assert error[2] - error[0] < left * (error[1] - error[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_sinogram_stays_flat(method):
    """Without noise there is no measure for stripes: nothing is changed, and nothing fails."""
    flat = np.full((40, 64), 0.7, "f4")
    np.testing.assert_allclose(remove_stripes(flat, method=method), flat, atol=1e-5)


def test_rings_go(phantom, striped):
    """The slice without stripes is nearer to the truth by half, and a clean one is hardly touched."""
    truth = phantom(128)
    error = [truth.error(reconstruct(s, ANGLES, 63.5)[0]) for s in (*striped, remove_stripes(striped[1], 9))]
    clean, with_rings, without = error
    assert without - clean < 0.5 * (with_rings - clean)


def test_a_block_of_sinograms_is_cleaned_row_by_row(striped):
    """(rows, angles, columns) in, the same out, whatever the number of threads; also in place."""
    block = np.stack([striped[1], striped[0]])
    for method in METHODS:
        blockwise = [remove_stripes(block, 9, method=method, threads=n)[0] for n in (1, 2)]
        np.testing.assert_array_equal(blockwise[0], blockwise[1])
        np.testing.assert_array_equal(blockwise[0], remove_stripes(striped[1], 9, method=method, threads=2))
        projections = block.transpose(1, 0, 2).copy()
        view = projections.transpose(1, 0, 2)
        assert remove_stripes(view, 9, method=method, out=view) is view
        np.testing.assert_array_equal(projections[:, 0], blockwise[0])


def test_zingers_are_replaced_and_nothing_else():
    """Hits of one to three pixels take the median of their neighbours; the rest stays to the bit."""
    rng = np.random.default_rng(1)
    frames = rng.poisson(2000, (3, 40, 50)).astype("u2")
    hit = frames.copy()
    hits = [(0, 5, 5), (0, 0, 0), (1, 20, 30), (1, 20, 31), (2, 39, 49)]
    for place in hits:
        hit[place] = 40000
    clean, count = remove_zingers(hit)
    assert count == len(hits)
    assert clean.dtype == frames.dtype
    changed = np.argwhere(clean != frames)
    assert {tuple(int(i) for i in c) for c in changed} <= set(hits)
    assert clean.max() < 2500


def test_dead_and_hot_pixels_are_found_and_bridged():
    """What the references give away is bridged in every projection."""
    rng = np.random.default_rng(2)
    darks = rng.normal(100, 2, (10, 8, 30))
    flats = rng.normal(20000, 100, (10, 8, 30))
    darks[:, 2, 7] = 9000
    flats[:, 5, 20] = 101
    bad = bad_pixels(flats, darks)
    assert [tuple(map(int, place)) for place in np.argwhere(bad)] == [(2, 7), (5, 20)]
    field = flat_field(flats, darks, bad=bad)
    raw = np.full((2, 8, 30), 10050.0)
    raw[:, bad] = 65000
    assert line_integrals(raw, field).max() < 0.75


@pytest.mark.parametrize("generalised", [True, False])
def test_paganin_inverts_propagation(generalised):
    """What the transport of intensity does to a contact image, the filter undoes."""
    y, x = np.mgrid[:64, :96]
    smooth = 0.4 * np.exp(-((y - 30) ** 2 + (x - 40) ** 2) / 40)
    smooth += 0.3 * np.exp(-((y - 40) ** 2 + (x - 60) ** 2) / 25)
    quantities = {"energy_kev": 25.0, "distance_m": 0.05, "pixel_size_m": 1e-6, "delta_beta": 50.0}
    contact = np.pad(np.exp(-smooth), 64, mode="edge")
    alpha = 0.05 * 50 * (1.23984198e-9 / 25) / (4 * np.pi) / 1e-12
    ky, kx = 2 * np.pi * np.fft.fftfreq(192)[:, None], 2 * np.pi * np.fft.fftfreq(224)
    squared = 2 * (2 - np.cos(kx) - np.cos(ky)) if generalised else kx**2 + ky**2
    seen = np.fft.ifft2(np.fft.fft2(contact) * (1 + alpha * squared)).real[64:-64, 64:-64]
    found = paganin(-np.log(seen), generalised=generalised, **quantities)
    assert np.abs(found - smooth)[8:-8, 8:-8].max() < 0.003
    assert np.abs(-np.log(seen) - smooth).max() > 0.1


@pytest.mark.parametrize("generalised", [True, False])
def test_paganin_is_the_published_formula(generalised):
    """Of a sample that leaves the picture, mirrored there: 1 + alpha k^2 divides the Fourier transform."""
    p = np.random.default_rng(5).uniform(0, 1, (2, 40, 54)).astype("f4")
    p[1, 20:, 30:] += 2
    mirrored = np.block([[p, p[:, :, ::-1]], [p[:, ::-1], p[:, ::-1, ::-1]]]).astype("f8")
    width, alpha = 2e-6, 0.2 * 300 * (1.23984198e-9 / 30) / (4 * np.pi)
    ky, kx = (2 * np.pi * np.fft.fftfreq(n, width) for n in (80, 108))
    squared = ky[:, None] ** 2 + kx**2
    if generalised:
        squared = 2 / width**2 * (2 - np.cos(width * kx) - np.cos(width * ky)[:, None])
    contact = np.fft.ifft2(np.fft.fft2(np.exp(-mirrored)) / (1 + alpha * squared)).real
    quantities = {"energy_kev": 30, "distance_m": 0.2, "pixel_size_m": width, "delta_beta": 300}
    found = paganin(p, generalised=generalised, **quantities)
    np.testing.assert_allclose(found, -np.log(contact)[:, :40, :54], atol=1e-5)


def test_paganin_without_distance_changes_nothing():
    """At the sample there is no propagation to undo."""
    p = np.random.default_rng(4).uniform(0, 1, (2, 20, 31)).astype("f4")
    found = paganin(p, energy_kev=20, distance_m=0, pixel_size_m=1e-6, delta_beta=100)
    np.testing.assert_allclose(found, p, atol=1e-5)


def test_bad_input_is_named(striped):
    """Shapes and quantities that make no sense say which and what was expected."""
    with pytest.raises(ReconstructionError, match="size=129"):
        remove_stripes(striped[0], 129)
    with pytest.raises(ReconstructionError, match="method='magic'"):
        remove_stripes(striped[0], method="magic")
    with pytest.raises(ReconstructionError, match="damping=0"):
        remove_stripes(striped[0], method="fourier-wavelet", damping=0)
    with pytest.raises(ReconstructionError, match=r"sinograms has shape \(5,\)"):
        remove_stripes(np.zeros(5))
    with pytest.raises(ReconstructionError, match="energy_kev=0"):
        paganin(np.zeros((4, 4)), energy_kev=0, distance_m=1, pixel_size_m=1e-6, delta_beta=1)
    with pytest.raises(ReconstructionError, match="factor=1"):
        remove_zingers(np.zeros((1, 4, 4)), 1)


def test_normalize_then_clean_is_a_pipeline(phantom, counts):
    """Counts with a bad column end as a slice without its ring."""
    truth = phantom(96)
    raw, flats, darks = counts(truth.stack(ANGLES, 1), 50000)
    raw[:, :, 60] = raw[:, :, 60] * 0.9
    sinogram = normalize(raw, flats, darks)[:, 0]
    image = reconstruct(remove_stripes(sinogram, 9), ANGLES, 47.5)[0]
    assert truth.error(image) < truth.error(reconstruct(sinogram, ANGLES, 47.5)[0])
