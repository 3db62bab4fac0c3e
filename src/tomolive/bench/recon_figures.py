"""One line of the table of ``tomolive bench recon``, and how it is timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ANGLES = {512: 720, 1024: 1500, 2048: 3000}
"""Detector columns -> projections of the scan that is reconstructed."""


@dataclass(frozen=True)
class Figure:
    """What one contestant needed."""

    work: str
    by: str
    milliseconds: float
    ratio: float | None = None
    """How many times longer than the first line of the same work."""
    error: float | None = None
    """Root mean square against the phantom, inside the circle; or columns, for a centre."""
    must: str = ""
    """What the line must show."""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Clock:
    """The best of so many rounds; one thread by its processor time, which other programs disturb least."""

    threads: int
    rounds: int

    def best(
        self, work: Callable[[], Any], rounds: int | None = None, *, warm: bool = True
    ) -> tuple[float, Any]:
        """Return the shortest time in milliseconds, after a round that does not count, and the result."""
        now = time.process_time if self.threads == 1 else time.perf_counter
        result = work() if warm else None
        best = np.inf
        for _ in range(rounds or self.rounds):
            start = now()
            result = work()
            best = min(best, now() - start)
        return 1e3 * best, result


def at_least(value: float, limit: float) -> dict[str, Any]:
    """Return what a figure says of a value that must not be less."""
    return {"must": f">= {limit:g}", "met": bool(value >= limit)}


def at_most(value: float, limit: float, unit: str = "") -> dict[str, Any]:
    """Return what a figure says of a value that must not be more."""
    return {"must": f"<= {limit:g}{unit}", "met": bool(value <= limit)}
