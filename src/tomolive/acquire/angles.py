"""Angles of a file in degrees, whatever unit they are in; what was assumed is said."""

import numpy as np
import numpy.typing as npt

from tomolive.errors import ScanError
from tomolive.geometry import to_radians

_TURNS = (np.pi, 2 * np.pi)
"""Spans that mean radians whatever the units attribute says: no scan turns by 3.14 or 6.28 degrees."""


def to_degrees(values: npt.NDArray, units: str | None) -> tuple[npt.NDArray[np.float64], str]:
    """Return ``values`` in degrees, and how that was decided.

    >>> to_degrees(np.array([0.0, 3.14159]), None)[1]
    'radians, taken from their range: no units attribute'

    Raises
    ------
    ScanError
        if an angle is not finite, or the unit is not known.
    """
    values = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ScanError(f"{bad.size} angles are not finite, the first is number {bad[0]}: {values[bad[0]]}")
    span = float(np.ptp(values))
    # The last angle is often left out: 180 projections span 179 degrees.
    step = span / max(len(values) - 1, 1)
    radians = any(abs(span - turn) < 1e-3 * turn or abs(span + step - turn) < 1e-3 * turn for turn in _TURNS)
    if units is None:
        if span <= 2 * np.pi + step:
            return np.rad2deg(values), "radians, taken from their range: no units attribute"
        return values, "degrees, taken from their range: no units attribute"
    if _is_degrees(units) and radians:
        return np.rad2deg(values), f"radians, taken from their range, although units say {units!r}"
    if _is_degrees(units):
        return values, f"units attribute {units!r}"
    degrees = np.rad2deg(to_radians(values, units))
    if np.ptp(degrees) > 5000:
        return values, f"degrees, taken from their range, although units say {units!r}"
    return degrees, f"units attribute {units!r}"


def from_range(text: str, number: int) -> npt.NDArray[np.float64]:
    """Return ``number`` equal steps for 'START:STOP' in degrees, both ends included.

    >>> from_range("0:180", 3).tolist()
    [0.0, 90.0, 180.0]

    Raises
    ------
    ScanError
        if ``text`` is not of that form.
    """
    try:
        start, stop = map(float, text.split(":"))
    except ValueError:
        raise ScanError(
            f"--angles {text}: expected a dataset or START:STOP in degrees, such as 0:180"
        ) from None
    return np.linspace(start, stop, number)


def _is_degrees(units: str) -> bool:
    return units.strip().lower() in ("deg", "degree", "degrees", "°")
