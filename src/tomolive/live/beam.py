"""How bright each projection is: where a lost beam is seen first, and which projections saw none.

Only a part of the pixels is looked at; the mean over a thousand says as much as that over millions.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tomolive.live.documents.ranges import Ranges
from tomolive.live.documents.run import in_words
from tomolive.live.snapshot import Trend
from tomolive.recon.correct import FlatField

_SIDE = 32
"""Pixels along each side of a projection that are looked at, at most."""
_LOST = 0.25
_USUAL = 0.95
_NO_BEAM = 0.01
"""Transmission; a scan whose usual projection is darker has no beam that others could lack."""
_POINTS = 240


class Brightness:
    """Mean brightness of the projections of one scan, in order of arrival.

    Parameters
    ----------
    lost
        A projection darker than this part of the usual one saw no beam worth the name; None: none is.
    """

    def __init__(self, lost: float | None = _LOST) -> None:
        self._lost = lost
        self._numbers = np.empty(0, np.int64)
        self._seen: list[npt.NDArray[np.generic]] = []
        """Of each projection the counts that are looked at: darks and flats may come, or change, later."""
        self._field: FlatField | None = None
        self._values = np.empty(0)
        """Means of the first of them, with that field."""

    def add(self, first: int, frames: npt.NDArray[np.generic]) -> None:
        """Take frames (n, rows, columns) numbered from ``first`` on, raw counts."""
        self._seen += list(frames[:, *_grid(frames.shape[1:])].copy())
        self._numbers = np.append(self._numbers, np.arange(first, first + len(frames)))

    def trend(self, field: FlatField | None) -> Trend:
        """Return mean transmission, or mean counts without ``field``, over the projections."""
        self._measure(field)
        order = np.argsort(self._numbers, kind="stable")
        numbers, values = self._numbers[order], self._values[order]
        numbers, values = numbers[np.isfinite(values)], values[np.isfinite(values)]
        units = "counts" if field is None else "transmission"
        low = self._lowest(values)
        points = thinned(numbers, values)
        return Trend("Transmission", units, points, _warning(numbers, values, low), low=low)

    def without_beam(self, field: FlatField | None, least: float) -> npt.NDArray[np.int64]:
        """Return the numbers of the projections darker than ``least`` times the usual one, in order.

        The usual one is the same as for the trend. It does not matter in which order projections came, or
        whether one came twice: a volume of the same scan leaves out the same ones.
        """
        self._measure(field)
        numbers, values = self._numbers, self._values
        if not (np.diff(numbers) > 0).all():
            numbers, first = np.unique(numbers, return_index=True)
            values = values[first]
        known = values[np.isfinite(values)]
        usual = np.quantile(known, _USUAL) if len(known) else 0.0
        if field is not None and usual < _NO_BEAM:
            return numbers[:0]
        return numbers[values < least * usual]

    def _measure(self, field: FlatField | None) -> None:
        if field is not self._field:
            self._field, self._values = field, np.empty(0)
        fresh = [_mean(counts, field) for counts in self._seen[len(self._values) :]]
        self._values = np.append(self._values, fresh)

    def _lowest(self, values: npt.NDArray[np.float64]) -> float | None:
        if self._lost is None or not len(values):
            return None
        # Not the median: the beam may be gone for most of the scan.
        return float(f"{self._lost * np.quantile(values, _USUAL):.4g}")


def _grid(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(None, None, -(-size // _SIDE) or 1) for size in shape)


def _mean(counts: npt.NDArray[np.generic], field: FlatField | None) -> float:
    """Return the mean over the pixels that say something; not a number if there is none."""
    values = counts.astype(np.float64)
    known = np.isfinite(values)
    if field is not None:
        grid = _grid(field.gain.shape)
        # A pixel that sees no difference between flats and darks, a hot one, has no gain.
        known &= field.gain[grid] > 0
        values = (values - field.dark[grid]) * field.gain[grid]
    return float(values[known].mean()) if known.any() else np.nan


def ranges_of(numbers: npt.NDArray[np.integer]) -> Ranges:
    """Return single numbers as ranges."""
    return Ranges((number, number + 1) for number in numbers.tolist())


def numbers_of(ranges: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return the numbers in half-open ranges."""
    return np.array([number for first, last in ranges for number in range(first, last)], np.int64)


def without_beam_in_words(numbers: npt.NDArray[np.integer]) -> list[str]:
    """Return what is to be said of projections that are left out: a sentence, or nothing."""
    dark = dark_in_words(numbers)
    return [f"{dark.capitalize()}, and are left out."] if dark else []


def dark_in_words(numbers: npt.NDArray[np.integer]) -> str:
    """Return what is to be said of dark projections; empty if there are none."""
    return f"projections {in_words(ranges_of(numbers))} saw hardly any beam" if len(numbers) else ""


def thinned(
    numbers: npt.NDArray[np.integer], values: npt.NDArray[np.float64], *, highest: bool = False
) -> tuple[tuple[int, float], ...]:
    """Keep of each stretch the lowest value, or the highest, so that what is short is not thinned away."""
    pick = np.argmax if highest else np.argmin
    stretches = np.array_split(np.arange(len(values)), min(_POINTS, max(1, len(values))))
    picked = [part[pick(values[part])] for part in stretches if len(part)]
    return tuple((int(numbers[i]), float(f"{values[i]:.4g}")) for i in picked)


def _warning(numbers: npt.NDArray[np.integer], values: npt.NDArray[np.float64], low: float | None) -> str:
    return "" if low is None else dark_in_words(numbers[values < low])
