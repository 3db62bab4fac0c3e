"""The filter by recursion against the filter by Fourier transform."""

import numpy as np
import pytest

from tomolive.recon.correct import flat_field, line_integrals
from tomolive.recon.filters import FILTERS, WINDOWS, filter_bands, filter_rows
from tomolive.recon.fused import correct_and_filter


def by_fourier_transform(rows, name):
    """Return rows filtered with ``|f| W(f)``, with so much room around them that nothing wraps around."""
    length = 32 * rows.shape[1]
    frequency = np.fft.rfftfreq(length)
    spectrum = np.fft.rfft(rows.astype("f8"), length) * frequency * WINDOWS[name](frequency)
    return np.fft.irfft(spectrum, length)[:, : rows.shape[1]]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("columns", [20, 41, 256, 1000, 2560])
def test_recursion_equals_the_fourier_transform(name, columns):
    """To a few parts in ten thousand, for discs, whose low frequencies are the hard part, and noise."""
    rng = np.random.default_rng(3)
    x = np.arange(columns) - (columns - 1) / 2
    discs = [2 * np.sqrt(np.maximum((size * columns) ** 2 - (x - 3) ** 2, 0)) for size in (0.1, 0.3, 0.45)]
    rows = np.stack([*discs, rng.normal(size=columns)]).astype("f4")
    exact = by_fourier_transform(rows, name)
    found = filter_rows(rows, name, padding="zero")
    error = np.abs(found - exact).max(axis=1) / np.abs(exact).max(axis=1)
    assert error.max() < 5e-4


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("columns", [256, 1000, 2560])
def test_what_is_smooth_is_filtered_alike_wherever_it_lies(name, columns):
    """Wide and narrow bells, at each of 16 places: to two parts in ten thousand, or rings would be seen."""
    x = np.arange(columns)[np.newaxis] - columns / 2 - np.arange(16)[:, np.newaxis]
    for width in (20, columns / 16, columns / 8):
        rows = np.exp(-((x / width) ** 2) / 2).astype("f4")
        exact = by_fourier_transform(rows, name)
        found = filter_rows(rows, name, padding="zero")
        np.testing.assert_allclose(found, exact, atol=2e-4 * np.abs(exact).max())


@pytest.mark.parametrize("shape", [(2, 5, 33), (3, 16, 32), (1, 37, 50)])
def test_bands_hold_the_filtered_rows_between_guards(shape):
    """Bands are rows turned, to the bit, with a zero before and two behind; rows are independent."""
    rows = np.random.default_rng(4).normal(size=shape).astype("f4")
    count, height, columns = shape
    bands = filter_bands(rows, "hann")
    assert bands.shape == (count, columns + 3, height)
    assert not bands[:, 0].any()
    assert not bands[:, -2:].any()
    np.testing.assert_array_equal(bands[:, 1:-2].swapaxes(1, 2), filter_rows(rows, "hann"))
    np.testing.assert_array_equal(filter_rows(rows[:1, 3:4], "hann")[0, 0], filter_rows(rows, "hann")[0, 3])


def test_a_row_goes_on_with_its_edges():
    """Beyond its ends: as if it were written out with its first and last value, far enough."""
    row = np.random.default_rng(5).normal(size=(1, 60)).astype("f4")
    written_out = np.pad(row, ((0, 0), (4000, 4000)), mode="edge")
    np.testing.assert_allclose(
        filter_rows(row)[0], filter_rows(written_out)[0, 4000:4060], atol=5e-4 * np.abs(row).max()
    )


def test_correcting_and_filtering_in_one_pass_is_doing_both():
    """The same bands as by line integrals and filter, dead pixels and an incomplete band of rows included."""
    rng = np.random.default_rng(6)
    counts = rng.integers(0, 900, (3, 40, 70), dtype=np.uint16)
    flat = rng.integers(0, 1000, (40, 70)).astype("f8")
    field = flat_field(flat, np.full((40, 70), 50.0))
    for rows in ((0, 16), (16, 40)):
        part = slice(*rows)
        apart = filter_bands(line_integrals(counts[:, part], field.part(part)), "cosine")
        np.testing.assert_allclose(correct_and_filter(counts, field, rows, "cosine"), apart, atol=1e-6)
