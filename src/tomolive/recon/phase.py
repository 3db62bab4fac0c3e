"""Phase retrieval from one distance: the filter of Paganin.

Behind a sample of one material, propagation makes edges bright and dark. For a homogeneous sample in the near
field (Paganin et al., J. Microsc. 206, 33 (2002), eq. 12) the contact image follows from the measured
transmission ``I`` by a low-pass filter::

    exp(-mu T) = F^-1 [ F(I) / (1 + alpha k^2) ],   alpha = z delta / mu = z lambda (delta / beta) / (4 pi)

with ``k`` the angular spatial frequency. The generalised form (Paganin et al., J. Microsc. 280, 2020)
replaces k^2 by what a grid of pixels of width W can represent, ``(2 / W^2) (2 - cos(W kx) - cos(W ky))``, and
blurs less.

Beyond its edges a projection goes on as its mirror image. The filter is real and even, so it then multiplies
the cosine transform of the projection alone: real numbers, and no padding to be transformed with it.
"""

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.recon.correct import FLOOR
from tomolive.recon.fourier import cosines2, fast_length, from_cosines2

_KEV_METRES = 1.23984198e-9
"""Planck's constant times the speed of light."""
_REACH = 14.0
"""About the natural logarithm of a million."""


def paganin(
    integrals: npt.ArrayLike,
    *,
    energy_kev: float,
    distance_m: float,
    pixel_size_m: float,
    delta_beta: float,
    generalised: bool = True,
) -> npt.NDArray[np.float32]:
    """Replace edge-enhanced line integrals by those of the attenuation alone.

    Parameters
    ----------
    integrals
        ``-ln`` of the transmission as measured, (n, rows, columns) or (rows, columns).
    energy_kev, distance_m, pixel_size_m
        Photon energy, sample to detector, and pixel size at the sample.
    delta_beta
        Ratio of the decrement to the absorption index of the material; the larger, the smoother.
    generalised
        Use the form for pixels of finite width.

    Returns
    -------
    float32, same shape.

    Raises
    ------
    ReconstructionError
        if a quantity is not positive (the distance and the ratio may be zero), or the shape is not that of
        projections.
    """
    for name, value, least in (
        ("energy_kev", energy_kev, 1e-12),
        ("pixel_size_m", pixel_size_m, 1e-12),
        ("distance_m", distance_m, 0.0),
        ("delta_beta", delta_beta, 0.0),
    ):
        if not (np.isfinite(value) and value >= least):
            raise ReconstructionError(
                f"{name}={value!r}; expected a {'positive' if least else 'non-negative'} number"
            )
    values = np.asarray(integrals, np.float32)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ReconstructionError(f"integrals has shape {values.shape}; expected (n, rows, columns)")
    alpha = _alpha(energy_kev, distance_m, delta_beta)
    frames = values.reshape(-1, *values.shape[-2:])
    rows, columns = frames.shape[1:]
    height, width = fast_length(rows), fast_length(columns)
    beyond = ((0, height - rows), (0, width - columns))
    divisors = _divisors(height, width, alpha / pixel_size_m**2, generalised)
    out = np.empty_like(frames)
    for frame, result in zip(frames, out, strict=True):
        np.negative(frame, out=result)
        np.exp(result, out=result)
        spectrum = cosines2(result if result.shape == (height, width) else np.pad(result, beyond, "edge"))
        spectrum /= divisors
        contact = from_cosines2(spectrum)[:rows, :columns]
        # beside a pixel that is wrong by orders of magnitude the filter may swing below zero
        np.maximum(contact, FLOOR, out=result)
        np.log(result, out=result)
        np.negative(result, out=result)
    return out.reshape(values.shape)


def reach(*, energy_kev: float, distance_m: float, pixel_size_m: float, delta_beta: float) -> int:
    """Return over how many pixels the filter smears what is told in single precision.

    Around a point the filter leaves ``exp(-r / sqrt(alpha))``, so that rows further away than this do not
    change a row by more than 1e-6 of what they differ.
    """
    return int(np.ceil(_REACH * np.sqrt(_alpha(energy_kev, distance_m, delta_beta)) / pixel_size_m))


def _alpha(energy_kev: float, distance_m: float, delta_beta: float) -> float:
    """Return alpha of the filter, square metres."""
    return distance_m * delta_beta * (_KEV_METRES / energy_kev) / (4 * np.pi)


def _divisors(height: int, width: int, alpha: float, generalised: bool) -> npt.NDArray[np.float32]:
    """Return ``1 + alpha k^2`` at the frequencies of a cosine transform; ``alpha`` in pixels squared."""
    down, across = (np.pi * np.arange(size) / size for size in (height, width))
    ky, kx = (2 - 2 * np.cos(k) if generalised else k**2 for k in (down, across))
    ky, kx = (alpha * ky).astype(np.float32), (alpha * kx).astype(np.float32)
    return np.asarray(ky[:, np.newaxis] + (1 + kx), np.float32)
