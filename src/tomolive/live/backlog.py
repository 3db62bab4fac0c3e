"""Since when a document has been waiting, told from how many wait behind each."""

from collections import deque


class Backlog:
    """Estimates when each document became available, so that a lag counts the time that it waited.

    A slow consumer takes an old document in the moment it is handed out; what tells that it is late is how
    many newer ones were already there. Document number n became available, at the latest, when it was first
    known that more than n exist.
    """

    def __init__(self) -> None:
        self._taken = 0
        self._known: deque[tuple[int, float]] = deque()
        """(documents known to exist, since when), both growing."""

    def take(self, behind: int, now: float) -> float:
        """Take one document, behind which ``behind`` others wait; return since when it has been available."""
        self._taken += 1
        known = self._taken + behind
        if not self._known or known > self._known[-1][0]:
            self._known.append((known, now))
        while self._known[0][0] < self._taken:
            self._known.popleft()
        return self._known[0][1]
