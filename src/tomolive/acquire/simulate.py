"""Simulated scans of a porous stone, with a truth to compare with."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path
from typing import Any, Literal

from tomolive.acquire.phantom import Phantom, porous_sample
from tomolive.acquire.plans import Plan, Scan, half_turn, tomo_fly, tomo_step
from tomolive.acquire.scene import Scene, SimulatedScene
from tomolive.acquire.session import NumberedFiles, Outcome, ScanFolder, Session, new_scan_folder
from tomolive.errors import ScanError

log = logging.getLogger(__name__)

Style = Literal["async", "classic"]

JITTER = 0.002
"""Degrees: standard deviation of the stage about its planned angles."""


@dataclass(frozen=True)
class Simulation:
    """What is simulated."""

    rows: int = 256
    columns: int = 512
    projections: int = 720
    darks: int = 20
    flats: int = 20
    rate: float = 36.0
    """Frames a second."""
    center: float | None = None
    """Detector column of the rotation axis; default 0.487 of the columns."""
    seed: int = 0
    """Of noise, beam and bad columns; the next scan takes the next seed."""
    style: Style = "async"
    plan: Literal["fly", "step"] = "fly"
    cameras: Literal[1, 2] = 1
    """The second one is half as wide and high, and sees the same stone; fly scans of ophyd-async only."""
    tiles: Literal["none", "beside", "above"] = "none"
    """Two cameras of one size that see a stone together, side by side or above each other, an eighth twice.

    The start document says where they lie; ``rows``, ``columns`` and ``center`` are those of the field.
    """

    def __post_init__(self) -> None:
        if self.cameras == 2 and (self.style, self.plan) != ("async", "fly"):
            raise ScanError("two cameras take fly scans with ophyd-async devices only")
        if self.tiles != "none" and self.cameras != 2:
            raise ScanError(f"a field of tiles needs two cameras, got {self.cameras}")
        if self.rows < 1 or self.columns < 16:
            raise ScanError(f"the camera must have 1 x 16 pixels or more, got {self.rows} x {self.columns}")
        if not self.rate > 0:
            raise ScanError(f"the rate must be positive, got {self.rate} frames/s")
        if not 0 < self.axis < self.columns - 1:
            raise ScanError(f"the rotation centre {self.axis} lies outside columns 0 to {self.columns - 1}")

    @property
    def axis(self) -> float:
        """Detector column of the rotation axis."""
        return round(0.487 * self.columns, 3) if self.center is None else self.center


def simulated_plan(simulation: Simulation, folder: ScanFolder, seed: int) -> Plan:
    """Return a plan for one scan whose files go into ``folder``; a RunEngine must exist."""
    s = simulation
    tiles: dict[str, Any] = {}
    if s.tiles == "none":
        scene, phantom = _scene(s.rows, s.columns, s.axis, seed)
        second = _scene(s.rows // 2, s.columns // 2, s.axis / 2, seed + 1)[0] if s.cameras == 2 else None
    else:
        (scene, second), phantom, tiles = tiled(s, seed)
    scan = Scan(
        half_turn(s.projections),
        s.darks,
        s.flats,
        1 / s.rate,
        {
            "pixel_size": 1.0,
            "pixel_size_units": "um",
            "energy": 25.0,
            "energy_units": "keV",
            **tiles,
            "simulation": {
                "rotation_center": s.axis,
                "rows": s.rows,
                "columns": s.columns,
                "seed": seed,
                "bad_columns": [int(i) for i in scene.bad.nonzero()[0]],
                "phantom": phantom.to_dicts(),
            },
        },
    )
    plan = tomo_fly if s.plan == "fly" else tomo_step
    devices = beamline(s.style, scene, folder.path, jitter=JITTER, seed=seed, second_scene=second)
    return plan(devices, scan, {"scan_id": folder.number, "sample": {"name": "porous stone"}})


def _scene(rows: int, columns: int, axis: float, seed: int) -> tuple[SimulatedScene, Phantom]:
    phantom = porous_sample(rows, columns, axis)
    return SimulatedScene(phantom, rows, columns, axis, seed), phantom


def tiled(
    simulation: Simulation, seed: int
) -> tuple[tuple[SimulatedScene, SimulatedScene], Phantom, dict[str, Any]]:
    """Return what two cameras see of one field, the field's phantom, and what the start document says."""
    s = simulation
    phantom = porous_sample(s.rows, s.columns, s.axis)
    beside = s.tiles == "beside"
    length = s.columns if beside else s.rows
    size, first = length * 9 // 16, length - length * 9 // 16
    shape = (s.rows, size) if beside else (size, s.columns)
    places = [(0, 0), (0, first) if beside else (first, 0)]
    scenes = [
        SimulatedScene(phantom, *shape, s.axis, seed + i, window=(place, (s.rows, s.columns)))
        for i, place in enumerate(places)
    ]
    names = ("camera", "camera2")
    tiles = {name: {"row": row, "column": column} for name, (row, column) in zip(names, places, strict=True)}
    return (scenes[0], scenes[1]), phantom, {"tiles": tiles}


def beamline(
    style: Style,
    scene: Scene,
    folder: Path,
    *,
    jitter: float = 0.0,
    seed: int = 0,
    second_scene: Scene | None = None,
) -> Any:
    """Return the devices of one style, writing into ``folder``; a RunEngine must exist."""
    if style == "classic":
        from tomolive.acquire.devices_classic import classic_beamline

        return classic_beamline(scene, folder, jitter=jitter, seed=seed)
    from tomolive.acquire.devices_async import async_beamline

    return async_beamline(scene, NumberedFiles(folder), jitter=jitter, seed=seed, second_scene=second_scene)


def run_simulation(
    simulation: Simulation,
    session: Session,
    data: Path,
    *,
    count: int = 1,
    pause: float = 0.0,
    done: Callable[[Outcome], object] = log.debug,
) -> None:
    """Run simulated scans one after the other, until ``session`` is stopped or ``count`` are done.

    Parameters
    ----------
    simulation
        what to simulate.
    session
        where to run it.
    data
        each scan gets a folder of its own in here.
    count
        number of scans; 0: until stopped.
    pause
        seconds between scans.
    done
        is told how each scan ended.
    """
    for i in range(count) if count else count_from():
        if i and session.stopping.wait(pause):
            return
        if session.stopping.is_set():
            return
        plan = simulated_plan(simulation, new_scan_folder(data), simulation.seed + i)
        outcome = session.run(plan)
        log.info("run %s: %s", outcome.run_uid, outcome.exit_status)
        done(outcome)
