"""Planes that projections are added to: any number of them, of any kind, each by itself.

Detector rows are independent of each other in planes along the axis, and lines in the others, so threads
share the work without sharing a pixel, and the result does not depend on their number.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.recon.backproject import add_to_line, add_to_slice, pick_row, slice_rows, upright_line
from tomolive.recon.oblique import oblique_plane
from tomolive.recon.parallel import blocks, run
from tomolive.recon.tilted import add_to_tilted

Pixels = npt.NDArray[np.float32]
Place = tuple[str, tuple[float, ...]]
"""A plane and where it lies: ("xy", (z,)), ("xz", (y,)), ("yz", (x,)), ("oblique", (tilt, turn, offset))."""

BAND = 32
"""Detector rows that are filtered, and drawn in planes along the axis, by one thread at once."""
_LEAST_LINES = 16
_SHARES = 4
"""Into how many pieces the work of each thread is cut, lest one waits for the others."""


def bands(rows: int) -> list[tuple[int, int]]:
    """Return the bands that detector rows are cut into."""
    return blocks(rows, BAND)


def check_place(place: Place, rows: int, columns: int) -> Place:
    """Return ``place`` if it lies in a volume of (rows, columns, columns) voxels.

    Raises
    ------
    ReconstructionError
        if there is no such plane.
    """
    plane, at = place
    if plane == "oblique":
        if len(at) != 3 or not np.isfinite(at).all():
            raise ReconstructionError(f"oblique plane {at}; expected tilt, turn and offset, finite numbers")
        return place
    if plane not in ("xy", "xz", "yz"):
        raise ReconstructionError(f"plane={plane!r} is not known; expected one of xy, xz, yz, oblique")
    count = rows if plane == "xy" else columns
    if len(at) != 1 or not 0 <= at[0] <= count - 1:
        where = ", ".join(f"{value:g}" for value in at)
        raise ReconstructionError(f"position={where} of plane {plane} is outside 0 to {count - 1}")
    # an index, however it was written
    return plane, (float(int(at[0])),)


class Filtered(NamedTuple):
    """Some filtered projections."""

    bands: Sequence[Pixels]
    """For each band of rows (n, columns + 3, rows of the band); may be made when it is asked for."""
    angles: npt.NDArray[np.float64]
    """Radians, (n,)."""
    weights: npt.NDArray[np.float64]
    """What each projection weighs, (n,)."""


class PlaneSet:
    """Sums of weighted, filtered, backprojected projections in planes of a volume.

    Parameters
    ----------
    rows, columns
        Shape of a projection.
    threads
        How many draw.
    place
        Row of the volume in which the first row lies, and how many rows the volume has; None: these are all.
        Oblique planes are those of the whole volume, with what these rows add to them.
    """

    def __init__(self, rows: int, columns: int, threads: int, place: tuple[int, int] | None = None) -> None:
        self.rows, self.columns = rows, columns
        self._first, self._all_rows = place or (0, rows)
        self._threads = threads
        self._bands = bands(rows)
        self._lines = blocks(columns, max(_LEAST_LINES, -(-columns // (2 * threads))))
        self._images: dict[Place, list[Pixels]] = {}
        """Planes along the axis in one array for each band, (columns, rows of the band); others in one."""

    def __contains__(self, place: Place) -> bool:
        return place in self._images

    def __iter__(self) -> Iterator[Place]:
        return iter(list(self._images))

    def __len__(self) -> int:
        return len(self._images)

    def begin(self, place: Place) -> None:
        """Begin a plane, or begin it anew: nothing has been added to it."""
        place = check_place(place, self.rows, self.columns)
        if place[0] in ("xz", "yz"):
            # rows last, see recon.backproject
            images = [np.zeros((self.columns, last - first), np.float32) for first, last in self._bands]
        else:
            images = [np.zeros((self.columns, self.columns), np.float32)]
        self._images[place] = images

    def drop(self, place: Place) -> None:
        """Forget a plane."""
        self._images.pop(place, None)

    def add(self, parts: Sequence[Filtered], center: float, places: Iterable[Place] | None = None) -> None:
        """Add filtered projections to all planes or some.

        A band of rows is asked for where it is used: the thread that makes it, and draws it into all planes
        that need it, finds it in its cache.
        """
        places = list(self if places is None else places)
        if any(plane == "oblique" for plane, _ in places):
            # each line of a tilted plane may need every band
            every = range(len(self._bands))
            parts = [p._replace(bands=run(p.bands.__getitem__, every, self._threads)) for p in parts]
        upright = [place for place in places if place[0] in ("xz", "yz")]
        rows = {place: [np.empty((0, 0), np.float32)] * len(parts) for place in places if place[0] == "xy"}
        wanted = sorted({_band_of(place)[0] for place in rows})
        if upright:
            wanted = list(range(len(self._bands)))
        lines = [
            [upright_line(p.weights, p.angles, center, plane, at, self.columns) for plane, (at,) in upright]
            for p in parts
        ]

        def use(number: int, band: int) -> None:
            filtered = parts[number].bands[band]
            for place, line in zip(upright, lines[number], strict=True):
                add_to_line(filtered, line, self._images[place][band])
            for place, picked in rows.items():
                if _band_of(place)[0] == band:
                    picked[number] = pick_row(filtered, _band_of(place)[1])

        def use_some(some: tuple[int, int]) -> None:
            # One that is not kept is gone before the next is made, which finds its memory in the cache.
            for number in range(len(parts)):
                for band in wanted[slice(*some)]:
                    use(number, band)

        run(use_some, blocks(len(wanted), -(-len(wanted) // (_SHARES * self._threads)) or 1), self._threads)
        angles = np.concatenate([part.angles for part in parts])
        weights = np.concatenate([part.weights for part in parts])
        for place, picked in rows.items():
            self.add_rows(place, np.concatenate(picked), angles, weights, center)
        for place in places:
            if place[0] == "oblique":
                self._add_tilted(place, parts, center)

    def add_rows(
        self,
        place: Place,
        rows: Pixels,
        angles: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64],
        center: float,
    ) -> None:
        """Add guarded rows (n, columns + 3) to a plane across the axis."""
        (image,) = self._images[place]
        weighted = slice_rows(rows * weights[:, np.newaxis].astype(np.float32))

        def add(lines: tuple[int, int]) -> None:
            first, last = lines
            add_to_slice(weighted, angles, center, image[first:last], first)

        run(add, self._lines, self._threads)

    def picture(self, place: Place, factor: float) -> Pixels:
        """Return a copy of a plane, times ``factor``: xy (y, x), xz (z, x), yz (z, y), others as they are."""
        images, scale = self._images[place], np.float32(factor)
        if place[0] in ("xz", "yz"):
            return np.ascontiguousarray(np.concatenate(images, axis=1).T) * scale
        return images[0] * scale

    def _add_tilted(self, place: Place, parts: Sequence[Filtered], center: float) -> None:
        (image,) = self._images[place]
        origin, down, right = oblique_plane(*place[1], rows=self._all_rows, columns=self.columns)

        def add(lines: tuple[int, int]) -> None:
            first, last = lines
            for filtered, angles, weights in parts:
                for (row, _), band in zip(self._bands, filtered, strict=True):
                    add_to_tilted(
                        band, self._first + row, self._all_rows, weights, angles, center, origin, down, right,
                        image[first:last], first,
                    )  # fmt: skip

        run(add, self._lines, self._threads)


def _band_of(place: Place) -> tuple[int, int]:
    """Return the band, and the row of it, that a plane across the axis is made of."""
    return divmod(int(place[1][0]), BAND)
