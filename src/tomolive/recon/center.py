"""Where the rotation axis is: the column on which it is projected, to a fraction of a pixel."""

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.geometry import angle_weights, opposite_pair
from tomolive.recon.backproject import SliceRows, add_to_slice, guarded, slice_rows
from tomolive.recon.candidates import SCORES, candidates
from tomolive.recon.center_vo import by_wedge
from tomolive.recon.checks import as_sinograms, check_angles
from tomolive.recon.filters import filter_rows
from tomolive.recon.fourier import fast_length, irfft, rfft
from tomolive.recon.minimum import vertex
from tomolive.recon.parallel import run

__all__ = ["METHODS", "as_sinograms", "by_scan", "check_angles", "find_center", "from_opposite", "refined"]

Floats = npt.NDArray[np.float32]

METHODS = ("auto", "opposite", "scan", "vo", *SCORES)
"""How `find_center` may look."""
_LEAST_OVERLAP = 0.3
"""Part of the columns that two mirrored projections must share to be compared."""
_ANGLES = 400
"""Projections that a scan over candidates needs; with many more, some are left out."""
_LINES = 128
"""Lines of a slice that it looks at."""
_ROWS = 4
"""Rows that a scan over candidates looks at: enough to average noise, few enough to be quick."""


def from_opposite(projection: Floats, opposite: Floats) -> float:
    """Return the centre from two projections half a turn apart.

    The second one, mirrored, is the first one shifted by ``2 center - (columns - 1)``. The shift is where the
    mean squared difference over the columns that both share, relative to their mean square, is least, refined
    by a parabola; the sums over all shifts at once are correlations (Fourier transforms). No window: that
    would bias the result.

    Parameters
    ----------
    projection, opposite
        Line integrals, float32 (rows, columns).
    """
    columns = projection.shape[-1]
    first = projection.astype(np.float64)
    mirrored = opposite[:, ::-1].astype(np.float64)
    length = fast_length(2 * columns)

    def correlate(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        product = rfft(a, length) * np.conj(rfft(b, length))
        return irfft(product.sum(axis=0), length)

    ones = np.ones((1, columns))
    overlap = correlate(ones, ones)
    squares = correlate((first**2).sum(axis=0, keepdims=True), ones)
    squares += correlate(ones, (mirrored**2).sum(axis=0, keepdims=True))
    # relative to what is there, or air would match air best of all
    cost = 1 - 2 * correlate(first, mirrored) / np.maximum(squares, 1e-12 * squares.max())
    cost[overlap < _LEAST_OVERLAP * columns] = np.inf
    shift = int(np.argmin(cost))
    fraction = vertex(*cost[[shift - 1, shift, (shift + 1) % length]])
    signed = shift - length if shift > length // 2 else shift
    return (columns - 1 + signed + fraction) / 2


def by_scan(
    sinograms: Floats,
    angles: npt.NDArray[np.float64],
    start: float,
    *,
    reach: float = 3.0,
    threads: int | None = None,
) -> float:
    """Return the centre near ``start`` that gives the least negative attenuation.

    Attenuation is never negative; a wrong centre makes it so around every edge (Donath et al., J. Opt. Soc.
    Am. A 23, 1048 (2006), metric Q_IN). Each candidate is reconstructed with the Hann filter, and the squares
    of the negative pixels are summed over one circle: first in whole steps, then in finer ones around the
    best, then by a parabola.

    Parameters
    ----------
    sinograms
        Line integrals, float32 (rows, angles, columns).
    angles
        Radians.
    start
        Where to look, a column.
    reach
        How far from ``start`` to look, columns.
    """
    thinned = slice(None, None, max(1, len(angles) // _ANGLES))
    rows, angles = busiest(sinograms)[:, thinned], angles[thinned]
    weights = angle_weights(angles)
    best = start
    for binning, step, half in _stages(reach, rows.shape[2]):
        candidates = best + step * np.arange(-half, half + 1)
        costs = _costs(_binned(rows, binning), angles, weights, candidates, binning, threads)
        least = int(np.argmin(costs))
        best = float(candidates[least])
    if 0 < least < len(costs) - 1:
        best += step * vertex(*costs[least - 1 : least + 2])
    return best


def _stages(reach: float, columns: int) -> list[tuple[int, float, int]]:
    """Return (binning, step, steps to either side): coarse steps on binned rows first."""
    coarse = 4 if reach > 4 and columns >= 256 else 1
    half = int(np.ceil(reach / coarse))
    if coarse == 1:
        return [(2 if columns >= 256 else 1, 1.0, half), (1, 0.4, 3)]
    return [(coarse, float(coarse), half), (2, 1.0, coarse), (1, 0.4, 3)]


def _binned(rows: Floats, binning: int) -> Floats:
    columns = rows.shape[2] // binning * binning
    return rows[..., :columns].reshape(*rows.shape[:2], -1, binning).mean(axis=3)


def _costs(
    rows: Floats,
    angles: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    candidates: npt.NDArray[np.floating],
    binning: int,
    threads: int | None,
) -> npt.NDArray[np.float64]:
    """Return how negative the slices are with each candidate, within one circle for all of them."""
    filtered = [slice_rows(guarded(row, weights)) for row in filter_rows(rows, "hann")]
    columns = rows.shape[2]
    centers = (candidates + 0.5) / binning - 0.5
    # the same pixels for all, and air among them: inside the sample nothing is near zero
    radius = 0.9 * columns / 2

    def cost(center: float) -> float:
        return sum(_negativity(row, angles, center, radius) for row in filtered)

    return np.array(run(cost, centers, threads))


def by_pictures(
    sinogram: Floats,
    angles: npt.NDArray[np.float64],
    start: float,
    score: str,
    *,
    reach: float = 3.0,
    threads: int | None = None,
) -> float:
    """Return the centre near ``start`` whose picture has the least ``score``.

    Parameters
    ----------
    sinogram
        Line integrals, float32 (angles, columns).
    angles
        Radians.
    start, reach
        Where to look, and how far, columns.
    score
        One of `tomolive.recon.candidates.SCORES`.
    """
    thinned = slice(None, None, max(1, len(angles) // _ANGLES))
    best, rows, angles = start, sinogram[np.newaxis, thinned], angles[thinned]
    for binning, step, half in _stages(reach, sinogram.shape[1]):
        places = (best + step * np.arange(-half, half + 1) + 0.5) / binning - 0.5
        row = _binned(rows, binning)[0]
        places = places[(places >= 0) & (places <= row.shape[1] - 1)]
        costs = candidates(row, angles, places, filter="hann", threads=threads).scores[score]
        least = int(np.argmin(costs))
        fraction = vertex(*costs[least - 1 : least + 2]) if 0 < least < len(costs) - 1 else 0.0
        best = float((places[least] + fraction * step / binning + 0.5) * binning - 0.5)
    return best


def busiest(sinograms: Floats) -> Floats:
    """Return the few rows in which most happens, spread over the height."""
    if len(sinograms) <= _ROWS:
        return sinograms
    contrast = sinograms.std(axis=(1, 2))
    parts = np.array_split(np.arange(len(sinograms)), _ROWS)
    return sinograms[[part[np.argmax(contrast[part])] for part in parts]]


def _negativity(row: SliceRows, angles: npt.NDArray[np.float64], center: float, radius: float) -> float:
    columns = row.columns
    middle = (columns - 1) / 2
    # some lines of the picture know as much about the centre as all of them
    apart = max(2, round(2 * radius / _LINES))
    lines = np.arange(int(middle - radius), int(middle + radius), apart)
    image = np.zeros((len(lines), columns), np.float32)
    add_to_slice(row, angles, center, image, lines)
    seen = (np.arange(columns) - middle) ** 2 + (lines[:, np.newaxis] - middle) ** 2 < radius**2
    return float(np.square(np.minimum(image[seen], 0), dtype=np.float64).sum())


def find_center(
    sinograms: npt.ArrayLike,
    angles: npt.ArrayLike,
    method: str = "auto",
    *,
    start: float | None = None,
    threads: int | None = None,
) -> float:
    """Find the column on which the rotation axis is projected.

    Parameters
    ----------
    sinograms
        Line integrals: projections (angles, rows, columns), sinograms (rows, angles, columns), or one
        sinogram (angles, columns). Which axis holds the angles is told from their number.
    angles
        Radians, any order.
    method
        "auto": from the pair nearest to 180 degrees apart if there is one, then refined by a scan;
        "opposite": the pair alone; "scan": a scan around ``start``; "vo": the double wedge in the
        transform of a sinogram, the median over a few rows; "negativity", "entropy", "sharpness": of
        pictures with candidate centres around ``start``, see `tomolive.recon.candidates`, likewise.
    start
        Where a scan begins; default: the opposite pair, else the middle of the detector.
    threads
        How many threads work; default: one for each core.

    Returns
    -------
    float, a column; 0.0 is the middle of the first one.

    Raises
    ------
    ReconstructionError
        if the arrays do not fit together, the method is unknown, or no two projections are half a turn apart
        where the method needs that.
    """
    rows, radians = as_sinograms(sinograms, angles)
    if method not in METHODS:
        raise ReconstructionError(f"method={method!r} is not known; expected one of {', '.join(METHODS)}")
    if method == "vo":
        found = [by_wedge(row, radians, start=start, threads=threads) for row in busiest(rows)]
        return float(np.median(found))
    pair = opposite_pair(radians) if start is None and method != "scan" else None
    if method == "opposite" and pair is None:
        raise ReconstructionError(
            f"angles from {np.degrees(radians.min()):.4g} to {np.degrees(radians.max()):.4g} degrees hold no "
            "two projections half a turn apart; use method='scan'"
        )
    if pair is not None:
        start = from_opposite(rows[:, pair[0]], rows[:, pair[1]])
        if method == "opposite":
            return start
    if method in SCORES:
        return _by_score(rows, radians, start, method, threads)
    return refined(rows, radians, start, pair[2] if pair else None, threads=threads)


def _by_score(
    sinograms: Floats, angles: npt.NDArray[np.float64], start: float | None, score: str, threads: int | None
) -> float:
    columns = sinograms.shape[2]
    begin, reach = ((columns - 1) / 2, columns / 8) if start is None else (start, 3.0)
    rows = busiest(sinograms)
    return float(
        np.median([by_pictures(row, angles, begin, score, reach=reach, threads=threads) for row in rows])
    )


def refined(
    sinograms: Floats,
    angles: npt.NDArray[np.float64],
    start: float | None,
    deviation: float | None = None,
    *,
    threads: int | None = None,
) -> float:
    """Refine a centre by a scan; without ``start``, search an eighth of the columns around the middle.

    ``deviation`` says by how much (radians) the pair that gave ``start`` missed 180 degrees: the nearer they
    are, the more that estimate is believed against the scan, which noise can lead astray.
    """
    columns = sinograms.shape[2]
    if start is None:
        return by_scan(sinograms, angles, (columns - 1) / 2, reach=columns / 8, threads=threads)
    reach = 3.0 if deviation is None else 1.0 + deviation * columns / 8
    found = by_scan(sinograms, angles, start, reach=reach, threads=threads)
    return found if abs(found - start) <= reach else start
