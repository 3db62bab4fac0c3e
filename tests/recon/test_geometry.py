"""Weights follow the angles that were measured."""

import numpy as np
import pytest

from tomolive import geometry


@pytest.mark.parametrize("turns", [0.5, 1.0, 2.0])
def test_even_scans_weigh_all_projections_alike(turns):
    """Half a turn, a whole one and several give equal weights that add up to pi."""
    angles = np.arange(360) * 2 * np.pi * turns / 360
    np.testing.assert_allclose(geometry.angle_weights(angles), np.pi / 360, rtol=1e-6)
    assert np.degrees(geometry.covered(angles)) == pytest.approx(180)


def test_both_ends_share_one_cell():
    """0 and 180 degrees see the same lines and count half each."""
    weights = geometry.angle_weights(np.radians(np.linspace(0, 180, 181)))
    np.testing.assert_allclose(weights[[0, -1]], np.pi / 360)
    np.testing.assert_allclose(weights[1:-1], np.pi / 180)


@pytest.mark.parametrize("wider", [2, 6, 10])
@pytest.mark.parametrize("times", [1, 2])
def test_uneven_steps_weigh_by_the_gaps_around_them(wider, times):
    """Where steps are wider, a projection weighs as much more, also if each angle is taken twice."""
    angles = np.concatenate([np.arange(0, 120, 0.5), np.arange(120, 180, 0.5 * wider)])
    angles = np.radians(np.repeat(angles, times))
    weights = geometry.angle_weights(angles)
    coarse = weights[242 * times : -2 * times]
    np.testing.assert_allclose(coarse / weights[10:40].mean(), wider)
    assert weights.sum() == pytest.approx(np.pi)
    assert np.degrees(geometry.covered(angles)) == pytest.approx(180)


def test_a_scan_under_way_covers_what_it_has_seen():
    """94 of 180 degrees: equal weights, and a coverage of 94 degrees."""
    angles = np.radians(np.arange(0, 94, 0.5))
    np.testing.assert_allclose(geometry.angle_weights(angles), np.pi / len(angles))
    assert np.degrees(geometry.covered(angles)) == pytest.approx(94)


def test_a_few_lost_projections_are_bridged_and_a_wedge_is_not():
    """Two lost frames go to their neighbours; thirty degrees of nothing go to nobody."""
    angles = np.radians(np.delete(np.arange(180.0), [50, 51]))
    assert np.degrees(geometry.covered(angles)) == pytest.approx(180)
    wedge = np.radians(np.delete(np.arange(180.0), np.arange(50, 80)))
    assert np.degrees(geometry.covered(wedge)) == pytest.approx(150)


def test_order_and_number_of_turns_do_not_matter():
    """Weights go with their angles, wherever these stand and whichever turn they are of."""
    rng = np.random.default_rng(2)
    angles = rng.uniform(0, np.pi, 50)
    order = rng.permutation(50)
    moved = angles[order] + np.pi * rng.integers(-3, 4, 50)
    np.testing.assert_allclose(geometry.angle_weights(moved), geometry.angle_weights(angles)[order])


@pytest.mark.parametrize("step", [5, 10, 15, 30])
@pytest.mark.parametrize("end", [175, 180, 360])
def test_a_coarse_scan_covers_the_half_turn(step, end):
    """What is wide for a fine scan is the usual step of a coarse one; nothing is taken to be missing."""
    angles = np.radians(np.arange(0, end + 1 if end != 175 else 180, step))
    assert np.degrees(geometry.covered(angles)) == pytest.approx(180)


def test_a_golden_ratio_sequence_covers_the_half_turn_soon():
    """Each new angle falls into the widest gap: after a few, none is left that nobody covers."""
    turns = np.arange(100) * (np.sqrt(5) - 1) / 2
    for count in (3, 5, 8, 34, 100):
        assert np.degrees(geometry.covered(turns[:count] % 1 * np.pi)) == pytest.approx(180)


def test_excluded_projections_weigh_nothing_and_their_neighbours_more():
    """The beam was lost for one frame: the two beside it share its part of the half turn."""
    angles = np.radians(np.arange(0, 180, 2.0))
    lost = np.zeros(90, bool)
    lost[40] = True
    weights = geometry.angle_weights(angles, lost)
    assert weights[40] == 0
    assert weights.sum() == pytest.approx(np.pi)
    np.testing.assert_allclose(weights[[39, 41]] / weights[20], 1.5)


@pytest.mark.parametrize("angles", [[], [1.0], [0.0, np.pi], [0.5, 0.5, 0.5]])
def test_few_or_equal_angles_are_no_special_case(angles):
    """No angle, one, and the same again and again give finite weights."""
    weights = geometry.angle_weights(angles)
    assert len(weights) == len(angles)
    assert weights.sum() == pytest.approx(np.pi if len(angles) else 0)


def test_the_nearest_opposite_pair_is_found():
    """In a scan that ends a step before 180 degrees, the last frame is the partner of the first."""
    angles = np.radians(np.arange(0, 180, 0.25))
    first, second, deviation = geometry.opposite_pair(angles)
    assert (first, second) == (0, 719)
    assert np.degrees(deviation) == pytest.approx(0.25)
    assert geometry.opposite_pair(angles[:700]) is None
    assert geometry.opposite_pair(np.append(angles, np.pi))[2] == pytest.approx(0, abs=1e-9)
