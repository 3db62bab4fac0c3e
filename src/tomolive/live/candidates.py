"""A strip of candidate centres: the same part of a slice with each of them, side by side."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.live.publication import Strip
from tomolive.live.slices.accumulate import SliceAccumulator
from tomolive.recon.candidates import candidates

MOST = 15
_SIDE = 256
"""Pixels a side of the part of the slice that is shown: a strip must be quick, and fit on a page."""


def strip_of(
    slices: SliceAccumulator, middle: float, step: float, count: int, per_pixel: float
) -> Callable[[], Strip]:
    """Return what makes the strip of candidates around ``middle``, for any thread.

    Parameters
    ----------
    middle, step, count
        Detector columns; the candidates are ``middle + (k - (count - 1) / 2) * step``.
    per_pixel
        Size of a pixel in the unit of the result.

    Returns
    -------
    A function that returns the strip; a score of 0 is that of the worst candidate, 1 that of a slice without
    any negative attenuation.

    Raises
    ------
    ReconstructionError
        if there are no projections, or a candidate is not on the detector.
    """
    projections = slices.projections
    if not projections.ready or len(projections) < 2:
        raise ReconstructionError("there are no projections yet to try centres with")
    if not 1 <= count <= MOST or not 0 < step < float("inf"):
        raise ReconstructionError(f"{count} centres {step:g} apart; expected 1 to {MOST}, some way apart")
    centers = [middle + (k - (count - 1) / 2) * step for k in range(count)]
    last = slices.columns - 1
    if centers[0] < 0 or centers[-1] > last:
        raise ReconstructionError(
            f"centres from {centers[0]:g} to {centers[-1]:g}; expected columns from 0 to {last}"
        )
    sinogram = projections.widened(projections.sinograms([slices.positions["xy"]])[0])
    radians, name = slices.angles.copy(), projections.filter
    places = [projections.place_of(center) for center in centers]

    def make() -> Strip:
        found = candidates(sinogram, radians, places, filter=name, threads=1)
        part = _busiest(found.pictures[count // 2])
        pixels = np.concatenate([image[part] for image in found.pictures], axis=1) / np.float32(per_pixel)
        worst = float(found.scores["negativity"].max()) or 1.0
        scores = 1 - found.scores["negativity"] / worst
        return Strip(pixels, tuple(centers), tuple(scores.tolist()), middle)

    return make


def _busiest(image: npt.NDArray[np.float32]) -> tuple[slice, slice]:
    """Return the square of at most `_SIDE` pixels in which most happens."""
    size = image.shape[0]
    side = min(size, _SIDE)
    steps = np.unique(np.linspace(0, size - side, 5).round().astype(int))
    y, x = np.ogrid[:size, :size]
    middle = (size - 1) / 2
    seen = np.where((x - middle) ** 2 + (y - middle) ** 2 < (0.95 * size / 2) ** 2, image, 0)
    corners = [(top, left) for top in steps for left in steps]
    top, left = max(corners, key=lambda at: seen[at[0] : at[0] + side, at[1] : at[1] + side].std())
    return slice(top, top + side), slice(left, left + side)
