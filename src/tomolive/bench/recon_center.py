"""The rotation centre, and stripes: beside algotom."""

# pyright: reportMissingImports=false
# The peer to compare with is optional: where it is not installed, its row says so.

from collections.abc import Iterator

import numpy as np

from tomolive.bench import shepp_logan
from tomolive.bench.recon_figures import Clock, Figure, at_least, at_most

_CANDIDATES = 40


def center(size: int, count: int, clock: Clock, *, peers: bool) -> Iterator[Figure]:
    """Time what is found from 128 rows of two projections, from candidates, and by all means together."""
    from tomolive.recon import candidates, find_center
    from tomolive.recon.center import from_opposite

    radians = np.linspace(0, np.pi, count)
    true = (size - 1) / 2 + 3.15
    exact = shepp_logan.sinogram(size, radians, true)
    exact *= 2 / exact.max()
    scale = 1 - 0.003 * np.arange(128)[:, np.newaxis]
    rng = np.random.default_rng(0)
    first, last = (
        -np.log(np.maximum(rng.poisson(1e4 * np.exp(-exact[i] * scale)), 1) / 1e4) for i in (0, -1)
    )
    work = f"centre, 0 and 180 degrees, {size}"
    base, found = clock.best(lambda: from_opposite(first, last))
    error = abs(found - true)
    must = {"must": "<= 10 ms, 0.05 px", "met": bool(base <= 10 and error <= 0.05)} if size >= 512 else {}
    yield Figure(work, "tomolive", base, 1.0, error, note="128 rows, 10,000 photons", **must)
    if peers:
        try:
            from algotom.prep.calculation import find_center_based_phase_correlation as algotom_center
        except ImportError as missing:
            yield Figure(work, "algotom phase correlation", np.nan, note=f"not measured: {missing}")
        else:
            took, found = clock.best(lambda: algotom_center(first, last))
            yield Figure(work, "algotom phase correlation", took, took / base, abs(found - true))
    places = np.round(true) + np.arange(_CANDIDATES) - _CANDIDATES // 2
    took, strip = clock.best(lambda: candidates(exact, radians, places, threads=clock.threads), 1)
    error = abs(places[strip.best()] - true)
    must = at_most(took, 4000, " ms") if size == 1024 else {}
    note = "whole pictures and scores, one column apart"
    work = f"centre, {_CANDIDATES} candidates, {size} / {count}"
    yield Figure(work, "tomolive", took, None, error, note=note, **must)
    took, found = clock.best(lambda: find_center(exact, radians, threads=clock.threads), 1)
    yield Figure(f"centre, found and refined, {size}", "tomolive", took, None, abs(found - true))


def stripes(size: int, count: int, clock: Clock, *, peers: bool) -> Iterator[Figure]:
    """Time the removal of stripes by sorting."""
    from tomolive.recon.rings import remove_stripes

    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(size=(count, size)), axis=1) / 100
    sinogram = (smooth + rng.normal(0, 0.01, size)).astype(np.float32)
    work = f"stripes by sorting, {size} / {count}"
    base, cleaned = clock.best(lambda: remove_stripes(sinogram, 21, threads=clock.threads))
    yield Figure(work, "tomolive", base, 1.0)
    if not peers:
        return
    try:
        from algotom.prep.removal import remove_stripe_based_sorting
    except ImportError as error:
        yield Figure(work, "algotom", np.nan, note=f"not measured: {error}")
        return
    took, theirs = clock.best(lambda: remove_stripe_based_sorting(sinogram, 21), 1)
    note = f"largest difference {np.abs(theirs - cleaned).max():.1e}"
    yield Figure(work, "algotom", took, took / base, note=note, **at_least(took / base, 5))
