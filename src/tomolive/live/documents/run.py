"""What is known of one tomography run: what the start document says, and what has come so far."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.live.documents.ranges import Ranges
from tomolive.live.documents.rules import Kind, Rules, lookup
from tomolive.live.documents.streams import ImageStream, MonitorAngles
from tomolive.live.snapshot import State

_MICROMETRES = {
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}


_SAME_SIZE = 0.01
"""Part by which two sizes of a pixel may differ: they were typed, or rounded."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive frames of one kind."""

    kind: Kind
    run_uid: str
    first: int
    """Number of the first frame: projections count through the scan, darks and flats through their stream."""
    array: npt.NDArray[np.generic]
    """(n, rows, columns), as they are in the file."""
    angles: npt.NDArray[np.float64] | None
    """(n,), radians; only projections have angles, and none if the scan does not tell them."""
    after: int = 0
    """Of darks and flats: the number that follows the last projection before them; 0 before the first."""

    def pieces(self, most: int) -> Iterator["Batch"]:
        """Yield the projections of this batch, at most so many at once; darks and flats stay together."""
        if self.kind != "projection" or len(self.array) <= most:
            yield self
            return
        for first in range(0, len(self.array), most):
            part = slice(first, first + most)
            angles = None if self.angles is None else self.angles[part]
            yield replace(self, first=self.first + first, array=self.array[part], angles=angles)


@dataclass(frozen=True)
class Note:
    """Something that the user should know, in plain words."""

    run_uid: str
    text: str
    problem: bool = True
    """False: only for the log, or told elsewhere."""


Output = Batch | Note


class Scan:
    """What is known of one tomography run."""

    def __init__(self, start: Mapping[str, Any], rules: Rules) -> None:
        self.start, self.rules = start, rules
        self.run_uid: str = start["uid"]
        self.scan_id = _count(start.get("scan_id"))
        self.plan = str(start.get("plan_name", ""))
        self.sample = _text(start, rules.sample)
        self.planned = _count(rules.first_of(start, rules.planned))
        self.pixel_size_um = _pixel_size(start, rules)
        self.references = _uids(rules.first_of(start, rules.references))
        self.coverage_wanted = _coverage_wanted(start, rules, self.planned)
        self.turn = _turn(start, rules, self.planned)
        self.streams: dict[str, ImageStream] = {}
        self.monitors: dict[str, MonitorAngles] = {}
        self.data_keys: dict[str, str] = {}
        self.parameters: dict[str, Mapping[str, Any]] = {}
        """Data key -> parameters of its newest stream_resource."""
        self.resources: dict[str, Mapping[str, Any]] = {}
        """Uid of a resource -> its resource_kwargs."""
        self.datums: dict[str, str] = {}
        """datum_id, until its event comes -> uid of its resource."""
        self.camera: str | None = None
        self.announced, self.received, self.missing = Ranges(), Ranges(), Ranges()
        self.numbered = Ranges()
        """All numbers that were given away, also to frames that turned out to be darks or flats."""
        self.darks = self.flats = 0
        self.angle_first: float | None = None
        self.angle_last: float | None = None
        self.stop: Mapping[str, Any] | None = None
        self.closed = False
        self.failure = ""
        self.unreadable = ""
        """Why images cannot be read yet."""
        self.missing_because = ""
        self._doing: State = "waiting"

    @property
    def outcome(self) -> str:
        """'success', 'abort', 'fail', or 'no stop document' as long as none has come."""
        return str(self.stop.get("exit_status", "success")) if self.stop else "no stop document"

    def about(self) -> dict[str, Any]:
        """Return what every result says of the scan that it is of."""
        return {
            "run_uid": self.run_uid,
            "scan_id": self.scan_id,
            "sample": self.sample,
            "plan": self.plan,
            "rules": self.rules.name,
            "outcome": self.outcome,
        }

    @property
    def complete(self) -> bool:
        """Whether the run has stopped and every announced frame has come, or is known to be missing."""
        return self.stop is not None and all(stream.complete for stream in self.streams.values())

    @property
    def state(self) -> State:
        """What the top line of the page says."""
        if self.failure:
            return "failed"
        if self.closed:
            return "failed" if self.outcome == "fail" else "finished"
        return "unreadable" if self.unreadable else self._doing

    @property
    def takes_projections(self) -> bool:
        """Whether this run is a scan, not only darks and flats for another one."""
        return bool(self.announced or self.received or self.missing)

    def pixel_size_doubts(self, told: float | None) -> list[str]:
        """Return what speaks against a pixel size, micrometres, that somebody has set; in words."""
        known = self.pixel_size_um
        if told is None or known is None or abs(told - known) <= _SAME_SIZE * known:
            return []
        return [
            f"Phase retrieval is set to pixels of {told:g} um; the documents of the scan say {known:g} um."
        ]

    def note(self, text: str, problem: bool = True) -> Note:
        """Return a note about this run."""
        return Note(self.run_uid, text, problem)

    def fail(self, reason: str) -> list[Output]:
        """Give this run up."""
        self.failure = reason
        return [self.note(reason)]

    def received_frames(self, kind: Kind, count: int) -> None:
        """Count frames that came, and follow what the scan is doing."""
        self.unreadable = ""
        if kind == "dark":
            self.darks, self._doing = self.darks + count, "darks"
        elif kind == "flat":
            self.flats, self._doing = self.flats + count, "flats"
        else:
            self._doing = "projections"


def in_words(ranges: Iterable[tuple[int, int]], most: int = 5) -> str:
    """Return half-open ranges as people write them.

    >>> in_words([(3, 4), (10, 20)])
    '3, 10 to 19'
    """
    parts = [f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in ranges]
    more = f" and {len(parts) - most} more ranges" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more


def _text(start: Mapping[str, Any], keys: Iterable[str]) -> str:
    values = (lookup(start, key) for key in keys)
    return next((str(value) for value in values if isinstance(value, str | int | float)), "")


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < math.inf else None


def _uids(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(str(uid) for uid in value) if isinstance(value, list | tuple) else ()


def _pixel_size(start: Mapping[str, Any], rules: Rules) -> float | None:
    for length in rules.pixel_size:
        size = lookup(start, length.key)
        units = (length.units_key and lookup(start, length.units_key)) or length.units
        if isinstance(size, int | float) and size > 0 and units in _MICROMETRES:
            return float(size) * _MICROMETRES[units]
    return None


def _turn(start: Mapping[str, Any], rules: Rules, projections: int | None) -> float | None:
    """Return the degrees that the plan turns through; each projection stands for one step."""
    ends = [lookup(start, key) for key in rules.angle_range or ()]
    if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
        return None
    span = abs(ends[1] - ends[0])
    return span * projections / (projections - 1) if projections and projections > 1 else span


def _coverage_wanted(start: Mapping[str, Any], rules: Rules, projections: int | None) -> float:
    """Return the degrees of the half turn that the plan covers."""
    return min(180.0, _turn(start, rules, projections) or 180.0)
