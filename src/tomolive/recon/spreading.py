"""Samples at any place in Fourier space, spread onto a Cartesian grid: the heart of a non-uniform FFT.

Each sample is added to the grid points around it, times a Kaiser-Bessel kernel of the distance along u and of
that along v; the transform of the result, divided by the kernel's transform, is the sum of waves that the
samples stand for (O'Sullivan, IEEE Trans. Med. Imaging 4, 200 (1985); kernel parameter of Beatty et al.,
IEEE Trans. Med. Imaging 24, 799 (2005), eq. 5).

Where a sample goes, and with which weights, depends on the angles alone. It is worked out once, in `Places`,
and shared by all slices; `LANES` of them are spread together, and the lanes are the contiguous axis, so that
the innermost loop is a plain one over neighbours in memory.

Two slices make one complex one, whose transform has no symmetry. But the samples of each line come in pairs
at opposite places, with the same weights: only the half plane v >= 0 is gone through, and what a sample gives
there its partner gives at the opposite point.

The half plane is cut into tiles. Each tile collects the samples that reach into it, in a buffer that fits the
cache, and is then written once: tiles do not share grid points, so threads need no locks and the result is
the same for any number of them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.special import i0

from tomolive.recon.memory import aligned_empty
from tomolive.recon.parallel import run

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

LANES = 16
"""Slices that are spread together."""
TAPS = 6
"""Width of the kernel, grid points."""
OVERSAMPLING = 1.25
"""Grid points for each pixel of the slice."""

_HALO = TAPS - 1
_TILE = 64
_PER_STEP = 1024
"""Entries of the table of weights for each step of the grid."""
_PAIR = 2 * LANES
_PATCH = TAPS * _PAIR
"""Numbers that a sample and its partner give to one line of the grid."""
_SHAPE = np.pi * np.sqrt((TAPS / OVERSAMPLING * (OVERSAMPLING - 0.5)) ** 2 - 0.8)


@dataclass(frozen=True, eq=False)
class Places:
    """Where the samples of all lines go; sample number = angle * length + frequency."""

    grid: int
    """Grid points along each side."""
    rows: Integers
    """Where tiles begin along u, and the end of the last."""
    columns: Integers
    """Likewise along v, from 0 to half the grid."""
    starts: npt.NDArray[np.int64]
    """Where the members of each tile begin; (tiles + 1,)."""
    samples: Integers
    """Sample of each member: those that reach into the tile."""
    partners: Integers
    """Sample at the opposite place."""
    corners: Integers
    """First point that the member gives to, in the tile's buffer."""
    phases: npt.NDArray[np.uint16]
    """Which weights it has along u and v, rows of `weight_table`; (members, 2)."""


@lru_cache(maxsize=1)
def weight_table() -> Floats:
    """Return the kernel at the `TAPS` grid points from phase / _PER_STEP - TAPS / 2 on; (phases, TAPS)."""
    distance = np.arange(_PER_STEP + 1)[:, np.newaxis] / _PER_STEP - TAPS / 2 + np.arange(TAPS)
    inside = np.maximum(1 - (2 * distance / TAPS) ** 2, 0)
    values = i0(_SHAPE * np.sqrt(inside)) / i0(_SHAPE)
    # the ends are outside, or a sample on a grid point would reach further to one side than to the other
    return np.where(inside > 0, values, 0).astype(np.float32)


def kernel_transform(pixels: Doubles, grid: int) -> Doubles:
    """Return the Fourier transform of the kernel where the slice has its pixels."""
    argument = np.sqrt((_SHAPE**2 - (np.pi * TAPS * pixels / grid) ** 2).astype(complex))
    return np.real(np.sinh(argument) / argument) * TAPS / i0(_SHAPE)


