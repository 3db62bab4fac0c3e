"""One line of the table of ``tomolive bench recon``, and how it is timed."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ANGLES = {512: 720, 1024: 1500, 2048: 3000}
"""Detector columns -> projections of the scan that is reconstructed."""

_TURNS = 10
"""How many times as often as other work things are timed that take turns."""


@dataclass(frozen=True)
class Figure:
    """What one contestant needed."""

    work: str
    by: str
    milliseconds: float
    """Processor time, of one thread."""
    ratio: float | None = None
    """How many times longer than the first line of the same work."""
    error: float | None = None
    """Root mean square against the phantom, inside the circle; or columns, for a centre."""
    must: str = ""
    """What the line must show."""
    met: bool | None = None
    note: str = ""
    together: float | None = None
    """Milliseconds of several cores, by the clock on the wall."""


@dataclass(frozen=True)
class Clock:
    """The best of so many rounds; one thread by its processor time, which other programs disturb least."""

    threads: int
    rounds: int

    def best(
        self, work: Callable[[], Any], rounds: int | None = None, *, warm: bool = True
    ) -> tuple[float, Any]:
        """Return the shortest time in milliseconds, after a round that does not count, and the result."""
        result = work() if warm else None
        best = np.inf
        for _ in range(rounds or self.rounds):
            took, result = self._time(work)
            best = min(best, took)
        return best, result

    def by_turns(self, *works: Callable[[], Any]) -> list[float]:
        """Return the shortest time of each, in milliseconds.

        They take turns, many times: a processor that changes its speed does so to all of them.
        """
        for work in works:
            work()
        times = [[self._time(work)[0] for work in works] for _ in range(_TURNS * self.rounds)]
        return np.min(times, axis=0).tolist()

    def _time(self, work: Callable[[], Any]) -> tuple[float, Any]:
        now = time.process_time if self.threads == 1 else time.perf_counter
        start = now()
        result = work()
        return 1e3 * (now() - start), result


def peer(
    first: Figure,
    by: str,
    prepare: Callable[[], Callable[[], Any]],
    clock: Clock,
    judge: Callable[[Any], float | None],
    *,
    least: float | None = None,
    note: str = "",
) -> Figure:
    """Time the same work by another library, once.

    Parameters
    ----------
    first
        Our own figure.
    prepare
        Imports the library, and returns what does the work.
    judge
        Returns the error of a result.
    least
        How many times as long it must take.
    """
    try:
        function = prepare()
    except ImportError as missing:
        return Figure(first.work, by, np.nan, note=f"not measured: {missing}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        took, result = clock.best(function, 1, warm=False)
    ratio = took / first.milliseconds
    limits = {} if least is None else at_least(ratio, least)
    return Figure(first.work, by, took, ratio, judge(result), note=note, **limits)


def at_least(value: float, limit: float) -> dict[str, Any]:
    """Return what a figure says of a value that must not be less."""
    return {"must": f">= {limit:g}", "met": bool(value >= limit)}


def at_most(value: float, limit: float, unit: str = "") -> dict[str, Any]:
    """Return what a figure says of a value that must not be more."""
    return {"must": f"<= {limit:g}{unit}", "met": bool(value <= limit)}
