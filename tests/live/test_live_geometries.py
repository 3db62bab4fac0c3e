"""Live slices of half acquisitions, of flats taken several times, and of a centre before 180 degrees."""

import numpy as np
import pytest

from tomolive.config import CorrectionSettings, LiveSettings, PaganinSettings
from tomolive.live.candidates import strip_of
from tomolive.live.controls import Controls
from tomolive.live.slices.accumulate import SliceAccumulator
from tomolive.live.snapshot import SnapshotStore
from tomolive.live.worker import LiveReconstruction
from tomolive.recon import reconstruct, widen
from tomolive.recon.pipeline import correct_projections, references

ROWS, COLUMNS = 6, 64
BALLS = ((14.0, 6.0, 2.5, 12.0, 0.01), (-20.0, 12.0, 3.0, 9.0, 0.02), (3.0, -22.0, 2.0, 6.0, 0.03))


def counts(angles, center, flat=30000.0, seed=8):
    """Projections (n, rows, columns) of a few balls at ``angles``, radians; flat may be one for each."""
    z, u = np.ogrid[:ROWS, :COLUMNS]
    frames = np.empty((len(angles), ROWS, COLUMNS))
    for i, angle in enumerate(angles):
        path = np.zeros((ROWS, COLUMNS))
        for x, y, height, radius, value in BALLS:
            column = center + x * np.cos(angle) + y * np.sin(angle)
            chord = np.sqrt(np.clip(radius**2 - (u - column) ** 2 - (z - height) ** 2, 0, None))
            path += 2 * value * chord
        frames[i] = np.exp(-path)
    frames *= np.broadcast_to(np.asarray(flat, float).reshape(-1, 1, 1), (len(angles), 1, 1))
    return (np.random.default_rng(seed).poisson(frames) + 100).astype(np.uint16)


def refs(level=30000):
    """Darks and flats, (2, rows, columns)."""
    return np.full((2, ROWS, COLUMNS), 100.0), np.full((2, ROWS, COLUMNS), level + 100.0)


def assert_same(found, expected):
    """Equal to float32 rounding."""
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


def add_all(slices, frames, angles, batch=7):
    """Add frames batch by batch, and finish."""
    for first in range(0, len(frames), batch):
        part = slice(first, min(first + batch, len(frames)))
        slices.add(frames[part], angles[part], range(part.start, part.stop))
    slices.finish()


