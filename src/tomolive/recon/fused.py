"""From counts to filtered bands of rows in one pass, while a few rows of a projection are in the cache.

The same numbers as by `tomolive.recon.correct.line_integrals` and `tomolive.recon.filters.filter_bands`, but
what is between them is never written to memory, which is what either of them waits for.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.recon.correct import correct_row, native
from tomolive.recon.filters import (
    GUARDS,
    Floats,
    check_padding,
    filter_lanes,
    scratch,
    to_lanes,
)
from tomolive.recon.flat_field import FlatField
from tomolive.recon.memory import CACHE_LINE, aligned_empty, aligned_floats
from tomolive.recon.recursion import margin_of, recursion
from tomolive.recon.vectors import WIDTH, fetch

_AHEAD = 2
"""Rows that are fetched from memory while those before are worked on: a band is a small part of a frame, and
where the next frame goes on the processor cannot guess."""


def correct_and_filter(
    counts: npt.NDArray[np.generic],
    field: FlatField,
    rows: tuple[int, int],
    name: str = "ramp",
    *,
    padding: str = "edge",
    out: Floats | None = None,
) -> Floats:
    """Correct and filter some rows of raw projections.

    Parameters
    ----------
    counts
        (n, rows, columns), all rows.
    field
        Darks and flats of all rows.
    rows
        The first one, and the one after the last.
    name, padding, out
        As for `tomolive.recon.filters.filter_bands`.

    Returns
    -------
    float32 (n, columns + 3, rows), 1/pixel; ``out``, or a new array.
    """
    first, last = rows
    count, _, columns = counts.shape
    if out is None:
        out = aligned_empty((count, columns + GUARDS, last - first))
    half = np.float32(0.5 if counts.dtype.kind in "ui" else 0)
    kernel, edges = recursion(name, columns), check_padding(padding) == "edge"
    _correct_and_filter(native(counts), field.dark, field.gain, half, first, last, kernel, edges, out)
    return out


@njit(inline="always")
def _fetch_row(counts, number, row, first, last):
    """Have a row fetched from memory; what is behind the last row is in the next projection."""
    if row >= last:
        number, row = number + 1, row + first - last
    if number < counts.shape[0] and row < last:
        line = counts[number, row]
        for column in range(0, line.size, CACHE_LINE // line.itemsize):
            fetch(line, column)


@njit(nogil=True, cache=True)
def _correct_and_filter(counts, dark, gain, half, first, last, kernel, edges, out):
    columns = counts.shape[2]
    # rows a power of two apart would all lie in the same few lines of the cache
    corrected = aligned_floats(WIDTH * (columns + WIDTH)).reshape(WIDTH, columns + WIDTH)
    work = scratch(columns, kernel)
    for number in range(counts.shape[0]):
        for top in range(first, last, WIDTH):
            bottom = min(top + WIDTH, last)
            for row in range(top, bottom):
                _fetch_row(counts, number, row + _AHEAD, first, last)
                correct_row(counts[number, row], dark[row], gain[row], half, corrected[row - top, :columns])
            to_lanes(corrected[: bottom - top], columns, margin_of(kernel), edges, work[0])
            filter_lanes(work, kernel, top - first, bottom - first, out[number])
