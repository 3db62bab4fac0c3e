"""What is shown, and when it is time to show it again."""

import time

import numpy.typing as npt

from tomolive.live.snapshot import Picture, Plane, SnapshotStore, Status, Subject
from tomolive.live.tomogram import SLICES, Tomogram

PICTURE_PERIOD_S = 0.12
_MOST_OF_THE_TIME = 2
"""Between pictures lies at least this many times what the last ones took, so that projections come first."""


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

    @property
    def is_due(self) -> bool:
        """Whether there is something new and it is time to show it."""
        now = time.monotonic()
        return (self.redraw and now >= self._pictures_due) or (self.retell and now >= self._status_due)

    def is_quiet_for(self, seconds: float) -> bool:
        """Whether nothing has been published for so long."""
        return time.monotonic() >= self._status_due + seconds

    def draw(self, tomogram: Tomogram) -> None:
        """Make new pictures; `publish` shows them."""
        began = time.monotonic()
        self._version += 1
        slices, positions, of = tomogram.slices(), tomogram.positions, _subject(tomogram)
        for plane in SLICES:
            self._put(plane, slices[plane], positions[plane], tomogram.units, of)
        if projection := tomogram.projection():
            number, pixels, units = projection
            self._put("projection", pixels, number, units, of)
        now = time.monotonic()
        self._pictures_due = now + max(PICTURE_PERIOD_S, _MOST_OF_THE_TIME * (now - began))

    def publish(self, status: Status) -> None:
        """Show the newest pictures with ``status``."""
        self.redraw = self.retell = False
        self._status_due = time.monotonic() + PICTURE_PERIOD_S
        self._store.publish(status, self._pictures)

    def _put(self, plane: Plane, pixels: npt.NDArray, position: float, units: str, of: Subject) -> None:
        self._pictures[plane] = Picture(plane, pixels, position, self._version, units, of)


def _subject(tomogram: Tomogram) -> Subject:
    scan = tomogram.scan
    return Subject(
        run_uid=scan.run_uid,
        scan_id=scan.scan_id,
        sample=scan.sample,
        plan=scan.plan,
        frames_planned=scan.planned,
        frames_received=tomogram.received,
        frames_missing=len(scan.missing),
        coverage=tomogram.coverage,
        coverage_wanted=scan.coverage_wanted,
        center=tomogram.center,
        center_source=tomogram.center_source,
        filter=tomogram.filter,
        pixel_size_um=scan.pixel_size_um,
    )
