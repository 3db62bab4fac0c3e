"""Blocks of slices by Fourier gridding: the Fourier slice theorem with a non-uniform FFT.

The transform of a projection at the angle t is a line through the 2-D transform of the slice (Kak and Slaney
1988, section 3.2). All lines, times the ramp, are spread onto a Cartesian grid with a Kaiser-Bessel kernel,
the grid is transformed back, and the picture divided by the kernel's transform (O'Sullivan, IEEE Trans. Med.
Imaging 4, 200 (1985); kernel parameters of Beatty et al., IEEE Trans. Med. Imaging 24, 799 (2005), eq. 5).
The work does not grow with angles times pixels, as that of backprojection does, and there is no interpolation
in the slice.

Neighbouring detector rows share the geometry, so `LANES` slices are computed together: two real slices make
one complex one, and where a sample goes and with which weights is worked out once for all of them. The lanes
are the contiguous axis throughout, a plain inner loop over them is a vector operation.

The grid is cut into tiles. Each tile collects the samples that reach into it, in a buffer that fits the
cache, and is then written once: tiles do not share grid points, so threads need no locks and the result is
the same for any number of them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit
from scipy.special import i0

from tomolive.recon.filters import response
from tomolive.recon.fourier import fast_length
from tomolive.recon.memory import aligned_empty
from tomolive.recon.parallel import blocks, run

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

LANES = 16
"""Slices that are computed together."""
_TAPS = 6
"""Width of the kernel, grid points."""
_OVERSAMPLING = 1.25
_TILE = 64
_HALO = _TAPS - 1
_PER_UNIT = 1024
"""Entries of the kernel table for each grid step."""
_PADDING = 1.5
_ANGLES = 16
"""Projections whose rows are transformed at once."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What depends on the angles and the size alone, shared by all blocks of a volume."""

    angles: Doubles
    columns: int
    length: int
    """Samples of a padded row, and of its transform."""
    grid: int
    """Grid points along each side."""
    starts: npt.NDArray[np.int64]
    """Where the members of each tile begin; (tiles + 1,)."""
    members: npt.NDArray[np.int32]
    """Numbers of the samples (angle * length + frequency) that reach into each tile."""


def plan(angles: Doubles, columns: int) -> Plan:
    """Work out which sample goes to which tile; the last few plans are remembered."""
    return _plan(np.ascontiguousarray(angles, np.float64).tobytes(), columns)


@lru_cache(maxsize=4)
def _plan(angles: bytes, columns: int) -> Plan:
    radians = np.frombuffer(angles, np.float64)
    length = fast_length(int(np.ceil(_PADDING * columns)))
    grid = fast_length(int(np.ceil(max(_OVERSAMPLING * columns, 4 * _TAPS))))
    across = _tiles_across(grid)
    counts = np.zeros(across * across + 1, np.int64)
    nobody = np.empty(0, np.int32)
    cosines, sines = np.cos(radians), np.sin(radians)
    _sort_into_tiles(cosines, sines, length, grid, across, counts, nobody)
    starts = np.cumsum(counts)
    members = np.empty(starts[-1], np.int32)
    _sort_into_tiles(cosines, sines, length, grid, across, starts[:-1].copy(), members)
    return Plan(radians, columns, length, grid, starts, members)


@njit(nogil=True, cache=True)
def _first_tap(sample, cosine, length, grid):
    """Return where a sample lies on the grid along one axis, and the first grid point that it reaches."""
    frequency = sample - length if sample > length // 2 else sample
    position = frequency * cosine * grid / length
    return position, np.int64(np.ceil(position - _TAPS / 2))


@njit(nogil=True, cache=True)
def _sort_into_tiles(cosines, sines, length, grid, across, cursors, members):
    """Count the samples of each tile in ``cursors[1:]``; given room, write them to where cursors point."""
    counting = members.size == 0
    for angle in range(cosines.size):
        for sample in range(length):
            _, u = _first_tap(sample, cosines[angle], length, grid)
            _, v = _first_tap(sample, sines[angle], length, grid)
            u0, u1 = u % grid * across // grid, (u + _HALO) % grid * across // grid
            v0, v1 = v % grid * across // grid, (v + _HALO) % grid * across // grid
            for i in range(1 + (u1 != u0)):
                for j in range(1 + (v1 != v0)):
                    tile = (u1 if i else u0) * across + (v1 if j else v0)
                    if counting:
                        cursors[tile + 1] += 1
                    else:
                        members[cursors[tile]] = angle * length + sample
                        cursors[tile] += 1