def find_places(angles: Doubles, length: int, grid: int) -> Places:
    """Sort the samples of lines at ``angles``, ``length`` of them each, into tiles."""
    rows, columns = _edges(grid, grid), _edges(grid // 2 + 1, grid)
    tile_rows = _owners(rows, grid, across=len(columns) - 1)
    tile_columns = _owners(columns, grid, across=1)
    counts = np.zeros((len(rows) - 1) * (len(columns) - 1) + 1, np.int64)
    nothing = np.empty(0, np.int32), np.empty(0, np.int32), np.empty((0, 2), np.uint16)
    u, v = (turn(angles) * grid / length for turn in (np.cos, np.sin))
    _sort(u, v, length, tile_rows, tile_columns, counts[1:], *nothing)
    starts = np.cumsum(counts)
    samples, corners = np.empty((2, starts[-1]), np.int32)
    phases = np.empty((starts[-1], 2), np.uint16)
    _sort(u, v, length, tile_rows, tile_columns, starts[:-1].copy(), samples, corners, phases)
    _to_corners(starts, rows, columns, grid, corners)
    line, frequency = np.divmod(samples, np.int32(length))
    partners = line * np.int32(length) + (length - frequency) % np.int32(length)
    return Places(grid, rows, columns, starts, samples, partners, corners, phases)


def _edges(count: int, grid: int) -> Integers:
    """Cut ``count`` points into tiles; at least two along a whole side, or one would meet itself."""
    tiles = max(2 if count == grid else 1, round(count / _TILE))
    return (np.arange(tiles + 1) * count // tiles).astype(np.int32)


def _owners(edges: Integers, grid: int, across: int) -> Integers:
    """Return what each point of an axis adds to the number of its tile, -1 for points without one."""
    owners = np.full(grid, -1, np.int32)
    owners[: edges[-1]] = np.repeat(np.arange(len(edges) - 1) * across, np.diff(edges))
    return owners


@njit(nogil=True, cache=True)
def _sort(u_steps, v_steps, length, tile_rows, tile_columns, cursors, samples, corners, phases):
    """Move the cursor of each tile by one for each member; given room, write the member there."""
    grid = tile_rows.size
    counting = samples.size == 0
    for angle in range(u_steps.size):
        for frequency in range(-((length - 1) // 2), length // 2 + 1):
            u, v = frequency * u_steps[angle], frequency * v_steps[angle]
            first_u, first_v = int(np.ceil(u - TAPS / 2)), int(np.ceil(v - TAPS / 2))
            low_u, low_v = first_u % grid, first_v % grid
            high_u, high_v = (low_u + _HALO) % grid, (low_v + _HALO) % grid
            row, column = tile_rows[low_u], tile_columns[low_v]
            for i in range(1 + (tile_rows[high_u] != row)):
                for j in range(1 + (tile_columns[high_v] != column)):
                    tile_column = tile_columns[high_v] if j else column
                    if tile_column < 0:
                        continue
                    tile = (tile_rows[high_u] if i else row) + tile_column
                    if not counting:
                        at = cursors[tile]
                        samples[at] = angle * length + frequency % length
                        corners[at] = low_u * grid + low_v
                        phases[at, 0] = int((first_u - u + TAPS / 2) * _PER_STEP + 0.5)
                        phases[at, 1] = int((first_v - v + TAPS / 2) * _PER_STEP + 0.5)
                    cursors[tile] += 1


def _buffer_shape(places_rows: Integers, places_columns: Integers) -> tuple[int, int]:
    """Return points along u and v of a buffer that holds any tile and what reaches out of it."""
    return int(np.diff(places_rows).max()) + 2 * _HALO, int(np.diff(places_columns).max()) + 2 * _HALO


def _to_corners(
    starts: npt.NDArray[np.int64], rows: Integers, columns: Integers, grid: int, corners: Integers
) -> None:
    """Turn points of the grid into points of the tiles' buffers, in place."""
    _, width = _buffer_shape(rows, columns)
    across = len(columns) - 1
    for tile in range(len(starts) - 1):
        part = corners[starts[tile] : starts[tile + 1]]
        u, v = np.divmod(part, np.int32(grid))
        row, column = divmod(tile, across)
        part[:] = (u - rows[row] + _HALO) % grid * width + (v - columns[column] + _HALO) % grid


def spread(
    samples: npt.NDArray[np.complex64],
    places: Places,
    grid: npt.NDArray[np.complex64],
    threads: int | None = None,
) -> None:
    """Write ``samples``, spread, to all of ``grid``.

    Parameters
    ----------
    samples
        complex64 (angles, length, LANES / 2), the frequencies in the order of an FFT.
    grid
        complex64 (u, v, LANES / 2), likewise; any content.
    """
    values = grid.view(np.float32)
    flat = samples.view(np.float32).reshape(-1, LANES)
    table = weight_table()
    height, width = _buffer_shape(places.rows, places.columns)
    across = len(places.columns) - 1

    def fill(tile: int) -> None:
        buffer = aligned_empty((height * width * _PAIR,))
        buffer[:] = 0
        part = slice(places.starts[tile], places.starts[tile + 1])
        members = places.samples[part], places.partners[part], places.corners[part], places.phases[part]
        _collect(flat, *members, table, width * _PAIR, buffer)
        row, column = divmod(tile, across)
        _write(buffer, width, places.rows[row : row + 2], places.columns[column : column + 2], values)

    run(fill, range(across * (len(places.rows) - 1)), threads)


@njit(nogil=True, cache=True, fastmath=True)
def _collect(values, samples, partners, corners, phases, table, stride, buffer):
    """Add each sample, and beside it its partner, to the points around it."""
    patch = np.empty(_PATCH, np.float32)
    for member in range(samples.size):
        sample, partner = values[samples[member]], values[partners[member]]
        along_u, along_v = table[phases[member, 0]], table[phases[member, 1]]
        for tap in range(TAPS):
            for lane in range(LANES):
                patch[tap * _PAIR + lane] = along_v[tap] * sample[lane]
                patch[tap * _PAIR + LANES + lane] = along_v[tap] * partner[lane]
        corner = corners[member] * _PAIR
        for tap in range(TAPS):
            line = buffer[corner + tap * stride : corner + tap * stride + _PATCH]
            for k in range(_PATCH):
                line[k] += along_u[tap] * patch[k]


@njit(nogil=True, cache=True)
def _write(buffer, width, rows, columns, grid):
    """Write a tile to its points of the grid, and the partners to the opposite points."""
    size = grid.shape[0]
    for u in range(rows[0], rows[1]):
        for v in range(columns[0], columns[1]):
            start = ((u - rows[0] + _HALO) * width + v - columns[0] + _HALO) * _PAIR
            here, there = grid[u, v], grid[(size - u) % size, (size - v) % size]
            for lane in range(LANES):
                here[lane] = buffer[start + lane]
            # a line that is its own opposite has had all its points written as "here"
            if v > 0 and 2 * v != size:
                for lane in range(LANES):
                    there[lane] = buffer[start + LANES + lane]
