"""Live slices: right at every moment, equal to the offline ones at the end."""

import os
import resource

import numpy as np
import pytest

from tomolive.errors import ReconstructionError
from tomolive.live.slices.accumulate import SliceAccumulator
from tomolive.live.slices.projections import ProjectionStore
from tomolive.recon import normalize, reconstruct

ROWS, COLUMNS, COUNT = 5, 96, 120
CENTER = 49.3
ANGLES = np.arange(COUNT) * np.pi / COUNT
SPHERES = ((0.0, 0.0, 2.0, 30.0, 0.01), (8.0, -6.0, 2.0, 9.0, 0.02), (-11.0, 5.0, 2.5, 7.0, -0.008))


def line_integrals(angles: np.ndarray, center: float = CENTER) -> np.ndarray:
    """Exact projections of a few spheres (x, y, z, radius, value), averaged over a column."""
    columns = np.arange(COLUMNS)[:, None] + (np.arange(5) - 2) / 5
    total = np.zeros((len(angles), ROWS, COLUMNS))
    for x, y, z, radius, value in SPHERES:
        middle = center + x * np.cos(angles) + y * np.sin(angles)
        away = (columns[None] - middle[:, None, None]) ** 2
        height = (np.arange(ROWS) - z) ** 2
        chord = np.sqrt(np.maximum(radius**2 - away[:, None] - height[None, :, None, None], 0))
        total += value * 2 * chord.mean(axis=-1)
    return total


def counts(angles: np.ndarray, seed: int = 1, center: float = CENTER) -> np.ndarray:
    """Projections as a camera counts them."""
    rng = np.random.default_rng(seed)
    return (rng.poisson(BEAM * np.exp(-line_integrals(angles, center))) + 100).astype("u2")


BEAM = 20000 * (0.7 + 0.3 * np.cos(np.linspace(-1, 1, COLUMNS)))[None] * np.ones((ROWS, 1))
DARKS = np.full((4, ROWS, COLUMNS), 100, "u2")
FLATS = np.random.default_rng(0).poisson(np.broadcast_to(BEAM, (20, ROWS, COLUMNS))).astype("u2") + np.uint16(
    100
)


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    """Raw projections over half a turn."""
    return counts(ANGLES)


def accumulator(**kwargs) -> SliceAccumulator:
    """An accumulator that has its references and its centre."""
    slices = SliceAccumulator(ROWS, COLUMNS, **{"center": CENTER, **kwargs})
    slices.set_references(DARKS, FLATS)
    return slices


def slices_at(slices: SliceAccumulator, positions: dict[str, int]) -> dict:
    """Return planes that lie elsewhere, drawn for this."""
    return {plane: slices.picture((plane, (float(at),))) for plane, at in positions.items()}


