"""Half acquisition and planes of any orientation."""

import numpy as np
import pytest

from tomolive.errors import ReconstructionError
from tomolive.recon import reconstruct, reconstruct_plane, widen

WHOLE_TURN = np.arange(720) * np.pi / 360


@pytest.mark.parametrize("side", ["axis left", "axis right"])
@pytest.mark.parametrize("angles", [WHOLE_TURN, WHOLE_TURN[np.random.default_rng(1).permutation(720)]])
def test_half_acquisition_gives_the_whole_slice(phantom, side, angles):
    """A detector that sees 60 % of the object, the axis near its edge, over a whole turn."""
    truth = phantom(256)
    whole = truth.sinogram(angles)
    narrow, center = (whole[:, 96:], 31.5) if side == "axis left" else (whole[:, :160], 127.5)
    wide, moved = widen(narrow, center)
    assert (wide.shape, moved) == ((720, 256), 127.5)
    for method in ("gridding", "backprojection"):
        image = reconstruct(wide, angles, moved, method=method)[0]
        assert truth.error(image) < 2.5e-4
        mask = truth.inside(0.5)
        assert image[mask].mean() == pytest.approx(truth.image()[mask].mean(), rel=1e-3)


def test_half_acquisition_needs_an_overlap(phantom):
    """An axis at the very edge leaves nothing to blend."""
    with pytest.raises(ReconstructionError, match="center=2 leaves no overlap"):
        widen(np.zeros((4, 50)), 2)


@pytest.fixture(scope="module")
def stack(phantom):
    """Projections of 12 rows, their angles, and the volume by backprojection."""
    angles = np.arange(120) * np.pi / 120
    projections = phantom(64).stack(angles, 12, 30.3)
    volume = reconstruct(projections.transpose(1, 0, 2), angles, 30.3, method="backprojection")
    return projections, angles, volume


@pytest.mark.parametrize(
    ("origin", "down", "right", "shape", "cut"),
    [
        ((5, 0, 0), (0, 1, 0), (0, 0, 1), (64, 64), lambda v: v[5]),
        ((0, 20, 0), (1, 0, 0), (0, 0, 1), (12, 64), lambda v: v[:, 20]),
        ((0, 0, 41), (1, 0, 0), (0, 1, 0), (12, 64), lambda v: v[:, :, 41]),
        (
            (0, 10, 3),
            (1, 2, 0),
            (0, 0, 1),
            (12, 60),
            lambda v: v[np.arange(12), 10 + 2 * np.arange(12), 3:63],
        ),
        ((2.5, 0, 0), (0, 1, 0), (0, 0, 1), (64, 64), lambda v: (v[2] + v[3]) / 2),
    ],
)
def test_a_plane_is_what_the_volume_holds_there(stack, origin, down, right, shape, cut):
    """Orthogonal, tilted, and between two detector rows."""
    projections, angles, volume = stack
    plane = reconstruct_plane(projections, angles, 30.3, origin=origin, down=down, right=right, shape=shape)
    np.testing.assert_allclose(plane, cut(volume), atol=1e-5 * volume.max())


def test_a_plane_turned_about_the_axis_is_the_slice_of_turned_angles(stack):
    """Turning the plane by 30 degrees is turning the scan by 30 degrees the other way."""
    projections, angles, _ = stack
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    start = (0, 31.5 - 31.5 * s, 31.5 - 31.5 * c)
    plane = reconstruct_plane(
        projections, angles, 30.3, origin=start, down=(1, 0, 0), right=(0, s, c), shape=(12, 64)
    )
    turned = reconstruct_plane(
        projections,
        angles - np.pi / 6,
        30.3,
        origin=(0, 31.5, 0),
        down=(1, 0, 0),
        right=(0, 0, 1),
        shape=(12, 64),
    )
    np.testing.assert_allclose(plane, turned, atol=1e-4 * np.abs(plane).max())


def test_a_plane_outside_the_detector_is_empty(stack):
    """Above and below there is nothing to show."""
    projections, angles, _ = stack
    plane = reconstruct_plane(
        projections, angles, 30.3, origin=(12, 0, 0), down=(0, 1, 0), right=(0, 0, 1), shape=(64, 64)
    )
    assert not plane.any()


def test_a_plane_with_bad_arguments_is_refused(stack):
    """Places are three finite numbers, projections as many as angles."""
    projections, angles, _ = stack
    places = {"down": (0, 1, 0), "right": (0, 0, 1), "shape": (4, 4)}
    with pytest.raises(ReconstructionError, match="origin"):
        reconstruct_plane(projections, angles, 30.3, origin=(np.nan, 0, 0), **places)
    with pytest.raises(ReconstructionError, match="projections has shape"):
        reconstruct_plane(projections[1:], angles, 30.3, origin=(0, 0, 0), **places)
