"""The rotation centre by every method, beside algotom."""

# pyright: reportMissingImports=false
# The peer to compare with is optional: where it is not installed, its row says so.

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tomolive.bench import shepp_logan
from tomolive.bench.recon_figures import Clock, Figure, at_most, peer

_CANDIDATES = 40
_REACH = 20


def center(size: int, count: int, clock: Clock, *, peers: bool) -> Iterator[Figure]:
    """Time what is found from 128 rows of two projections, from candidates, and by all means together."""
    from tomolive.recon import candidates, find_center
    from tomolive.recon.center import from_opposite
    from tomolive.recon.center_vo import by_wedge

    radians = np.linspace(0, np.pi, count)
    true = (size - 1) / 2 + 3.15
    exact = shepp_logan.sinogram(size, radians, true)
    exact *= 2 / exact.max()
    scale = 1 - 0.003 * np.arange(128)[:, np.newaxis]
    rng = np.random.default_rng(0)
    pair = [-np.log(np.maximum(rng.poisson(1e4 * np.exp(-exact[i] * scale)), 1) / 1e4) for i in (0, -1)]

    def off(found: float) -> float:
        return abs(found - true)

    took, found = clock.best(lambda: from_opposite(*pair))
    error = off(found)
    must = {"must": "<= 10 ms, 0.05 px", "met": bool(took <= 10 and error <= 0.05)} if size >= 512 else {}
    note = "128 rows, 10,000 photons"
    first = Figure(f"centre, 0 and 180 degrees, {size}", "tomolive", took, 1.0, error, note=note, **must)
    yield first
    if peers:
        yield peer(first, "algotom phase correlation", lambda: _by_correlation(*pair), clock, off)
    took, found = clock.best(lambda: by_wedge(exact, radians, reach=_REACH, threads=clock.threads), 1)
    note = f"sought {_REACH} columns to both sides"
    first = Figure(f"centre, Vo's wedge, {size} / {count}", "tomolive", took, 1.0, off(found), note=note)
    yield first
    if peers:
        yield peer(first, "algotom find_center_vo", lambda: _by_wedge(exact), clock, off)
    places = np.round(true) + np.arange(_CANDIDATES) - _CANDIDATES // 2
    took, strip = clock.best(lambda: candidates(exact, radians, places, threads=clock.threads), 1)
    must = at_most(took, 4000, " ms") if size == 1024 else {}
    note = "whole pictures and scores, one column apart"
    work = f"centre, {_CANDIDATES} candidates, {size} / {count}"
    yield Figure(work, "tomolive", took, None, off(places[strip.best()]), note=note, **must)
    took, found = clock.best(lambda: find_center(exact, radians, threads=clock.threads), 1, warm=False)
    yield Figure(f"centre, found and refined, {size}", "tomolive", took, None, off(found))


def _by_correlation(*pair: Any) -> Callable[[], float]:
    from algotom.prep.calculation import find_center_based_phase_correlation

    return lambda: find_center_based_phase_correlation(*pair)


def _by_wedge(sinogram: Any) -> Callable[[], float]:
    from algotom.prep.calculation import find_center_vo

    middle = (sinogram.shape[1] - 1) // 2
    return lambda: find_center_vo(sinogram, middle - _REACH, middle + _REACH, ncore=1)
