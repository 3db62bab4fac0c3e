"""Sets of frame numbers, as sorted half-open ranges: what was announced, what came, what is missing."""

from collections.abc import Iterable, Iterator


class Ranges:
    """A set of whole numbers that grows and shrinks by ranges ``[first, last)``.

    >>> seen = Ranges([(0, 4)])
    >>> seen.add(2, 6)
    [(4, 6)]
    >>> list(seen), len(seen)
    ([(0, 6)], 6)
    """

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return sum(last - first for first, last in self._ranges)

    @property
    def end(self) -> int:
        """One past the largest number; 0 for the empty set."""
        return self._ranges[-1][1] if self._ranges else 0

    def end_before(self, number: int) -> int:
        """Return one past the largest number below ``number``; 0 if there is none.

        >>> Ranges([(0, 4), (6, 9)]).end_before(5)
        4
        """
        return max((min(last, number) for first, last in self._ranges if first < number), default=0)

    def gaps(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the parts of ``[first, last)`` that are not in the set."""
        gaps = []
        for a, b in self._ranges:
            if b <= first:
                continue
            if a >= last:
                break
            if a > first:
                gaps.append((first, a))
            first = max(first, b)
        if first < last:
            gaps.append((first, last))
        return gaps

    def add(self, first: int, last: int) -> list[tuple[int, int]]:
        """Add ``[first, last)``; return the parts that are new."""
        new = self.gaps(first, last)
        if not new:
            return []
        if self._ranges and first < self._ranges[-1][1]:
            self._ranges = _merged([*self._ranges, *new])
        elif self._ranges and first == self._ranges[-1][1]:
            self._ranges[-1] = (self._ranges[-1][0], last)
        else:
            self._ranges.append((first, last))
        return new

    def discard(self, first: int, last: int) -> None:
        """Take ``[first, last)`` out."""
        kept = []
        for a, b in self._ranges:
            kept += [(lo, hi) for lo, hi in ((a, min(b, first)), (max(a, last), b)) if lo < hi]
        self._ranges = kept

    def without(self, *others: "Ranges") -> "Ranges":
        """Return what is here and in none of ``others``."""
        rest = Ranges(self._ranges)
        for other in others:
            for first, last in other:
                rest.discard(first, last)
        return rest


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
