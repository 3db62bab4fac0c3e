"""All kinds of stripes: dead, large and small ones.

Algorithms 6, 5, 4 and 3 of Vo, Atwood and Drakopoulos, Opt. Express 26, 28396 (2018), one after the other.
They are made for transmissions: there a column that answers differently is wrong by a factor, and air is no
number near zero to divide by.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tomolive.recon.rings import Ranked

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_ANGLES = 10
"""Projections over which a column that works changes little."""
_DROPPED = 0.05
"""Part of the sorted values at each end that do not count for the size of a large stripe."""
_QUIET = 1e-5
"""Columns that differ by less have no noise, and the noise is the measure of a stripe."""


def without_all_stripes(sinogram: Floats, small: int, large: int, snr: float, ranked: Ranked) -> Floats:
    """Remove all kinds of stripes from one sinogram of line integrals.

    Parameters
    ----------
    sinogram
        float32 (angles, columns).
    small, large
        Widths of the medians against small and large stripes, columns.
    snr
        How far over the noise a stripe is one.
    ranked
        Where to sort, of any content.
    """
    seen = np.exp(-sinogram)
    seen = _without_dead(seen, large, snr)
    seen = _without_large(seen, large, snr, ranked)
    ranked.sort(seen)
    ranked.put_back(ranked.smooth(small), seen)
    tiny = np.finfo(np.float32).tiny
    return -np.log(np.maximum(seen, tiny))


def _without_dead(sinogram: Floats, size: int, snr: float) -> Floats:
    """Interpolate columns that fluctuate more, or less, along the angles than those around (algorithm 6)."""
    columns = sinogram.shape[1]
    change = np.abs(sinogram - ndimage.uniform_filter1d(sinogram, _ANGLES, axis=0)).sum(axis=0, dtype=float)
    usual = ndimage.median_filter(change, size)
    usual[usual == 0] = usual.mean() or 1.0
    dead = _widened(_stripes(change / usual, snr))
    # at the edges there is nothing to interpolate from
    dead[:2] = dead[-2:] = False
    missing = np.flatnonzero(dead)
    if not 0 < missing.size < columns // 3:
        return sinogram
    known = np.flatnonzero(~dead)
    right = np.searchsorted(known, missing)
    left, right = known[right - 1], known[right]
    share = ((missing - left) / (right - left)).astype(np.float32)
    out = sinogram.copy()
    out[:, missing] = (1 - share) * sinogram[:, left] + share * sinogram[:, right]
    return out


def _without_large(sinogram: Floats, size: int, snr: float, ranked: Ranked) -> Floats:
    """Scale each column to those around, and replace what sticks out of them (algorithm 5)."""
    ranked.sort(sinogram)
    smooth = ranked.smooth(size)
    ranks = ranked.values.shape[1]
    kept = slice(int(_DROPPED * ranks), ranks - int(_DROPPED * ranks))
    own, usual = (a[:, kept].mean(axis=1, dtype=float) for a in (ranked.values, smooth))
    factor = np.divide(own, usual, out=np.ones_like(own), where=usual != 0)
    wide = _widened(_stripes(factor, snr))
    out = sinogram / factor.astype(np.float32)
    usual_shape = np.empty_like(sinogram)
    ranked.put_back(smooth, usual_shape)
    out[:, wide] = usual_shape[:, wide]
    return out


def _stripes(values: Doubles, snr: float) -> Mask:
    """Find columns whose value sticks out (algorithm 4).

    The middle half of the sorted values lies on a line; its rise over all columns is the noise. A column is
    a stripe if the largest, or the smallest, value is ``snr`` times that away, and its own half as far.
    """
    ordered = np.sort(values)
    count = len(ordered)
    rank = np.arange(count)
    middle = slice(count // 4, count - count // 4 - 1)
    if count < 8:
        return np.zeros(count, bool)
    slope, low = np.polyfit(rank[middle], ordered[middle], 1)
    high = low + slope * rank[-1]
    noise = abs(high - low)
    found = np.zeros(count, bool)
    if noise < _QUIET:
        return found
    if abs(ordered[-1] - high) >= snr * noise:
        found |= values > high + 0.5 * snr * noise
    if abs(low - ordered[0]) >= snr * noise:
        found |= values <= low - 0.5 * snr * noise
    return found


def _widened(mask: Mask) -> Mask:
    """Add the neighbours of what is found, where a stripe has its edges."""
    return np.asarray(ndimage.binary_dilation(mask), bool)
