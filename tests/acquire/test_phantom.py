"""The phantom: its projections are the line integrals of its slices, in the project's geometry."""

import numpy as np
import pytest

from tomolive.acquire.phantom import Ellipsoid, Phantom, porous_sample
from tomolive.errors import ScanError


def random_phantom(seed: int, size: float) -> Phantom:
    """Five ellipsoids, tilted and turned."""
    rng = np.random.default_rng(seed)
    return Phantom(
        Ellipsoid(
            tuple(rng.uniform(-0.2, 0.2, 3) * size),
            tuple(rng.uniform(0.05, 0.25, 3) * size),
            *rng.uniform(0, 180, 2),
            rng.uniform(-1, 2),
        )
        for _ in range(5)
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_projection_is_the_line_integral(seed: int) -> None:
    """A ray's value is the sum of attenuation along it, for tilted ellipsoids at any angle."""
    rows, columns, center, angle = 9, 21, 9.3, 0.7 + seed
    phantom = random_phantom(seed, columns)
    projection = phantom.projection(angle, rows, columns, center)
    step = 0.002
    u = np.arange(-columns, columns, step)
    for row, column in [(4, 9), (2, 12), (6, 7), (4, 10)]:
        s, z = column - center, row - (rows - 1) / 2
        x, y = s * np.cos(angle) - u * np.sin(angle), s * np.sin(angle) + u * np.cos(angle)
        total = 0.0
        for e in phantom.ellipsoids:
            r = np.stack([x, y, np.full_like(x, z)]) - np.array(e.center)[:, None]
            total += e.attenuation * step * np.count_nonzero((r * (e.form() @ r)).sum(0) <= 1)
        assert projection[row, column] == pytest.approx(total, abs=0.05)


def test_half_a_turn_mirrors_about_the_rotation_centre() -> None:
    """The projection at 180 degrees is the one at 0 reversed about the centre."""
    phantom = random_phantom(4, 40)
    center = 20.5
    at_0, at_180 = (phantom.projection(a, 16, 42, center) for a in (0.0, np.pi))
    np.testing.assert_allclose(at_180, at_0[:, ::-1], atol=1e-3)


def test_small_sphere_lies_where_the_geometry_says() -> None:
    """In a slice x is the column, y the row, z the detector's row; a ray meets centre + x cos t + y sin t."""
    rows, columns, center = 33, 65, 30.0
    x, y, z = 12.0, -7.0, 5.0
    phantom = Phantom([Ellipsoid((x, y, z), (2, 2, 2), 0, 0, 1.0)])
    middle = (columns - 1) / 2
    xy = phantom.slice_truth("xy", z + (rows - 1) / 2, rows, columns)
    assert np.unravel_index(xy.argmax(), xy.shape) == pytest.approx((middle + y, middle + x), abs=2)
    for angle in (0.3, 2.0):
        row, column = np.unravel_index(
            phantom.projection(angle, rows, columns, center).argmax(), (rows, columns)
        )
        assert row == (rows - 1) / 2 + z
        assert abs(column - (center + x * np.cos(angle) + y * np.sin(angle))) <= 0.5


def test_planes_cut_the_same_volume() -> None:
    """Where two planes cross, they hold the same values."""
    phantom = random_phantom(5, 32)
    rows, columns, x, y, z = 20, 32, 13, 18, 9
    xy, xz, yz = (phantom.slice_truth(*p, rows, columns) for p in (("xy", z), ("xz", y), ("yz", x)))
    assert xy.shape == (columns, columns)
    assert xz.shape == yz.shape == (rows, columns)
    np.testing.assert_array_equal(xy[y], xz[z])
    np.testing.assert_array_equal(xy[:, x], yz[z])
    np.testing.assert_array_equal(xz[:, x], yz[:, y])


def test_slice_sums_to_the_projection() -> None:
    """Pixels are averages: adding them up along a row gives the line integrals that a camera sees."""
    phantom = porous_sample(32, 128, 63.5)
    xy = phantom.slice_truth("xy", 10, 32, 128)
    seen = phantom.projection(0.0, 32, 128, 63.5)[10]
    np.testing.assert_allclose(xy.sum(0), seen, atol=0.03 * seen.max())


def test_phantom_survives_a_start_document() -> None:
    """Dictionaries hold all that is needed to compute the truth again."""
    phantom = porous_sample(16, 64, 31.0)
    again = Phantom.from_dicts(phantom.to_dicts())
    assert again.ellipsoids == phantom.ellipsoids


@pytest.mark.parametrize("dicts", [[{"center": [0, 0]}], [{"axes": 1}], [], [{"nothing": 1}]])
def test_dictionaries_that_are_no_phantom_are_refused(dicts: list[dict]) -> None:
    """What is not a list of ellipsoids is a ScanError, whatever it is."""
    with pytest.raises(ScanError):
        Phantom.from_dicts(dicts)


def test_unknown_plane_is_refused() -> None:
    """A plane that does not exist is named in the error."""
    with pytest.raises(ScanError, match="'zx'"):
        porous_sample(8, 32, 16).slice_truth("zx", 0, 8, 32)


@pytest.mark.parametrize(("rows", "columns", "center"), [(256, 512, 249.344), (64, 128, 70.0), (8, 64, 31.5)])
def test_sample_stays_in_the_beam_and_lets_light_through(rows: int, columns: int, center: float) -> None:
    """At all angles both edges of the camera see open beam, and the darkest pixel 0.1 or more of it."""
    phantom = porous_sample(rows, columns, center)
    for angle in np.linspace(0, np.pi, 13):
        projection = phantom.projection(angle, rows, columns, center)
        assert projection[:, [0, -1]].max() == 0
        assert projection.min() > -1e-3
        assert 0.1 < np.exp(-projection.max()) < 0.9
