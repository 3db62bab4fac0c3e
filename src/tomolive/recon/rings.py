"""Rings: detector columns that answer differently make vertical stripes in a sinogram, and rings in a slice.

Sorting-based removal (Vo, Atwood and Drakopoulos, Opt. Express 26, 28396 (2018), algorithm 3): each column of
the sinogram is sorted by value, so that neighbouring columns, which see nearly the same sample, look alike
whatever their phase; a median over neighbouring columns then takes away what one column has of its own; and
the values go back to where they were.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.errors import ReconstructionError
from tomolive.recon.parallel import blocks, run

Floats = npt.NDArray[np.float32]

_RANKS = 64


METHODS = ("sorting",)


def remove_stripes(
    sinograms: npt.ArrayLike, size: int = 21, *, method: str = "sorting", threads: int | None = None
) -> Floats:
    """Remove full stripes by the sorting-based method.

    Parameters
    ----------
    sinograms
        Line integrals, (rows, angles, columns) or one sinogram (angles, columns).
    size
        Width of the median, columns; wider than the stripes.
    method
        One of `METHODS`.
    threads
        How many threads work; default: one for each core.

    Returns
    -------
    float32, same shape.

    Raises
    ------
    ReconstructionError
        if the shape is not that of sinograms, or ``size`` is not from 1 to the number of columns.
    """
    if method not in METHODS:
        raise ReconstructionError(f"method={method!r} is not known; expected one of {', '.join(METHODS)}")
    values = np.asarray(sinograms, np.float32)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ReconstructionError(
            f"sinograms has shape {values.shape}; expected (rows, angles, columns) or (angles, columns)"
        )
    columns = values.shape[-1]
    if not 1 <= size <= columns:
        raise ReconstructionError(f"size={size}; expected a width from 1 to the {columns} columns")
    if values.ndim == 2:
        return _without_stripes(values, size, threads)
    return np.stack([_without_stripes(sinogram, size, threads) for sinogram in values])


def _without_stripes(sinogram: Floats, size: int, threads: int | None) -> Floats:
    turned = np.ascontiguousarray(sinogram.T)
    order = np.empty(turned.shape, np.int64)
    ranked = np.empty_like(turned)
    smooth = np.empty_like(turned)
    restored = np.empty_like(turned)

    def sort(block: tuple[int, int]) -> None:
        part = slice(*block)
        order[part] = np.argsort(turned[part], axis=1)
        ranked[part] = np.take_along_axis(turned[part], order[part], axis=1)

    def put_back(block: tuple[int, int]) -> None:
        part = slice(*block)
        np.put_along_axis(restored[part], order[part], smooth[part], axis=1)

    columns, ranks = turned.shape
    run(sort, blocks(columns, _RANKS), threads)
    run(lambda b: _median_down(ranked, b[0], b[1], size, smooth), blocks(ranks, _RANKS), threads)
    run(put_back, blocks(columns, _RANKS), threads)
    return np.ascontiguousarray(restored.T)


@njit(nogil=True, cache=True)
def _mirrored(index, length):
    """Return the index inside ``range(length)`` that a half-sample symmetric extension repeats."""
    while index < 0 or index >= length:
        index = -index - 1 if index < 0 else 2 * length - 1 - index
    return index


@njit(nogil=True, cache=True)
def _median_down(values, first, last, size, out):
    """Write the running median over ``size`` rows of ``values``, for the columns first to last.

    Each column keeps its window sorted: the value that leaves is overwritten by the one that comes, which
    then moves to its place. Going down by rows, not by columns, keeps memory in order.
    """
    rows = values.shape[0]
    # an even window reaches one further back, as scipy.ndimage.median_filter does
    before = size // 2
    windows = np.empty((last - first, size), np.float32)
    for column in range(first, last):
        window = windows[column - first]
        for i in range(size):
            window[i] = values[_mirrored(i - before, rows), column]
        window.sort()
        out[0, column] = window[before]
    for row in range(1, rows):
        leaving, coming = _mirrored(row - before - 1, rows), _mirrored(row - before + size - 1, rows)
        for column in range(first, last):
            window = windows[column - first]
            old, new = values[leaving, column], values[coming, column]
            place = 0
            while window[place] != old:
                place += 1
            while place < size - 1 and window[place + 1] < new:
                window[place] = window[place + 1]
                place += 1
            while place > 0 and window[place - 1] > new:
                window[place] = window[place - 1]
                place -= 1
            window[place] = new
            out[row, column] = window[before]
