"""Blocks of slices by Fourier gridding: the Fourier slice theorem with a non-uniform FFT.

The transform of a projection at the angle t is a line through the 2-D transform of the slice (Kak and Slaney
1988, section 3.2). All lines, times the ramp, are spread onto a Cartesian grid (`tomolive.recon.spreading`),
the grid is transformed back, and the picture divided by the transform of the kernel. The work does not grow
with angles times pixels, as that of backprojection does, and there is no interpolation in the slice.

Neighbouring detector rows share the geometry: `LANES` slices are computed together, two real slices as one
complex one. The lanes are the contiguous axis throughout.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit

from tomolive.geometry import angle_weights
from tomolive.recon.filters import check_filter, check_padding, response
from tomolive.recon.fourier import fast_length
from tomolive.recon.memory import aligned_empty
from tomolive.recon.parallel import blocks, run
from tomolive.recon.spreading import (
    LANES,
    OVERSAMPLING,
    TAPS,
    Floats,
    Places,
    find_places,
    kernel_transform,
    spread,
)

__all__ = ["LANES", "Plan"]

_PADDING = 1.5
_ANGLES = 16
"""Projections whose rows are transformed at once."""
_COLUMNS = 64
"""Columns that are read of each row before the next one: what is written stays in the cache."""


class Plan:
    """The reconstruction of slices from projections at given angles, to be used for block after block.

    What depends on the angles alone is worked out once. A plan keeps its working memory from call to call
    (`working_bytes`), so one thread at a time may use it; each process of a volume has its own.

    Parameters
    ----------
    angles
        Radians (angles,), any order.
    columns
        Of the detector; a slice has as many pixels a side.
    weights
        What each projection weighs, (angles,); default: `tomolive.geometry.angle_weights`, which gives values
        per pixel.
    filter
        One of `tomolive.recon.FILTERS`.
    padding
        How rows go on beyond the detector: "edge" or "zero".
    threads
        How many threads work; default: one for each core.

    Examples
    --------
    >>> angles = np.arange(90) * np.pi / 90
    >>> plan = Plan(angles, columns=64, threads=1)
    >>> plan.reconstruct(np.ones((20, 90, 64), np.float32), center=31.5).shape
    (20, 64, 64)
    """

    def __init__(
        self,
        angles: npt.ArrayLike,
        columns: int,
        *,
        weights: npt.ArrayLike | None = None,
        filter: str = "ramp",  # noqa: A002  the field's word
        padding: str = "edge",
        threads: int | None = None,
    ) -> None:
        self.angles = np.ascontiguousarray(angles, np.float64)
        self.columns = columns
        self.filter = check_filter(filter)
        self.padding = check_padding(padding)
        self._weights = np.asarray(angle_weights(self.angles) if weights is None else weights, np.float64)
        self._threads = threads
        self._length = fast_length(int(np.ceil(_PADDING * columns)))
        """Samples of a padded row, and of its transform."""
        self._grid = fast_length(int(np.ceil(max(OVERSAMPLING * columns, 4 * TAPS))))
        self._places = _places(self.angles.tobytes(), self._length, self._grid)
        self._factors: tuple[float, npt.NDArray[np.complex64]] | None = None
        self._arrays: tuple[npt.NDArray[np.complex64], ...] | None = None

    @property
    def working_bytes(self) -> int:
        """What a call of `reconstruct` needs beside its argument and its result."""
        places = sum(
            getattr(self._places, name).nbytes for name in ("samples", "partners", "corners", "phases")
        )
        return places + sum(8 * int(np.prod(shape)) for shape in self._shapes())

    def _shapes(self) -> list[tuple[int, ...]]:
        pairs = LANES // 2
        return [
            (len(self.angles), self._length, pairs),
            (self._grid, self._grid, pairs),
            (self._grid, self.columns, pairs),
        ]

    def reconstruct(self, sinograms: Floats, center: float, out: Floats | None = None) -> Floats:
        """Reconstruct slices.

        Parameters
        ----------
        sinograms
            Line integrals, float32 (rows, angles, columns); quickest are multiples of `LANES` rows. May be a
            view of projections, ``projections.transpose(1, 0, 2)``.
        center
            Column on which the rotation axis is projected, for these rows.
        out
            Where to write, float32 (rows, columns, columns).

        Returns
        -------
        ``out``, or a new array.
        """
        rows = len(sinograms)
        out = np.empty((rows, self.columns, self.columns), np.float32) if out is None else out
        if self._arrays is None:
            # kept: to get large arrays from the system takes as long as to fill them
            self._arrays = tuple(aligned_empty(shape, np.complex64) for shape in self._shapes())
        samples, grid, lines = self._arrays
        for first, last in blocks(rows, LANES):
            self._sample_lines(sinograms[first:last], center, samples)
            spread(samples, self._places, grid, self._threads)
            self._to_pixels(grid, lines, out[first:last])
        return out

    def _sample_lines(self, sinograms: Floats, center: float, samples: npt.NDArray[np.complex64]) -> None:
        """Write the filtered transforms of all rows to ``samples`` (angles, length, LANES / 2)."""
        factors = self._factors_for(center)

        def transform(block: tuple[int, int]) -> None:
            first, last = block
            lines = np.zeros((last - first, self._length, LANES), np.float32)
            _interleave(sinograms[:, first:last], self.padding == "edge", lines)
            spectra = np.asarray(scipy.fft.fft(lines.view(np.complex64), axis=1, overwrite_x=True))
            _multiply(spectra, factors[first:last], samples[first:last])

        run(transform, blocks(len(self.angles), _ANGLES), self._threads)

    def _factors_for(self, center: float) -> npt.NDArray[np.complex64]:
        """Return what the transform of each row is multiplied with: filter, weight, and shift to the axis."""
        if self._factors is None or self._factors[0] != center:
            length = self._length
            half = response(self.filter, length)
            ramp = np.concatenate([half, half[1 : length - len(half) + 1][::-1]]).astype(np.float64)
            if length % 2 == 0:
                # the highest frequency has no partner of opposite sign and would leak into the other slice
                ramp[length // 2] = 0
            # pixels are whole numbers for the FFT; with an even number of columns the axis lies between two
            between = 0.5 * (self.columns % 2 == 0)
            shift = center + between * (np.cos(self.angles) + np.sin(self.angles))
            phase = np.exp(2j * np.pi * np.fft.fftfreq(length) * shift[:, np.newaxis])
            values = ramp * phase * self._weights[:, np.newaxis] / length
            self._factors = center, values.astype(np.complex64)
        return self._factors[1]

    def _to_pixels(
        self, grid: npt.NDArray[np.complex64], lines: npt.NDArray[np.complex64], out: Floats
    ) -> None:
        """Transform the grid back, cut out the slice, and undo the kernel; the u axis is x, the v axis y.

        ``lines`` (grid, columns, LANES / 2) holds what is between the two transforms.
        """
        columns = self.columns
        pixels = np.arange(columns) - columns // 2
        correction = (1 / kernel_transform(pixels.astype(float), self._grid)).astype(np.float32)
        correction = np.repeat(correction, LANES // 2).reshape(columns, -1)

        def along_y(block: tuple[int, int]) -> None:
            first, last = block
            values = np.asarray(scipy.fft.ifft(grid[first:last], axis=1, norm="forward"))
            np.multiply(_cut(values, columns), correction, out=lines[first:last])

        def along_x(block: tuple[int, int]) -> None:
            first, last = block
            values = np.asarray(scipy.fft.ifft(lines[:, first:last], axis=0, norm="forward"))
            cut = _cut(values.swapaxes(0, 1), columns) * correction
            out[:, first:last] = cut.view(np.float32).transpose(2, 0, 1)[: len(out)]

        run(along_y, blocks(self._grid, 8), self._threads)
        run(along_x, blocks(columns, 8), self._threads)


@lru_cache(maxsize=4)
def _places(angles: bytes, length: int, grid: int) -> Places:
    return find_places(np.frombuffer(angles, np.float64), length, grid)


@njit(nogil=True, cache=True)
def _interleave(sinograms, pad_edges, lines):
    """Write rows (rows, angles, columns) as lanes (angles, length, LANES), going on beyond their ends."""
    rows, count, columns = sinograms.shape
    length = lines.shape[1]
    middle = (length + columns) // 2
    for angle in range(count):
        line = lines[angle]
        for first in range(0, columns, _COLUMNS):
            for row in range(rows):
                for column in range(first, min(first + _COLUMNS, columns)):
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


def _cut(values: npt.NDArray[np.complex64], columns: int) -> npt.NDArray[np.complex64]:
    """Return the pixels from -columns // 2 on, along the second axis, of a periodic picture."""
    low = columns // 2
    return np.concatenate([values[:, values.shape[1] - low :], values[:, : columns - low]], axis=1)
