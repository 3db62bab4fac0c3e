"""How far slices of a simulated scan are from the sample that was simulated."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.acquire.phantom import Phantom

CIRCLE = 0.95
"""Errors are taken inside this part of the reconstruction circle's radius."""

STOCK_FILTERS = ("ramp", "shepp-logan", "cosine", "hann")
"""Filters that iradon and tomolive both have."""


def true_slice(
    simulation: Mapping[str, Any], plane: str, position: float, rows: int, columns: int
) -> npt.NDArray[np.float32]:
    """Return the simulated attenuation in one plane, 1/pixel.

    ``simulation`` is what a simulated scan's start document holds.
    """
    phantom = Phantom.from_dicts(simulation["phantom"])
    return phantom.slice_truth(plane, position, rows, columns)


def rms_error(slice_: npt.NDArray, truth: npt.NDArray, plane: str) -> float:
    """Return the root-mean-square difference inside the reconstruction circle, in the units of both.

    >>> rms_error(np.full((8, 8), 3.0), np.zeros((8, 8)), "xy")
    3.0
    """
    n = truth.shape[-1]
    across = np.abs(np.arange(n) - (n - 1) / 2)
    radius = CIRCLE * n / 2
    if plane == "xy":
        inside = np.hypot(across[:, None], across[None, :]) <= radius
    else:
        inside = np.broadcast_to(across <= radius, truth.shape)
    difference = np.asarray(slice_, np.float64)[inside] - truth[inside]
    return float(np.sqrt(np.mean(difference**2)))


def stock_slice(
    sinogram: npt.NDArray[np.float32],
    angles: npt.NDArray[np.float64],
    center: float,
    filter: str = "ramp",  # noqa: A002  the field's word
) -> npt.NDArray[np.float32]:
    """Reconstruct one slice with scikit-image's ``iradon``, as anybody would offline.

    ``iradon`` turns about column ``n // 2`` and has no parameter for the centre, so the sinogram is first
    moved there, in Fourier space: linear or cubic interpolation would also take noise away, and then it is
    their error that is measured. It gets one column more when their number is even, so that the axis lies on
    the middle of the picture as it does in a slice of tomolive.

    Parameters
    ----------
    sinogram
        (angles, columns), line integrals.
    angles
        radians.
    center
        detector column of the rotation axis.
    filter
        one of ``STOCK_FILTERS``.

    Returns
    -------
    (n, n) float32, 1/pixel, n odd.
    """
    from scipy.fft import irfft, rfft, rfftfreq
    from skimage.transform import iradon

    columns = sinogram.shape[1]
    n = columns + 1 - columns % 2
    padded = np.pad(sinogram, ((0, 0), (n // 2, n // 2 + n - columns)), mode="edge")
    move = np.exp(-2j * np.pi * rfftfreq(padded.shape[1]) * (n // 2 - center))
    moved = np.asarray(irfft(rfft(padded, axis=1) * move, padded.shape[1], axis=1))
    centred = moved[:, n // 2 : n // 2 + n]
    # iradon's rotation has the opposite sense of tomolive's.
    return iradon(centred.T, theta=-np.rad2deg(angles), filter_name=filter, circle=True).astype(np.float32)
