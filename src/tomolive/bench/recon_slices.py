"""Slices across the axis by every library that is installed, on the same sinogram."""

# pyright: reportMissingImports=false
# The peers to compare with are optional: where one is not installed, its row says so.

import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tomolive.bench import shepp_logan
from tomolive.bench.astra_fbp import astra_fbp
from tomolive.bench.recon_figures import Clock, Figure, at_least

Floats = npt.NDArray[Any]
Contestant = tuple[Callable[[], Floats], float]
"""What reconstructs, and the index of the pixel on the rotation axis in its picture."""

_BLOCK = 16
_SLOW = 2048
"""From so many columns on, libraries that need minutes for a slice are left out."""

sinogram = lru_cache(maxsize=2)(
    lambda size, count, center: shepp_logan.sinogram(size, half_turn(count), center)
)
truth = lru_cache(maxsize=2)(shepp_logan.image)


def half_turn(count: int) -> Floats:
    """Return evenly spaced angles, radians, the end left out."""
    return np.arange(count) * np.pi / count


def slices(size: int, count: int, clock: Clock, *, peers: bool) -> Iterator[Figure]:
    """Time a slice of ``size`` columns from ``count`` projections."""
    from tomolive.recon import reconstruct
    from tomolive.recon.gridding import Plan

    radians, middle = half_turn(count), (size - 1) / 2
    rows = sinogram(size, count, middle)
    work = f"slice {size} / {count}"
    block = np.repeat(rows[np.newaxis], _BLOCK, axis=0)
    plan, out = Plan(radians, size, threads=clock.threads), np.empty((_BLOCK, size, size), np.float32)
    took, pictures = clock.best(lambda: plan.reconstruct(block, middle, out))
    first = took / _BLOCK
    error = _error(pictures[0], truth(size, middle))
    yield Figure(work, "tomolive gridding", first, 1.0, error, note=f"each of {_BLOCK}, from one plan")
    for by, method, rounds in (
        ("tomolive gridding, one alone", "gridding", clock.rounds),
        ("tomolive backprojection, one", "backprojection", 1),
    ):
        if size < _SLOW:
            took, pictures = clock.best(
                partial(reconstruct, rows, radians, middle, method=method, threads=clock.threads), rounds
            )
            yield Figure(work, by, took, took / first, _error(pictures[0], truth(size, middle)))
    if peers:
        yield from _peers(size, count, clock, work, first)


def _peers(size: int, count: int, clock: Clock, work: str, first: float) -> Iterator[Figure]:
    contestants = {
        "algotom fbp": _algotom, "algotom dfi": _algotom_dfi, "TomoPy gridrec": _gridrec,
        "ducc0 nufft (GPL)": _ducc,
    }  # fmt: skip
    if size < _SLOW:
        contestants |= {"ASTRA FBP linear (GPL)": _astra, "scikit-image iradon": _skimage}
    for by, prepare in contestants.items():
        try:
            function, origin = prepare(size, count, clock.threads)
        except ImportError as error:
            where = "; TomoPy is no package for pip" if by == "TomoPy gridrec" else ""
            yield Figure(work, by, np.nan, note=f"not measured: {error}{where}")
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if by == "algotom fbp":
                # what it compiles does not count
                _algotom(64, 90, 1)[0]()
            quick = by.startswith("ducc0")
            took, picture = clock.best(function, clock.rounds if quick else 1, warm=quick)
        expected = truth(size, origin)
        must = at_least(took / first, 80) if by == "algotom fbp" and size >= 1024 else {}
        note = {"algotom fbp": "one thread: with more its results vary", "scikit-image iradon": "one thread"}
        error = _error(_upright(picture, expected), expected)
        yield Figure(work, by, took, took / first, error, note=note.get(by, ""), **must)


def _error(picture: Floats, expected: Floats) -> float:
    size = len(expected)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = x**2 + y**2 < (0.97 * size / 2) ** 2
    return float(np.sqrt(np.mean((picture - expected)[inside].astype(np.float64) ** 2)))


def _upright(picture: Floats, expected: Floats) -> Floats:
    """Turn or mirror a picture as its library's axes need it: the one of eight ways nearest to the truth."""
    turned = [np.rot90(p, k) for p in (picture, picture[:, ::-1]) for k in range(4)]
    return min(turned, key=lambda p: _error(p, expected))


def _algotom(size: int, count: int, threads: int) -> Contestant:  # noqa: ARG001
    from algotom.rec.reconstruction import fbp_reconstruction

    middle, radians = (size - 1) / 2, half_turn(count)
    rows = sinogram(size, count, middle)
    ramp: Any = None  # algotom's own name for its plain ramp
    return (
        lambda: fbp_reconstruction(
            rows, middle, angles=radians, filter_name=ramp, apply_log=False, gpu=False, ncore=1
        ),
        middle,
    )


def _algotom_dfi(size: int, count: int, threads: int) -> Contestant:  # noqa: ARG001
    from algotom.rec.reconstruction import dfi_reconstruction

    middle = (size - 1) / 2
    rows, ramp = sinogram(size, count, middle), cast(Any, None)
    return lambda: dfi_reconstruction(
        rows, middle, half_turn(count), filter_name=ramp, apply_log=False
    ), middle


def _gridrec(size: int, count: int, threads: int) -> Contestant:  # noqa: ARG001
    import tomopy  # noqa: F401  algotom's function calls it
    from algotom.rec.reconstruction import gridrec_reconstruction

    middle = (size - 1) / 2
    rows = sinogram(size, count, middle)
    return lambda: gridrec_reconstruction(rows, middle, half_turn(count), apply_log=False, ncore=1), middle


def _astra(size: int, count: int, threads: int) -> Contestant:  # noqa: ARG001
    middle = (size - 1) / 2
    fbp = astra_fbp(size, half_turn(count))
    return partial(fbp, sinogram(size, count, middle)), middle


def _skimage(size: int, count: int, threads: int) -> Contestant:  # noqa: ARG001
    from skimage.transform import iradon

    origin = size // 2
    rows, degrees = np.ascontiguousarray(sinogram(size, count, origin).T), np.degrees(half_turn(count))
    # its rows run the other way, about a pixel that is not the middle of an even number of them
    pad = 1 - size % 2
    return lambda: np.roll(iradon(rows, degrees, circle=True)[::-1], pad, axis=0), origin


def _ducc(size: int, count: int, threads: int) -> Contestant:
    import ducc0
    import scipy.fft

    from tomolive.recon.filters import response

    middle, radians = (size - 1) / 2, half_turn(count)[:, np.newaxis]
    rows, length = sinogram(size, count, middle), 3 * size // 2
    frequency = np.fft.rfftfreq(length)
    weight = 2 * response("ramp", length) * np.pi / count / length
    weight[0] /= 2
    u, v = (2 * np.pi * frequency * turn(radians) for turn in (np.cos, np.sin))
    # its pixel n / 2 is the origin, half a pixel from the axis
    factors = (weight * np.exp(2j * np.pi * frequency * middle + 0.5j * (u + v))).astype(np.complex64)
    places = np.stack([v.ravel(), u.ravel()], axis=1).astype(np.float32)
    plan = ducc0.nufft.plan(
        nu2u=True, coord=places, grid_shape=(size, size), epsilon=1e-3, nthreads=threads,
        periodicity=2 * np.pi, fft_order=False,
    )  # fmt: skip

    def picture() -> Floats:
        samples = np.asarray(scipy.fft.rfft(rows, length, axis=1)) * factors
        return plan.nu2u(points=samples.ravel(), forward=False).real

    return picture, middle
