"""A lost beam is seen in the brightness of the projections, and told in words."""

import numpy as np

from tomolive.live.beam import Brightness
from tomolive.recon.correct import flat_field


def projections(count: int, level: float) -> np.ndarray:
    """Return raw projections of an even brightness, with noise."""
    some = np.random.default_rng(3).poisson(level, (min(count, 20), 100, 130)).astype(np.uint16)
    return np.resize(some, (count, 100, 130))


def test_transmission_is_relative_to_the_flats() -> None:
    """With darks of 100 and flats of 1100 counts, 600 counts are half of the beam."""
    brightness = Brightness()
    brightness.add(0, projections(20, 600))
    field = flat_field(np.full((2, 100, 130), 1100), np.full((2, 100, 130), 100))
    trend = brightness.trend(field)
    assert trend.units == "transmission"
    assert np.allclose([value for _, value in trend.points], 0.5, atol=0.01)
    assert trend.warning == ""
    assert brightness.trend(None).units == "counts"


def test_lost_beam_is_named_by_its_projections() -> None:
    """Projections without beam are named, in whatever order they came, and none is thinned away."""
    brightness = Brightness()
    brightness.add(300, projections(200, 900))
    brightness.add(0, projections(300, 900))
    brightness.add(500, projections(3, 20))
    brightness.add(503, projections(500, 900))
    trend = brightness.trend(None)
    assert trend.warning == "projections 500 to 502 saw hardly any beam"
    assert len(trend.points) == 240
    assert min(value for _, value in trend.points) < 30
    brightness.add(1003, projections(2000, 20))
    assert brightness.trend(None).warning.startswith("projections 500 to 502, 1003 to 3002 ")
    assert [number for number, _ in trend.points] == sorted(number for number, _ in trend.points)


def test_projections_without_beam_are_the_same_in_whatever_order_they_come() -> None:
    """Backwards, twice, and before the beam was there; a scan that never saw any keeps all of them."""
    field = flat_field(np.full((2, 100, 130), 1100), np.full((2, 100, 130), 100))
    frames = np.concatenate([projections(5, 102), projections(20, 600), projections(2, 130)])
    brightness = Brightness()
    for first in (25, 0, 5, 0):
        brightness.add(first, frames[first : first + 20])
        if first == 25:
            assert brightness.without_beam(field, 0.05).tolist() == []
    assert brightness.without_beam(field, 0.05).tolist() == [0, 1, 2, 3, 4]
    assert brightness.without_beam(field, 0.1).tolist() == [0, 1, 2, 3, 4, 25, 26]
    assert brightness.without_beam(field, 0).tolist() == []
    nothing = Brightness()
    nothing.add(0, projections(30, 101))
    assert nothing.without_beam(field, 0.05).tolist() == []


def test_hot_pixels_do_not_hide_a_lost_beam() -> None:
    """Pixels that count the same with and without beam are not looked at; the flats may come later."""
    hot = np.random.default_rng(4).random((100, 130)) < 0.02
    frames = projections(100, 600)
    frames[60:] = projections(40, 103)
    frames[:, hot] = 65535
    brightness = Brightness()
    brightness.add(0, frames)
    assert brightness.trend(None).units == "counts"
    dark, flat = np.full((100, 130), 100.0), np.full((100, 130), 1100.0)
    dark[hot] = flat[hot] = 65535
    trend = brightness.trend(flat_field(flat, dark))
    assert trend.warning == "projections 60 to 99 saw hardly any beam"
    assert np.isclose(trend.points[0][1], 0.5, atol=0.01)


def test_pixels_that_are_no_number_are_left_out() -> None:
    """A dead pixel that reads NaN, or a whole projection of them, changes nothing that is said."""
    frames = projections(100, 600).astype(np.float32)
    frames[60:] = 3
    frames[:, 0, 0] = np.nan
    frames[10] = np.nan
    brightness = Brightness()
    brightness.add(0, frames)
    trend = brightness.trend(None)
    assert trend.warning == "projections 60 to 99 saw hardly any beam"
    assert all(np.isfinite(value) for _, value in trend.points)
    assert np.isclose(trend.points[0][1], 600, atol=5)
