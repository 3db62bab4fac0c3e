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
from tomolive.recon.parallel import allowed_cores, blocks, run

Floats = npt.NDArray[np.float32]

_AT_ONCE = 64
"""Columns, or ranks, that a thread takes at once."""
_COLUMNS = 16
"""Columns that fill a line of the cache."""
_BYTES = 4
_BYTE = np.uint32(0xFF)


METHODS = ("sorting", "combined", "fourier-wavelet")
"""How `remove_stripes` may work."""


def remove_stripes(
    sinograms: npt.ArrayLike,
    size: int = 21,
    *,
    method: str = "sorting",
    large: int = 51,
    snr: float = 3.0,
    level: int = 5,
    damping: float = 1.0,
    threads: int | None = None,
    out: Floats | None = None,
) -> Floats:
    """Remove stripes.

    Parameters
    ----------
    sinograms
        Line integrals, (rows, angles, columns) or one sinogram (angles, columns), in the order of the angles.
    size
        Width of the median of sorting, columns; wider than the small stripes.
    method
        "sorting": full stripes, wherever they are. "combined": also wide ones and those of dead or
        fluctuating columns, see `tomolive.recon.rings_combined`. "fourier-wavelet": all that is smooth along
        the angles, see `tomolive.recon.rings_wavelet`; fine rings of many columns, but it also takes away
        what the sample has of such features.
    large, snr
        For "combined": width of the median for large stripes, columns, and how far over the noise a stripe is
        one; the larger, the fewer.
    level, damping
        For "fourier-wavelet": number of scales, and width of what is damped around frequency zero, in
        frequencies of the coefficients.
    threads
        How many threads work; default: one for each core.
    out
        Where to write, float32 of the same shape; may be ``sinograms`` themselves.

    Returns
    -------
    ``out``, or a new array; float32, same shape.

    Raises
    ------
    ReconstructionError
        if the shape is not that of sinograms, or a parameter is of no use.
    """
    if method not in METHODS:
        raise ReconstructionError(f"method={method!r} is not known; expected one of {', '.join(METHODS)}")
    values = np.asarray(sinograms, np.float32)
    if values.strides[-1] != values.itemsize:
        values = np.ascontiguousarray(values)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ReconstructionError(
            f"sinograms has shape {values.shape}; expected (rows, angles, columns) or (angles, columns)"
        )
    columns = values.shape[-1]
    if not 1 <= size <= columns:
        raise ReconstructionError(f"size={size}; expected a width from 1 to the {columns} columns")
    if not (large >= 1 and snr > 0 and level >= 1 and damping > 0):
        raise ReconstructionError(
            f"large={large}, snr={snr}, level={level}, damping={damping}; expected positive numbers"
        )

    if out is None:
        out = np.empty(values.shape, np.float32)
    elif out.shape != values.shape:
        raise ReconstructionError(
            f"out has shape {out.shape}; expected that of the sinograms, {values.shape}"
        )
    one = values.ndim == 2 or len(values) == 1
    stack, cleaned = (values[np.newaxis], out[np.newaxis]) if values.ndim == 2 else (values, out)

    def clean(block: tuple[int, int], threads: int | None = 1) -> None:
        # kept from sinogram to sinogram: to get large arrays from the system takes as long as to fill them
        room = Ranked(values.shape[-2:], threads)
        for row in range(*block):
            if method == "sorting":
                room.sort(stack[row])
                room.put_back(room.smooth(size), cleaned[row])
            elif method == "combined":
                from tomolive.recon.rings_combined import without_all_stripes

                cleaned[row] = without_all_stripes(stack[row], size, min(large, columns), snr, room)
            else:
                from tomolive.recon.rings_wavelet import without_smooth_stripes

                cleaned[row] = without_smooth_stripes(np.ascontiguousarray(stack[row]), level, damping)

    if one:
        clean((0, 1), threads)
    else:
        each = -(-len(stack) // (threads or allowed_cores()))
        run(clean, blocks(len(stack), each), threads)
    return out


class Ranked:
    """A sinogram with each column sorted by value, turned: (columns, angles); one after the other.

    Parameters
    ----------
    shape
        Of the sinograms, (angles, columns).
    threads
        How many work.

    Attributes
    ----------
    values : ndarray
        (columns, angles), of the sinogram that was sorted last.
    """

    def __init__(self, shape: tuple[int, ...], threads: int | None) -> None:
        turned = shape[::-1]
        self.values = np.empty(turned, np.float32)
        self._order = np.empty(turned, np.uint32)
        self._smooth = np.empty(turned, np.float32)
        self._threads = threads

    def sort(self, sinogram: Floats) -> None:
        """Sort the columns of ``sinogram`` (angles, columns); equal values in the order of the angles."""
        bits, values = sinogram.view(np.uint32), self.values.view(np.uint32)

        def sort(block: tuple[int, int]) -> None:
            first, last = block
            _sort_columns(bits[:, first:last], values[first:last], self._order[first:last])

        run(sort, blocks(len(values), _AT_ONCE), self._threads)

    def smooth(self, size: int) -> Floats:
        """Return the running median over ``size`` columns, rank by rank; valid until the next call."""
        ranks, out = self.values.shape[1], self._smooth
        pieces = blocks(ranks, _AT_ONCE)
        run(lambda b: _median_down(self.values, b[0], b[1], size, out), pieces, self._threads)
        return out

    def put_back(self, ranked: Floats, out: Floats) -> None:
        """Write to ``out`` the sinogram (angles, columns) whose sorted columns are ``ranked``."""

        def put(block: tuple[int, int]) -> None:
            part = slice(*block)
            _scatter(ranked[part], self._order[part], out[:, part])

        run(put, blocks(len(ranked), _COLUMNS), self._threads)


@njit(nogil=True, cache=True)
def _sort_columns(bits, values, order):
    """Write the columns of ``bits`` (angles, columns), sorted as floats, and where each value stood.

    By one byte after the other, from the lowest on, which keeps the order of equal ones: twice as fast as to
    sort by comparing, for there are no branches.
    """
    angles, columns = bits.shape
    column = np.empty((_COLUMNS, angles), np.uint32)
    keys, places = np.empty((2, angles), np.uint32), np.empty((2, angles), np.uint32)
    cursors = np.empty((_BYTES, 256), np.uint32)
    for first in range(0, columns, _COLUMNS):
        for angle in range(angles):
            for i in range(min(_COLUMNS, columns - first)):
                column[i, angle] = _sortable(bits[angle, first + i])
        for i in range(min(_COLUMNS, columns - first)):
            _count_bytes(column[i], cursors)
            for angle in range(angles):
                key = column[i, angle]
                at = cursors[0, key & _BYTE]
                cursors[0, key & _BYTE] = at + np.uint32(1)
                keys[0, at], places[0, at] = key, angle
            _sort_byte(keys[0], places[0], np.uint32(8), cursors[1], keys[1], places[1])
            _sort_byte(keys[1], places[1], np.uint32(16), cursors[2], keys[0], places[0])
            _sort_byte(keys[0], places[0], np.uint32(24), cursors[3], keys[1], order[first + i])
            for rank in range(angles):
                values[first + i, rank] = _unsortable(keys[1, rank])


@njit(nogil=True, cache=True)
def _count_bytes(keys, cursors):
    """Write where the keys with each value of each byte begin."""
    cursors[:] = np.uint32(0)
    for key in keys:
        for byte in range(_BYTES):
            cursors[byte, (key >> np.uint32(8 * byte)) & _BYTE] += np.uint32(1)
    for byte in range(_BYTES):
        total = np.uint32(0)
        for value in range(256):
            count = cursors[byte, value]
            cursors[byte, value] = total
            total += count


@njit(nogil=True, cache=True)
def _sort_byte(keys, places, shift, cursors, sorted_keys, sorted_places):
    for i in range(keys.size):
        key = keys[i]
        byte = (key >> shift) & _BYTE
        at = cursors[byte]
        cursors[byte] = at + np.uint32(1)
        sorted_keys[at], sorted_places[at] = key, places[i]


@njit(nogil=True, cache=True, inline="always")
def _sortable(bits):
    """Make a number that sorts as the float does: all bits of a negative one turned, else the sign only."""
    return bits ^ (np.uint32(0xFFFFFFFF) if bits >> np.uint32(31) else np.uint32(0x80000000))


@njit(nogil=True, cache=True, inline="always")
def _unsortable(key):
    return key ^ (np.uint32(0x80000000) if key >> np.uint32(31) else np.uint32(0xFFFFFFFF))


@njit(nogil=True, cache=True)
def _scatter(ranked, order, out):
    columns, angles = ranked.shape
    # each column for itself first: it stays in the cache, where its values go anywhere
    turned = np.empty((columns, angles), np.float32)
    for column in range(columns):
        for rank in range(angles):
            turned[column, order[column, rank]] = ranked[column, rank]
    for angle in range(angles):
        for column in range(columns):
            out[angle, column] = turned[column, angle]


@njit(nogil=True, cache=True)
def _mirrored(index, length):
    """Return the index inside ``range(length)`` that a half-sample symmetric extension repeats."""
    while index < 0 or index >= length:
        index = -index - 1 if index < 0 else 2 * length - 1 - index
    return index


@njit(nogil=True, cache=True)
def _median_down(values, first, last, size, out):
    """Write the running median over ``size`` rows of ``values``, for the columns first to last.

    The window of each column is kept sorted: one value leaves and one comes at each step. All columns take
    the same steps without branches, so that the processor does 16 of them at once.
    """
    rows = values.shape[0]
    # an even window reaches one further back, as scipy.ndimage.median_filter does
    before = size // 2
    windows = np.full((size + 1, last - first), np.inf, np.float32)
    for i in range(size):
        windows[i] = values[_mirrored(i - before, rows), first:last]
    for column in range(last - first):
        windows[:size, column] = np.sort(windows[:size, column])
    out[0, first:last] = windows[before]
    below = np.empty(last - first, np.float32)
    for row in range(1, rows):
        old = values[_mirrored(row - before - 1, rows), first:last]
        new = values[_mirrored(row - before + size - 1, rows), first:last]
        below[:] = -np.inf
        for i in range(size):
            _exchange(windows[i], windows[i + 1], old, new, below)
        out[row, first:last] = windows[before]


@njit(nogil=True, cache=True, inline="always")
def _exchange(here, above, old, new, below):
    """Do one place of sorted windows: without ``old`` what is above moves down, and ``new`` goes between."""
    for column in range(here.size):
        kept = here[column] if here[column] < old[column] else above[column]
        here[column] = min(max(below[column], new[column]), kept)
        below[column] = kept
