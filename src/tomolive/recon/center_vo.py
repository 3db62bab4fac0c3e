"""The rotation centre from the Fourier transform of one sinogram (Vo et al., Opt. Express 22, 19078 (2014)).

The sinogram of a whole turn, made of half a turn and its mirror image, has no energy where the harmonic m of
the angle exceeds what an object of radius r can hold at the spatial frequency f: ``|m| > 2 pi f r``, the
double wedge. A wrong centre puts energy there. It needs half a turn in even steps; unlike a comparison of two
projections it uses all of them.
"""

import numpy as np
import numpy.typing as npt
import scipy.fft

from tomolive.errors import ReconstructionError
from tomolive.geometry import covered
from tomolive.recon.binning import binned_place, unbinned_place
from tomolive.recon.minimum import vertex
from tomolive.recon.parallel import run

Floats = npt.NDArray[np.float32]

_RADIUS = 0.5
"""Radius of the object that the wedge allows for, in columns of the detector."""
_STEP, _FINE_STEP = 2.0, 0.5
"""Columns between candidates, at first in an averaged sinogram, then in all of it."""
_COLUMNS, _ANGLES = 256, 360
"""As many tell where to look closer."""
_DROP = 20
"""Harmonics next to zero that are left out: they hold the stripes of bad columns."""


def by_wedge(
    sinogram: Floats,
    angles: npt.NDArray[np.float64],
    *,
    start: float | None = None,
    reach: float | None = None,
    threads: int | None = None,
) -> float:
    """Return the centre that leaves the least energy outside the double wedge.

    Parameters
    ----------
    sinogram
        Line integrals, (angles, columns), over about half a turn.
    angles
        Radians.
    start, reach
        Where to look and how far; default: the middle, and an eighth of the columns.

    Raises
    ------
    ReconstructionError
        if the angles cover much less than half a turn.
    """
    if np.degrees(covered(angles)) < 170:
        raise ReconstructionError(
            f"angles cover {np.degrees(covered(angles)):.4g} degrees; method 'vo' needs half a turn"
        )
    order = np.argsort(angles)
    ordered = np.ascontiguousarray(sinogram[order], np.float32)
    columns = sinogram.shape[1]
    side = _side(columns)
    small = _averaged(ordered, max(1, len(ordered) // _ANGLES), side)
    place = binned_place((columns - 1) / 2 if start is None else start, side)
    place = _least(small, place, (columns / 8 if reach is None else reach) / side, _STEP / side, threads)
    return _least(ordered, unbinned_place(place, side), _STEP, _FINE_STEP, threads)


def _side(columns: int) -> int:
    """Return how many columns may be averaged where a place is sought to a few of them."""
    return next(side for side in (4, 2, 1) if side == 1 or columns >= side * _COLUMNS)


def _averaged(sinogram: Floats, angles: int, columns: int) -> Floats:
    """Average so many neighbouring angles and columns; what is left over at the ends is left out."""
    height, width = sinogram.shape[0] // angles, sinogram.shape[1] // columns
    whole = sinogram[: height * angles, : width * columns]
    return whole.reshape(height, angles, width, columns).mean(axis=(1, 3))


def _least(sinogram: Floats, center: float, reach: float, step: float, threads: int | None) -> float:
    """Return the candidate around ``center`` that leaves least outside, between the steps by a parabola."""
    columns, count = sinogram.shape[1], int(np.ceil(reach / step))
    candidates = 0.5 * round(2 * center) + step * np.arange(-count, count + 1)
    candidates = candidates[(candidates > columns / 8) & (candidates < columns * 7 / 8)]
    costs = run(lambda c: _outside_the_wedge(sinogram, float(c)), candidates, threads)
    least = int(np.argmin(costs))
    beside = vertex(*costs[least - 1 : least + 2]) if 0 < least < len(costs) - 1 else 0.0
    return float(candidates[least]) + step * beside


def _outside_the_wedge(sinogram: Floats, center: float) -> float:
    count, columns = sinogram.shape
    whole = _whole_turn(sinogram, center)
    spectrum = np.abs(np.asarray(scipy.fft.rfft2(whole)))
    harmonic = np.abs(np.fft.fftfreq(len(whole)) * len(whole))[:, np.newaxis]
    frequency = np.fft.rfftfreq(whole.shape[1])[np.newaxis]
    outside = (harmonic > 2 * np.pi * frequency * _RADIUS * columns) & (harmonic > min(_DROP, count / 4))
    return float(spectrum[outside].mean())


def _whole_turn(sinogram: Floats, center: float) -> Floats:
    """Return half a turn and its mirror image about ``center``, over the columns that both have.

    A centre on a column or half-way between two mirrors column onto column: interpolating would smooth, and
    so favour some centres over others.
    """
    last = sinogram.shape[1] - 1
    twice = round(2 * center)
    shared = sinogram[:, max(0, twice - last) : min(last, twice) + 1]
    return np.concatenate([shared, shared[:, ::-1]])
