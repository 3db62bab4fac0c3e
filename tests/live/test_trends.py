"""Numbers that tell whether a scan is worth going on with: each finds what it is there to find."""

import numpy as np
import pytest

from tomolive.config import QualitySettings
from tomolive.live.slices.accumulate import SliceAccumulator
from tomolive.live.trends import Trends
from tomolive.recon.correct import flat_field

ROWS, COLUMNS, CENTER = 48, 64, 31.5


def counts(angles, drift=0.0, noise=0.0, seed=6):
    """Projections of three balls that move down by ``drift`` rows during the scan; (n, rows, columns)."""
    rng = np.random.default_rng(seed)
    z, u = np.ogrid[:ROWS, :COLUMNS]
    frames = np.empty((len(angles), ROWS, COLUMNS))
    for i, angle in enumerate(angles):
        path = np.zeros((ROWS, COLUMNS))
        for x, y, height, radius in ((12, 3, 16, 8), (-9, -8, 30, 10), (2, -14, 22, 6)):
            column = CENTER + x * np.cos(angle) + y * np.sin(angle)
            row = height + drift * i / max(1, len(angles) - 1)
            path += 2 * np.sqrt(np.clip(radius**2 - (u - column) ** 2 - (z - row) ** 2, 0, None))
        frames[i] = 100 + 30000 * np.exp(-0.01 * path)
    return rng.normal(frames, noise * np.sqrt(frames)).clip(0, 65535).astype(np.uint16)


DARKS = np.full((2, ROWS, COLUMNS), 100, np.uint16)
FLATS = np.full((2, ROWS, COLUMNS), 30100, np.uint16)


def judged(frames, angles, settings=None):
    """The trends of a scan, by name, with what is asked at its end."""
    slices = SliceAccumulator(ROWS, COLUMNS, center=CENTER)
    slices.set_references(DARKS, FLATS)
    slices.add(frames, angles, range(len(frames)))
    trends = Trends(settings or QualitySettings())
    trends.set_references(flat_field(FLATS, DARKS), [FLATS[:1].astype(float)], [0.0])
    trends.add(0, frames)
    question = trends.question(slices, last=True)
    assert question is not None
    trends.take(question())
    return {trend.name: trend for trend in trends.told(now=True)}


def test_a_good_scan_has_no_warnings():
    """All numbers are told, none is coloured."""
    angles = np.linspace(0, np.pi, 91)
    found = judged(counts(angles, noise=1), angles)
    assert set(found) == {
        "Transmission", "Saturated pixels", "Dead and hot pixels", "Sample drift", "Noise of the slice",
        "Sharpness of the slice", "Resolution",
    }  # fmt: skip
    assert [trend.warning for trend in found.values()] == [""] * len(found)
    assert found["Resolution"].over == "degrees"
    assert found["Resolution"].points[0][0] == 180
    assert found["Transmission"].low == pytest.approx(0.25 * 0.95, rel=0.05)


def test_a_sample_that_moves_is_found_at_180_degrees():
    """The projection opposite the first one sees it lower; by how much is said."""
    angles = np.linspace(0, np.pi, 91)
    drift = judged(counts(angles, drift=2.5), angles)["Sample drift"]
    assert drift.points[-1][1] == pytest.approx(2.5, abs=0.3)
    assert "between projections 0 and 90" in drift.warning


def test_a_sample_that_moves_sideways_is_found_by_a_repeated_angle():
    """After a whole turn the first projection is repeated: any shift is one of the sample."""
    angles = np.linspace(0, 2 * np.pi, 91)
    frames = counts(angles)
    frames[-1] = np.roll(frames[-1], 3, axis=1)
    drift = judged(frames, angles)["Sample drift"]
    assert drift.points[-1] == (90, pytest.approx(3, abs=0.3))


def test_saturated_projections_are_named():
    """Pixels that count all they can are a part of all, and the projections are told."""
    angles = np.linspace(0, np.pi, 91)
    frames = counts(angles)
    frames[20:23, :, :8] = 65535
    saturated = judged(frames, angles)["Saturated pixels"]
    assert saturated.warning.startswith("projections 20 to 22 have saturated pixels")
    assert max(value for _, value in saturated.points) == pytest.approx(8 / COLUMNS, rel=0.1)


def test_noise_and_resolution_get_worse_with_fewer_photons():
    """A threshold colours them, and writes a sentence."""
    angles = np.linspace(0, np.pi, 91)
    limits = QualitySettings(noise=0.05, resolution_px=6.0)
    good = judged(counts(angles, noise=1), angles, limits)
    bad = judged(counts(angles, noise=20), angles, limits)
    for name in ("Noise of the slice", "Resolution"):
        assert bad[name].points[-1][1] > good[name].points[-1][1]
    assert "the slice is noisy" in bad["Noise of the slice"].warning
    assert bad["Resolution"].warning


def test_flats_that_moved_are_found():
    """A beam profile that is another one after the scan is told; another brightness is not."""
    trends = Trends(QualitySettings())
    before = np.broadcast_to(20000 + 50.0 * np.arange(COLUMNS), (1, ROWS, COLUMNS))
    for after, warns in ((before * 1.3, False), (before[:, :, ::-1], True)):
        trends.set_references(flat_field(before), [before, after], [0.0, 90.0])
        (drift,) = [trend for trend in trends.told(now=True) if trend.name == "Flat-field drift"]
        assert drift.points[0][0] == 90
        assert bool(drift.warning) == warns


def test_dead_and_hot_pixels_are_told():
    """More of them than the threshold are a warning."""
    dark, flat = DARKS.astype(float), FLATS.astype(float)
    flat[:, :3] = dark[:, :3]
    trends = Trends(QualitySettings())
    trends.set_references(flat_field(flat, dark), [flat[:1]], [0.0])
    (bad,) = trends.told(now=True)
    assert bad.points == ((0, 0.0625),)
    assert bad.warning == "6.25 % of the pixels are dead or hot"


def test_the_slice_is_judged_only_now_and_then():
    """After an answer, as long as twenty times what it took, no question is asked; at the end one is."""
    angles = np.linspace(0, np.pi, 31)
    slices = SliceAccumulator(ROWS, COLUMNS, center=CENTER)
    slices.set_references(DARKS, FLATS)
    slices.add(counts(angles), angles, range(31))
    trends = Trends(QualitySettings())
    question = trends.question(slices)
    assert question is not None
    assert trends.question(slices) is None
    trends.take(question())
    assert trends.question(slices) is None
    assert trends.question(slices, last=True) is not None
