"""The rotation axis as a line on the detector: where it is, and how it leans."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.geometry import opposite_pair
from tomolive.recon.center import from_opposite
from tomolive.recon.checks import check_angles
from tomolive.recon.parallel import blocks

_BANDS = 16
_LEAST_BANDS = 3


@dataclass(frozen=True)
class Axis:
    """The projection of the rotation axis, ``column = center + slope (row - middle row)``."""

    center: float
    """Column at the middle row of the detector."""
    slope: float
    """Columns per row; its arc tangent is the tilt of the camera."""
    scatter: float
    """Root mean square distance, columns, of the bands from the line: how far to believe it."""


def find_axis(projections: npt.ArrayLike, angles: npt.ArrayLike) -> Axis:
    """Find the axis from two opposite projections, band of rows by band of rows, and a straight line.

    Parameters
    ----------
    projections
        Line integrals, (angles, rows, columns); at least three rows.
    angles
        Radians.

    Raises
    ------
    ReconstructionError
        if the shapes do not fit, there are too few rows, or no two projections are half a turn apart.
    """
    radians = check_angles(angles)
    values = np.asarray(projections)
    if values.ndim != 3 or len(values) != len(radians) or values.shape[1] < _LEAST_BANDS:
        raise ReconstructionError(
            f"projections has shape {values.shape} and there are {len(radians)} angles; "
            f"expected (angles, rows, columns) with at least {_LEAST_BANDS} rows"
        )
    pair = opposite_pair(radians)
    if pair is None:
        raise ReconstructionError("angles hold no two projections half a turn apart")
    first, opposite = (np.asarray(values[i], np.float32) for i in pair[:2])
    rows = values.shape[1]
    bands = blocks(rows, max(1, rows // _BANDS))
    height = np.array([(low + high - 1) / 2 for low, high in bands]) - (rows - 1) / 2
    found = np.array([from_opposite(first[low:high], opposite[low:high]) for low, high in bands])
    # bands that see little of the sample may say anything: leave out what is far from the rest
    near = np.abs(found - np.median(found)) <= 3 * 1.4826 * np.median(np.abs(found - np.median(found))) + 0.5
    slope, center = np.polyfit(height[near], found[near], 1)
    scatter = np.sqrt(np.mean((found[near] - center - slope * height[near]) ** 2))
    return Axis(float(center), float(slope), float(scatter))
