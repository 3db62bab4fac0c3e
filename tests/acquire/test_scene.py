"""What the simulated camera counts."""

import numpy as np
import pytest

from tomolive.acquire.phantom import porous_sample
from tomolive.acquire.scene import SimulatedScene, UniformScene, kind_of
from tomolive.acquire.simulate import Simulation, tiled
from tomolive.errors import ScanError

ROWS, COLUMNS, CENTER = 24, 64, 31.2


def scene(seed: int = 3) -> SimulatedScene:
    """A small camera."""
    return SimulatedScene(porous_sample(ROWS, COLUMNS, CENTER), ROWS, COLUMNS, CENTER, seed)


def test_correction_gives_the_line_integrals_but_in_bad_columns() -> None:
    """-log((frame - dark) / (flat - dark)) is the exact projection within noise; a bad column is off."""
    camera = scene()
    dark, flat, seen = (
        np.mean([camera.expose(kind, 40.0) for _ in range(200)], axis=0)
        for kind in ("dark", "flat", "projection")
    )
    truth = camera.phantom.projection(np.deg2rad(40.0), ROWS, COLUMNS, CENTER)
    error = -np.log((seen - dark) / (flat - dark)) - truth
    bad = camera.bad != 0
    assert np.abs(error[:, ~bad]).max() < 0.012
    shaded = truth.mean(axis=0) > 0.3
    assert np.count_nonzero(bad) == 4
    assert np.abs(error[:, bad & shaded]).mean() > 0.01


def test_noise_is_that_of_photons() -> None:
    """The variance of a pixel equals its mean."""
    camera = scene()
    frames = np.array([camera.expose("flat", 0.0) for _ in range(300)], dtype=np.float64)
    assert abs(np.mean(frames.var(axis=0) / frames.mean(axis=0)) - 1) < 0.02


def test_same_seed_gives_the_same_scan_to_the_bit() -> None:
    """A scan can be repeated; another seed gives another one."""
    one, two, other = scene(7), scene(7), scene(8)
    for kind, angle in (("dark", 0.0), ("flat", 0.0), ("projection", 33.0)):
        first = one.expose(kind, angle)
        assert first.dtype == np.uint16
        np.testing.assert_array_equal(first, two.expose(kind, angle))
        assert (first != other.expose(kind, angle)).any()


def test_shutter_and_sample_decide_what_is_seen() -> None:
    """A closed shutter is dark whatever the sample does."""
    assert [kind_of(*s) for s in ((False, False), (False, True), (True, False), (True, True))] == [
        "dark", "dark", "flat", "projection",
    ]  # fmt: skip


def test_uniform_scene_sums_to_its_number_of_pixels() -> None:
    """Five by five ones are 25."""
    assert UniformScene().expose("flat", 0.0).sum() == 25


def test_two_cameras_see_parts_of_one_field() -> None:
    """Side by side or above each other: each sees its part of the field's projection, an eighth both."""
    for how, overlap in (("beside", (64, 16)), ("above", (8, 128))):
        simulation = Simulation(rows=64, columns=128, projections=3, cameras=2, tiles=how)  # type: ignore[arg-type]
        scenes, phantom, about = tiled(simulation, 5)
        whole = phantom.projection(np.deg2rad(30), 64, 128, simulation.axis)
        seen = np.zeros((64, 128), int)
        for scene, place in zip(scenes, about["tiles"].values(), strict=True):
            window = (
                slice(place["row"], place["row"] + scene.rows),
                slice(place["column"], place["column"] + scene.columns),
            )
            seen[window] += 1
            good = scene.bad == 0
            counts = scene.expose("projection", 30.0).astype(float)
            found = -np.log((counts - scene.dark) / scene.flat)[:, good]
            assert np.abs(found - whole[window][:, good]).max() < 0.15
        assert seen.min() == 1
        assert np.count_nonzero(seen == 2) == overlap[0] * overlap[1]


def test_a_field_of_tiles_needs_two_cameras() -> None:
    """Said when the simulation is described."""
    with pytest.raises(ScanError, match="two cameras"):
        Simulation(tiles="above")
