"""What the user is told about one scan."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tomolive.config import LiveSettings
from tomolive.live.analysis import analysis
from tomolive.live.documents.run import Scan, in_words
from tomolive.live.shown import Shown
from tomolive.live.snapshot import Change, Status, Trend
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


def status_of(
    watched: Watched | None, settings: LiveSettings, silence: float, more: Iterable[str] = ()
) -> Status:
    """Return what the page's top line says.

    Parameters
    ----------
    silence
        Seconds after which nothing heard is a problem.
    more
        What else the user should know.
    """
    if watched is None:
        return Status(updated=time.time(), filter=settings.filter, corrections=settings.corrections)
    scan = watched.scan
    tomogram: Shown | None = watched.tomogram
    trends = tomogram.trends(now=scan.closed) if tomogram else ()
    trends += analysis.trends(watched.findings)
    return Status(
        state=scan.state,
        run_uid=scan.run_uid,
        scan_id=scan.scan_id,
        sample=scan.sample,
        plan=scan.plan,
        frames_planned=scan.planned,
        frames_announced=len(scan.announced),
        frames_received=len(scan.received),
        missing=tuple(scan.missing),
        darks=scan.darks,
        flats=scan.flats,
        angle_first=scan.angle_first,
        angle_last=scan.angle_last,
        coverage=tomogram.coverage if tomogram else 0.0,
        coverage_wanted=tomogram.coverage_wanted if tomogram else scan.coverage_wanted,
        center=tomogram.center if tomogram else settings.center,
        center_source=tomogram.center_source if tomogram else "",
        filter=tomogram.filter if tomogram else settings.filter,
        pixel_size_um=scan.pixel_size_um,
        lag_s=watched.lag,
        seconds_last_frame_to_final=watched.to_final,
        message=_message(watched, silence, trends, more),
        updated=time.time(),
        trends=trends,
        corrections=tomogram.corrections if tomogram else settings.corrections,
        changes=tuple({change.what: change for change in watched.changes}.values()),
        volume_shape=tomogram.volume_shape if tomogram else None,
        candidates=watched.candidates,
        candidate_scores=watched.candidate_scores,
        refining=watched.refining,
    )


def _message(watched: Watched, silence: float, trends: Iterable[Trend], more: Iterable[str]) -> str:
    scan, tomogram = watched.scan, watched.tomogram
    if scan.failure:
        return _sentence(scan.failure)
    words = list(watched.words)
    if scan.unreadable:
        words.append(f"images cannot be read yet: {scan.unreadable}")
    if scan.missing:
        words.append(f"projections {in_words(scan.missing)} are missing: {scan.missing_because}")
    notes = tomogram.notes if tomogram else []
    # What is left out because it was dark is told of with that.
    words += [trend.warning for trend in trends if trend.warning and not _begins(notes, trend.warning)]
    words += notes
    silent = time.monotonic() - watched.heard
    if not scan.closed and silent > silence:
        words.append(f"nothing has come of this scan for {silent:.0f} s, and it has not ended")
    return " ".join(_sentence(word) for word in [*words, *more])


def _begins(notes: Iterable[str], words: str) -> bool:
    return any(note.startswith(f"{words.capitalize()},") for note in notes)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."
