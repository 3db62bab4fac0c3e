"""Tomography plans: darks, flats and projections as three streams of one run.

The start document says under ``tomography`` what a consumer needs: which stream is what, where image and
angle are, and what is planned.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import Msg

from tomolive.errors import ScanError

Plan = Generator[Msg, Any, Any]

STREAMS = {"darks": "darks", "flats": "flats", "projections": "projections"}


def half_turn(projections: int) -> list[float]:
    """Return ``projections`` angles from 0 to 180 degrees, both included.

    >>> half_turn(5)
    [0.0, 45.0, 90.0, 135.0, 180.0]
    """
    return np.linspace(0.0, 180.0, projections).tolist()


@dataclass(frozen=True)
class Scan:
    """What a tomography scan takes.

    Raises
    ------
    ScanError
        if there are fewer than two angles, a negative number of darks or flats, or no positive period.
    """

    angles: Sequence[float] = field(default_factory=lambda: half_turn(720))
    """Degrees, one for each projection."""
    darks: int = 20
    flats: int = 20
    period: float = 1 / 36
    """Seconds from frame to frame in a fly scan."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Goes into ``tomography`` of the start document: pixel size, energy, ..."""

    def __post_init__(self) -> None:
        if len(self.angles) < 2:
            raise ScanError(f"a tomography scan needs at least 2 projections, got {len(self.angles)}")
        if min(self.darks, self.flats) < 0:
            raise ScanError(f"numbers of frames cannot be negative: {self.darks} darks, {self.flats} flats")
        if not self.period > 0:
            raise ScanError(f"the period must be positive, got {self.period} s")

    def start_metadata(self, image_key: str, angle_key: str) -> dict[str, Any]:
        """Return the ``tomography`` entry of the start document."""
        return {
            "version": 1,
            "image_key": image_key,
            "angle_key": angle_key,
            "streams": dict(STREAMS),
            "num_darks": self.darks,
            "num_flats": self.flats,
            "num_projections": len(self.angles),
            "angle_start": float(self.angles[0]),
            "angle_stop": float(self.angles[-1]),
            **self.metadata,
        }


def tomo_step(beamline: Any, scan: Scan, md: Mapping[str, Any] | None = None) -> Plan:
    """Move to each angle and take one projection; darks and flats first.

    The camera is staged once, so that its one file feeds all three streams.

    Parameters
    ----------
    beamline
        an ``AsyncBeamline`` or a ``ClassicBeamline``.
    scan
        what to take; its period is the exposure time.
    md
        more for the start document.
    """
    stage, camera = beamline.stage, beamline.camera
    start = _start("tomo_step", scan, camera.image_key, stage.angle_key, [camera, stage], md)

    @bpp.stage_decorator([camera])
    @bpp.run_decorator(md=start)
    def inner() -> Plan:
        yield from _expose_for(beamline, scan.period)
        yield from _beam(stage, shutter_open=False, sample_in=True)
        for _ in range(scan.darks):
            yield from bps.trigger_and_read([camera], STREAMS["darks"])
        yield from _beam(stage, shutter_open=True, sample_in=False)
        for _ in range(scan.flats):
            yield from bps.trigger_and_read([camera], STREAMS["flats"])
        yield from _beam(stage, shutter_open=True, sample_in=True)
        for angle in scan.angles:
            yield from bps.mv(stage.rotation, angle)
            yield from bps.trigger_and_read([camera, stage.rotation], STREAMS["projections"])

    return (yield from inner())


def tomo_fly(
    beamline: Any, scan: Scan, md: Mapping[str, Any] | None = None, flush_period: float = 0.25
) -> Plan:
    """Turn at constant speed while camera and encoder record; darks and flats first.

    Parameters
    ----------
    beamline
        an ``AsyncBeamline`` or a ``ClassicBeamline``.
    scan
        what to take.
    md
        more for the start document.
    flush_period
        seconds between documents while frames are taken.
    """
    stage, camera = beamline.stage, beamline.camera
    cameras = [camera] if beamline.classic else beamline.cameras
    start = _start(
        "tomo_fly", scan, camera.image_key, beamline.encoder.angle_key, [*cameras, beamline.encoder], md
    )
    take, turn = (_series_classic, _turn_classic) if beamline.classic else (_series, _turn)

    @bpp.stage_decorator([camera] if beamline.classic else [])
    @bpp.run_decorator(md=start)
    def inner() -> Plan:
        yield from _beam(stage, shutter_open=False, sample_in=True)
        yield from take(beamline, STREAMS["darks"], scan.darks, scan.period, flush_period)
        yield from _beam(stage, shutter_open=True, sample_in=False)
        yield from take(beamline, STREAMS["flats"], scan.flats, scan.period, flush_period)
        yield from _beam(stage, shutter_open=True, sample_in=True)
        yield from turn(beamline, STREAMS["projections"], scan, flush_period)

    return (yield from inner())


