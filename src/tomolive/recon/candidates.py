"""One slice with many rotation centres: a strip to choose from, and scores that choose.

Moving the centre by d is moving the sinogram by d. All candidates are moved to one place (by the shift
theorem, so that nothing is smoothed), and then are slices with the same geometry, which Fourier gridding
makes many at a time. Negativity and entropy are scores of Donath et al., J. Opt. Soc. Am. A 23, 1048 (2006).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tomolive.errors import ReconstructionError
from tomolive.geometry import angle_weights
from tomolive.recon.checks import check_angles
from tomolive.recon.fourier import fast_length, irfft, rfft
from tomolive.recon.gridding import LANES, Plan
from tomolive.recon.parallel import blocks, run

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SCORES = ("negativity", "entropy", "sharpness")
_RADIUS = 0.9
"""Part of the half width inside which pictures are scored."""
_BINS = 256
_ANGLES = 64


class Candidates(NamedTuple):
    """Slices with different centres."""

    pictures: Floats
    """(k, n, n), 1/pixel, the rotation axis in the middle of each."""
    scores: dict[str, Doubles]
    """For each of `SCORES`, (k,): the less, the better."""

    def best(self, score: str = "negativity") -> int:
        """Return which picture is the best."""
        return int(np.argmin(self.scores[score]))


def candidates(
    sinogram: npt.ArrayLike,
    angles: npt.ArrayLike,
    centers: npt.ArrayLike,
    *,
    filter: str = "ramp",  # noqa: A002  the field's word
    threads: int | None = None,
) -> Candidates:
    """Reconstruct one slice with each of ``centers``.

    Parameters
    ----------
    sinogram
        Line integrals, (angles, columns).
    angles
        Radians, in any order.
    centers
        Columns, (k,).
    filter
        One of `tomolive.recon.FILTERS`.
    threads
        How many threads work; default: one for each core.

    Returns
    -------
    (pictures, scores): float32 (k, columns, columns), and for "negativity", "entropy" and "sharpness" float64
    (k,), the less the better. Negativity: the mean square of negative attenuation, which there is none of.
    Entropy: of the grey values, bits; a wrong centre smears them. Sharpness: minus the mean
    fourth power of the gradient: edges make it, neither noise nor the half-moons of a wrong centre.

    Raises
    ------
    ReconstructionError
        if the arrays do not fit together, or a centre is not on the detector.
    """
    radians = check_angles(angles)
    rows = np.asarray(sinogram, np.float32)
    if rows.ndim != 2 or len(rows) != len(radians) or rows.shape[1] < 2:
        raise ReconstructionError(
            f"sinogram has shape {rows.shape} and there are {len(radians)} angles; expected "
            f"({len(radians)}, columns)"
        )
    columns = rows.shape[1]
    places = np.atleast_1d(np.asarray(centers, np.float64))
    if places.ndim != 1 or not places.size or not ((places >= 0) & (places <= columns - 1)).all():
        raise ReconstructionError(f"centers={places}; expected columns from 0 to {columns - 1}")
    middle = float(np.mean([places.min(), places.max()]))
    margin = int(np.ceil(np.abs(places - middle).max()))
    width = columns + 2 * margin
    plan = Plan(radians, width, weights=angle_weights(radians), filter=filter, threads=threads)
    inner = slice(margin, margin + columns)
    pictures = np.empty((len(places), columns, columns), np.float32)
    for first, last in blocks(len(places), LANES):
        moved = _moved(rows, middle - places[first:last], margin, threads)
        pictures[first:last] = plan.reconstruct(moved, middle + margin)[:, inner, inner]
    return Candidates(pictures, _scores(pictures, threads))


def _moved(rows: Floats, shifts: Doubles, margin: int, threads: int | None) -> Floats:
    """Return ``rows`` (angles, columns) moved right by each of ``shifts``, with ``margin`` on both sides."""
    count, columns = rows.shape
    width = columns + 2 * margin
    # what comes in from beyond the end is the edge, and the same on both sides where the row wraps round
    length = fast_length(width + max(width // 4, 32))
    ahead = (length - columns) // 2
    turns = np.exp(-2j * np.pi * np.fft.rfftfreq(length) * (shifts[:, np.newaxis])).astype(np.complex64)
    out = np.empty((len(shifts), count, width), np.float32)

    def move(block: tuple[int, int]) -> None:
        part = slice(*block)
        padded = np.pad(rows[part], ((0, 0), (ahead, length - columns - ahead)), mode="edge")
        spectrum = rfft(padded)
        for turn, moved in zip(turns, out, strict=True):
            moved[part] = irfft(spectrum * turn, length)[:, ahead - margin : ahead - margin + width]

    run(move, blocks(count, _ANGLES), threads)
    return out


def _scores(pictures: Floats, threads: int | None) -> dict[str, Doubles]:
    # one range for the grey values of all, or their entropies could not be compared
    middle = pictures[len(pictures) // 2]
    low, high = (float(v) for v in np.quantile(middle[::4, ::4], (0.001, 0.999)))
    low, high = low - 0.5 * (high - low), high + 0.5 * (high - low)
    found = np.array(run(lambda p: _score(p, _RADIUS, low, high or 1.0, _BINS), pictures, threads))
    return dict(zip(SCORES, found.T, strict=True))


@njit(nogil=True, cache=True)
def _score(picture, radius, low, high, bins):
    size = picture.shape[0]
    middle = (size - 1) / 2
    limit = (radius * size / 2) ** 2
    histogram = np.zeros(bins)
    negative = 0.0
    gradient = 0.0
    count = 0
    per_value = bins / max(high - low, 1e-30)
    for row in range(size - 1):
        for column in range(size - 1):
            if (row - middle) ** 2 + (column - middle) ** 2 >= limit:
                continue
            value = picture[row, column]
            count += 1
            negative += min(value, np.float32(0)) ** 2
            down = picture[row + 1, column] - value
            across = picture[row, column + 1] - value
            gradient += np.float64(down * down + across * across) ** 2
            histogram[min(max(int((value - low) * per_value), 0), bins - 1)] += 1
    entropy = 0.0
    for number in histogram:
        if number > 0:
            entropy -= number / count * np.log2(number / count)
    return negative / max(count, 1), entropy, -gradient / max(count, 1)
