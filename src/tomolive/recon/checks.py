"""Arguments that many functions take, checked, with errors that name them."""

import warnings

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError

_DEGREES = 0.02
"""Share of 180 or 360 by which the span of angles may miss it and still look like degrees."""


def as_sinograms(
    array: npt.ArrayLike, angles: npt.ArrayLike, name: str = "sinograms"
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return (rows, angles, columns) and checked angles, whichever way round ``array`` is."""
    radians = check_angles(angles)
    values = np.asarray(array)
    if values.ndim == 2:
        values = values[np.newaxis]
    if values.ndim != 3 or len(radians) not in values.shape[:2] or 0 in values.shape:
        raise ReconstructionError(
            f"{name} has shape {np.shape(array)}, which does not fit {len(radians)} angles; expected "
            "(rows, angles, columns), (angles, rows, columns) or (angles, columns)"
        )
    if values.shape[1] != len(radians):
        values = values.transpose(1, 0, 2)
    return np.ascontiguousarray(values, np.float32), radians


def check_angles(angles: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return ``angles`` as float64 (n,); raises ReconstructionError unless finite and at least two.

    Angles that look like degrees are warned of: nothing but their span tells them from 29 or 57 turns.
    """
    radians = np.asarray(angles, np.float64)
    if radians.ndim != 1 or radians.size < 2:
        raise ReconstructionError(
            f"angles has shape {radians.shape}; expected at least two angles, one-dimensional"
        )
    bad = np.flatnonzero(~np.isfinite(radians))
    if bad.size:
        raise ReconstructionError(
            f"angles[{bad[0]}] is {radians[bad[0]]}; expected finite angles in radians ({bad.size} are not)"
        )
    span = np.ptp(radians)
    if any(abs(span - turn) < _DEGREES * turn for turn in (180, 360)):
        warnings.warn(
            f"angles run over {span:g} radians, {span / (2 * np.pi):.1f} turns: if they are degrees, pass "
            "np.radians(angles)",
            stacklevel=3,
        )
    return radians
