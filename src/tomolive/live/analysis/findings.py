"""What the user's analyses see of each scan, and what becomes of what they find."""

import time
from collections.abc import Iterable, Sequence

import numpy as np

from tomolive.live.analysis.analysis import Analyses, Finding
from tomolive.live.analysis.input import AnalysisInput
from tomolive.live.followed import Watched
from tomolive.live.snapshot import VolumeProgress

_PATIENCE_S = 10.0
"""Results of a finished scan wait so long, at most, for the last findings."""


class ScanAnalyses:
    """The analyses of a live reconstruction, fed from its scans.

    Parameters
    ----------
    names
        Entry points of the group ``tomolive.analysis``, or ``module:function``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._analyses = Analyses(names)
        self._finals: dict[str, float] = {}
        """Scans whose last slices are with the analyses -> until when that is waited for."""
        self._volume: VolumeProgress | None = None
        """The last one that was shown."""
        self.troubles: list[str] = []
        """Which analyses are given up, and why: true whichever scan is shown."""

    def see_slices(self, watched: Watched, *, final: bool = False) -> None:
        """Show the slices of a scan to those that are idle, or for the last time to all."""
        tomogram, scan = watched.tomogram, watched.scan
        if tomogram is None or not (final or self._analyses.wants("slices")):
            return
        if final:
            self._finals[scan.run_uid] = time.monotonic() + _PATIENCE_S
        size = scan.pixel_size_um and scan.pixel_size_um * tomogram.corrections.binning
        material = AnalysisInput(
            "slices", scan.run_uid, tomogram.slices(), scan_id=scan.scan_id, sample=scan.sample,
            coverage_deg=tomogram.coverage, final=final, units=tomogram.units, pixel_size_um=size,
        )  # fmt: skip
        self._analyses.offer(material)

    def see_projections(self, watched: Watched, count: int) -> None:
        """Show the newest ``count`` projections, corrected, to those that want projections."""
        tomogram, scan = watched.tomogram, watched.scan
        if tomogram is None or not self._analyses.wants("projections"):
            return
        projections = tomogram.slices_of.projections
        if not projections.ready:
            return
        newest = np.arange(len(projections) - count, len(projections))
        size = scan.pixel_size_um and scan.pixel_size_um * tomogram.corrections.binning
        material = AnalysisInput(
            "projections", scan.run_uid, {"projections": projections.integrals(newest)},
            angles=tomogram.slices_of.angles[newest], numbers=projections.numbers[newest],
            scan_id=scan.scan_id, sample=scan.sample, coverage_deg=tomogram.coverage, pixel_size_um=size,
        )  # fmt: skip
        self._analyses.offer(material)

    def see_volume(self, progress: VolumeProgress | None) -> None:
        """Show a volume that is finished, once."""
        if progress is None or progress.state != "finished" or progress == self._volume:
            return
        self._volume = progress
        self._analyses.offer(AnalysisInput("volume", progress.run_uid, path=progress.path, final=True))

    def poll(self, known: Iterable[Watched]) -> tuple[bool, list[Watched]]:
        """Add what was found to the scans that it is about.

        Returns
        -------
        (news, about): whether anything was found or went wrong, and the scans that something was found of.
        """
        news = self._analyses.take()
        by_uid = {watched.scan.run_uid: watched for watched in known} if news else {}
        about: dict[str, Watched] = {}
        for one in news:
            watched = by_uid.get(one.run_uid)
            if isinstance(one, Finding):
                if watched:
                    watched.findings.append(one)
                    about[one.run_uid] = watched
            elif one.lasting:
                self.troubles.append(one.text)
            else:
                for told in [watched] if watched else by_uid.values():
                    told.tell(one.text)
        return bool(news), list(about.values())

    def is_awaited(self, watched: Watched) -> bool:
        """Whether the results of a finished scan should wait for its last findings."""
        until = self._finals.get(watched.scan.run_uid, 0.0)
        if time.monotonic() < until and self._analyses.is_busy_with(watched.scan.run_uid):
            return True
        self._finals.pop(watched.scan.run_uid, None)
        return False

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        self._analyses.close()
