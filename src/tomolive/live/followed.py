"""The scans that are followed."""

from collections.abc import Iterable

from tomolive.live.status import Watched


class Followed:
    """Which scans are under way, told of, shown, and about to be written.

    Attributes
    ----------
    open : dict
        Scans of which more is awaited, by the uid of the run.
    current : Watched, optional
        The scan that the status tells of.
    shown : Watched, optional
        The scan whose pictures are shown: the current one, or the one before until its first picture.
    ending : list
        Scans that have ended, and whose centre is being refined or whose last findings are awaited.
    """

    def __init__(self) -> None:
        self.open: dict[str, Watched] = {}
        self.current: Watched | None = None
        self.shown: Watched | None = None
        self.ending: list[Watched] = []

    def held(self, more: Iterable[Watched]) -> list[Watched]:
        """Return the scans whose projections are held, and ``more``, each once."""
        shown = [self.shown] if self.shown else []
        held = (*self.open.values(), *more, *self.ending, *shown)
        return list({id(w): w for w in held}.values())
