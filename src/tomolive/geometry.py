"""Parallel-beam geometry shared by every layer: angles, rotation centre, pixel size.

Conventions
-----------
* Angles are radians in arrays that reach a kernel, degrees in documents and on the page.
* The rotation centre is a detector column index, a float; 0.0 is the middle of the first column.
* A slice has one pixel for each detector column, its middle pixel lies on the rotation axis.
"""

import numpy as np
import numpy.typing as npt

from tomolive.errors import ScanError

_PER_UNIT = {
    "deg": np.pi / 180, "degree": np.pi / 180, "degrees": np.pi / 180, "°": np.pi / 180,
    "rad": 1.0, "radian": 1.0, "radians": 1.0,
    "mdeg": np.pi / 180e3, "mrad": 1e-3,
}  # fmt: skip


def to_radians(angles: npt.ArrayLike, units: str) -> npt.NDArray[np.float64]:
    """Return ``angles`` in radians.

    >>> to_radians([0, 180], "deg").round(4).tolist()
    [0.0, 3.1416]

    Raises
    ------
    ScanError
        if ``units`` is not a unit of angle that is known.
    """
    try:
        factor = _PER_UNIT[units.strip().lower()]
    except KeyError:
        raise ScanError(f"unknown unit of angle {units!r}; known are {', '.join(_PER_UNIT)}") from None
    return np.asarray(angles, dtype=np.float64) * factor


_BRIDGED_GAPS = 4.0
"""A gap wider than this many typical steps, and those beside it, has no projection yet and is nobody's."""
_BESIDE = (-2, -1, 1, 2)
"""Which gaps are beside one: an angle may be repeated between."""
_SAME_ANGLE = 0.1
"""Angles nearer than this many typical steps are repeats of one angle."""


def angle_cells(angles: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the part of the half turn, in radians, that each projection stands for.

    Parallel projections at ``t`` and ``t + pi`` see the same lines, so angles live on a circle of
    circumference pi. A projection owns half of the gap to each neighbour on it (trapezium rule); a repeated
    angle shares its cell. A gap wider than four typical steps, and than four times those beside it, is not
    covered by anybody: on that side the projection gets half a typical step, so that a scan under way does
    not give all that is missing to its first and its last projection. Where all gaps are wide, projections
    were taken less densely, and each stands for more.

    Parameters
    ----------
    angles
        Radians, in any order, any number of turns.

    Examples
    --------
    >>> (angle_cells(np.radians([0, 45, 90, 135])) / np.pi).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    folded = np.mod(np.asarray(angles, dtype=np.float64).ravel(), np.pi)
    if folded.size < 2:
        return np.full(folded.shape, np.pi)
    order = np.argsort(folded, kind="stable")
    gaps = np.diff(folded[order], append=folded[order[0]] + np.pi)
    step = _typical_gap(gaps)
    if step < 1e-9:
        return np.full(folded.shape, np.pi / folded.size)
    # begin after the widest gap, so that no group of repeated angles lies across the beginning
    begin = np.argmax(gaps) + 1
    order, gaps = np.roll(order, -begin), np.roll(gaps, -begin)
    usual = np.full(gaps.shape, step)
    for shift in _BESIDE:
        if shift % gaps.size:
            np.maximum(usual, np.roll(gaps, shift), out=usual)
    gaps[gaps > _BRIDGED_GAPS * usual] = step
    cells = np.empty_like(folded)
    cells[order] = _shared(0.5 * (gaps + np.roll(gaps, 1)), gaps[:-1] < _SAME_ANGLE * step)
    return cells


def _shared(cells: npt.NDArray[np.float64], joined: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Give every member of a group the mean of its cells; ``joined`` says which are one with the next."""
    group = np.concatenate([[0], np.cumsum(~joined)])
    means = np.bincount(group, cells) / np.bincount(group)
    return means[group]


def _typical_gap(gaps: npt.NDArray[np.float64]) -> float:
    """Return the gap in which the middle of the covered range lies.

    The widest gap is left out (what the scan has not reached yet); counting by length rather than by number
    makes repeated angles, whose gaps are nearly zero, harmless.
    """
    ordered = np.sort(gaps)[:-1]
    reached = np.cumsum(ordered)
    return float(ordered[np.searchsorted(reached, 0.5 * reached[-1])])


def angle_weights(angles: npt.ArrayLike, exclude: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
    """Return the weight of each projection in the sum over angles; the weights add up to pi.

    Filtered backprojection is the integral of the filtered projections over half a turn. Weights that follow
    the angles really measured, and add up to pi whatever is missing, give the right grey level to uneven,
    repeated and incomplete scans.

    Parameters
    ----------
    angles
        Radians, in any order, any number of turns.
    exclude
        True for projections that are of no use, such as those without beam: they weigh nothing, and their
        neighbours stand for them.
    """
    radians = np.asarray(angles, dtype=np.float64).ravel()
    used = np.ones(radians.shape, bool) if exclude is None else ~np.asarray(exclude, bool)
    weights = np.zeros(radians.shape)
    cells = angle_cells(radians[used])
    if cells.size:
        weights[used] = cells * (np.pi / cells.sum())
    return weights


def covered(angles: npt.ArrayLike) -> float:
    """Return how much of the half turn the projections cover, in radians, from 0 to pi."""
    angles = np.asarray(angles)
    if angles.size < 2:
        return 0.0
    return float(min(angle_cells(angles).sum(), np.pi))


def typical_step(angles: npt.ArrayLike) -> float:
    """Return the usual distance between neighbours on the half turn, radians; pi for fewer than two."""
    folded = np.sort(np.mod(np.asarray(angles, dtype=np.float64).ravel(), np.pi))
    if folded.size < 2:
        return np.pi
    return _typical_gap(np.diff(folded, append=folded[0] + np.pi)) or np.pi


def opposite_pair(angles: npt.ArrayLike, tolerance: float | None = None) -> tuple[int, int, float] | None:
    """Find the two projections that are most nearly half a turn apart.

    Returns
    -------
    (i, j, deviation) or None
        Indices into ``angles``, the lower angle first, and how far from 180 degrees apart they are,
        radians; None if no pair is within ``tolerance`` (default: one and a half typical steps).
    """
    angles = np.asarray(angles, dtype=np.float64).ravel()
    if angles.size < 2:
        return None
    if tolerance is None:
        tolerance = 1.5 * typical_step(angles)
        tolerance = min(tolerance, np.radians(5.0))
    order = np.argsort(angles, kind="stable")
    ordered = angles[order]
    right = np.clip(np.searchsorted(ordered, ordered + np.pi), 1, angles.size - 1)
    partners = np.stack([right - 1, right])
    deviations = np.abs(ordered[partners] - ordered - np.pi)
    side, first = np.unravel_index(np.argmin(deviations), deviations.shape)
    deviation = float(deviations[side, first])
    if deviation > tolerance + 1e-9:
        return None
    return int(order[first]), int(order[partners[side, first]]), deviation
