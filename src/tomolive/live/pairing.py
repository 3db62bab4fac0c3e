"""Frames and the numbers that describe them, brought together whichever comes first.

An image and its angle travel apart: an event and a file, or two files of two devices. A frame waits here
until each of its numbers has come. Nothing is dropped in silence: what cannot be paired is told by ``lost``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tomolive.live.ranges import Ranges


@dataclass(frozen=True, eq=False)
class Paired:
    """Consecutive frames with all their numbers."""

    first: int
    array: npt.NDArray[np.generic]
    """(n, rows, columns)."""
    numbers: Mapping[str, npt.NDArray[np.float64]]
    """Name -> (n,)."""


class Pairing:
    """Frames of one stream, waiting for their numbers.

    Parameters
    ----------
    names
        the numbers that each frame needs; with none, frames come straight out.
    limit_bytes
        frames that wait may take up this much memory; beyond it the oldest are given up and reported.
    """

    def __init__(self, names: Iterable[str], limit_bytes: int) -> None:
        self._numbers = {name: _Track() for name in names}
        self._limit = limit_bytes
        self._waiting: list[tuple[int, npt.NDArray[np.generic]]] = []
        self._came = Ranges()
        self._unusable = Ranges()
        self._lost: list[tuple[int, int]] = []

    @property
    def waiting(self) -> Ranges:
        """The frames that wait for a number."""
        return Ranges((first, first + len(array)) for first, array in self._waiting)

    def add_frames(self, first: int, array: npt.NDArray[np.generic]) -> int:
        """Add frames from number ``first`` on; return how many of them had come before, and are left out."""
        new = self._came.add(first, first + len(array))
        self._waiting += [(a, array[a - first : b - first]) for a, b in new]
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
        still: list[tuple[int, npt.NDArray[np.generic]]] = []
        for first, array in self._waiting:
            for a, b in self._usable(first, first + len(array)):
                piece = array[a - first : b - first]
                for c, d, known in self._split(a, b):
                    part = piece[c - a : d - a]
                    if known:
                        ready.append(Paired(c, part, {n: t.values[c:d] for n, t in self._numbers.items()}))
                    else:
                        still.append((c, part))
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
        size = sum(array.nbytes for _, array in self._waiting)
        while size > self._limit:
            first, array = self._waiting.pop(0)
            self._lost.append((first, first + len(array)))
            size -= array.nbytes


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
