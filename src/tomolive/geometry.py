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
