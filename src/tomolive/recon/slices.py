"""Slices across the rotation axis from sinograms: the function that a notebook calls."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.geometry import angle_weights
from tomolive.recon.backproject import add_to_block, add_to_slice, guarded, lanes, slice_rows
from tomolive.recon.binning import binned, binned_place
from tomolive.recon.center import find_center
from tomolive.recon.checks import check_angles
from tomolive.recon.filters import check_filter, check_padding, filter_rows
from tomolive.recon.gridding import LANES, Plan
from tomolive.recon.nufft import nufft_slices
from tomolive.recon.parallel import allowed_cores, blocks, run

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Adder = Callable[[tuple[int, int]], None]
Region = tuple[slice, slice]

METHODS = ("gridding", "backprojection", "finufft")
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
    exclude: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    binning: int = 1,
    region: Region | None = None,
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
        with linear interpolation, what live slices are made of; "finufft": as gridding, by that library.
    padding
        How rows go on beyond the detector: "edge" or "zero".
    pixel_size
        Size of a pixel; values are per its unit (per pixel by default).
    exclude
        True for projections that are of no use, (angles,), such as those without beam: their neighbours stand
        for them.
    weights
        What each projection weighs, (angles,), radians; default: `tomolive.geometry.angle_weights`.
    binning
        Pixels a side that are averaged first, columns and (if there are as many) rows. Centre and pixel size
        are those of unbinned pixels.
    region
        (rows, columns) of the slice as two slices, in pixels of the result; default: all of it.
    threads
        How many threads work; default: one for each core.

    Returns
    -------
    float32 (rows, columns, columns): (z, y, x), the rotation axis in the middle of y and x; with ``region``
    that part of it.

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
    if not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ReconstructionError(f"pixel_size={pixel_size!r}; expected a positive number")
    shares = _shares(radians, exclude, weights)
    used = shares != 0
    if not used.all():
        rows, radians, shares = rows[:, used], radians[used], shares[used]
    center = find_center(rows, radians) if center is None else check_center(center, rows.shape[2])
    if binning != 1:
        rows, center = _binned(rows, binning), binned_place(center, binning)
    part = _checked_region(region, rows.shape[2])
    shares = shares / (pixel_size * binning)
    threads = threads or allowed_cores()
    if method == "gridding":
        columns = rows.shape[2]
        plan = Plan(radians, columns, weights=shares, filter=filter, padding=padding, threads=threads)
        if region is None:
            return plan.reconstruct(rows, center)
        pieces = blocks(len(rows), LANES)
        return np.concatenate([plan.reconstruct(rows[a:b], center)[:, *part] for a, b in pieces])
    if method == "finufft":
        slices = nufft_slices(rows, radians, shares, center, filter, padding=padding, threads=threads)
        return np.ascontiguousarray(slices[:, *part])
    return _backproject(rows, radians, shares, center, filter, padding, part, threads)


def _shares(angles: Doubles, exclude: npt.ArrayLike | None, weights: npt.ArrayLike | None) -> Doubles:
    """Return what each projection weighs; zero for those that are left out."""
    left_out = np.zeros(len(angles), bool) if exclude is None else np.asarray(exclude, bool)
    if left_out.shape != angles.shape or np.count_nonzero(~left_out) < 2:
        raise ReconstructionError(
            f"exclude has shape {left_out.shape} and leaves {np.count_nonzero(~left_out)} projections; "
            f"expected ({len(angles)},), and at least two that are of use"
        )
    if weights is None:
        return angle_weights(angles, left_out)
    given = np.asarray(weights, np.float64)
    if given.shape != angles.shape or not np.isfinite(given).all() or not given.any():
        raise ReconstructionError(
            f"weights has shape {given.shape}; expected ({len(angles)},), finite and not all zero"
        )
    return np.where(left_out, 0.0, given)


def _binned(rows: Floats, binning: int) -> Floats:
    """Average sinograms over columns, and over rows unless there is a single one."""
    projections = rows.transpose(1, 0, 2)
    if len(rows) == 1:
        projections = np.broadcast_to(projections, (len(projections), binning, rows.shape[2]))
    return np.ascontiguousarray(binned(projections, binning).transpose(1, 0, 2), np.float32)


def _checked_region(region: Region | None, columns: int) -> tuple[slice, slice]:
    if region is None:
        return slice(0, columns), slice(0, columns)
    cut = [slice(*part.indices(columns)) for part in region]
    if len(cut) != 2 or any(part.step != 1 or part.stop <= part.start for part in cut):
        raise ReconstructionError(
            f"region={region}; expected two slices, rows and columns, of at least one of the {columns} pixels"
        )
    return cut[0], cut[1]


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
    part: tuple[slice, slice],
    threads: int,
) -> Floats:
    count, _, columns = rows.shape
    lines = part[0].stop - part[0].start
    out = np.zeros((count, lines, columns), np.float32)
    bands = blocks(lines, max(32, -(-lines // (4 * threads))))
    size = 1 if count < _FEW else _BLOCK
    for first, last in blocks(count, size):
        filtered = _filter_block(rows[first:last], name, padding, threads)
        add = _slice_adder if size == 1 else _block_adder
        run(add(filtered, weights, angles, center, out[first:last], part[0].start), bands, threads)
    return (
        out if lines == columns == part[1].stop - part[1].start else np.ascontiguousarray(out[..., part[1]])
    )


def _slice_adder(
    filtered: Floats, weights: Doubles, angles: Doubles, center: float, out: Floats, top: int
) -> Adder:
    line = slice_rows(guarded(filtered[0], weights))

    def add(band: tuple[int, int]) -> None:
        low, high = band
        add_to_slice(line, angles, center, out[0, low:high], top + low)

    return add


def _block_adder(
    filtered: Floats, weights: Doubles, angles: Doubles, center: float, out: Floats, top: int
) -> Adder:
    turned = lanes(filtered.transpose(1, 0, 2))

    def add(band: tuple[int, int]) -> None:
        low, high = band
        block = np.zeros((high - low, out.shape[2], out.shape[0]), np.float32)
        add_to_block(turned, weights, angles, center, block, top + low)
        out[:, low:high] = block.transpose(2, 0, 1)

    return add


def _filter_block(rows: Floats, name: str, padding: str, threads: int) -> Floats:
    return np.stack(run(lambda row: filter_rows(row, name, padding=padding), rows, threads))
