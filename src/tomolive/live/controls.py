"""Wishes of the people at the page, on their way to the one thread that reconstructs."""

import queue
from dataclasses import dataclass


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
    plane: str | None = None
    """'xy', 'xz' or 'yz': move this plane to ``position``."""
    position: int | None = None


class Controls:
    """A mailbox: any thread posts, the reconstruction thread takes what has come, in order."""

    def __init__(self) -> None:
        self._wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()

    def post(self, wish: Wish) -> None:
        """Leave a wish; returns at once."""
        self._wishes.put(wish)

    def take(self) -> list[Wish]:
        """Return what has come since the last call."""
        wishes = []
        while not self._wishes.empty():
            wishes.append(self._wishes.get())
        return wishes
