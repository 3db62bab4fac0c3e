"""The rotation centre, to a fraction of a pixel."""

import h5py
import numpy as np
import pytest

from tomolive.errors import ReconstructionError
from tomolive.recon import candidates, find_center, normalize, reconstruct
from tomolive.recon.axis import find_axis
from tomolive.recon.candidates import SCORES
from tomolive.recon.center import METHODS


@pytest.mark.parametrize("offset", [-40.0, -17.3, -0.45, 3.15, 12.62, 39.7])
@pytest.mark.parametrize("end", ["with 180", "without 180"])
def test_center_is_found_to_a_tenth_of_a_pixel(phantom, counts, offset, end):
    """On a noisy scan, with and without a frame at exactly 180 degrees."""
    angles = np.linspace(0, np.pi, 241, endpoint=end == "with 180")
    truth = phantom(160)
    columns, center = 256, 127.5 + offset
    exact = truth.sinogram(angles, center, columns)[:, None] * (1 - 0.02 * np.arange(4, dtype="f4"))[:, None]
    projections = normalize(*counts(exact, 20000))
    assert find_center(projections, angles) == pytest.approx(center, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_alone_finds_it(phantom, counts, method):
    """The opposite pair, and the scan over candidates without any start."""
    angles = np.linspace(0, np.pi, 361)
    projections = normalize(*counts(phantom(256).stack(angles, 4, 131.7), 20000))
    assert find_center(projections, angles, method) == pytest.approx(131.7, abs=0.2)


@pytest.fixture(scope="module")
def strip(phantom, counts):
    """A noisy sinogram with its axis at column 60.3, and candidate pictures around it."""
    angles = np.arange(180) * np.pi / 180
    sinogram = normalize(*counts(phantom(128).stack(angles, 1, 60.3), 20000))[:, 0]
    centers = 60.3 + np.arange(-9, 10) * 0.5
    return sinogram, angles, centers, candidates(sinogram, angles, centers)


def test_candidate_pictures_are_slices_with_other_centers(strip):
    """Each is what reconstruct gives with that centre: many more than are computed together, in order."""
    sinogram, angles, centers, found = strip
    assert found.pictures.shape == (19, 128, 128)
    y, x = np.mgrid[:128, :128] - 63.5
    inside = x**2 + y**2 < 55**2
    for picture, center in zip(found.pictures, centers, strict=True):
        expected = reconstruct(sinogram, angles, center)[0]
        assert np.abs(picture - expected)[inside].max() < 0.02 * expected.max()


@pytest.mark.parametrize("score", SCORES)
def test_every_score_prefers_the_right_candidate(strip, score):
    """Of nineteen, the one in the middle, or the next."""
    assert abs(strip[3].best(score) - 9) <= 1


def test_candidates_that_make_no_sense_are_named(strip):
    """A centre off the detector, and a sinogram that does not fit the angles."""
    sinogram, angles, *_ = strip
    with pytest.raises(ReconstructionError, match="centers="):
        candidates(sinogram, angles, [60, 128])
    with pytest.raises(ReconstructionError, match=r"sinogram has shape \(179, 128\)"):
        candidates(sinogram[1:], angles, [60])


def test_projections_and_sinograms_are_told_apart(phantom):
    """(angles, rows, columns), (rows, angles, columns) and a single sinogram give the same centre."""
    angles = np.linspace(0, np.pi, 91)
    stack = phantom(96).stack(angles, 3, 50.2)
    found = [find_center(a, angles) for a in (stack, stack.transpose(1, 0, 2), stack[:, 0])]
    assert found == pytest.approx([50.2] * 3, abs=0.1)


def test_the_center_of_a_real_scan_is_the_published_one(tooth):
    """The tooth's axis is at column 296, as its publishers say; each method comes close."""
    with h5py.File(tooth) as file:
        exchange = file["exchange"]
        projections = normalize(exchange["data"][:], exchange["data_white"][:], exchange["data_dark"][:])
        angles = np.radians(exchange["theta"][:])
    assert find_center(projections, angles) == pytest.approx(296, abs=0.5)
    for method in METHODS:
        assert find_center(projections, angles, method) == pytest.approx(296, abs=1.5)


def test_what_cannot_be_done_is_said(phantom):
    """An unknown method, arrays that do not fit, and a scan without opposite projections."""
    angles = np.radians(np.arange(100))
    sinogram = phantom(64).sinogram(angles)
    with pytest.raises(ReconstructionError, match="no two projections half a turn apart"):
        find_center(sinogram, angles, "opposite")
    with pytest.raises(ReconstructionError, match="method 'vo' needs half a turn"):
        find_center(sinogram, angles, "vo")
    with pytest.raises(ReconstructionError, match="method='best'"):
        find_center(sinogram, angles, "best")
    with pytest.raises(ReconstructionError, match=r"sinograms has shape \(100, 64\), which does not fit 99"):
        find_center(sinogram, angles[:99])


def test_a_tilted_axis_is_found_with_its_slope(phantom):
    """Two degrees of the camera: the centre at the middle row, and the slope."""
    angles = np.linspace(0, np.pi, 3)
    centers = 66.2 + np.tan(np.radians(2)) * (np.arange(33) - 16)
    rows = [phantom(128).sinogram(angles, c)[:, None] for c in centers]
    axis = find_axis(np.concatenate(rows, axis=1), angles)
    assert axis.center == pytest.approx(66.2, abs=0.1)
    assert axis.slope == pytest.approx(np.tan(np.radians(2)), abs=0.003)
    assert axis.scatter < 0.1
    with pytest.raises(ReconstructionError, match="at least 3 rows"):
        find_axis(np.zeros((3, 2, 9)), angles)
