"""The rotation axis as a line on the detector: where it is, and how it leans."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.geometry import opposite_pair
from tomolive.recon.center import from_opposite
from tomolive.recon.checks import check_angles
from tomolive.recon.parallel import blocks, run

Floats = npt.NDArray[np.float32]

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


def straighten(projections: npt.ArrayLike, axis: Axis, *, threads: int | None = None) -> Floats:
    """Turn projections until the axis is upright, on the column ``axis.center``.

    Rows are then slices across the axis, as every reconstruction takes them to be. Interpolated linearly.

    Parameters
    ----------
    projections
        Line integrals, (angles, rows, columns).
    axis
        Where the axis is, as `find_axis` gives it.

    Returns
    -------
    float32, same shape; what comes in from beyond the detector is its edge.
    """
    from scipy import ndimage  # which takes a while, and nothing else here needs

    values = np.asarray(projections, np.float32)
    if values.ndim != 3 or 0 in values.shape:
        raise ReconstructionError(f"projections has shape {values.shape}; expected (angles, rows, columns)")
    tilt = np.arctan(axis.slope)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    pivot = np.array([(values.shape[1] - 1) / 2, axis.center])
    out = np.empty_like(values)

    def straighten_one(number: int) -> None:
        image = ndimage.affine_transform(
            values[number],
            turn,
            pivot - turn @ pivot,  # pyright: ignore[reportArgumentType]  one for each axis, says its text
            order=1,
            mode="nearest",
        )
        out[number] = image

    run(straighten_one, range(len(values)), threads)
    return out


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
