"""How long to wait for a file that is late: with back-off, counted from the last sign of life."""

import time
from collections.abc import Callable, Hashable

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.1


class Patience:
    """Says whether to go on waiting, and how long to pause before the next look.

    Parameters
    ----------
    seconds
        Without a sign of life for so long, patience is exhausted.
    clock
        Monotonic time, seconds.

    Examples
    --------
    >>> now = 0.0
    >>> patience = Patience(10, clock=lambda: now)
    >>> now = 9.0; patience.look("file of 5 bytes"); now = 18.0; patience.exhausted
    False
    >>> patience.look("file of 5 bytes"); now = 19.5; patience.exhausted
    True
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sign: Hashable = None
        self.reset()

    def reset(self) -> None:
        """Begin to wait anew."""
        self._last_life = self._clock()
        self._pause = _FIRST_PAUSE

    def look(self, sign: Hashable) -> None:
        """Take note of a sign of life: anything that differs when the file has changed."""
        if sign != self._sign:
            self._sign = sign
            self.reset()

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life."""
        return self._clock() - self._last_life

    @property
    def exhausted(self) -> bool:
        """Whether the last sign of life is too long ago."""
        return self.silence >= self._seconds

    def pause(self) -> float:
        """Return the seconds to pause now; longer each time, until there is a sign of life."""
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return pause
