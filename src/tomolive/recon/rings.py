"""Rings: detector columns that answer differently make vertical stripes in a sinogram, and rings in a slice.

Sorting-based removal (Vo, Atwood and Drakopoulos, Opt. Express 26, 28396 (2018), algorithm 3): each column of
the sinogram is sorted by value, so that neighbouring columns, which see nearly the same sample, look alike
whatever their phase; a median over neighbouring columns then takes away what one column has of its own; and
the values go back to where they were.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.errors import ReconstructionError
from tomolive.recon.parallel import blocks, run

Floats = npt.NDArray[np.float32]

_RANKS = 64
_COLUMNS = 16
"""Columns that fill a line of the cache."""


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

    Returns
    -------
    float32, same shape.

    Raises
    ------
    ReconstructionError
        if the shape is not that of sinograms, or a parameter is of no use.
    """
    if method not in METHODS:
        raise ReconstructionError(f"method={method!r} is not known; expected one of {', '.join(METHODS)}")
    values = np.ascontiguousarray(sinograms, np.float32)
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

    def clean(sinogram: Floats, threads: int | None = 1) -> Floats:
        if method == "sorting":
            return without_full_stripes(sinogram, size, threads)
        if method == "combined":
            from tomolive.recon.rings_combined import without_all_stripes

            return without_all_stripes(sinogram, size, min(large, columns), snr, threads)
        from tomolive.recon.rings_wavelet import without_smooth_stripes

        return without_smooth_stripes(sinogram, level, damping)

    if values.ndim == 2:
        return clean(values, threads)
    if len(values) == 1:
        return clean(values[0], threads)[np.newaxis]
    return np.stack(run(clean, values, threads))


@dataclass(frozen=True, eq=False)
class Ranked:
    """A sinogram with each column sorted by value, turned: (columns, angles)."""

    values: Floats
    order: npt.NDArray[np.uint32]
    """Where each value stood; equal values in the order of the angles."""
    threads: int | None

    @classmethod
    def of(cls, sinogram: Floats, threads: int | None) -> "Ranked":
        """Sort the columns of ``sinogram`` (angles, columns)."""
        shape = sinogram.shape[::-1]
        order, values = np.empty(shape, np.uint32), np.empty(shape, np.float32)

        def sort(block: tuple[int, int]) -> None:
            first, last = block
            # one number for value and place: numpy sorts numbers several times faster than it sorts places
            keys = np.empty((last - first, shape[1]), np.uint64)
            _pack(sinogram[:, first:last].view(np.uint32), keys)
            keys.sort(axis=1)
            _unpack(keys, values[first:last].view(np.uint32), order[first:last])

        run(sort, blocks(shape[0], _RANKS), threads)
        return cls(values, order, threads)

    def smooth(self, size: int) -> Floats:
        """Return the running median over ``size`` columns, rank by rank; (columns, angles)."""
        out = np.empty_like(self.values)
        ranks = self.values.shape[1]
        run(lambda b: _median_down(self.values, b[0], b[1], size, out), blocks(ranks, _RANKS), self.threads)
        return out

    def put_back(self, ranked: Floats) -> Floats:
        """Return the sinogram (angles, columns) whose sorted columns are ``ranked`` (columns, angles)."""
        out = np.empty(ranked.shape[::-1], np.float32)

        def put(block: tuple[int, int]) -> None:
            part = slice(*block)
            _scatter(ranked[part], self.order[part], out[:, part])

        run(put, blocks(len(ranked), _COLUMNS), self.threads)
        return out


def without_full_stripes(sinogram: Floats, size: int, threads: int | None = 1) -> Floats:
    """Remove stripes from one sinogram (angles, columns) by sorting, algorithm 3."""
    ranked = Ranked.of(sinogram, threads)
    return ranked.put_back(ranked.smooth(size))


@njit(nogil=True, cache=True)
def _pack(bits, keys):
    """Make numbers that sort as floats do: all bits of a negative one turned, of others the sign only."""
    angles, columns = bits.shape
    for angle in range(angles):
        for column in range(columns):
            value = bits[angle, column]
            value ^= np.uint32(0xFFFFFFFF) if value >> np.uint32(31) else np.uint32(0x80000000)
            keys[column, angle] = np.uint64(value) << np.uint64(32) | np.uint64(angle)


@njit(nogil=True, cache=True)
def _unpack(keys, bits, order):
    columns, angles = keys.shape
    for column in range(columns):
        for rank in range(angles):
            key = keys[column, rank]
            value = np.uint32(key >> np.uint64(32))
            value ^= np.uint32(0x80000000) if value >> np.uint32(31) else np.uint32(0xFFFFFFFF)
            bits[column, rank] = value
            order[column, rank] = np.uint32(key & np.uint64(0xFFFFFFFF))


@njit(nogil=True, cache=True)
def _scatter(ranked, order, out):
    columns, angles = ranked.shape
    for column in range(columns):
        for rank in range(angles):
            out[order[column, rank], column] = ranked[column, rank]


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
