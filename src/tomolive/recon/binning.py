"""Pixels averaged b by b, and what that does to places and sizes.

A binned column k holds the columns b k to b k + b - 1, so its middle lies at ``b k + (b - 1) / 2``: an
unbinned column ``c`` is at ``(c + 0.5) / b - 0.5``, and a pixel is b times as large. Rows and columns at the
end that do not fill a bin are left out.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.errors import ReconstructionError


def binned(frames: npt.NDArray[np.generic], binning: int) -> npt.NDArray[np.generic]:
    """Average ``frames`` (n, rows, columns) over squares of ``binning`` pixels a side.

    Counts that are not finite are left out; a square of nothing else is NaN.

    Returns
    -------
    float32 (n, rows // binning, columns // binning); ``frames`` themselves if ``binning`` is 1.

    Raises
    ------
    ReconstructionError
        if ``binning`` is not a whole number from 1 to the smaller side.
    """
    if frames.ndim != 3:
        raise ReconstructionError(f"frames has shape {frames.shape}; expected (n, rows, columns)")
    rows, columns = binned_shape(frames.shape[1:], binning)
    if binning == 1:
        return frames
    out = np.empty((len(frames), rows, columns), np.float32)
    _average(np.ascontiguousarray(frames, frames.dtype.newbyteorder("=")), binning, out)
    return out


def binned_shape(shape: tuple[int, ...], binning: int) -> tuple[int, int]:
    """Return (rows, columns) of binned frames of ``shape`` (rows, columns)."""
    rows, columns = shape
    if binning != int(binning) or not 1 <= binning <= max(1, min(rows, columns)):
        raise ReconstructionError(
            f"binning={binning} of frames of {rows} x {columns} pixels; expected a whole number from 1 to "
            f"{min(rows, columns)}"
        )
    return rows // binning, columns // binning


def binned_place(place: float, binning: int) -> float:
    """Return where a column or row lies among the binned ones: a rotation centre, a plane's position.

    >>> binned_place(1.5, 4), binned_place(296.0, 2)
    (0.0, 147.75)
    """
    return (place + 0.5) / binning - 0.5


def unbinned_place(place: float, binning: int) -> float:
    """Return where a binned column or row lies on the detector.

    >>> unbinned_place(147.75, 2)
    296.0
    """
    return (place + 0.5) * binning - 0.5


@njit(nogil=True, cache=True)
def _average(frames, binning, out):
    for frame in range(out.shape[0]):
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                total = 0.0
                count = 0
                for r in range(row * binning, (row + 1) * binning):
                    for c in range(column * binning, (column + 1) * binning):
                        value = np.float32(frames[frame, r, c])
                        if np.isfinite(value):
                            total += value
                            count += 1
                out[frame, row, column] = total / count if count else np.nan