def _start(
    plan: str,
    scan: Scan,
    image_key: str,
    angle_key: str,
    devices: Sequence[Any],
    md: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "plan_name": plan,
        "detectors": [device.name for device in devices],
        "num_points": len(scan.angles),
        "tomography": scan.start_metadata(image_key, angle_key),
        **(md or {}),
    }


def _beam(stage: Any, *, shutter_open: bool, sample_in: bool) -> Plan:
    yield from bps.mv(stage.shutter_open, shutter_open, stage.sample_in, sample_in)


def _expose_for(beamline: Any, seconds: float) -> Plan:
    """Set the time of single exposures."""
    if beamline.classic:
        yield from bps.mv(beamline.camera.exposure_time, seconds)
    else:
        from ophyd_async.core import TriggerInfo

        yield from bps.prepare(beamline.camera, TriggerInfo(livetime=seconds), wait=True)


def _series(beamline: Any, stream: str, number: int, period: float, flush_period: float) -> Plan:
    """Take frames on the camera's own clock, into a file of their own."""
    from ophyd_async.core import TriggerInfo

    cameras = beamline.cameras

    @bpp.stage_decorator(cameras)
    def inner() -> Plan:
        for camera in cameras:
            yield from bps.prepare(camera, TriggerInfo(number_of_events=number, livetime=period), wait=True)
        yield from bps.declare_stream(*cameras, name=stream, collect=True)
        yield from bps.kickoff_all(*cameras, wait=True)
        yield from bps.collect_while_completing(cameras, cameras, flush_period, stream)

    if number:
        yield from inner()


def _turn(beamline: Any, stream: str, scan: Scan, flush_period: float) -> Plan:
    """Take a projection at each pulse of the position comparator."""
    from ophyd_async.core import DetectorTrigger, TriggerInfo

    from tomolive.acquire.stage_async import Trajectory

    detectors, comparator = [*beamline.cameras, beamline.encoder], beamline.comparator
    edges = TriggerInfo(
        number_of_events=len(scan.angles), trigger=DetectorTrigger.EXTERNAL_EDGE, livetime=scan.period
    )

    @bpp.stage_decorator([*detectors, comparator])
    def inner() -> Plan:
        yield from bps.prepare(comparator, Trajectory(scan.angles, scan.period), wait=True)
        for detector in detectors:
            yield from bps.prepare(detector, edges, wait=True)
        yield from bps.declare_stream(*detectors, name=stream, collect=True)
        yield from bps.kickoff_all(*detectors, wait=True)
        yield from bps.kickoff(comparator, wait=True)
        yield from bps.collect_while_completing([comparator, *detectors], detectors, flush_period, stream)

    yield from inner()


def _series_classic(beamline: Any, stream: str, number: int, period: float, flush_period: float) -> Plan:
    """Take frames one by one: a classic camera gives an event for each."""
    del flush_period
    yield from _expose_for(beamline, period)
    for _ in range(number):
        yield from bps.trigger_and_read([beamline.camera], stream)


def _turn_classic(beamline: Any, stream: str, scan: Scan, flush_period: float) -> Plan:
    """Turn with the classic flyer, and collect what it has while it turns."""
    flyer = beamline.encoder

    @bpp.stage_decorator([flyer])
    def inner() -> Plan:
        flyer.plan_turn(scan.angles, scan.period)
        yield from bps.declare_stream(flyer, name=stream, collect=True)
        yield from bps.kickoff(flyer, wait=True)
        yield from bps.collect_while_completing([flyer], [flyer], flush_period, stream)

    yield from inner()
