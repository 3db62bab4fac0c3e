"""Sinograms of single rows, as they grow: one line for each projection, in the order of their numbers."""

import numpy as np
import numpy.typing as npt

from tomolive.live.slices.accumulate import SliceAccumulator
from tomolive.recon.pipeline import correct_sinograms

MOST_LINES = 2048
"""Of longer scans only every second, third, ... projection is shown."""

Pixels = npt.NDArray[np.float32]


class Sinograms:
    """Line integrals of the rows that someone looks at; each is corrected once, as its projections come."""

    def __init__(self, slices: SliceAccumulator) -> None:
        self._slices = slices
        self._rows: dict[int, list[Pixels]] = {}
        self._made_with: object = None
        self._numbers = np.empty(0, np.intp)

    def keep(self, rows: set[int]) -> None:
        """Forget all rows but these."""
        self._rows = {row: parts for row, parts in self._rows.items() if row in rows}

    def picture(self, row: int, planned: int | None) -> Pixels | None:
        """Return the sinogram of a row, (projections, columns); None if there is nothing yet.

        Lines of projections that are not there are not a number. ``planned`` says how many there will be.
        """
        projections = self._slices.projections
        if not projections.ready or not 0 <= row < projections.rows:
            return None
        made_with = (self._slices.field, projections.corrections)
        before, self._numbers = self._numbers, projections.numbers
        if made_with != self._made_with or not np.array_equal(before, self._numbers[: len(before)]):
            self._rows.clear()
            self._made_with = made_with
        parts = self._rows.setdefault(row, [])
        known = sum(map(len, parts))
        if known < len(projections):
            fresh = np.arange(known, len(projections))
            parts.append(projections.integrals(fresh, slice(row, row + 1))[:, 0])
            self._rows[row] = parts = [np.concatenate(parts)]
        (lines,) = parts
        order = np.argsort(self._slices.angles, kind="stable")
        if projections.corrections.rings != "none" and len(lines) > 1:
            clean = np.empty_like(lines)
            clean[order] = correct_sinograms(lines[order], projections.corrections)
            lines = clean
        return _laid_out(lines, projections.numbers, planned)


def _laid_out(lines: Pixels, numbers: npt.NDArray[np.intp], planned: int | None) -> Pixels:
    height = max(int(numbers.max()) + 1, planned or 0)
    every = -(-height // MOST_LINES)
    picture = np.full((-(-height // every), lines.shape[1]), np.nan, np.float32)
    shown = numbers % every == 0
    picture[numbers[shown] // every] = lines[shown]
    return picture
