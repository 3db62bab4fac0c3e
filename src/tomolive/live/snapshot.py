"""The latest state of the live reconstruction: one writer, any number of readers, by version.

Pictures are latest-wins: a reader that is slow sees fewer versions and delays nobody.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings

Plane = Literal["xy", "xz", "yz", "projection", "oblique", "sinogram", "candidates"]
"""What a picture is of; ``candidates`` is a row of slices, each with another centre."""
State = Literal["waiting", "darks", "flats", "projections", "unreadable", "finished", "failed"]


NO_CORRECTIONS = CorrectionSettings()


def picture_key(plane: str, *at: float) -> str:
    """Return the name of a picture: a plane, and where it lies.

    ``xy``, ``xz``, ``yz`` without a place lie in the middle. An ``oblique`` plane is given by its tilt and
    turn in degrees and its distance from the middle in pixels; a ``sinogram`` by its detector row.

    >>> picture_key("xy", 128), picture_key("oblique", 30, 45, 0), picture_key("projection")
    ('xy@128', 'oblique@30,45,0', 'projection')
    """
    return f"{plane}@{','.join(f'{value:g}' for value in at)}" if at else plane


def parse_key(key: str) -> tuple[str, tuple[float, ...]]:
    """Return plane and place of a picture's name.

    >>> parse_key("oblique@30,45,0")
    ('oblique', (30.0, 45.0, 0.0))

    Raises
    ------
    ValueError
        if the place is not made of numbers.
    """
    plane, _, place = key.partition("@")
    return plane, tuple(float(part) for part in place.split(",")) if place else ()


@dataclass(frozen=True)
class Subject:
    """The scan that a picture is of, as it was when the picture was made; the names are those of `Status`."""

    run_uid: str = ""
    scan_id: int | None = None
    sample: str = ""
    plan: str = ""
    frames_planned: int | None = None
    frames_received: int = 0
    """Projections that are in the picture, or were left out because they saw no beam."""
    frames_missing: int = 0
    frames_without_beam: int = 0
    """How many of those received are left out."""
    coverage: float = 0.0
    """Degrees of the half turn that they cover."""
    coverage_wanted: float = 180.0
    center: float | None = None
    """Rotation centre that it was made with, detector column."""
    center_source: str = ""
    filter: str = ""
    pixel_size_um: float | None = None
    """Of a pixel of the detector; times ``corrections.binning`` of a pixel of a slice."""
    corrections: CorrectionSettings = NO_CORRECTIONS


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture; ``pixels`` is (rows, columns) float32 and never written to after publication."""

    plane: Plane
    pixels: npt.NDArray[np.float32]
    position: float
    """Index of the plane in the volume (z for xy, y for xz, x for yz); frame number for a projection."""
    version: int
    """Grows whenever the pixels change, so that a viewer fetches only what is new to it."""
    units: str = ""
    """Of a pixel's value: '1/cm', '1/pixel', 'counts'."""
    of: Subject = field(default_factory=Subject)
    """Stays true when the status tells of the next scan already."""
    key: str = ""
    """Name in the snapshot, see `picture_key`."""


@dataclass(frozen=True)
class Trend:
    """A number over the projections, for a small plot."""

    name: str
    units: str
    points: tuple[tuple[int, float], ...]
    """Number of the projection, and the value; thinned to what a plot can show."""
    warning: str = ""
    """What is wrong with it, in plain words; empty if all is well."""
    low: float | None = None
    """Below this it is a warning."""
    high: float | None = None
    """Above this it is a warning."""
    over: str = "projection"
    """What the points are numbered by: 'projection', or 'degrees' covered."""


@dataclass(frozen=True)
class Change:
    """Who changed a shared setting, and when."""

    what: str
    """'centre', 'filter', 'corrections', 'volume'."""
    value: str
    """In words."""
    who: str
    when: float
    """Unix time."""


@dataclass(frozen=True)
class VolumeProgress:
    """How far the full volume is."""

    state: Literal["waiting", "running", "finished", "failed", "cancelled"]
    run_uid: str
    done: int = 0
    """Slices."""
    total: int = 0
    rate: float | None = None
    """Slices per second."""
    seconds_left: float | None = None
    path: str = ""
    message: str = ""


@dataclass(frozen=True)
class WorkerShare:
    """A process that works on a reconstruction, and the detector rows that it has."""

    name: str
    rows: tuple[int, int]
    done: int = 0
    """Projections that it has added."""
    state: str = "working"


@dataclass(frozen=True)
class Status:
    """What the page's top line says."""

    state: State = "waiting"
    run_uid: str = ""
    scan_id: int | None = None
    sample: str = ""
    plan: str = ""
    frames_planned: int | None = None
    """Projections that the start document promises; None if it does not say."""
    frames_announced: int = 0
    """Projections that documents have announced."""
    frames_received: int = 0
    """Projections that are in the pictures."""
    missing: tuple[tuple[int, int], ...] = ()
    """Half-open ranges of announced projections that no file holds."""
    darks: int = 0
    flats: int = 0
    angle_first: float | None = None
    """Degrees."""
    angle_last: float | None = None
    coverage: float = 0.0
    """Degrees of the half turn that the received projections cover."""
    coverage_wanted: float = 180.0
    center: float | None = None
    """Rotation centre in force, detector column."""
    center_source: str = ""
    """'given', 'provisional', 'estimated from 0 and 180 degrees', 'set on the page by ...'."""
    filter: str = "ramp"
    pixel_size_um: float | None = None
    lag_s: float | None = None
    """From the announcement of the newest frame to the picture that holds it, seconds."""
    seconds_last_frame_to_final: float | None = None
    message: str = ""
    """What the user should know now, in plain words; empty if all is well."""
    updated: float = 0.0
    """Unix time."""
    trends: tuple[Trend, ...] = ()
    """What tells whether the scan is worth going on with."""
    corrections: CorrectionSettings = NO_CORRECTIONS
    changes: tuple[Change, ...] = ()
    """The last change of each shared setting."""
    volume_shape: tuple[int, int, int] | None = None
    """Rows, columns, columns of the volume, after binning; None until the first projection."""
    candidates: tuple[float, ...] = ()
    """Centres of the strip of candidates, from left to right."""
    candidate_scores: tuple[float, ...] = ()
    """How sharp each of them is; the larger, the sharper."""
    volume: VolumeProgress | None = None
    workers: tuple[WorkerShare, ...] = ()
    cameras: tuple[str, ...] = ()
    """Data keys of the cameras that are reconstructed, if there is a choice."""
    camera: str = ""
    """The one whose pictures are shown."""
    refining: bool = False
    """The last projection is there, and the centre is being refined."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that a viewer needs, at one moment."""

    version: int = 0
    status: Status = field(default_factory=Status)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """By their `picture_key`; the middle planes, without a place, are always among them."""


class SnapshotStore:
    """Holds the newest Snapshot; one thread publishes, any thread reads."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._changed = threading.Condition()

    @property
    def latest(self) -> Snapshot:
        """The newest snapshot."""
        return self._snapshot

    def publish(self, status: Status, pictures: Mapping[str, Picture]) -> Snapshot:
        """Replace the snapshot and wake everyone who waits for a newer one."""
        with self._changed:
            self._snapshot = Snapshot(self._snapshot.version + 1, status, dict(pictures))
            self._changed.notify_all()
            return self._snapshot

    def wait_newer(self, version: int, timeout: float) -> Snapshot | None:
        """Return a snapshot newer than ``version``, or None after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._snapshot.version <= version:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return None
            return self._snapshot
