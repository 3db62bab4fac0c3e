"""Scans with the axis near an edge of the detector, over a whole turn, that see twice as far.

A ray at the distance t from the axis is seen at one angle, and half a turn later at -t. Where only one of the
two falls on the detector it counts twice, where both do they are blended smoothly, so that their shares add
up to the same everywhere. Filtering and backprojection are linear, so each projection can be weighed by
itself; nothing has to be paired, and any sequence of angles over the whole turn will do.
"""

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.recon.binning import binned_place

LEAST_OVERLAP = 4.0
"""Columns on the shorter side of the axis; fewer cannot be blended."""

_WHOLE_TURN_DEG = 300.0
_OFF_AXIS = 0.25
"""A whole turn with the axis nearer to an edge than this part of the columns is a half acquisition."""


NO_OVERLAP = "No half acquisition can be made of it: the centre is too near to the edge of the detector."
"""What is said where one was asked for."""


def is_half_acquisition(
    center: float, columns: int, turn: float, said: bool | None = None, *, binning: int = 1
) -> bool:
    """Whether a scan that turns through ``turn`` degrees about this column of the detector is to be widened.

    Parameters
    ----------
    said
        What somebody who knows says of it; None: nobody does. It needs some overlap all the same.
    binning
        Columns that are averaged before.
    """
    place = binned_place(center, binning)
    if said is False or min(place, columns // binning - 1 - place) < LEAST_OVERLAP:
        return False
    off_axis = min(center, columns - 1 - center) < _OFF_AXIS * columns
    return bool(said) or (turn >= _WHOLE_TURN_DEG and off_axis)


def of_half_turn(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return angles, radians, with which weights and coverage of a whole turn are told as of half a turn.

    Otherwise projections at t and t + pi see the same lines, and share what both stand for. Here they see
    different ones, so each stands for its own part of the whole turn, however uneven that is.
    """
    return 0.5 * angles


def widen(sinograms: npt.ArrayLike, center: float) -> tuple[npt.NDArray[np.float32], float]:
    """Extend sinograms of a half-acquisition scan to the width that both half turns see together.

    Parameters
    ----------
    sinograms
        Line integrals over a whole turn, (rows, angles, columns) or (angles, columns).
    center
        Column on which the rotation axis is projected, off the middle.

    Returns
    -------
    (wide, center)
        float32 line integrals with shares, and the centre in them; give both to `tomolive.recon.reconstruct`
        with the angles as they are, and ``weights=angle_weights(angles / 2)`` (`tomolive.geometry`) unless
        they are even.

    Raises
    ------
    ReconstructionError
        if the axis is less than four columns from the edge of the detector, or off it.
    """
    narrow = np.asarray(sinograms, np.float32)
    columns = narrow.shape[-1]
    short = min(center, columns - 1 - center)
    if not short >= LEAST_OVERLAP:
        raise ReconstructionError(
            f"center={center:g} leaves no overlap; expected a column from {LEAST_OVERLAP:g} to "
            f"{columns - 1 - LEAST_OVERLAP:g}"
        )
    distance = np.arange(columns) - center
    outwards = distance if center < (columns - 1) / 2 else -distance
    share = 1 + np.sin(0.5 * np.pi * np.clip(outwards / short, -1, 1))
    added = round(columns - 1 - 2 * short)
    left = added if center < (columns - 1) / 2 else 0
    wide = np.zeros((*narrow.shape[:-1], columns + added), np.float32)
    wide[..., left : left + columns] = narrow * share.astype(np.float32)
    return wide, float(center + left)
