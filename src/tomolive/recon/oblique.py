"""Planes of any orientation, straight from filtered projections, without a volume."""

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.errors import ReconstructionError
from tomolive.geometry import angle_weights
from tomolive.recon.checks import check_angles
from tomolive.recon.filters import GUARDS, filter_bands
from tomolive.recon.parallel import blocks, run
from tomolive.recon.slices import check_center

_PROJECTIONS = 32
_LINES = 32

Triple = tuple[float, float, float]


def oblique_plane(
    tilt: float, turn: float, offset: float = 0.0, *, rows: int, columns: int
) -> tuple[Triple, Triple, Triple]:
    """Return origin, down and right of a plane that is turned about the rotation axis, then tilted.

    Without tilt it is the xy plane in the middle. Its columns stay horizontal: ``turn`` leads them from x
    towards y; ``tilt`` lifts its rows out of the horizontal plane, at 90 degrees down to the rotation axis:
    with turn 0 this is the xz plane, with turn 90 the yz plane.

    Parameters
    ----------
    tilt, turn
        Degrees.
    offset
        Distance from the middle of the volume along the normal of the plane, voxels.
    rows, columns
        Those of the detector: the volume is (rows, columns, columns), the picture (columns, columns).

    Returns
    -------
    Places (z, y, x) for `reconstruct_plane`.
    """
    t, u = np.radians(tilt), np.radians(turn)
    right = np.array([0.0, np.sin(u), np.cos(u)])
    down = np.array([np.sin(t), np.cos(t) * np.cos(u), -np.cos(t) * np.sin(u)])
    normal = np.array([np.cos(t), -np.sin(t) * np.cos(u), np.sin(t) * np.sin(u)])
    middle = np.array([(rows - 1) / 2, (columns - 1) / 2, (columns - 1) / 2])
    origin = middle + offset * normal - (columns - 1) / 2 * (down + right)
    z, y, x = (tuple(map(float, vector)) for vector in (origin, down, right))
    return z, y, x  # pyright: ignore[reportReturnType]


def reconstruct_plane(
    projections: npt.ArrayLike,
    angles: npt.ArrayLike,
    center: float,
    *,
    origin: Triple,
    down: Triple,
    right: Triple,
    shape: tuple[int, int],
    filter: str = "ramp",  # noqa: A002  the field's word
    threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """Reconstruct the plane ``origin + i down + j right`` by filtered backprojection.

    Parameters
    ----------
    projections
        Line integrals, (angles, rows, columns).
    angles
        Radians.
    center
        Column on which the rotation axis is projected.
    origin, down, right
        Places in the volume as (z, y, x), in voxels: pixel (0, 0), and the steps from row to row and from
        column to column of the picture.
    shape
        Rows and columns of the picture.

    Returns
    -------
    float32 ``shape``, 1/pixel; zero where the plane is above or below the detector.

    Raises
    ------
    ReconstructionError
        if shapes do not fit together, or the centre is not on the detector.
    """
    radians = check_angles(angles)
    values = np.asarray(projections, np.float32)
    if values.ndim != 3 or len(values) != len(radians):
        raise ReconstructionError(
            f"projections has shape {values.shape} and there are {len(radians)} angles; "
            "expected (angles, rows, columns)"
        )
    center = check_center(center, values.shape[2])
    vectors = np.array([origin, down, right], np.float64)
    if vectors.shape != (3, 3) or not np.isfinite(vectors).all():
        raise ReconstructionError(
            "origin, down and right are places (z, y, x); expected three finite numbers each"
        )
    weights = angle_weights(radians).astype(np.float32)
    image = np.zeros(shape, np.float32)
    for first, last in blocks(len(values), _PROJECTIONS):
        turned = filter_bands(values[first:last], filter)
        part, shares = radians[first:last], weights[first:last]

        def add(lines: tuple[int, int], turned=turned, part=part, shares=shares) -> None:
            top, bottom = lines
            start = vectors[0] + top * vectors[1]
            place = np.array([start, vectors[1], vectors[2]])
            _add_to_plane(turned, shares, np.cos(part), np.sin(part), center + 1, place, image[top:bottom])

        run(add, blocks(shape[0], _LINES), threads)
    return image


@njit(nogil=True, cache=True, fastmath=True)
def _add_to_plane(turned, weights, cosines, sines, center, place, image):
    """Add to ``image[i, j]``; interpolated linearly between columns and between detector rows."""
    count, width, rows = turned.shape
    end = float(width - 2)
    middle = (width - GUARDS - 1) / 2
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            z = place[0, 0] + i * place[1, 0] + j * place[2, 0]
            y = place[0, 1] + i * place[1, 1] + j * place[2, 1] - middle
            x = place[0, 2] + i * place[1, 2] + j * place[2, 2] - middle
            if z < 0 or z > rows - 1:
                continue
            top = min(np.int64(z), max(rows - 2, 0))
            beneath = np.float32(z - top)
            next_row = min(top + 1, rows - 1)
            total = np.float32(0)
            for a in range(count):
                column = min(max(center + x * cosines[a] + y * sines[a], 0.0), end)
                left = np.int64(column)
                across = np.float32(column - left)
                here, there = turned[a, left], turned[a, left + 1]
                upper = here[top] + across * (there[top] - here[top])
                lower = here[next_row] + across * (there[next_row] - here[next_row])
                total += weights[a] * (upper + beneath * (lower - upper))
            image[i, j] += total
