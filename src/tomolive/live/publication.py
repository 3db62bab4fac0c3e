"""What is shown, and when it is time to show it again."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy.typing as npt

from tomolive.live.looks import Looks
from tomolive.live.shown import Shown
from tomolive.live.slices.planes import Place
from tomolive.live.snapshot import Picture, Plane, SnapshotStore, Status, Subject
from tomolive.live.tomogram import SLICES

PICTURE_PERIOD_S = 0.06
_MOST_OF_THE_TIME = 2
"""Between pictures lies at least this many times what the last ones took, so that projections come first."""
_CALM_S = 0.2
"""So long after a change, say of the centre, tilted planes wait for the next, which nothing must delay."""
_ON_DEMAND_S = 2.0
_ON_DEMAND_SHARE = 10
"""A plane that does not grow is drawn again after so many times what that took."""


@dataclass(frozen=True)
class Strip:
    """Slices with several centres, side by side."""

    pixels: npt.NDArray
    centers: tuple[float, ...]
    scores: tuple[float, ...]
    middle: float


@dataclass(frozen=True)
class _Anew:
    """A plane that does not grow."""

    drawn: int = -1
    """How often slices had changed when it was drawn."""
    due: float = 0.0
    """When it may be drawn again."""


class Publication:
    """The pictures in a SnapshotStore; those of one scan stay until the next one has its own.

    Attributes
    ----------
    redraw : bool
        The pictures have changed.
    retell : bool
        The status has changed.
    """

    def __init__(self, store: SnapshotStore) -> None:
        self.redraw = self.retell = False
        self._store = store
        self._pictures: dict[str, Picture] = {}
        self._version = 0
        self._pictures_due = self._status_due = 0.0
        self._drawings = 0
        """How often slices have changed."""
        self._on_demand: dict[str, _Anew] = {}
        """Planes that do not grow."""
        self._behind: frozenset[str] = frozenset()
        """Pictures that are older than the others: they are drawn when those are shown and it is calm."""
        self._made_with: object = None
        """Run, centre, filter and corrections of the last pictures."""
        self._calm_from = 0.0

    @property
    def is_due(self) -> bool:
        """Whether there is something new and it is time to show it."""
        now = time.monotonic()
        return (
            (bool(self._behind) and now >= self._calm_from)
            or (self.redraw and now >= self._pictures_due)
            or (self.retell and now >= self._status_due)
            or (now >= self._pictures_due and self._next_on_demand() is not None)
        )

    def is_quiet_for(self, seconds: float) -> bool:
        """Whether nothing has been published for so long."""
        return time.monotonic() >= self._status_due + seconds

    def draw(self, tomogram: Shown, looks: Looks) -> None:
        """Make new pictures of what is looked at, and of the slices of the results; `publish` shows them.

        If the slices have not changed, only those are made that are not there. If they were drawn anew, with
        another centre say, tilted planes are left for when it stays as it is: slices do not wait for them.
        """
        began = time.monotonic()
        volume, of = tomogram.volume_shape, _subject(tomogram)
        changed, behind = self.redraw, self._behind
        made_with = (of.run_uid, of.center, of.filter, of.corrections)
        if made_with != self._made_with:
            self._made_with, self._calm_from = made_with, began + _CALM_S
        calm = began >= self._calm_from
        same = {key: picture for key, picture in self._pictures.items() if picture.of.run_uid == of.run_uid}
        self._drawings += changed
        self._pictures = {}
        seen: dict[Place, npt.NDArray] = {}

        def is_there(key: str) -> bool:
            if changed or key in behind or key not in same:
                return False
            self._pictures[key] = same[key]
            return True

        growing = looks.growing(volume)
        self._behind = frozenset(
            key
            for key, place in growing.items()
            if place[0] not in SLICES
            and not tomogram.grows(place)
            and (not calm if key in behind else changed)
        )
        self._pictures |= {key: same[key] for key in self._behind & same.keys()}
        growing = {key: place for key, place in growing.items() if key not in self._behind}
        tomogram.look(growing.values())
        plain = {plane: (plane, (float(tomogram.positions[plane]),)) for plane in SLICES}
        for key, place in {**growing, **plain}.items():
            if not is_there(key):
                pixels = seen[place] if place in seen else tomogram.picture(place)
                seen[place] = pixels
                self._put(key, pixels, place[1][-1], tomogram.units, of)
        self._draw_on_demand(tomogram, looks.on_demand(volume), same, of)
        if not is_there("projection") and (projection := tomogram.projection()):
            number, pixels, units = projection
            self._put("projection", pixels, number, units, of)
        rows = looks.rows()
        tomogram.keep_sinograms(set(rows.values()))
        for key, row in rows.items():
            if not is_there(key) and (sinogram := tomogram.sinogram(row)) is not None:
                self._put(key, sinogram, row, "attenuation", of)
        if "candidates" in same:
            self._pictures["candidates"] = same["candidates"]
        now = time.monotonic()
        self._pictures_due = now + max(PICTURE_PERIOD_S, _MOST_OF_THE_TIME * (now - began))

    def show_strip(self, tomogram: Shown, strip: Strip) -> None:
        """Show slices with several centres."""
        self._put("candidates", strip.pixels, strip.middle, tomogram.units, _subject(tomogram))
        self.retell = True

    def publish(self, status: Status) -> None:
        """Show the newest pictures with ``status``."""
        self.redraw = self.retell = False
        self._status_due = time.monotonic() + PICTURE_PERIOD_S
        self._pictures = {key: _confirmed(picture, status) for key, picture in self._pictures.items()}
        self._store.publish(status, self._pictures)

    def _draw_on_demand(
        self, tomogram: Shown, places: Mapping[str, Place], same: Mapping[str, Picture], of: Subject
    ) -> None:
        """Draw one of the planes that do not grow, the one that has waited longest."""
        self._pictures |= {key: same[key] for key in places if key in same}
        known = {key: anew for key, anew in self._on_demand.items() if key in self._pictures}
        self._on_demand = {key: known.get(key, _Anew()) for key in places}
        key = self._next_on_demand()
        if key is None:
            return
        began = time.monotonic()
        self._put(key, tomogram.picture(places[key]), places[key][1][-1], tomogram.units, of)
        now = time.monotonic()
        due = now + max(_ON_DEMAND_S, _ON_DEMAND_SHARE * (now - began))
        self._on_demand[key] = _Anew(self._drawings, due)

    def _next_on_demand(self) -> str | None:
        """Return the plane that does not grow, is behind the others, and may be drawn again."""
        now = time.monotonic()
        due = {key: a.due for key, a in self._on_demand.items() if a.drawn < self._drawings and a.due <= now}
        return min(due, key=lambda key: due[key], default=None)

    def _put(self, key: str, pixels: npt.NDArray, position: float, units: str, of: Subject) -> None:
        plane: Plane = key.partition("@")[0]  # pyright: ignore[reportAssignmentType]
        self._version += 1
        self._pictures[key] = Picture(plane, pixels, position, self._version, units, of, key)


def _confirmed(picture: Picture, status: Status) -> Picture:
    """Return a picture as it is, or knowing that its centre has been found again by better means."""
    of = picture.of
    same = (of.run_uid, of.center) == (status.run_uid, status.center)
    if not same or of.center_source == status.center_source:
        return picture
    return replace(picture, of=replace(of, center_source=status.center_source))


def _subject(tomogram: Shown) -> Subject:
    scan = tomogram.scan
    return Subject(
        run_uid=scan.run_uid,
        scan_id=scan.scan_id,
        sample=scan.sample,
        plan=scan.plan,
        frames_planned=scan.planned,
        frames_received=tomogram.received + len(tomogram.without_beam),
        frames_missing=len(scan.missing),
        frames_without_beam=len(tomogram.without_beam),
        coverage=tomogram.coverage,
        coverage_wanted=tomogram.coverage_wanted,
        center=tomogram.center,
        center_source=tomogram.center_source,
        filter=tomogram.filter,
        pixel_size_um=scan.pixel_size_um,
        corrections=tomogram.corrections,
    )