def offline(raw: np.ndarray, angles: np.ndarray, center: float = CENTER, name: str = "ramp", **at) -> dict:
    """The slices of the volume that a batch reconstruction makes of the same frames."""
    sinograms = normalize(raw, FLATS, DARKS).transpose(1, 0, 2)
    volume = reconstruct(sinograms, angles, center, filter=name, method="backprojection")
    z, y, x = at.get("xy", ROWS // 2), at.get("xz", COLUMNS // 2), at.get("yz", COLUMNS // 2)
    return {"xy": volume[z], "xz": volume[:, y], "yz": volume[:, :, x]}


def assert_same(found: dict, expected: dict, tolerance: float = 1e-5) -> None:
    """All planes agree to ``tolerance`` of the brightest pixel."""
    for plane, picture in expected.items():
        assert found[plane].dtype == np.float32
        np.testing.assert_allclose(found[plane], picture, rtol=0, atol=tolerance * np.abs(picture).max())


def feed(
    slices: SliceAccumulator, raw: np.ndarray, angles: np.ndarray, order: np.ndarray, batch: int
) -> None:
    """Add frames in ``order``, a batch at a time."""
    for first in range(0, len(order), batch):
        part = order[first : first + batch]
        slices.add(raw[part], angles[part], part)


@pytest.mark.parametrize("batch", [1, 7, 32])
@pytest.mark.parametrize("threads", [1, 2])
def test_final_slices_equal_the_offline_reconstruction(scan, batch, threads):
    """Whatever the batches and the threads, the finished slices are those of reconstruct()."""
    slices = accumulator(threads=threads)
    feed(slices, scan, ANGLES, np.arange(COUNT), batch)
    slices.finish()
    assert_same(slices.slices(), offline(scan, ANGLES))
    assert slices.slices()["xy"].shape == (COLUMNS, COLUMNS)
    assert slices.slices()["xz"].shape == slices.slices()["yz"].shape == (ROWS, COLUMNS)


@pytest.mark.parametrize(
    "angles",
    [
        pytest.param(np.sort(np.random.default_rng(5).uniform(0, np.pi, COUNT)), id="uneven"),
        pytest.param(np.linspace(0, np.pi, COUNT), id="both-ends"),
        pytest.param(np.linspace(0, 2 * np.pi, COUNT, endpoint=False), id="full-turn"),
        pytest.param(np.arange(COUNT) * np.pi * (np.sqrt(5) - 1) / 2, id="golden"),
        pytest.param(np.radians(np.linspace(3, 97, COUNT)), id="incomplete"),
        pytest.param(-ANGLES[::-1], id="backwards"),
    ],
)
def test_any_sequence_of_angles_equals_the_offline_reconstruction(angles):
    """Uneven, repeated, golden-ratio, incomplete and backward scans end as offline."""
    raw = counts(angles)
    slices = accumulator()
    feed(slices, raw, angles, np.arange(COUNT), 11)
    slices.finish()
    assert_same(slices.slices(), offline(raw, angles))


def test_order_of_arrival_does_not_matter(scan):
    """Frames that arrive shuffled give the same slices."""
    slices = accumulator()
    feed(slices, scan, ANGLES, np.random.default_rng(3).permutation(COUNT), 9)
    slices.finish()
    assert_same(slices.slices(), offline(scan, ANGLES))


def test_grey_level_is_right_at_every_moment(scan):
    """The mean of the xy slice over the object is the object's, from a tenth of the scan on."""
    slices = accumulator()
    y, x = np.mgrid[:COLUMNS, :COLUMNS] - (COLUMNS - 1) / 2
    disc = x**2 + y**2 < 36**2
    expected = offline(scan, ANGLES)["xy"][disc].mean()
    means = []
    for first in range(0, COUNT, 12):
        part = np.arange(first, first + 12)
        slices.add(scan[part], ANGLES[part], part)
        means.append(slices.slices()["xy"][disc].mean())
    np.testing.assert_allclose(means, expected, rtol=0.02)
    assert slices.coverage == pytest.approx(180)


def test_duplicates_are_counted_and_left_out(scan):
    """A frame that comes twice is in the slices once."""
    slices = accumulator()
    feed(slices, scan, ANGLES, np.arange(COUNT), 16)
    slices.add(scan[5:9], ANGLES[5:9], [5, 6, 7, 8])
    slices.finish()
    assert (slices.received, slices.arrivals.duplicates) == (COUNT, 4)
    assert_same(slices.slices(), offline(scan, ANGLES))


def test_a_late_frame_is_added_after_the_end(scan):
    """What comes after finish() is drawn, and a second finish() settles it."""
    slices = accumulator()
    early = np.delete(np.arange(COUNT), [17, 60])
    feed(slices, scan, ANGLES, early, 16)
    slices.finish()
    slices.add(scan[[60, 17]], ANGLES[[60, 17]], [60, 17])
    slices.finish()
    assert_same(slices.slices(), offline(scan, ANGLES))


def test_an_aborted_scan_ends_with_what_is_there(scan):
    """Half a scan gives the offline slices of that half."""
    slices = accumulator()
    feed(slices, scan, ANGLES, np.arange(70), 16)
    slices.finish()
    assert slices.coverage == pytest.approx(70 * 180 / COUNT)
    assert_same(slices.slices(), offline(scan[:70], ANGLES[:70]))


def test_projections_before_flats_are_kept(scan):
    """Nothing is drawn before the references are known, nothing is lost either."""
    slices = SliceAccumulator(ROWS, COLUMNS, center=CENTER)
    feed(slices, scan, ANGLES, np.arange(50), 16)
    assert not slices.slices()["xy"].any()
    slices.set_references(DARKS, FLATS)
    assert slices.slices()["xy"].any()
    feed(slices, scan, ANGLES, np.arange(50, COUNT), 16)
    slices.finish()
    assert_same(slices.slices(), offline(scan, ANGLES))


def test_later_flats_replace_the_earlier_ones(scan):
    """A retaken flat redraws everything."""
    slices = SliceAccumulator(ROWS, COLUMNS, center=CENTER)
    slices.set_references(DARKS, FLATS // 2 + 60)
    feed(slices, scan, ANGLES, np.arange(COUNT), 16)
    slices.set_references(DARKS, FLATS)
    slices.finish()
    assert_same(slices.slices(), offline(scan, ANGLES))


def test_restart_and_retarget_redraw_from_the_store(scan):
    """Another centre, filter or position shows what it would have shown from the start."""
    slices = accumulator(center=40.0)
    feed(slices, scan, ANGLES, np.arange(COUNT), 16)
    slices.restart(center=CENTER, filter="hann")
    slices.retarget("xz", 30)
    slices.retarget("xy", 1)
    slices.finish()
    assert (slices.center, slices.filter, slices.center_source) == (CENTER, "hann", "given")
    assert_same(slices.slices(), offline(scan, ANGLES, name="hann", xz=30, xy=1))


@pytest.mark.parametrize("end", ["with 180", "without 180"])
def test_center_is_provisional_then_estimated_then_refined(end):
    """The middle at once, the opposite pair when it is there, a tenth of a pixel at the end."""
    angles = np.linspace(0, np.pi, COUNT, endpoint=end == "with 180")
    raw = counts(angles, center=CENTER + 6)
    slices = SliceAccumulator(ROWS, COLUMNS)
    slices.set_references(DARKS, FLATS)
    feed(slices, raw, angles, np.arange(COUNT // 2), 16)
    assert slices.center == (COLUMNS - 1) / 2
    assert "provisional" in slices.center_source
    feed(slices, raw, angles, np.arange(COUNT // 2, COUNT), 1)
    assert slices.center == pytest.approx(CENTER + 6, abs=0.5)
    assert "degrees apart" in slices.center_source
    slices.finish()
    assert slices.center == pytest.approx(CENTER + 6, abs=0.1)
    assert "refined" in slices.center_source
    assert_same(slices.slices(), offline(raw, angles, center=slices.center))


def test_a_centre_that_cannot_be_estimated_yet_is_provisional(scan):
    """Asked for an estimate with nothing to estimate from, it is not called given; later it is found."""
    slices = SliceAccumulator(ROWS, COLUMNS, center=40.0)
    slices.estimate_center()
    assert slices.center == 40.0
    assert "provisional" in slices.center_source
    slices.set_references(DARKS, FLATS)
    slices.add(scan[:2], ANGLES[:2], range(2))
    slices.estimate_center()
    assert "provisional" in slices.center_source
    slices.add(scan[2:], ANGLES[2:], range(2, COUNT))
    slices.finish()
    assert slices.center == pytest.approx(CENTER, abs=0.1)
    assert "estimated" in slices.center_source
    assert "provisional" not in slices.center_source


def test_slices_elsewhere_leave_those_here_as_they_are(scan):
    """Slices at other positions are what a retargeted plane shows, in the middle of the scan too."""
    here, there = (SliceAccumulator(ROWS, COLUMNS, center=CENTER) for _ in range(2))
    elsewhere = {"xy": 1, "xz": 30, "yz": 60}
    for slices in (here, there):
        slices.set_references(DARKS, FLATS)
        slices.add(scan[:50], ANGLES[:50], range(50))
    for plane, position in elsewhere.items():
        there.retarget(plane, position)
    before, found, expected = here.slices(), slices_at(here, elsewhere), there.slices()
    for plane in elsewhere:
        assert np.array_equal(found[plane], expected[plane])
        assert np.array_equal(here.slices()[plane], before[plane])
    here.add(scan[50:], ANGLES[50:], range(50, COUNT))
    here.finish()
    whole = SliceAccumulator(ROWS, COLUMNS, center=CENTER)
    whole.set_references(DARKS, FLATS)
    whole.add(scan, ANGLES, range(COUNT))
    whole.finish()
    for plane, pixels in whole.slices().items():
        np.testing.assert_allclose(here.slices()[plane], pixels, atol=2e-5 * np.abs(pixels).max())


def test_missing_references_are_said(scan):
    """Without darks and flats there is a picture, and a sentence for each assumption."""
    slices = SliceAccumulator(ROWS, COLUMNS, center=CENTER)
    feed(slices, scan, ANGLES, np.arange(COUNT), 16)
    slices.set_references(None, None)
    slices.finish()
    assert slices.slices()["xy"].any()
    assert [note.split(":")[0] for note in slices.notes] == ["No darks", "No flats"]


def test_without_any_references_the_end_assumes_them(scan):
    """A scan that never had references still ends with a picture."""
    slices = SliceAccumulator(ROWS, COLUMNS, center=CENTER)
    feed(slices, scan, ANGLES, np.arange(COUNT), 16)
    slices.finish()
    assert slices.slices()["xy"].any()
    assert any("flats" in note for note in slices.notes)


@pytest.mark.parametrize("room", ["none", "for some", "none to spare"])
def test_what_cannot_be_kept_filtered_is_filtered_again(scan, monkeypatch, room):
    """Planes elsewhere, and about another centre, are those of reconstruct(), whatever fits the memory."""
    piece = 16 * (COLUMNS + 3) * ROWS * 4 / 2**20
    kept = {"none": 0, "for some": 2.5 * piece, "none to spare": 1000}[room]
    if room == "none to spare":
        monkeypatch.setattr("tomolive.live.slices.filtered.spare_memory", lambda: 0.0)
    slices = accumulator(center=CENTER - 2, filtered_mb=kept)
    feed(slices, scan, ANGLES, np.arange(COUNT), 11)
    slices.finish()
    assert [slices.projections.keeps(first, first + 8) for first in (0, 16, 32)] == [
        room == "for some",
        room == "for some",
        False,
    ]
    slices.restart(center=CENTER)
    expected = offline(scan, ANGLES, xy=1, xz=30, yz=60)
    assert_same(slices_at(slices, {"xy": 1, "xz": 30, "yz": 60}), expected)


def test_store_spills_to_a_file_and_loses_nothing(scan, tmp_path):
    """A store that may use no memory gives the same slices and leaves no file behind."""
    slices = accumulator(store=ProjectionStore(memory_mb=0, folder=tmp_path))
    feed(slices, scan, ANGLES, np.arange(COUNT), 16)
    slices.finish()
    assert_same(slices.slices(), offline(scan, ANGLES))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_that_names_it(tmp_path, monkeypatch):
    """Room is taken when the file is made, since a write to a map of a full disk ends the process."""
    room, folder = [], tmp_path / "spill"
    folder.mkdir()
    reserve = os.posix_fallocate

    def look(file, *where):
        reserve(file, *where)
        room.append(os.fstat(file).st_blocks * 512)

    monkeypatch.setattr(os, "posix_fallocate", look)
    store = ProjectionStore(memory_mb=0, folder=folder)
    frames = np.ones((1, 1024, 1024), np.uint16)
    store.append(frames)
    assert room[0] >= 64 * 2**20
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, usual[1]))
    try:
        with pytest.raises(ReconstructionError, match=f"64 MB in {folder}: .*live.spill"):
            ProjectionStore(memory_mb=0, folder=folder).append(frames)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    with pytest.raises(ReconstructionError, match="absent"):
        ProjectionStore(memory_mb=0, folder=tmp_path / "absent").append(frames)


def test_ten_thousand_projections_add_up_without_error():
    """Rounding stays below 1e-5 of the maximum against one batch reconstruction."""
    rng = np.random.default_rng(11)
    count, columns = 10_000, 24
    raw = rng.integers(4000, 9000, (count, 1, columns)).astype("u2")
    flats, darks = np.full((1, 1, columns), 10000, "u2"), np.zeros((1, 1, columns), "u2")
    angles = np.arange(count) * np.pi / count
    slices = SliceAccumulator(1, columns, center=11.7)
    slices.set_references(darks, flats)
    feed(slices, raw, angles, np.arange(count), 128)
    slices.finish()
    sinogram = normalize(raw, flats, darks).transpose(1, 0, 2)
    expected = reconstruct(sinogram, angles, 11.7, method="backprojection")[0]
    assert_same({"xy": slices.slices()["xy"]}, {"xy": expected})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.add(np.zeros((2, 3, 4)), [0, 1], [0, 1]), "projections has shape"),
        (lambda s: s.add(np.zeros((1, ROWS, COLUMNS)), [np.nan], [0]), "angles"),
        (lambda s: s.retarget("xq", 1), "plane"),
        (lambda s: s.retarget("xy", ROWS), "position"),
        (lambda s: s.restart(center=-4), "center"),
        (lambda s: s.restart(filter="sinc"), "filter"),
        (lambda s: s.set_references(DARKS[:, :2], FLATS), "darks"),
        (lambda s: s.set_references(FLATS, DARKS), "flats"),
    ],
)
def test_bad_input_names_the_argument_and_changes_nothing(scan, change, named):
    """A mistake is a ReconstructionError, and the slices stay as they were."""
    slices = accumulator()
    feed(slices, scan, ANGLES, np.arange(40), 16)
    before = slices.slices()
    with pytest.raises(ReconstructionError, match=named):
        change(slices)
    assert_same(slices.slices(), before, 0)