def _tiles_across(grid: int) -> int:
    """Return the number of tiles along a side: at least two, or one would meet itself around the edge."""
    return max(2, grid // _TILE)


def _tile_edges(grid: int) -> npt.NDArray[np.int64]:
    """Return where tiles begin, and the end; grid point u lies in tile ``u * across // grid``."""
    across = _tiles_across(grid)
    return -(-np.arange(across + 1) * grid // across)


def _shape() -> float:
    return np.pi * np.sqrt((_TAPS / _OVERSAMPLING * (_OVERSAMPLING - 0.5)) ** 2 - 0.8)


@lru_cache(maxsize=1)
def _kernel_table() -> Floats:
    """Return the kernel at distances 0, 1/_PER_UNIT, ... grid steps."""
    distance = np.arange(_TAPS // 2 * _PER_UNIT + _PER_UNIT + 2) / _PER_UNIT
    inside = np.maximum(1 - (2 * distance / _TAPS) ** 2, 0)
    values = i0(_shape() * np.sqrt(inside)) / i0(_shape())
    return np.where(distance < _TAPS / 2, values, 0).astype(np.float32)


def _kernel_transform(pixels: Doubles, grid: int) -> Doubles:
    """Return the Fourier transform of the kernel where the slice has its pixels."""
    argument = np.sqrt((_shape() ** 2 - (np.pi * _TAPS * pixels / grid) ** 2).astype(complex))
    return np.real(np.sinh(argument) / argument) * _TAPS / i0(_shape())


def grid_slices(
    sinograms: Floats,
    angles: Doubles,
    weights: Doubles,
    center: float,
    filter_name: str = "ramp",
    *,
    padding: str = "edge",
    threads: int | None = None,
) -> Floats:
    """Reconstruct slices by Fourier gridding.

    Parameters
    ----------
    sinograms
        Line integrals, float32 (rows, angles, columns).
    angles, weights
        Radians (angles,), and what each projection weighs; see `tomolive.geometry.angle_weights`.
    center
        Column on which the rotation axis is projected.
    filter_name, padding
        As for `tomolive.recon.filters.filter_rows`.

    Returns
    -------
    float32 (rows, columns, columns).
    """
    rows, _, columns = sinograms.shape
    geometry = plan(angles, columns)
    factors = _factors(geometry, weights, center, filter_name)
    out = np.empty((rows, columns, columns), np.float32)
    # one set of large arrays for all blocks: to get fresh ones from the system takes as long as to fill them
    samples = aligned_empty((len(angles), geometry.length, LANES // 2), np.complex64)
    grid = aligned_empty((geometry.grid, geometry.grid, LANES // 2), np.complex64)
    lines = aligned_empty((geometry.grid, columns, LANES // 2), np.complex64)
    for first, last in blocks(rows, LANES):
        _sample_lines(sinograms[first:last], geometry, factors, padding, samples, threads)
        _spread(samples, geometry, grid, threads)
        _to_pixels(grid, geometry, lines, out[first:last], threads)
    return out


def _factors(geometry: Plan, weights: Doubles, center: float, filter_name: str) -> npt.NDArray[np.complex64]:
    """Return what the transform of each row is multiplied with: filter, weight, and the shift to the axis."""
    length = geometry.length
    frequency = np.fft.fftfreq(length)
    half = response(filter_name, length)
    ramp = np.concatenate([half, half[1 : length - len(half) + 1][::-1]]).astype(np.float64)
    if length % 2 == 0:
        # the highest frequency has no partner of opposite sign and would leak into the other slice of a pair
        ramp[length // 2] = 0
    # pixels are whole numbers for the FFT; with an even number of columns the axis lies between two of them
    between = 0.5 * (geometry.columns % 2 == 0)
    shift = center + between * (np.cos(geometry.angles) + np.sin(geometry.angles))
    phase = np.exp(2j * np.pi * frequency * shift[:, np.newaxis])
    return (ramp * phase * weights[:, np.newaxis] / length).astype(np.complex64)


def _sample_lines(
    sinograms: Floats,
    geometry: Plan,
    factors: npt.NDArray[np.complex64],
    padding: str,
    samples: npt.NDArray[np.complex64],
    threads: int | None,
) -> None:
    """Write the filtered transforms of all rows to ``samples`` (angles, length, LANES / 2)."""
    count, length = len(geometry.angles), geometry.length

    def transform(block: tuple[int, int]) -> None:
        first, last = block
        lines = np.zeros((last - first, length, LANES), np.float32)
        _interleave(sinograms[:, first:last], padding == "edge", lines)
        spectra = np.asarray(scipy.fft.fft(lines.view(np.complex64), axis=1, overwrite_x=True))
        _multiply(spectra, factors[first:last], samples[first:last])

    run(transform, blocks(count, _ANGLES), threads)


@njit(nogil=True, cache=True)
def _interleave(sinograms, pad_edges, lines):
    """Write rows (rows, angles, columns) as lanes (angles, length, LANES), going on beyond their ends."""
    rows, count, columns = sinograms.shape
    length = lines.shape[1]
    middle = (length + columns) // 2
    for angle in range(count):
        line = lines[angle]
        for first in range(0, columns, _TILE):
            for row in range(rows):
                for column in range(first, min(first + _TILE, columns)):
                    line[column, row] = sinograms[row, angle, column]
        if pad_edges:
            line[columns:middle] = line[columns - 1]
            line[middle:] = line[0]


@njit(nogil=True, cache=True, fastmath=True)
def _multiply(spectra, factors, out):
    for angle in range(spectra.shape[0]):
        for sample in range(spectra.shape[1]):
            for lane in range(LANES // 2):
                out[angle, sample, lane] = spectra[angle, sample, lane] * factors[angle, sample]


def _spread(
    samples: npt.NDArray[np.complex64], geometry: Plan, grid: npt.NDArray[np.complex64], threads: int | None
) -> None:
    """Write the samples, spread, to all of ``grid`` (grid, grid, LANES / 2)."""
    size = geometry.grid
    edges = _tile_edges(size)
    across = len(edges) - 1
    side = int(np.diff(edges).max()) + 2 * _HALO
    values = grid.view(np.float32)
    flat = samples.reshape(-1, LANES // 2).view(np.float32)
    cosines, sines = np.cos(geometry.angles), np.sin(geometry.angles)
    table = _kernel_table()

    def fill(tile: int) -> None:
        members = geometry.members[geometry.starts[tile] : geometry.starts[tile + 1]]
        buffer = aligned_empty((side, side * LANES))
        buffer[:] = 0
        row, column = divmod(tile, across)
        place = np.array([edges[row], edges[row + 1], edges[column], edges[column + 1]])
        _fill_tile(flat, members, cosines, sines, geometry.length, place, table, buffer, values)

    run(fill, range(across * across), threads)


@njit(nogil=True, cache=True, fastmath=True)
def _fill_tile(samples, members, cosines, sines, length, place, table, buffer, grid):
    """Spread the samples that reach into the tile at ``place`` (top, bottom, left, right), and write it."""
    size = grid.shape[0]
    top, bottom, left, right = place
    scaled = np.empty(_TAPS * LANES, np.float32)
    for member in members:
        angle, number = divmod(member, length)
        u, first_u = _first_tap(number, cosines[angle], length, size)
        v, first_v = _first_tap(number, sines[angle], length, size)
        row = (first_u - top + _HALO) % size
        column = (first_v - left + _HALO) % size
        sample = samples[member]
        for j in range(_TAPS):
            weight = table[np.int64(abs(first_v + j - v) * _PER_UNIT + 0.5)]
            for lane in range(LANES):
                scaled[j * LANES + lane] = weight * sample[lane]
        for i in range(_TAPS):
            weight = table[np.int64(abs(first_u + i - u) * _PER_UNIT + 0.5)]
            line = buffer[row + i, column * LANES : (column + _TAPS) * LANES]
            for k in range(_TAPS * LANES):
                line[k] += weight * scaled[k]
    for u in range(top, bottom):
        line = buffer[u - top + _HALO]
        for v in range(left, right):
            start = (v - left + _HALO) * LANES
            for lane in range(LANES):
                grid[u, v, lane] = line[start + lane]


def _to_pixels(
    grid: npt.NDArray[np.complex64],
    geometry: Plan,
    lines: npt.NDArray[np.complex64],
    out: Floats,
    threads: int | None,
) -> None:
    """Transform the grid back, cut out the slice, and undo the kernel; the u axis is x, the v axis y.

    ``lines`` (grid, columns, LANES / 2) holds what is between the two transforms.
    """
    size, columns = geometry.grid, geometry.columns
    pixels = np.arange(columns) - columns // 2
    correction = (1 / _kernel_transform(pixels.astype(float), size)).astype(np.float32)
    correction = np.repeat(correction, LANES // 2).reshape(columns, -1)

    def along_y(block: tuple[int, int]) -> None:
        first, last = block
        values = np.asarray(scipy.fft.ifft(grid[first:last], axis=1, norm="forward"))
        np.multiply(_cut(values, columns), correction, out=lines[first:last])

    def along_x(block: tuple[int, int]) -> None:
        first, last = block
        values = np.asarray(scipy.fft.ifft(lines[:, first:last], axis=0, norm="forward"))
        cut = _cut(values.swapaxes(0, 1), columns) * correction
        picture = cut.view(np.float32)
        out[:, first:last] = picture.transpose(2, 0, 1)[: len(out)]

    run(along_y, blocks(size, 8), threads)
    run(along_x, blocks(columns, 8), threads)


def _cut(values: npt.NDArray[np.complex64], columns: int) -> npt.NDArray[np.complex64]:
    """Return the pixels from -columns // 2 on, along the second axis, of a periodic picture."""
    low = columns // 2
    return np.concatenate([values[:, values.shape[1] - low :], values[:, : columns - low]], axis=1)
