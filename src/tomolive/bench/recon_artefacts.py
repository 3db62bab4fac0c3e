"""What is taken out before the slices, stripes, zingers and phase, beside algotom."""

# pyright: reportMissingImports=false
# The peer to compare with is optional: where it is not installed, its row says so.

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from tomolive.bench import shepp_logan
from tomolive.bench.recon_figures import Clock, Figure, peer

Floats = npt.NDArray[Any]

_LEAST = {"sorting": 5.0}
"""How many times as long as ours a method of algotom must take."""
_PHASE = {"energy_kev": 25.0, "distance_m": 0.1, "pixel_size_m": 1e-6, "delta_beta": 200.0}
_ALPHA = 0.1 * 200 * (1.23984198e-9 / 25) / (4 * np.pi) / 1e-12
"""The same as one number, pixels squared."""
_SMOOTH = 12.0
"""Columns."""
_HITS = 2e-4
"""Part of the pixels that are hit by stray radiation."""


def stripes(size: int, count: int, clock: Clock, *, peers: bool) -> Iterator[Figure]:
    """Time the removal of stripes by each method, from a sinogram with all kinds of them."""
    from tomolive.recon.rings import METHODS, remove_stripes

    clean, striped = _striped(size, count)

    def error(found: Floats) -> float:
        return float(np.sqrt(np.mean((found - clean) ** 2)))

    for method in METHODS:
        took, found = clock.best(
            lambda method=method: remove_stripes(striped, method=method, threads=clock.threads)
        )
        note = f"rms of the sinogram; {error(striped):.4f} with the stripes"
        first = Figure(f"stripes, {method}, {size} / {count}", "tomolive", took, 1.0, error(found), note=note)
        yield first
        if peers:
            yield peer(
                first, "algotom", lambda method=method: _removal(method, striped), clock, error,
                least=_LEAST.get(method) if size >= 512 else None,
            )  # fmt: skip


def artefacts(size: int, clock: Clock, *, peers: bool) -> Iterator[Figure]:
    """Time the removal of zingers, and phase retrieval, of one projection of ``size`` rows and columns."""
    from tomolive.recon import paganin
    from tomolive.recon.defects import remove_zingers_of_integrals

    # without edges finer than what propagation takes apart
    thickness = gaussian_filter(shepp_logan.image(size, (size - 1) / 2), _SMOOTH)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.003, thickness.shape)
    hit = np.asarray(thickness + noise, np.float32)
    hit[rng.random(hit.shape) < _HITS] -= 1

    def error(found: Floats) -> float:
        return float(np.sqrt(np.mean((found - thickness) ** 2)))

    def without_zingers() -> Floats:
        clean = hit.copy()
        remove_zingers_of_integrals(clean[np.newaxis])
        return clean

    took, found = clock.best(without_zingers)
    note = f"{error(hit):.4f} with them"
    first = Figure(f"zingers, {size} x {size}", "tomolive", took, 1.0, error(found), note=note)
    yield first
    if peers:
        yield peer(first, "algotom remove_zinger", lambda: _zingers(hit), clock, error)
    seen = _propagated(thickness)
    took, found = clock.best(lambda: paganin(seen, generalised=False, **_PHASE))
    note = f"{error(seen):.4f} as measured"
    first = Figure(f"Paganin, {size} x {size}", "tomolive", took, 1.0, error(found), note=note)
    yield first
    if peers:
        yield peer(
            first, "algotom fresnel_filter", lambda: _low_pass(seen), clock, error, note="its defaults"
        )


def _striped(size: int, count: int) -> tuple[Floats, Floats]:
    """Return a noisy sinogram, and the same with columns that answer differently: a little, much, wildly."""
    rng = np.random.default_rng(0)
    radians = np.arange(count) * np.pi / count
    clean = shepp_logan.sinogram(size, radians, (size - 1) / 2)
    clean *= np.float32(2 / clean.max())
    clean += rng.normal(0, 0.005, clean.shape).astype(np.float32)
    striped = clean + rng.normal(0, 0.01, size).astype(np.float32)
    striped[:, size // 3 : size // 3 + 12] += np.float32(0.15)
    striped[:, size // 2 : size // 2 + 3] = 0.3
    striped[:, 2 * size // 3] += rng.normal(0, 0.5, count).astype(np.float32)
    return clean, striped


def _removal(method: str, sinogram: Floats) -> Callable[[], Floats]:
    from algotom.prep import removal

    if method == "sorting":
        return lambda: removal.remove_stripe_based_sorting(sinogram, 21)
    if method == "fourier-wavelet":
        return lambda: removal.remove_stripe_based_wavelet_fft(sinogram)[: len(sinogram)]
    # made for transmissions, as ours is inside
    return lambda: -np.log(removal.remove_all_stripe(np.exp(-sinogram)))


def _zingers(integrals: Floats) -> Callable[[], Floats]:
    from algotom.prep.removal import remove_zinger

    return lambda: -np.log(remove_zinger(np.exp(-integrals), 0.5, size=1))


def _propagated(thickness: Floats) -> Floats:
    """Return line integrals as measured at a distance: what the filter undoes, done."""
    contact = np.fft.rfft2(np.pad(np.exp(-thickness.astype(np.float64)), 64, mode="edge"))
    size = len(thickness) + 128
    squared = (2 * np.pi * np.fft.fftfreq(size)[:, np.newaxis]) ** 2 + (
        2 * np.pi * np.fft.rfftfreq(size)
    ) ** 2
    seen = np.fft.irfft2(contact * (1 + _ALPHA * squared), s=(size, size))[64:-64, 64:-64]
    return -np.log(np.maximum(seen, 1e-6)).astype(np.float32)


def _low_pass(integrals: Floats) -> Callable[[], Floats]:
    from algotom.prep.filtering import fresnel_filter

    ratio = _ALPHA * (2 * np.pi) ** 2
    return lambda: -np.log(np.maximum(fresnel_filter(np.exp(-integrals), ratio, 2, apply_log=False), 1e-6))
