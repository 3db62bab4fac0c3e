"""One image stream of a run: its frames, their kind and their angles, as the documents tell them."""

import math
from bisect import bisect, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tomolive.errors import ScanError
from tomolive.files.announcements import axes_of, frames_per_event
from tomolive.geometry import to_radians
from tomolive.live.documents.pairing import Pairing
from tomolive.live.documents.ranges import Ranges
from tomolive.live.documents.rules import AngleSource, Kind, Rules, first_match, lookup

MOST_FRAMES = 10_000_000
"""A frame number beyond this is a mistake, not a scan; it bounds what a document can make us allocate."""


@dataclass(frozen=True)
class Column:
    """A data key that describes frames: an event scalar, or an array along the same index in a file."""

    meaning: Literal["angle", "kind", "time"]
    data_key: str
    per_event: int = 1
    units: str = "deg"
    since: float = 0.0
    """Unix time at which times begin."""


class MonitorAngles:
    """Readings of the stage that come in a stream of their own; any number of image streams may use them."""

    def __init__(self, stream: str, data_key: str, units: str) -> None:
        self.stream, self.data_key = stream, data_key
        self._units = units
        self._times: list[float] = []
        self._values: list[float] = []

    def add_reading(self, time: float, value: float) -> None:
        """Add one reading; Unix time."""
        self._times.append(time)
        self._values.append(value)

    def at(self, times: npt.NDArray[np.float64], last: bool) -> npt.NDArray[np.float64]:
        """Return the angles, radians, at as many of ``times`` from the first on as lie before a reading.

        With ``last`` no further reading will come: later frames get the last one.
        """
        if not self._times:
            return np.zeros(0)
        order = np.argsort(self._times, kind="stable")
        read = np.asarray(self._times)[order]
        angles = to_radians(np.asarray(self._values)[order], self._units)
        late = times > read[-1]
        known = len(times) if last or not late.any() else int(np.argmax(late))
        return np.interp(times[:known], read, angles)


@dataclass(frozen=True, eq=False)
class AngleOrigin:
    """Where the angles of one stream come from: a column, a monitor, or what was planned."""

    told: str
    """In plain words."""
    column: Column | None = None
    monitor: MonitorAngles | None = None
    """None, without column and plan: its stream is awaited."""
    times: Column | None = None
    """Of the frames, for a monitor; None: the times of the events."""
    planned: npt.NDArray[np.float64] | None = None
    """(n,), radians."""

    @property
    def interpolated(self) -> bool:
        """Whether the angles are those of a monitor at the frames' times."""
        return self.column is None and self.planned is None


