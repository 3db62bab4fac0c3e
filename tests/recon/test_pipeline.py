"""One chain from counts to line integrals."""

import numpy as np
import pytest

from tomolive.config import CorrectionSettings, PaganinSettings
from tomolive.errors import ReconstructionError
from tomolive.recon import normalize, paganin, reconstruct, remove_stripes
from tomolive.recon.binning import binned, binned_place, unbinned_place
from tomolive.recon.pipeline import context_rows, correct_projections, correct_sinograms, references

ANGLES = np.arange(120) * np.pi / 120
PAGANIN = PaganinSettings(energy_kev=25, distance_m=0.1, pixel_size_um=2, delta_beta=20)


@pytest.fixture(scope="module")
def scan(phantom, counts):
    """Counts of 12 rows of a phantom, flats and darks."""
    return counts(phantom(96).stack(ANGLES, 12), 20000)


def chain(scan, **settings):
    """Run the chain on (counts, flats, darks)."""
    chosen = CorrectionSettings(**settings)
    return correct_projections(scan[0], references(scan[1], scan[2], chosen), chosen)


def test_without_settings_it_is_normalize(scan):
    """Dark, flat and -log, to the bit."""
    np.testing.assert_array_equal(chain(scan), normalize(*scan))


@pytest.mark.parametrize("settings", [{}, {"zingers": True}, {"paganin": PAGANIN}, {"binning": 2}])
def test_a_projection_does_not_depend_on_its_company(scan, settings):
    """Batches of any size and any number of threads give the same values: live is offline."""
    chosen = CorrectionSettings(zingers=True, **{k: v for k, v in settings.items() if k != "zingers"})
    field = references(scan[1], scan[2], chosen)
    whole = correct_projections(scan[0], field, chosen, threads=2)
    parts = [correct_projections(scan[0][i : i + 7], field, chosen, threads=1) for i in range(0, 120, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("binning", [1, 2])
def test_bands_of_rows_with_their_context_are_the_whole(scan, binning):
    """Rows corrected in bands, with as many rows around as are said to matter."""
    chosen = CorrectionSettings(zingers=True, binning=binning)
    raw = scan[0].copy()
    raw[3, 5, 40] = raw[9, 7, 50] = 65535
    whole = chain((raw, *scan[1:]), zingers=True, binning=binning)
    around = context_rows(chosen) * binning
    low, high = 4, 8
    part = slice(low - around, high + around)
    field = references(scan[1][:, part], scan[2][:, part], chosen)
    band = correct_projections(raw[:, part], field, chosen)
    np.testing.assert_array_equal(band[:, 1:-1], whole[:, low // binning : high // binning])
    assert context_rows(CorrectionSettings(paganin=PAGANIN)) is None


def test_binning_averages_counts_before_anything_else(scan):
    """The chain on counts averaged by hand; odd rows and columns at the end are left out."""
    raw, flats, darks = (a[:, :11, :95] for a in scan)
    by_hand = [
        a[:, :10, :94].astype("f8").reshape(-1, 5, 2, 47, 2).mean(axis=(2, 4)) for a in (raw, flats, darks)
    ]
    found = chain((raw, flats, darks), binning=2)
    assert found.shape == (120, 5, 47)
    np.testing.assert_allclose(found, normalize(*by_hand), atol=2e-6)


@pytest.mark.parametrize("binning", [2, 4])
@pytest.mark.parametrize("center", [47.5, 44.2])
def test_a_binned_scan_gives_the_binned_slice(phantom, counts, binning, center):
    """With the centre where the helper says: the phantom on the coarser grid, values per binned pixel."""
    truth = phantom(96)
    scan = counts(truth.stack(ANGLES, 4, center), 6e4)
    projections = chain(scan, binning=binning)
    image = reconstruct(projections[:, 0], ANGLES, binned_place(center, binning))[0]
    expected = binned(truth.image()[None], binning)[0] * binning * (1 - 0.02 * (binning - 1) / 2)
    inside = binned(truth.inside(0.8)[None].astype("f4"), binning)[0] == 1
    assert np.sqrt(np.mean((image - expected)[inside] ** 2)) < 0.06 * expected.max()
    assert image[inside].mean() == pytest.approx(expected[inside].mean(), rel=0.005)
    assert unbinned_place(binned_place(center, binning), binning) == pytest.approx(center)


def test_a_dead_count_in_a_bin_is_left_out():
    """A pixel that is not finite leaves the mean of the others; a bin of nothing else stays unknown."""
    frames = np.arange(16, dtype="f4").reshape(1, 4, 4)
    frames[0, 0, 0] = np.nan
    frames[0, 2:, 2:] = np.inf
    found = binned(frames, 2)
    assert found[0, 0, 0] == pytest.approx((1 + 4 + 5) / 3)
    assert np.isnan(found[0, 1, 1])


def test_zingers_go_before_phase_retrieval_spreads_them(scan):
    """A hit pixel changes nothing of the result."""
    raw = scan[0].copy()
    raw[5, 6, 30] = 65535
    clean = chain(scan, zingers=True, paganin=PAGANIN)
    assert np.abs(chain((raw, *scan[1:]), zingers=True, paganin=PAGANIN) - clean).max() < 0.02
    assert np.abs(chain((raw, *scan[1:]), paganin=PAGANIN) - clean).max() > 0.05


def test_the_noise_behind_much_material_is_no_zinger():
    """Hardly a photon comes through: what counts two instead of one is left alone."""
    rng = np.random.default_rng(3)
    raw = rng.poisson(3, (4, 30, 40)).astype("u2")
    scan = (raw, np.full((1, 30, 40), 1000, "u2"), np.zeros((1, 30, 40), "u2"))
    np.testing.assert_array_equal(chain(scan, zingers=True), chain(scan))


def test_paganin_knows_the_size_of_binned_pixels(scan):
    """The chain is phase retrieval on binned line integrals with pixels twice as large."""
    expected = paganin(
        chain(scan, binning=2), energy_kev=25, distance_m=0.1, pixel_size_m=4e-6, delta_beta=20
    )
    np.testing.assert_array_equal(chain(scan, binning=2, paganin=PAGANIN), expected)


def test_sinograms_are_cleaned_by_the_method_that_is_set(scan):
    """None leaves them as they are."""
    sinograms = chain(scan).transpose(1, 0, 2)
    assert correct_sinograms(sinograms) is not None
    np.testing.assert_array_equal(correct_sinograms(sinograms, CorrectionSettings()), sinograms)
    np.testing.assert_array_equal(
        correct_sinograms(sinograms, CorrectionSettings(rings="sorting")), remove_stripes(sinograms)
    )


@pytest.mark.parametrize("settings", [CorrectionSettings(), CorrectionSettings(zingers=True, binning=2)])
def test_flats_of_several_times_are_interpolated(settings):
    """A beam that falls linearly between flats before, in the middle and after is no attenuation."""
    shape = (6, 20)
    profile = np.linspace(800, 1200, 20) * np.ones(shape)
    beam = lambda t: 50 + profile * (1 - 0.2 * t)  # noqa: E731
    darks = np.full((1, *shape), 50.0)
    flats = [np.stack([beam(t)] * 3) for t in (0.0, 0.5, 1.0)]
    field = references(flats, darks, settings, times=[0.0, 0.5, 1.0])
    times = np.array([0.9, 0.0, 0.3, 1.0])
    raw = np.stack([50 + (beam(t) - 50) * np.exp(-0.7) for t in times])
    found = correct_projections(raw, field, settings, times=times)
    np.testing.assert_allclose(found, 0.7, atol=1e-5)
    early = correct_projections(raw, field, settings, times=np.full(4, -5.0))
    np.testing.assert_allclose(early[1], 0.7, atol=1e-5)
    with pytest.raises(ReconstructionError, match="times of the projections are needed"):
        correct_projections(raw, field, settings)
    with pytest.raises(ReconstructionError, match="increasing"):
        references(flats, darks, settings, times=[0, 1, 1])


def test_bad_shapes_are_named(scan):
    """Binning that does not fit and projections of another size."""
    with pytest.raises(ReconstructionError, match="projections have frames"):
        correct_projections(scan[0][:, :5], references(*scan[1:]))
    with pytest.raises(ReconstructionError, match="binning=8 of frames of 4 x 96"):
        references(scan[1][:, :4], None, CorrectionSettings(binning=8))
