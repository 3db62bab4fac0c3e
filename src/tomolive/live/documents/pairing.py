"""Frames and the numbers that describe them, brought together whichever comes first.

An image and its angle travel apart: an event and a file, or two files of two devices. A frame waits here
until each of its numbers has come, in memory or on disk. Nothing is dropped in silence: what cannot be paired
is told by ``lost``.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tomolive.files.gathering import Gathering
from tomolive.live.documents.ranges import Ranges

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Paired:
    """Consecutive frames with all their numbers."""

    first: int
    array: npt.NDArray[np.generic]
    """(n, rows, columns)."""
    numbers: Mapping[str, npt.NDArray[np.float64]]
    """Name -> (n,)."""


@dataclass(eq=False)
class _Waiting:
    """Frames that wait; ``stored``: on disk."""

    first: int
    array: npt.NDArray[np.generic]
    stored: bool = False


class Pairing:
    """Frames of one stream, waiting for their numbers.

    Parameters
    ----------
    names
        the numbers that each frame needs; with none, frames come straight out.
    limit_bytes
        frames that wait may take up this much memory; beyond it the oldest wait in files of the temporary
        folder, and only if there is no room are they given up and reported.
    """

    def __init__(self, names: Iterable[str], limit_bytes: int) -> None:
        self._numbers = {name: _Track() for name in names}
        self._limit = limit_bytes
        self._waiting: list[_Waiting] = []
        self._came = Ranges()
        self._unusable = Ranges()
        self._lost: list[tuple[int, int]] = []
        self.trouble = ""
        """Why frames were given up though their numbers might have come; empty as long as none were."""

    @property
    def waiting(self) -> Ranges:
        """The frames that wait for a number."""
        return Ranges((waiting.first, waiting.first + len(waiting.array)) for waiting in self._waiting)

    def add_frames(self, first: int, array: npt.NDArray[np.generic]) -> int:
        """Add frames from number ``first`` on; return how many of them had come before, and are left out."""
        new = self._came.add(first, first + len(array))
        self._waiting += [_Waiting(a, array[a - first : b - first]) for a, b in new]
        return len(array) - sum(b - a for a, b in new)

    def add_numbers(self, name: str, first: int, values: npt.NDArray[np.float64]) -> None:
        """Add one number for each frame from ``first`` on; the first value that comes for a frame counts.

        A value that is not finite can never be used: its frame is lost.
        """
        self._numbers[name].add(first, values)
        for index in np.flatnonzero(~np.isfinite(values)):
            self._unusable.add(first + int(index), first + int(index) + 1)

    def give_up(self, first: int, last: int) -> None:
        """Count frames ``[first, last)`` as lost: some number of theirs will never come."""
        self._unusable.add(first, last)

    def take(self) -> list[Paired]:
        """Return the frames that are complete, and forget them."""
        ready: list[Paired] = []
        still: list[_Waiting] = []
        for waiting in self._waiting:
            first = waiting.first
            for a, b in self._usable(first, first + len(waiting.array)):
                piece = waiting.array[a - first : b - first]
                for c, d, known in self._split(a, b):
                    part = piece[c - a : d - a]
                    if known:
                        ready.append(Paired(c, part, {n: t.values[c:d] for n, t in self._numbers.items()}))
                    else:
                        still.append(_Waiting(c, part, waiting.stored))
        self._waiting = still
        self._keep_limit()
        return ready

    def lost(self) -> list[tuple[int, int]]:
        """Return the ranges of frames that had come and were given up since the last call."""
        lost, self._lost = self._lost, []
        return lost

    def _usable(self, first: int, last: int) -> list[tuple[int, int]]:
        usable = self._unusable.gaps(first, last)
        self._lost += list(Ranges([(first, last)]).without(Ranges(usable)))
        return usable

    def _split(self, first: int, last: int) -> list[tuple[int, int, bool]]:
        """Cut ``[first, last)`` where all numbers become known, or cease to be."""
        known = np.ones(last - first, dtype=bool)
        for track in self._numbers.values():
            known &= track.known(first, last)
        edges = [0, *(np.flatnonzero(np.diff(known)) + 1).tolist(), last - first]
        return [(first + a, first + b, bool(known[a])) for a, b in pairwise(edges)]

    def _keep_limit(self) -> None:
        """Move the oldest frames in memory to disk, half of what may be there at once; else give them up."""
        size = sum(waiting.array.nbytes for waiting in self._waiting if not waiting.stored)
        if size <= self._limit:
            return
        gathering, moved = Gathering(limit=0), []
        for waiting in [waiting for waiting in self._waiting if not waiting.stored]:
            try:
                gathering.add(waiting.array)
            except ValueError:  # frames of another size go into a file of their own, next time
                break
            except OSError as error:
                log.exception("frames that wait for their numbers find no room on disk")
                self.trouble = f"they waited for their numbers, and there was no room: {error.strerror}"
                break
            moved.append(waiting)
            size -= waiting.array.nbytes
            if size <= self._limit // 2:
                break
        place = 0
        for waiting in moved:
            waiting.array = gathering.array()[place : place + len(waiting.array)]
            waiting.stored = True
            place += len(waiting.array)
        while self.trouble and size > self._limit:
            oldest = next(waiting for waiting in self._waiting if not waiting.stored)
            self._waiting.remove(oldest)
            self._lost.append((oldest.first, oldest.first + len(oldest.array)))
            size -= oldest.array.nbytes


class _Track:
    """One number for each frame, known or not yet."""

    def __init__(self) -> None:
        self.values = np.zeros(0)
        self._known = np.zeros(0, dtype=bool)

    def add(self, first: int, values: npt.NDArray[np.float64]) -> None:
        last = first + len(values)
        if last > len(self.values):
            room = max(last, 2 * len(self.values)) - len(self.values)
            self.values = np.concatenate([self.values, np.zeros(room)])
            self._known = np.concatenate([self._known, np.zeros(room, dtype=bool)])
        new = ~self._known[first:last]
        self.values[first:last][new] = values[new]
        self._known[first:last] = True

    def known(self, first: int, last: int) -> npt.NDArray[np.bool_]:
        known = np.zeros(last - first, dtype=bool)
        have = self._known[first:last]
        known[: len(have)] = have
        return known
