"""What the user is told about one scan."""

import time
from collections.abc import Iterable

from tomolive.config import LiveSettings
from tomolive.live.analysis import analysis
from tomolive.live.documents.run import in_words
from tomolive.live.followed import Watched
from tomolive.live.shown import Shown
from tomolive.live.snapshot import Status, Trend


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
        return Status(
            message=" ".join(map(_sentence, more)),
            updated=time.time(),
            filter=settings.filter,
            corrections=settings.corrections,
        )
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
