"""The three orthogonal slices as arrays that projections are added to."""

import numpy as np
import numpy.typing as npt

from tomolive.recon.backproject import add_to_slice, add_to_upright, lanes
from tomolive.recon.correct import FlatField, line_integrals
from tomolive.recon.filters import filter_rows
from tomolive.recon.parallel import blocks, run

_BAND = 32
"""Detector rows that one thread takes at once: a band of a batch of projections stays in its cache."""


class OrthoSlices:
    """Sums of weighted, filtered, backprojected projections in an xy, an xz and a yz plane.

    Detector rows are independent of each other in the upright planes, and image rows in the xy plane, so
    threads share the work without sharing a pixel, and the result does not depend on their number.
    """

    def __init__(self, rows: int, columns: int, positions: dict[str, int], threads: int) -> None:
        self._positions = dict(positions)
        self._threads = threads
        self._row_bands = blocks(rows, _BAND)
        self._image_bands = blocks(columns, max(16, -(-columns // (2 * threads))))
        self._xy = np.zeros((columns, columns), np.float32)
        # one array for each band of rows, (columns, rows of the band): rows last, see recon.backproject
        self._upright = {
            plane: [np.zeros((columns, last - first), np.float32) for first, last in self._row_bands]
            for plane in ("xz", "yz")
        }

    def filtered(
        self, raw: npt.NDArray[np.generic], field: FlatField, filter_name: str
    ) -> list[npt.NDArray[np.float32]]:
        """Correct and filter raw projections (n, rows, columns), ready for `add`: one array for each band."""

        def prepare(band: tuple[int, int]) -> npt.NDArray[np.float32]:
            first, last = band
            part = FlatField(field.dark[first:last], field.gain[first:last])
            return lanes(filter_rows(line_integrals(raw[:, first:last], part), filter_name))

        return run(prepare, self._row_bands, self._threads)

    def add(
        self,
        filtered: list[npt.NDArray[np.float32]],
        angles: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64],
        center: float,
    ) -> None:
        """Add filtered projections at ``angles`` (n,), times ``weights`` (n,)."""

        def add_band(band: int) -> None:
            for plane, images in self._upright.items():
                at = self._positions[plane]
                add_to_upright(filtered[band], weights, angles, center, plane, at, images[band])

        def add_lines(band: tuple[int, int]) -> None:
            first, last = band
            add_to_slice(row, angles, center, self._xy[first:last], first)

        z = self._positions["xy"]
        row = filtered[z // _BAND][:, :, z % _BAND] * weights[:, np.newaxis].astype(np.float32)
        run(add_band, range(len(self._row_bands)), self._threads)
        run(add_lines, self._image_bands, self._threads)

    def images(self, factor: float) -> dict[str, npt.NDArray[np.float32]]:
        """Return copies, times ``factor``: xy (y, x), xz (z, x), yz (z, y)."""
        scale = np.float32(factor)
        pictures = {"xy": self._xy * scale}
        for plane, images in self._upright.items():
            pictures[plane] = np.ascontiguousarray(np.concatenate(images, axis=1).T) * scale
        return pictures
