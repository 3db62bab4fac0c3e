"""The master of a crew: gives rows of each camera to workers, and puts together what they report."""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tomolive.config import LiveSettings
from tomolive.live.crew.engines import Answer, Engine
from tomolive.live.crew.share import UPRIGHT, Orders, Report, Share, Source
from tomolive.live.ranges import Ranges
from tomolive.live.rules import Rules
from tomolive.live.snapshot import WorkerShare
from tomolive.recon.slices import check_center
from tomolive.recon.windows import check_filter

log = logging.getLogger(__name__)

_ASK_EVERY_S = 0.2
_LEAST_ROWS = 8
_MOST_LOST = 5
"""Workers that one share may cost before it is given up."""


@dataclass(eq=False)
class _Place:
    """A share, who does it, and the last that was heard of it."""

    share: Share
    number: int
    leads: bool
    answer: Answer | None = None
    report: Report | None = None
    asked: float = 0.0
    lost: int = 0
    """How many workers died of it, or with it."""


class Crew:
    """The reconstruction of one scan by several workers.

    The rows of each camera are cut into as many bands as there are workers. One band of each camera, the one
    in the middle, finds the rotation centre; the others follow it.

    Parameters
    ----------
    run_uid
        The scan.
    cameras
        Data key of each camera -> (rows, columns) of its frames.
    source, rules
        What each worker reads documents and frames with.
    engine
        Who the workers are.
    settings
        Centre, filter, corrections.
    """

    def __init__(
        self,
        run_uid: str,
        cameras: Mapping[str, tuple[int, int]],
        *,
        source: Source,
        engine: Engine,
        settings: LiveSettings,
        rules: Sequence[Rules] = (),
    ) -> None:
        self.run_uid, self.cameras = run_uid, dict(cameras)
        self._engine = engine
        self.replaced = 0
        """How often a share was begun anew because its worker had died."""
        self.filter = settings.filter
        self.centers: dict[str, float | None] = dict.fromkeys(cameras, settings.center)
        self._places: list[_Place] = []
        crew = uuid.uuid4().hex
        for camera, (rows, columns) in cameras.items():
            bands = _bands(rows, engine.size)
            lead = len(bands) // 2
            for number, band in enumerate(bands):
                leads = number == lead and settings.center is None
                middle = (columns - 1) / 2
                share = Share(
                    run_uid, camera, band, source, tuple(rules), None if leads else settings.center or middle,
                    filter=settings.filter, corrections=settings.corrections, threads=settings.threads,
                    crew=crew,
                )  # fmt: skip
                self._places.append(_Place(share, number, leads))

    def step(self) -> bool:
        """Ask workers and hear their answers; return whether any has news."""
        news = False
        for place in self._places:
            if place.answer is not None and place.answer.done():
                answer, place.answer = place.answer, None
                news |= self._hear(place, answer)
            failed = place.report is not None and place.report.failure
            if place.answer is None and not failed and time.monotonic() - place.asked > _ASK_EVERY_S:
                place.asked = time.monotonic()
                place.answer = self._engine.ask(place.number, place.share, self._orders(place))
        return news

    def set_center(self, camera: str, center: float) -> None:
        """Have all shares of a camera drawn about ``center`` from now on.

        Raises
        ------
        ReconstructionError
            if it lies outside the detector.
        """
        self.centers[camera] = check_center(center, self.cameras[camera][1])

    def set_filter(self, name: str) -> None:
        """Have all shares filtered with ``name`` from now on.

        Raises
        ------
        ReconstructionError
            if there is no such filter.
        """
        self.filter = check_filter(name)

    # -- what there is --------------------------------------------------------------------------------------

    @property
    def workers(self) -> tuple[WorkerShare, ...]:
        """Who does what."""
        return tuple(
            WorkerShare(
                f"{place.report.worker if place.report else 'starting'} {place.share.camera}",
                place.share.rows,
                place.report.received if place.report else 0,
                _state(place.report),
            )
            for place in self._places
        )

    @property
    def is_done(self) -> bool:
        """Whether every share is final, with the centre and the filter in force."""
        return all(self._is_final(camera) for camera in self.cameras)

    @property
    def failure(self) -> str:
        """Why it cannot go on, or an empty string."""
        return next((r.failure for r in self.reports if r.failure), "")

    def received(self, camera: str) -> int:
        """Return the projections that are in every row of a camera's slices."""
        places = self._of(camera)
        return min((place.report.received if place.report else 0 for place in places), default=0)

    def missing(self, camera: str) -> tuple[tuple[int, int], ...]:
        """Return the half-open ranges of projections that at least one share lacks."""
        reports = [place.report for place in self._of(camera)]
        return tuple(Ranges(span for report in reports if report for span in report.missing))

    def lead(self, camera: str) -> Report | None:
        """Return the report of the share that finds the centre of a camera."""
        places = self._of(camera)
        return places[len(places) // 2].report

    def center(self, camera: str) -> float | None:
        """Return the rotation centre in force."""
        given = self.centers[camera]
        if given is not None:
            return given
        lead = self.lead(camera)
        return lead.center if lead else None

    def pictures(self, camera: str) -> dict[str, npt.NDArray[np.float32]]:
        """Return the slices of a camera; rows that have not been reported are not a number."""
        rows, columns = self.cameras[camera]
        pictures = {plane: np.full((rows, columns), np.nan, np.float32) for plane in UPRIGHT}
        for place in self._of(camera):
            first, last = place.share.rows
            for plane, pixels in (place.report.pictures if place.report else {}).items():
                if plane in UPRIGHT:
                    pictures[plane][first:last] = pixels
                else:
                    pictures[plane] = pixels
        return pictures

    # -- workers --------------------------------------------------------------------------------------------

    def _orders(self, place: _Place) -> Orders:
        camera = place.share.camera
        center = self.centers[camera]
        if center is None and not place.leads:
            center = self.center(camera)
        return Orders(center, self.filter, slice_row=self.cameras[camera][0] // 2)

    def _hear(self, place: _Place, answer: Answer) -> bool:
        try:
            report = answer.result()
        except self._engine.lost as error:
            return self._lost(place, error)
        except Exception as error:  # whatever is wrong with one share, the others are to be heard
            log.exception("share %s", place.share.name)
            place.report = Report("nobody", failure=f"{type(error).__name__}: {error}")
            return True
        if place.report and report.worker != place.report.worker:
            self.replaced += 1
            log.warning("%s is done anew by %s", place.share.name, report.worker)
            self._engine.replace(place.number)
        before, place.report = place.report, report
        return before is None or (before.received, before.center, before.ended, before.filter) != (
            report.received, report.center, report.ended, report.filter,
        )  # fmt: skip

    def _lost(self, place: _Place, error: BaseException) -> bool:
        place.lost += 1
        if place.lost > _MOST_LOST:
            place.report = Report(
                "nobody", failure=f"{place.lost} workers died of {place.share.name}: {error}"
            )
            return True
        log.warning("the worker of %s is gone (%s); another one begins it anew", place.share.name, error)
        self.replaced += 1
        place.report, place.asked = None, 0.0
        self._engine.replace(place.number)
        return True

    def _is_final(self, camera: str) -> bool:
        reports = [place.report for place in self._of(camera)]
        if not all(report and report.ended for report in reports):
            return False
        wanted = (self.center(camera), self.filter)
        return all((r.center, r.filter) == wanted for r in reports if r and r.received)

    def _of(self, camera: str) -> list[_Place]:
        return [place for place in self._places if place.share.camera == camera]

    @property
    def reports(self) -> list[Report]:
        """The last report of each share that has made one."""
        return [place.report for place in self._places if place.report]


def _state(report: Report | None) -> str:
    if report is None:
        return "starting"
    if report.failure:
        return "failed"
    return "finished" if report.ended else "working"


def _bands(rows: int, count: int) -> list[tuple[int, int]]:
    """Cut rows into at most ``count`` bands of nearly the same height.

    >>> _bands(100, 3)
    [(0, 33), (33, 67), (67, 100)]
    """
    count = max(1, min(count, rows // _LEAST_ROWS))
    edges = np.linspace(0, rows, count + 1).round().astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges)]