@pytest.mark.parametrize(("center", "turn"), [(9.3, 360.0), (55.2, None), (9.3, 180.0)])
def test_a_half_acquisition_is_wide(center, turn):
    """A whole turn about an axis near the edge gives the widened slices, whatever was said before."""
    angles = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    frames, (darks, flats) = counts(angles, center), refs()
    slices = SliceAccumulator(ROWS, COLUMNS, center=center, turn=turn)
    slices.set_references(darks, flats)
    add_all(slices, frames, angles)
    integrals = correct_projections(frames, references(flats, darks)).transpose(1, 0, 2)
    wide, middle = widen(integrals, center)
    volume = reconstruct(wide, angles, middle, method="backprojection")
    size = wide.shape[2]
    assert size > 1.6 * COLUMNS
    assert slices.volume_shape == (ROWS, size, size)
    found = slices.slices()
    assert_same(found["xy"], volume[ROWS // 2])
    assert_same(found["xz"], volume[:, size // 2])
    assert slices.coverage == pytest.approx(360, abs=2)
    # the ball at x = -20 is further from the axis than the near edge of the detector
    y, x = np.indices(found["xy"].shape) - (size - 1) / 2
    inside = (x + 20) ** 2 + (y - 12) ** 2 < 6**2
    assert found["xy"][inside].mean() == pytest.approx(0.02, rel=0.1)


def test_each_part_of_a_whole_turn_weighs_what_it_covers():
    """A half acquisition whose second half turn has half as many projections has the same grey levels."""
    angles = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    slices = []
    for kept in (np.arange(240), np.r_[0:120, 120:240:2]):
        one = SliceAccumulator(ROWS, COLUMNS, center=9.3, turn=360.0)
        one.set_references(*refs())
        add_all(one, counts(angles, 9.3)[kept], angles[kept])
        slices.append(one.slices()["xy"])
    even, uneven = slices
    y, x = np.indices(even.shape) - (len(even) - 1) / 2
    inside = np.hypot(x, y) < 40
    assert np.sqrt(np.mean((uneven - even)[inside] ** 2)) < 0.05 * even.max()
    ball = (x + 20) ** 2 + (y - 12) ** 2 < 6**2
    assert uneven[ball].mean() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("center", [12.3, 51.2])
def test_candidates_of_a_half_acquisition(center):
    """The strip of centres is of the wide slice: the right one is the best."""
    angles = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    slices = SliceAccumulator(ROWS, COLUMNS, center=center, turn=360.0)
    slices.set_references(*refs())
    add_all(slices, counts(angles, center), angles)
    strip = strip_of(slices, center, 1.0, 5, 1.0)()
    assert np.argmax(strip.scores) == 2
    size = slices.volume_shape[1]
    assert strip.pixels.shape == (size, 5 * size)


def test_a_centre_change_can_make_a_half_acquisition():
    """An ordinary whole turn becomes wide when the centre is put near the edge, and narrow again."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    frames, (darks, flats) = counts(angles, 10.0), refs()
    slices = SliceAccumulator(ROWS, COLUMNS, center=31.5, turn=360.0)
    slices.set_references(darks, flats)
    add_all(slices, frames, angles)
    assert slices.volume_shape == (ROWS, COLUMNS, COLUMNS)
    slices.restart(center=10.0)
    assert slices.volume_shape[1] > COLUMNS
    assert slices.slices()["xy"].shape == slices.volume_shape[1:]
    slices.restart(corrections=CorrectionSettings(half_acquisition=False))
    assert slices.slices()["xy"].shape == (COLUMNS, COLUMNS)
    slices.restart(center=22.0, corrections=CorrectionSettings(half_acquisition=True))
    assert slices.volume_shape[1] == 2 * COLUMNS - 1 - 2 * 22
    # about a column of 1.5 when four are averaged
    slices.restart(center=7.5, corrections=CorrectionSettings(half_acquisition=True, binning=4))
    assert slices.volume_shape[1] == COLUMNS // 4
    assert "No half acquisition can be made of it" in slices.notes[-1]
    slices.restart(center=31.5, corrections=CorrectionSettings())
    assert slices.slices()["xy"].shape == (COLUMNS, COLUMNS)


def test_flats_before_and_after_are_interpolated():
    """A beam that fades during the scan leaves no trace in the slices; offline is the same."""
    angles = np.linspace(0, np.pi, 100, endpoint=False)
    level = 30000 * (1 - 0.3 * np.arange(100) / 100)
    frames = counts(angles, 31.5, level)
    darks, before = refs()
    _, after = refs(21000)
    slices = SliceAccumulator(ROWS, COLUMNS, center=31.5)
    slices.set_references(darks, [before, after], [0, 100])
    add_all(slices, frames, angles)
    field = references([before, after], darks, times=[0, 100])
    integrals = correct_projections(frames, field, times=np.arange(100)).transpose(1, 0, 2)
    volume = reconstruct(integrals, angles, 31.5, method="backprojection")
    assert_same(slices.slices()["xy"], volume[ROWS // 2])
    assert_same(slices.slices()["xz"], volume[:, COLUMNS // 2])
    assert abs(integrals[:, :, :3].mean()) < 0.005


@pytest.mark.parametrize(
    "corrections",
    [
        CorrectionSettings(zingers=True),
        CorrectionSettings(binning=2),
        CorrectionSettings(
            paganin=PaganinSettings(energy_kev=20, distance_m=0.3, pixel_size_um=1, delta_beta=100)
        ),
        CorrectionSettings(
            zingers=True,
            binning=2,
            paganin=PaganinSettings(energy_kev=20, distance_m=0.3, pixel_size_um=1, delta_beta=100),
        ),
    ],
    ids=["zingers", "binning", "paganin", "all"],
)
@pytest.mark.parametrize("filtered_mb", [0, 1024], ids=["nothing kept", "all kept"])
def test_corrections_are_those_of_the_one_chain(corrections, filtered_mb):
    """Set before the scan or after it, slices are those of the offline chain with the same corrections."""
    angles = np.linspace(0, np.pi, 50, endpoint=False)
    frames, (darks, flats) = counts(angles, 30.2), refs()
    frames[10, 3, 20] = 60000
    field = references(flats, darks, corrections)
    integrals = correct_projections(frames, field, corrections).transpose(1, 0, 2)
    place = (30.2 + 0.5) / corrections.binning - 0.5
    volume = reconstruct(integrals, angles, place, method="backprojection")
    rows, columns = volume.shape[:2]
    for when in ("before", "after"):
        start = corrections if when == "before" else CorrectionSettings()
        slices = SliceAccumulator(
            ROWS, COLUMNS, center=30.2, corrections=start, filtered_mb=filtered_mb, positions={"xz": 20}
        )
        slices.set_references(darks, flats)
        add_all(slices, frames, angles)
        slices.restart(corrections=corrections)
        found = slices.slices()
        assert_same(found["xy"], volume[rows // 2])
        assert_same(found["yz"], volume[:, :, columns // 2])
        assert_same(found["xz"], volume[:, slices.positions["xz"]])
        if when == "after":
            assert abs(slices.positions["xz"] - 20 / corrections.binning) <= 1
        assert slices.center == 30.2


def test_corrections_that_cannot_be_done_change_nothing():
    """A binning larger than the frames is refused, and everything stays as it was."""
    from tomolive.errors import ReconstructionError

    angles = np.linspace(0, np.pi, 20, endpoint=False)
    frames, (darks, flats) = counts(angles, 31.5), refs()
    slices = SliceAccumulator(ROWS, COLUMNS, center=31.5)
    slices.set_references(darks, flats)
    add_all(slices, frames, angles)
    before = slices.slices()
    with pytest.raises(ReconstructionError, match="binning=8"):
        slices.restart(corrections=CorrectionSettings(binning=8), filter="hann")
    assert (slices.filter, slices.corrections) == ("ramp", CorrectionSettings())
    for plane, pixels in slices.slices().items():
        assert np.array_equal(pixels, before[plane])


def test_the_centre_is_found_before_180_degrees():
    """It is estimated from 90 degrees on, and taken if it was far off; the opposite pair knows better."""
    rows, center = 24, 38.0
    angles = np.linspace(0, np.pi, 181)
    z, u = np.ogrid[:rows, :COLUMNS]
    frames = np.empty((181, rows, COLUMNS), np.uint16)
    for i, angle in enumerate(angles):
        path = np.zeros((rows, COLUMNS))
        for x, y, radius in ((9, 3, 10), (-8, -6, 7), (1, -12, 4), (-3, 11, 5)):
            column = center + x * np.cos(angle) + y * np.sin(angle)
            path += 2 * np.sqrt(np.clip(radius**2 - (u - column) ** 2 + 0 * z, 0, None))
        frames[i] = 100 + 30000 * np.exp(-0.01 * path)
    slices = SliceAccumulator(rows, COLUMNS)
    slices.set_references(np.full((1, rows, COLUMNS), 100.0), np.full((1, rows, COLUMNS), 30100.0))
    slices.add(frames[:80], angles[:80], range(80))
    assert slices.early_estimate() is None
    slices.add(frames[80:130], angles[80:130], range(80, 130))
    question = slices.early_estimate()
    assert question is not None
    late = question()
    assert slices.take_center(late, early=True)
    assert slices.center == pytest.approx(center, abs=2)
    assert "provisional until 180" in slices.center_source
    assert slices.early_estimate() is None
    slices.add(frames[130:], angles[130:], range(130, 181))
    assert slices.center == pytest.approx(center, abs=0.2)
    assert not slices.take_center(late, early=True)
    assert "degrees apart" in slices.center_source


def test_flats_that_come_again_after_the_projections(tmp_path, scan_of):
    """That they were taken later is told from the order of what comes; between them they are interpolated."""
    scan = scan_of.Scan()
    dimmer = (scan.sample.level("flats", 3) * 0.8).astype(np.uint16)
    again = [scan.run.datum("flats", "camera", 3, 6), scan.run.frames("flats", "camera", 3, dimmer)]
    opening = [*scan.opening, *scan.level("darks"), *scan.level("flats")]
    feeder = scan_of.Feeder([*opening, *scan.turn(0, 60), *again, scan.run.stop()])
    store = SnapshotStore()
    settings = LiveSettings(center=21.5)
    LiveReconstruction(feeder, store, Controls(), results=tmp_path, settings=settings).run()
    flats, darks = [scan.sample.level("flats", 3), dimmer], scan.sample.level("darks", 3)
    field = references(flats, darks, times=[0, 60])
    integrals = correct_projections(scan.counts, field, times=np.arange(60)).transpose(1, 0, 2)
    volume = reconstruct(integrals, np.deg2rad(scan.angles), 21.5, method="backprojection") / 2e-4
    final = store.latest
    assert_same(final.pictures["xy"].pixels, volume[2])
    (drift,) = [trend for trend in final.status.trends if trend.name == "Flat-field drift"]
    assert drift.points[0][0] == 60


def test_a_centre_found_before_the_flats_is_found_again():
    """Without flats two projections show the beam rather than the sample: what they say is not kept."""
    angles = np.linspace(0, np.pi, 61)
    profile = 0.03 + np.exp(-(((np.arange(COLUMNS) - 31.5) / 16) ** 2))
    frames = ((counts(angles, 27.3) - 100) * profile + 100).astype(np.uint16)
    darks, flats = refs()
    slices = SliceAccumulator(ROWS, COLUMNS)
    slices.set_references(darks, None)
    slices.add(frames, angles, range(61))
    slices.set_references(darks, None)
    assert slices.center == pytest.approx(31.5, abs=1)
    slices.set_references(darks, (flats - 100) * profile + 100)
    assert slices.center == pytest.approx(27.3, abs=0.3)
    slices.finish()
    assert slices.center == pytest.approx(27.3, abs=0.1)