class ImageStream:
    """The frames of one camera in one stream of one run.

    Parameters
    ----------
    kind
        what all the frames are; None if each frame says so itself.
    per_event
        frames for each event (or index of a stream_datum).
    description
        of the camera's data key, in the descriptor.
    why
        by what the kind is known, in words.
    kind_column
        what says it for each frame, if ``kind`` does not.
    angles
        where they come from; None: the stream has none.
    """

    def __init__(
        self,
        name: str,
        image_key: str,
        kind: Kind | None,
        *,
        per_event: int,
        description: Mapping[str, Any],
        why: str,
        kind_column: Column | None,
        angles: AngleOrigin | None,
        limit_bytes: int,
    ) -> None:
        self.name, self.image_key = name, image_key
        self.kind: Kind | None = kind
        self.per_event, self.why, self.angles = per_event, why, angles
        self._description = description
        self._taken_at: list[tuple[int, npt.NDArray[np.float64]]] = []
        columns = [kind_column, *([angles.column, angles.times] if angles else [])]
        self.columns = {column.data_key: column for column in columns if column}
        self.announced, self.received, self.missing = Ranges(), Ranges(), Ranges()
        needed = [name for name, needs in (("kind", kind_column), ("angle", angles)) if needs]
        self.pairing = Pairing(needed, limit_bytes)
        self._after: list[tuple[int, int]] = []
        """First frame of what was announced together, and the number after the projection before it."""
        self._numbered: list[tuple[int, int, int]] = []
        """Frames, and by how much their numbers within the scan are larger; sorted."""
        self._shift: int | None = None
        """That of the frames that were announced last."""
        self._planned: int | None = None
        if angles and angles.planned is not None:
            self.pairing.add_numbers("angle", 0, angles.planned)
            self._planned = len(angles.planned)

    def heed(self, parameters: Mapping[str, Any]) -> None:
        """Take what a file's document says of the number of frames in each event."""
        self.per_event = frames_per_event(self._description, parameters)

    def announce(self, first: int, last: int) -> list[tuple[int, int]]:
        """Documents promise frames ``[first, last)``; return those that are new.

        Raises
        ------
        ScanError
            if no scan has that many frames.
        """
        if not 0 <= first <= last <= MOST_FRAMES:
            raise ScanError(f"stream {self.name!r} announces frames {first} to {last}: that cannot be right")
        if self._planned is not None and last > self._planned:
            self.pairing.give_up(max(first, self._planned), last)
        return self.announced.add(first, last)

    def number(self, first: int, last: int, taken: Ranges) -> tuple[int, int]:
        """Give projections ``[first, last)`` their numbers within the scan, and return the range of these.

        They count as the stream does, after the streams before; where another stream has ``taken`` these
        numbers in between, after all that are taken.
        """
        shift = taken.end if self._shift is None else self._shift
        if taken.gaps(first + shift, last + shift) != [(first + shift, last + shift)]:
            shift = taken.end - first
        self._shift = shift
        place = bisect(self._numbered, (first, last, shift))
        if place and self._numbered[place - 1][1:] == (first, shift):
            place -= 1
            self._numbered[place] = (self._numbered[place][0], last, shift)
        else:
            self._numbered.insert(place, (first, last, shift))
        return first + shift, last + shift

    def numbers(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """Cut ``[first, last)`` where numbers within the scan leap: (first, last, number of the first)."""
        begin = max(bisect(self._numbered, (first, MOST_FRAMES, 0)) - 1, 0)
        end = bisect(self._numbered, (last, 0, 0))
        cut = [(max(a, first), min(b, last), shift) for a, b, shift in self._numbered[begin:end]]
        return [(a, b, a + shift) for a, b, shift in cut if a < b]

    def came_after(self, first: int, number: int) -> None:
        """Note what was announced before the frames from ``first`` on: all projections below ``number``."""
        insort(self._after, (first, number))

    def pieces(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """Cut ``[first, last)`` where projections were announced between: (first, last, see `came_after`)."""
        cuts = [(a, number) for a, number in self._after if first < a < last]
        before = max((mark for mark in self._after if mark[0] <= first), default=(0, 0))
        starts = [(first, before[1]), *cuts]
        ends = [*(a for a, _ in cuts), last]
        return [(a, b, number) for (a, number), b in zip(starts, ends, strict=True)]

    def add_numbers(self, column: Column, first: int, values: npt.ArrayLike) -> None:
        """Add what ``column`` says of the frames from event ``first // column.per_event`` on."""
        numbers = np.asarray(values, dtype=np.float64).reshape(-1)
        repeat = max(1, self.per_event // column.per_event)
        first *= repeat
        if first + len(numbers) * repeat > MOST_FRAMES:
            raise ScanError(
                f"{column.data_key!r} of stream {self.name!r} has numbers from frame {first} on, "
                f"{repeat} frames for each: that cannot be right"
            )
        numbers = np.repeat(numbers, repeat)
        if column.meaning == "time":
            self.add_times(first, numbers + column.since)
        elif column.meaning == "angle":
            self.pairing.add_numbers("angle", first, to_radians(numbers, column.units))
        elif column.meaning == "kind":
            self.pairing.add_numbers("kind", first, numbers)

    def add_times(self, first: int, times: npt.NDArray[np.float64]) -> None:
        """Add the Unix times (n,) of the frames from ``first`` on, which a monitor's angles are for."""
        self._taken_at.append((first, times))

    @property
    def monitor(self) -> MonitorAngles | None:
        """Whose readings give the angles."""
        return self.angles.monitor if self.angles else None

    def await_monitor(self, monitor: MonitorAngles) -> None:
        """Take the angles from ``monitor``, if such a one is awaited."""
        if self.angles and self.angles.interpolated and self.monitor is None:
            self.angles = _interpolated(monitor, self.angles.times)

    def ask_monitor(self, last: bool = False) -> None:
        """Take the angles that the monitor's readings now give."""
        if self.monitor is None:
            return
        asked, self._taken_at = self._taken_at, []
        for first, times in asked:
            angles = self.monitor.at(times, last)
            self.pairing.add_numbers("angle", first, angles)
            if len(angles) < len(times):
                self._taken_at.append((first + len(angles), times[len(angles) :]))

    @property
    def complete(self) -> bool:
        """Whether every announced frame was received, or is known to be missing."""
        return not self.announced.without(self.received, self.missing)


def choose_camera(rules: Rules, start: Mapping[str, Any], descriptor: Mapping[str, Any]) -> list[str]:
    """Return the data keys of ``descriptor`` that hold images; the one to use comes first."""
    keys = descriptor.get("data_keys", {})
    images = sorted(key for key, spec in keys.items() if _is_image(spec))
    detectors = [str(name) for name in start.get("detectors") or []]
    images.sort(
        key=lambda key: next((i for i, d in enumerate(detectors) if key.startswith(d)), len(detectors))
    )
    named = rules.first_of(start, rules.image_key)
    if named in keys:
        images = [named, *(key for key in images if key != named)]
    return images


def _is_image(spec: Mapping[str, Any]) -> bool:
    shape = axes_of(spec)
    return "external" in spec and len(shape) >= 2 and shape[-1] > 1 and shape[-2] > 1


def find_scalar(patterns: Sequence[str], descriptor: Mapping[str, Any]) -> str | None:
    """Return the first data key of ``descriptor`` that matches and is not an image."""
    keys = descriptor.get("data_keys", {})
    return first_match([key for key, spec in keys.items() if not _is_image(spec)], patterns)


def find_angles(
    rules: Rules, start: Mapping[str, Any], monitors: Iterable[MonitorAngles], descriptor: Mapping[str, Any]
) -> AngleOrigin | None:
    """Return the first source of angles that applies to a stream.

    Raises
    ------
    ScanError
        if the angles' unit is not known.
    """
    for source in rules.angles:
        if column := _angle_column(source, start, descriptor):
            external = "external" in descriptor["data_keys"][column.data_key]
            where = "in a file" if external else "in each event"
            return AngleOrigin(f"{column.data_key!r} {where}, {column.units}", column=column)
        for monitor in monitors:
            if first_match([monitor.stream], source.monitor):
                return _interpolated(monitor, _time_column(source, descriptor))
        if (angles := _planned_angles(source, start)) is not None:
            told = f"planned: {source.start}, {source.stop} and {source.count} of the start document"
            return AngleOrigin(told, planned=angles)
    return _awaited_angles(rules, descriptor)


def _awaited_angles(rules: Rules, descriptor: Mapping[str, Any]) -> AngleOrigin | None:
    """Return the angles of a monitor whose descriptor may still come, if the rules know of one."""
    source = next((source for source in rules.angles if source.monitor), None)
    if source is None:
        return None
    told = f"awaited, from a stream {' or '.join(source.monitor)} that has not come"
    return AngleOrigin(told, times=_time_column(source, descriptor))


def _interpolated(monitor: MonitorAngles, times: Column | None) -> AngleOrigin:
    when = f"at the times {times.data_key!r}" if times else "at the times of the events"
    told = f"{monitor.data_key!r} of the stream {monitor.stream!r}, interpolated {when}"
    return AngleOrigin(told, monitor=monitor, times=times)


def _angle_column(
    source: AngleSource, start: Mapping[str, Any], descriptor: Mapping[str, Any]
) -> Column | None:
    named = source.data_key_in_start and lookup(start, source.data_key_in_start)
    key = find_scalar([str(named)] if named else source.data_key, descriptor)
    if key is None:
        return None
    spec = descriptor["data_keys"][key]
    units = spec.get("units") or source.units
    if not units:
        raise ScanError(f"the angle {key!r} has no units in its data key: are they degrees or radians?")
    to_radians(0.0, units)
    return Column("angle", key, math.prod(axes_of(spec)), units)


def _time_column(source: AngleSource, descriptor: Mapping[str, Any]) -> Column | None:
    key = find_scalar(source.times, descriptor)
    if key is None:
        return None
    each = math.prod(axes_of(descriptor["data_keys"][key]))
    return Column("time", key, each, since=source.times_since)


def _planned_angles(source: AngleSource, start: Mapping[str, Any]) -> npt.NDArray[np.float64] | None:
    if not source.start:
        return None
    first, last, count = (lookup(start, str(key)) for key in (source.start, source.stop, source.count))
    if first is None or last is None or not count or not 0 < int(count) <= MOST_FRAMES:
        return None
    angles = np.linspace(float(first), float(last), int(count), endpoint=source.endpoint)
    return to_radians(angles, source.units or "deg")
