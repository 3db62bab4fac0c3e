"""When the results of a scan are written: at its end, and again after a change to what they show."""

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tomolive.live.analysis import analysis
from tomolive.live.documents.run import Scan
from tomolive.live.followed import Watched
from tomolive.live.results.documents import Emit, emit_slices
from tomolive.live.results.files import write_results
from tomolive.live.results.summary import summarize
from tomolive.live.shown import Shown

log = logging.getLogger(__name__)

QUIET_S = 1.0
"""Results are written again so long after the last change."""


class Results:
    """The folder of results, and the scans whose results are behind what the page shows.

    Parameters
    ----------
    folder
        See :mod:`tomolive.live.results.files`.
    emit
        Takes the documents that announce them, see :mod:`tomolive.live.results.documents`; None: nobody does.
    """

    def __init__(self, folder: Path, emit: Emit | None = None) -> None:
        self._folder, self._emit = folder, emit
        self._stale: dict[str, Watched] = {}

    @property
    def stale(self) -> list[Watched]:
        """Scans that have changed since their results were written."""
        return list(self._stale.values())

    def put_off(self, watched: Watched) -> None:
        """Write the results again, if they have been, once nothing has been changed for a while."""
        if not (watched.scan.closed or watched.silent):
            return
        watched.stale_since = time.monotonic()
        self._stale[watched.scan.run_uid] = watched

    def write_stale(self, quiet: float | None = None) -> bool:
        """Write what has not changed for ``quiet`` seconds, by default `QUIET_S`; return whether any was."""
        since = time.monotonic() - (QUIET_S if quiet is None else quiet)
        due = [w for w in self.stale if w.stale_since is not None and w.stale_since <= since]
        for watched in due:
            if watched.scan.closed or watched.silent:
                self.write(watched)
            else:  # more of it has come: its end will write it
                del self._stale[watched.scan.run_uid]
        return bool(due)

    def write(self, watched: Watched) -> None:
        """Write the results of a scan; what goes wrong is told on the page."""
        scan = watched.scan
        tomogram: Shown | None = watched.tomogram
        watched.stale_since = None
        self._stale.pop(scan.run_uid, None)
        try:
            if tomogram and not scan.failure:
                tomogram.finish()
            positions = _positions(watched)
            slices = tomogram.slices(positions) if tomogram else {}
            summary = summarize(scan, tomogram, watched.to_final, positions)
            if watched.lags:
                summary["lag_s"] = {"median": median(watched.lags), "most": max(watched.lags)}
            summary["changes"] = [asdict(change) for change in watched.changes]
            if watched.findings:
                summary["analysis"] = analysis.events(watched.findings)
            path = write_results(self._folder, summary, slices, title=_title(scan, summary))
            log.info("results of run %s are in %s", scan.run_uid, path.parent)
            if self._emit is not None and watched.ended:
                self._announce(watched, path, self._emit)
        except Exception as error:
            log.exception("results of run %s could not be written", scan.run_uid)
            watched.tell(f"Results could not be written: {error}")

    def _announce(self, watched: Watched, path: Path, emit: Emit) -> None:
        """Emit what was written last as a run of its own."""
        summary = json.loads(path.read_text())
        trends = watched.tomogram.trends(now=True) if watched.tomogram else ()
        found = summary.get("analysis", ())
        uid = emit_slices(emit, summary, self._folder, changes=watched.changes, trends=trends, analysis=found)
        log.info("the result of run %s is run %s", watched.scan.run_uid, uid)


def _positions(watched: Watched) -> dict[str, int] | None:
    """Return where the slices lay when the scan ended; where they lie now if pixels are binned since."""
    if watched.positions is None or watched.tomogram is None:
        return watched.positions
    sizes: dict[str, int] = dict(zip(("xy", "xz", "yz"), watched.tomogram.volume_shape, strict=True))
    inside = all(at < sizes[plane] for plane, at in watched.positions.items())
    return watched.positions if inside else watched.tomogram.positions


def _title(scan: Scan, summary: dict[str, Any]) -> str:
    name = f"scan {scan.scan_id}" if scan.scan_id is not None else scan.run_uid[:8]
    frames = f"{len(scan.received)} of {scan.planned or len(scan.announced)} projections"
    turn = f"{summary['coverage_deg']:.4g} of {scan.coverage_wanted:.4g} degrees"
    return "   ".join(part for part in (name, scan.sample, scan.run_uid[:8], frames, turn) if part)
