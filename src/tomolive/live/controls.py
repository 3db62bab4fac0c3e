"""Wishes of the people at the page, on their way to the one thread that reconstructs."""

import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tomolive.config import CorrectionSettings


@dataclass(frozen=True)
class Wish:
    """A change that someone asked for; None leaves a value as it is."""

    who: str
    run_uid: str = ""
    """Run whose pictures the page shows; empty: whichever is shown."""
    center: float | None = None
    """Rotation centre, detector column."""
    estimate_center: bool = False
    filter: str | None = None
    corrections: CorrectionSettings | None = None
    """All of them, as they shall be."""
    plane: str | None = None
    """'xy', 'xz' or 'yz': move this plane of the results to ``position``."""
    position: int | None = None
    candidates: tuple[float, float, int] | None = None
    """Draw a strip of candidate centres: the middle one, the step, and how many."""
    volume: Literal["start", "cancel"] | None = None
    """Reconstruct the full volume, or stop doing so."""
    camera: str | None = None
    """Show the pictures of this camera."""

    @property
    def redraws(self) -> bool:
        """Whether slices are other ones when it is granted."""
        changes = (self.center, self.filter, self.corrections)
        return self.estimate_center or any(value is not None for value in changes)

    @property
    def about(self) -> str:
        """What is asked for, in a word that the page can show while it is being done."""
        if self.center is not None or self.estimate_center:
            return "centre"
        named = {"filter": self.filter, "corrections": self.corrections, "candidates": self.candidates}
        named |= {"volume": self.volume, "position": self.plane, "camera": self.camera}
        return next((word for word, value in named.items() if value is not None), "")


class Controls:
    """A mailbox: any thread posts, the reconstruction thread takes what has come, in order.

    It also knows which pictures are looked at, so that only these are drawn.
    """

    def __init__(self) -> None:
        self._wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: list[Wish] = []
        self._looks: dict[str, frozenset[str]] = {}

    def post(self, wish: Wish) -> None:
        """Leave a wish; returns at once."""
        with self._lock:
            self._pending.append(wish)
        self._wishes.put(wish)

    def take(self) -> list[Wish]:
        """Return what has come since the last call; say `done` when the pictures show it."""
        wishes = []
        while not self._wishes.empty():
            wishes.append(self._wishes.get())
        return wishes

    def done(self, wishes: Iterable[Wish]) -> None:
        """Wishes are granted, refused or overtaken."""
        ended = {id(wish) for wish in wishes}
        with self._lock:
            self._pending = [wish for wish in self._pending if id(wish) not in ended]

    @property
    def pending(self) -> tuple[Wish, ...]:
        """Wishes that were posted and are not done, in order."""
        with self._lock:
            return tuple(self._pending)

    def look(self, viewer: str, keys: Iterable[str]) -> None:
        """Note the keys of the pictures that a viewer looks at; none: he is gone."""
        wanted = frozenset(keys)
        with self._lock:
            if wanted:
                self._looks[viewer] = wanted
            else:
                self._looks.pop(viewer, None)

    @property
    def looked_at(self) -> frozenset[str]:
        """Keys of the pictures that at least one viewer looks at."""
        with self._lock:
            return frozenset().union(*self._looks.values())
