"""Slices across the rotation axis from sinograms: the function that a notebook calls."""

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.geometry import angle_weights
from tomolive.recon.backproject import add_to_block, add_to_slice, guarded, lanes
from tomolive.recon.center import check_angles, find_center
from tomolive.recon.filters import check_filter, filter_rows
from tomolive.recon.parallel import allowed_cores, blocks, run

METHODS = ("backprojection",)
_BLOCK = 16
"""Neighbouring slices that are computed together, as one vector of the processor."""
_FEW = 4
"""Below this many slices each is computed by itself."""


def reconstruct(
    sinograms: npt.ArrayLike,
    angles: npt.ArrayLike,
    center: float | None = None,
    *,
    filter: str = "ramp",  # noqa: A002  the field's word
    method: str = "backprojection",
    padding: str = "edge",
    pixel_size: float = 1.0,
    threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """Reconstruct slices from parallel-beam line integrals.

    Parameters
    ----------
    sinograms
        Line integrals, (rows, angles, columns), or one sinogram (angles, columns).
    angles
        Radians, in any order and spacing, any number of turns; the weights follow from them.
    center
        Column on which the rotation axis is projected; 0.0 is the middle of the first one. None: found.
    filter
        One of `tomolive.recon.FILTERS`.
    method
        "backprojection": filtered backprojection with linear interpolation.
    padding
        How rows go on beyond the detector: "edge" or "zero".
    pixel_size
        Size of a pixel; values are per its unit (per pixel by default).
    threads
        How many threads work; default: one for each core.

    Returns
    -------
    float32 (rows, columns, columns): (z, y, x), the rotation axis in the middle of y and x.

    Raises
    ------
    ReconstructionError
        if an argument is of no use; the text names it.
    """
    rows, radians = _checked(sinograms, angles)
    if method not in METHODS:
        raise ReconstructionError(f"method={method!r} is not known; expected one of {', '.join(METHODS)}")
    check_filter(filter)
    center = find_center(rows, radians) if center is None else check_center(center, rows.shape[2])
    if not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ReconstructionError(f"pixel_size={pixel_size!r}; expected a positive number")
    weights = angle_weights(radians) / pixel_size
    return _backproject(rows, radians, weights, center, filter, padding, threads)


def _checked(
    sinograms: npt.ArrayLike, angles: npt.ArrayLike
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    radians = check_angles(angles)
    rows = np.asarray(sinograms, np.float32)
    rows = rows[np.newaxis] if rows.ndim == 2 else rows
    if rows.ndim != 3 or rows.shape[1] != len(radians) or rows.shape[0] == 0 or rows.shape[2] < 2:
        raise ReconstructionError(
            f"sinograms has shape {np.shape(sinograms)} and there are {len(radians)} angles; expected (rows, "
            f"{len(radians)}, columns) or ({len(radians)}, columns)"
        )
    bad = ~np.isfinite(rows)
    if bad.any():
        raise ReconstructionError(
            f"sinograms has {int(bad.sum())} values that are not finite; expected line integrals as from normalize(), "
            "which bridges such pixels"
        )
    return rows, radians


def check_center(center: float, columns: int) -> float:
    """Return ``center`` as float; raises ReconstructionError unless it is a place on the detector."""
    center = float(center)
    if not 0 <= center <= columns - 1:
        raise ReconstructionError(
            f"center={center:g} is not on the detector; expected a column from 0 to {columns - 1}"
        )
    return center


def _backproject(
    rows: npt.NDArray[np.float32],
    angles: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    center: float,
    name: str,
    padding: str,
    threads: int | None,
) -> npt.NDArray[np.float32]:
    threads = threads or allowed_cores()
    count, _, columns = rows.shape
    out = np.zeros((count, columns, columns), np.float32)
    bands = blocks(columns, max(32, -(-columns // (4 * threads)) // 32 * 32))
    if count < _FEW:
        for row, image in zip(rows, out, strict=True):
            line = guarded(filter_rows(row, name, padding=padding), weights)
            run(lambda b: add_to_slice(line, angles, center, image[b[0] : b[1]], b[0]), bands, threads)  # noqa: B023
        return out
    for first, last in blocks(count, _BLOCK):
        turned = lanes(_filter_block(rows[first:last], name, padding, threads).transpose(1, 0, 2), weights)

        def add(band: tuple[int, int]) -> None:
            low, high = band
            block = np.zeros((high - low, columns, last - first), np.float32)  # noqa: B023
            add_to_block(turned, angles, center, block, low)  # noqa: B023
            out[first:last, low:high] = block.transpose(2, 0, 1)  # noqa: B023

        run(add, bands, threads)
    return out


def _filter_block(
    rows: npt.NDArray[np.float32], name: str, padding: str, threads: int
) -> npt.NDArray[np.float32]:
    return np.stack(run(lambda row: filter_rows(row, name, padding=padding), rows, threads))
