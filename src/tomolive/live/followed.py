"""The scans that are followed, and what is known of each beside its documents."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tomolive.live.analysis import analysis
from tomolive.live.documents.run import Scan
from tomolive.live.snapshot import Change
from tomolive.live.tomogram import Tomogram

_WORDS = 4


@dataclass(eq=False)
class Watched:
    """One scan that is being followed, or was the last one."""

    scan: Scan
    tomogram: Tomogram | None = None
    heard: float = field(default_factory=time.monotonic)
    """When its last document or frame came."""
    announced: float | None = None
    """Since when the document that announced the newest projections has been there."""
    came: bool = False
    """Projections have come since its centre was last estimated."""
    fresh: bool = False
    """Projections have come that no picture holds."""
    lag: float | None = None
    lags: list[float] = field(default_factory=list)
    """All of them, seconds."""
    to_final: float | None = None
    words: list[str] = field(default_factory=list)
    """The newest problems."""
    silent: bool = False
    """Results were written because nothing came any more; whatever comes after all makes this False."""
    positions: dict[str, int] | None = None
    """Where the slices of its results lie once it has ended; looking around then does not move them."""
    stale_since: float | None = None
    """When it was last changed after its results were written."""
    changes: list[Change] = field(default_factory=list)
    """All of them, oldest first."""
    refining: bool = False
    """All projections are there, and the centre is being refined."""
    ended: bool = False
    """Nothing more is awaited; its results are written once its centre is refined."""
    early_asked: float = 60.0
    """Degrees at which its centre was last asked for before two projections were opposite."""
    candidates: tuple[float, ...] = ()
    candidate_scores: tuple[float, ...] = ()
    findings: list[analysis.Finding] = field(default_factory=list)
    """Of the user's own analyses, oldest first."""

    def note_lag(self, seconds: float) -> float:
        """Note how old the newest projection was when a picture showed it."""
        self.lag, self.fresh = seconds, False
        self.lags.append(seconds)
        return seconds

    def tell(self, problem: str) -> None:
        """Have the status tell of a problem, and of the few before it."""
        self.words = [*self.words[-_WORDS:], problem]


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
