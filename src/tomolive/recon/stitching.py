"""Several detectors, side by side or above each other, joined to one taller or wider field.

Each frame is corrected with its own darks and flats; then line integrals are added up with weights that fall
linearly towards an edge that lies inside the field, and whose sum is 1 in each pixel. Filtering and
backprojection are linear, so a field is reconstructed as the frames of one large detector are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError

Counts = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Rows = tuple[int, int]
"""Half-open."""


@dataclass(frozen=True)
class Tile:
    """Where the frames of one detector lie in a field, pixels."""

    rows: int
    columns: int
    row: int = 0
    """Row of the field in which its first row lies."""
    column: int = 0


class Mosaic:
    """A field that tiles fill.

    It has the rows that are seen over its whole width: where detectors side by side are not at the same
    height, what only one of them sees is left out.

    Parameters
    ----------
    tiles
        With offsets from any common origin.

    Attributes
    ----------
    rows, columns : int
        Of the field.
    tiles : tuple of Tile
        With offsets from its first pixel; the first row of a tile may lie above it.

    Raises
    ------
    ReconstructionError
        if no row, or not one piece of rows, is seen over the whole width.
    """

    def __init__(self, tiles: Sequence[Tile]) -> None:
        left = min(tile.column for tile in tiles)
        right = max(tile.column + tile.columns for tile in tiles)
        edges = sorted({edge for tile in tiles for edge in (tile.row, tile.row + tile.rows)})
        seen = [(a, b) for a, b in pairwise(edges) if not _gap(tiles, a, left, right)]
        if not seen:
            first = next(gap for a in edges[:-1] if (gap := _gap(tiles, a, left, right)))
            raise ReconstructionError(
                f"the tiles leave columns {first[0]} to {first[1] - 1} of {left} to {right - 1} open; "
                "expected tiles that touch or overlap"
            )
        broken = [(b, c) for (_, b), (c, _) in pairwise(seen) if b != c]
        if broken:
            raise ReconstructionError(
                f"the tiles leave rows {broken[0][0]} to {broken[0][1] - 1} open; expected tiles that touch "
                "or overlap"
            )
        top = seen[0][0]
        self.rows, self.columns = seen[-1][1] - top, right - left
        self.tiles = tuple(replace(t, row=t.row - top, column=t.column - left) for t in tiles)

    def covering(self, rows: Rows) -> tuple[int, ...]:
        """Return which tiles have any of these rows."""
        first, last = rows
        return tuple(i for i, t in enumerate(self.tiles) if t.row < last and first < t.row + t.rows)

    def weights(self, which: Sequence[int], rows: Rows) -> list[Floats]:
        """Return what each of some tiles counts in these rows, (rows, columns of the tile)."""
        raw = [self._ramps(self.tiles[i], rows) for i in which]
        total = np.zeros((rows[1] - rows[0], self.columns))
        for i, ramps in zip(which, raw, strict=True):
            total[:, _columns(self.tiles[i])] += ramps
        # where nothing is seen nothing is divided
        total[total == 0] = 1
        return [
            np.asarray(ramps / total[:, _columns(self.tiles[i])], np.float32)
            for i, ramps in zip(which, raw, strict=True)
        ]

    def _ramps(self, tile: Tile, rows: Rows) -> npt.NDArray[np.float64]:
        """Return how far pixels lie from those edges of a tile that are not edges of the field."""
        down = _ramp(np.arange(*rows) - tile.row, tile.rows, tile.row > 0, tile.row + tile.rows < self.rows)
        inner = tile.column > 0, tile.column + tile.columns < self.columns
        return np.outer(down, _ramp(np.arange(tile.columns), tile.columns, *inner))


class Joining:
    """Joins the line integrals of some tiles, for some rows of a field.

    Parameters
    ----------
    mosaic
        The field.
    which
        The tiles; no other one has any of the rows.
    rows
        Of the field.
    """

    def __init__(self, mosaic: Mosaic, which: Sequence[int], rows: Rows) -> None:
        self._tiles = [mosaic.tiles[i] for i in which]
        self._columns, self._rows = mosaic.columns, rows
        self._weights = mosaic.weights(which, rows)
        self.shape = rows[1] - rows[0], sum(tile.columns for tile in self._tiles)
        """Of what `beside` returns."""

    def beside(self, frames: Sequence[Counts]) -> Counts:
        """Return whole frames (n, rows, columns), one array for each tile, cut and side by side."""
        return np.concatenate([self.cut(i, array) for i, array in enumerate(frames)], axis=-1)

    def cut(self, number: int, frames: Counts) -> Counts:
        """Return a copy of whole frames (n, rows, columns) of a tile, cut to these rows of the field.

        Rows that the tile has not are those at its edge; they do not count.
        """
        tile = self._tiles[number]
        return frames[..., np.clip(np.arange(*self._rows) - tile.row, 0, tile.rows - 1), :]

    def join(self, beside: Floats, rows: slice = slice(None)) -> Floats:
        """Return (n, rows, columns of the field) of what lies side by side, (n, rows, columns together).

        ``rows`` are those of the field that it has.
        """
        out = np.zeros((*beside.shape[:-1], self._columns), np.float32)
        first = 0
        for tile, weights in zip(self._tiles, self._weights, strict=True):
            out[..., _columns(tile)] += beside[..., first : first + tile.columns] * weights[rows]
            first += tile.columns
        return out


def _columns(tile: Tile) -> slice:
    return slice(tile.column, tile.column + tile.columns)


def _ramp(at: npt.NDArray[np.int64], size: int, before: bool, after: bool) -> npt.NDArray[np.float64]:
    """Return the distance from the inner edges of a tile, 1 where there are none, 0 beside it."""
    inside = (at >= 0) & (at < size)
    ends = [at + 1.0] * before + [size - at + 0.0] * after
    return np.where(inside, np.minimum.reduce(ends) if ends else 1.0, 0.0)


def _gap(tiles: Sequence[Tile], row: int, left: int, right: int) -> Rows | None:
    """Return the first columns that no tile has in a row."""
    here = sorted((t.column, t.column + t.columns) for t in tiles if t.row <= row < t.row + t.rows)
    for first, last in here:
        if first > left:
            return left, first
        left = max(left, last)
    return (left, right) if left < right else None
