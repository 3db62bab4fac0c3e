"""Slices across the rotation axis from sinograms: the function that a notebook calls."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.geometry import angle_weights
from tomolive.recon.backproject import add_to_block, add_to_slice, guarded, lanes
from tomolive.recon.center import check_angles, find_center
from tomolive.recon.filters import check_filter, check_padding, filter_rows
from tomolive.recon.gridding import Plan
from tomolive.recon.parallel import allowed_cores, blocks, run

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Adder = Callable[[tuple[int, int]], None]

METHODS = ("gridding", "backprojection")
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
    method: str = "gridding",
    padding: str = "edge",
    pixel_size: float = 1.0,
    threads: int | None = None,
) -> Floats:
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
        "gridding": Fourier gridding, fastest for a block of slices; "backprojection": filtered backprojection
        with linear interpolation, what live slices are made of.
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
    check_padding(padding)
    center = find_center(rows, radians) if center is None else check_center(center, rows.shape[2])
    if not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ReconstructionError(f"pixel_size={pixel_size!r}; expected a positive number")
    weights = angle_weights(radians) / pixel_size
    if method == "gridding":
        columns = rows.shape[2]
        plan = Plan(radians, columns, weights=weights, filter=filter, padding=padding, threads=threads)
        return plan.reconstruct(rows, center)
    return _backproject(rows, radians, weights, center, filter, padding, threads)


def _checked(sinograms: npt.ArrayLike, angles: npt.ArrayLike) -> tuple[Floats, Doubles]:
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
            f"sinograms has {int(bad.sum())} values that are not finite; expected line integrals as from "
            "normalize(), which bridges such pixels"
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
    rows: Floats,
    angles: Doubles,
    weights: Doubles,
    center: float,
    name: str,
    padding: str,
    threads: int | None,
) -> Floats:
    threads = threads or allowed_cores()
    count, _, columns = rows.shape
    out = np.zeros((count, columns, columns), np.float32)
    bands = blocks(columns, max(32, -(-columns // (4 * threads))))
    size = 1 if count < _FEW else _BLOCK
    for first, last in blocks(count, size):
        filtered = _filter_block(rows[first:last], name, padding, threads)
        add = _slice_adder if size == 1 else _block_adder
        run(add(filtered, weights, angles, center, out[first:last]), bands, threads)
    return out


def _slice_adder(filtered: Floats, weights: Doubles, angles: Doubles, center: float, out: Floats) -> Adder:
    line = guarded(filtered[0], weights)

    def add(band: tuple[int, int]) -> None:
        low, high = band
        add_to_slice(line, angles, center, out[0, low:high], low)

    return add


def _block_adder(filtered: Floats, weights: Doubles, angles: Doubles, center: float, out: Floats) -> Adder:
    turned = lanes(filtered.transpose(1, 0, 2))

    def add(band: tuple[int, int]) -> None:
        low, high = band
        block = np.zeros((high - low, out.shape[2], out.shape[0]), np.float32)
        add_to_block(turned, weights, angles, center, block, low)
        out[:, low:high] = block.transpose(2, 0, 1)

    return add


def _filter_block(rows: Floats, name: str, padding: str, threads: int) -> Floats:
    return np.stack(run(lambda row: filter_rows(row, name, padding=padding), rows, threads))
