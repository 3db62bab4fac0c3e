"""The shares of one field, put together: a field is shown and written as the `Tomogram` of one process is."""

import time
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings, LiveSettings
from tomolive.live.beam import numbers_of
from tomolive.live.controls import Wish
from tomolive.live.crew.messages import Orders, Report
from tomolive.live.crew.post import Post
from tomolive.live.documents.fields import ALIGNED, Field, check_corrections
from tomolive.live.documents.ranges import Ranges
from tomolive.live.documents.run import Scan
from tomolive.live.slices.planes import Place
from tomolive.live.slices.result_planes import ResultPlanes
from tomolive.live.snapshot import Trend, WorkerShare, parse_key, picture_key
from tomolive.live.tomogram import SLICES
from tomolive.recon.phase import reach
from tomolive.recon.slices import check_center
from tomolive.recon.stitching import Rows
from tomolive.recon.windows import check_filter

Pixels = npt.NDArray[np.float32]

_LOOKED_AT_S = 5.0
"""A picture that was not asked for for so long is not drawn any more."""


class Team:
    """The workers of one field.

    Parameters
    ----------
    field
        What they reconstruct.
    posts
        Their shares, from the top; they cover it.
    settings
        Centre, filter, corrections.
    scan
        What is known of the run; a copy is kept, with the frames that these workers have.
    """

    def __init__(self, field: Field, posts: list[Post], settings: LiveSettings, scan: Scan) -> None:
        check_corrections(field, settings.corrections)
        self.field, self.posts = field, posts
        self.filter, self.corrections = check_filter(settings.filter), settings.corrections
        self.given = None if settings.center is None else check_center(settings.center, field.shape[1])
        self.began_anew = 0
        """How often a share was begun anew because its worker had died."""
        self._run, self.scan = scan, copy(scan)
        self._center_by = ""
        self._estimates = 0
        self._projection: tuple[int, Pixels, str] | None = None
        self._fitted = self.volume_shape
        self._planes = ResultPlanes(self._fitted, self.corrections.binning)
        self._looked: dict[str, float] = {}

    # -- what workers are told ------------------------------------------------------------------------------

    def change(self, wish: Wish) -> None:
        """Do what someone at the page asks for.

        Raises
        ------
        ReconstructionError
            if it cannot be done; nothing is changed then.
        """
        center = None if wish.center is None else check_center(wish.center, self.field.shape[1])
        filter_ = None if wish.filter is None else check_filter(wish.filter)
        if wish.corrections is not None:
            check_corrections(self.field, wish.corrections)
            self._correct(wish.corrections)
        if wish.plane in SLICES and wish.position is not None:
            self._planes.move(wish.plane, wish.position)
        if wish.estimate_center:
            self.given, self._center_by, self._estimates = None, "", self._estimates + 1
        if center is not None:
            self.given, self._center_by = center, f"set by {wish.who}" if wish.who else "set on the page"
        self.filter = filter_ or self.filter

    def _correct(self, corrections: CorrectionSettings) -> None:
        """Have other corrections; shares that lack rows for them are begun anew, with more."""
        self.corrections = corrections
        self._fit(self.volume_shape)
        for post in self.posts:
            needed = taken(post.share.rows, self.field.shape[0], corrections)
            if needed[0] < post.share.taken[0] or needed[1] > post.share.taken[1]:
                update = {"filter": self.filter, "corrections": corrections}
                settings = post.share.settings.model_copy(update=update)
                post.share = replace(post.share, taken=needed, settings=settings)
                post.begin_anew()

    def _fit(self, shape: tuple[int, int, int]) -> None:
        """Leave the planes of the results where they are, in a volume of another size."""
        self._fitted = shape
        self._planes.fit(shape, self.corrections.binning)

    def orders(self, post: Post) -> Orders:
        """Return what is wanted of a share now."""
        now = time.monotonic()
        self._looked = {key: seen for key, seen in self._looked.items() if now - seen < _LOOKED_AT_S}
        center = self.given if post.share.leads else self.center
        came = self.scan.received.end
        return Orders(
            center, self.filter, self.corrections, self._estimates, self._left_out,
            dict(self._planes.positions),
            tuple(sorted(self._looked)), came - 1 if came else None, post.have,
        )  # fmt: skip

    def hear(self, post: Post, report: Report) -> bool:
        """Take what a share reports; return whether that is news."""
        news = post.hear(report)
        if (shape := self.volume_shape) != self._fitted:  # a half acquisition is wider
            self._fit(shape)
        self._count()
        return news

    def _count(self) -> None:
        """Have the scan tell of the frames that all workers have, and of those that one of them lacks."""
        scan, reports = self.scan, self.reports
        scan.stop = self._run.stop
        scan.missing = Ranges(span for report in reports for span in report.missing)
        scan.missing_because = next((r.missing_because for r in reports if r.missing), "")
        lead = self.lead
        if len(reports) < len(self.posts) or lead is None:
            scan.received = Ranges()
            return
        received = Ranges(reports[0].received)
        for report in reports[1:]:
            received = received.without(received.without(Ranges(report.received)))
        scan.received = received
        scan.darks, scan.flats = (min(getattr(r, kind) for r in reports) for kind in ("darks", "flats"))
        scan.angle_first, scan.angle_last = lead.angle_first, lead.angle_last
        if len(received) or scan.darks or scan.flats:
            kind = "projection" if len(received) else "flat" if scan.flats else "dark"
            scan.received_frames(kind, 0)
        scan.unreadable = next((report.unreadable for report in reports if report.unreadable), "")

    # -- how far they are -----------------------------------------------------------------------------------

    @property
    def workers(self) -> tuple[WorkerShare, ...]:
        """Who does what."""
        return tuple(
            WorkerShare(
                f"{post.report.worker if post.report else 'starting'} {self.field.name}",
                post.share.rows,
                post.report.count if post.report else 0,
                post.state,
            )
            for post in self.posts
        )

    @property
    def reports(self) -> list[Report]:
        """The last report of each share that has made one."""
        return [post.report for post in self.posts if post.report]

    @property
    def lead(self) -> Report | None:
        """The report of the share that finds the centre."""
        return self.posts[len(self.posts) // 2].report

    @property
    def failure(self) -> str:
        """Why it cannot go on, or an empty string."""
        return next((report.failure for report in self.reports if report.failure), "")

    @property
    def is_done(self) -> bool:
        """Whether every share is final, with the centre, filter and corrections in force."""
        return all(self._is_final(post) for post in self.posts)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be expected of it: each share is final, or has failed."""
        return self.is_done or (bool(self.failure) and all(post.is_over for post in self.posts))

    def _is_final(self, post: Post) -> bool:
        report, followed, wanted = post.report, post.followed, self.orders(post)
        if report is None or not report.ended or followed.positions != wanted.positions:
            return False
        found = (report.center, report.filter, report.corrections, followed.estimate, report.without_beam)
        right = (self.center, self.filter, self.corrections, wanted.estimate, self._left_out)
        return not report.count or found == right

    @property
    def _left_out(self) -> tuple[Rows, ...]:
        return self.lead.without_beam if self.lead else ()

    # -- what there is, as a Tomogram has it ----------------------------------------------------------------

    @property
    def received(self) -> int:
        """Projections that are in every row."""
        return len(self.scan.received) - len(self.without_beam)

    @property
    def without_beam(self) -> npt.NDArray[np.int64]:
        """Numbers of the projections that are left out."""
        return numbers_of(self._left_out)

    @property
    def coverage(self) -> float:
        """Degrees of the half turn that they cover."""
        whole = len(self.reports) == len(self.posts)
        return min(report.coverage for report in self.reports) if whole else 0.0

    @property
    def coverage_wanted(self) -> float:
        """Degrees that the complete scan covers."""
        lead = self.lead.coverage_wanted if self.lead else 180.0
        return lead if lead > 180 else self.scan.coverage_wanted

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Rows, columns, columns of the volume that slices are of."""
        rows, columns = (size // self.corrections.binning for size in self.field.shape)
        lead = self.lead
        if lead and lead.columns and lead.corrections.binning == self.corrections.binning:
            columns = lead.columns  # of a half acquisition there are more
        return rows, columns, columns

    @property
    def center(self) -> float | None:
        """Rotation centre in force, column of the field."""
        if self.given is not None:
            return self.given
        return self.lead.center if self.lead else None

    @property
    def center_source(self) -> str:
        """How it was found."""
        if self._center_by or self.given is not None:
            return self._center_by or "given"
        return self.lead.center_source if self.lead else ""

    @property
    def positions(self) -> dict[str, int]:
        """Where the slices lie: z, y, x."""
        return dict(self._planes.positions)

    @property
    def notes(self) -> list[str]:
        """What was assumed, in plain sentences."""
        first = [self.lead] if self.lead else []
        words = [note for report in (*first, *self.reports) for note in report.notes]
        if self.began_anew:
            words.append(f"A worker died; {self.began_anew} of its shares were begun anew.")
        return list(dict.fromkeys(words))

    @property
    def units(self) -> str:
        """Of a pixel of a slice."""
        return "1/cm" if self.scan.pixel_size_um else "1/pixel"

    def trends(self, *, now: bool = False) -> tuple[Trend, ...]:  # noqa: ARG002  as a Tomogram has it
        """Return what tells whether the scan is worth going on with, as the rows in the middle tell it."""
        return self.lead.trends if self.lead else ()

    def finish(self) -> bool:
        """Workers make their slices final by themselves; return that nothing has changed."""
        return False

    def look(self, places: Iterable[Place]) -> None:
        """Have workers draw these planes, as long as they are asked for."""
        now = time.monotonic()
        self._looked |= {picture_key(plane, *at): now for plane, at in places}

    def grows(self, place: Place) -> bool:
        """Whether workers have drawn a plane; what they draw they draw beside the pictures."""
        return any(picture_key(place[0], *place[1]) in post.pictures for post in self.posts)

    def keep_sinograms(self, rows: set[int]) -> None:
        """Have workers draw the sinograms of these rows."""
        self.look(("sinogram", (float(row),)) for row in rows)

    def slices(self, positions: Mapping[str, int] | None = None) -> dict[str, Pixels]:  # noqa: ARG002
        """Return the three slices of the results in `units`; rows not reported are not a number."""
        return {plane: self._assembled(plane) for plane in SLICES}

    def picture(self, place: Place) -> Pixels:
        """Return one plane in `units`; what has not been reported is not a number."""
        if place in self._planes.places:
            return self._assembled(place[0])
        self.look([place])
        return self._assembled(picture_key(place[0], *place[1]))

    def sinogram(self, row: int) -> Pixels | None:
        """Return the line integrals of a row, a line for each projection; None if there are none yet."""
        key = picture_key("sinogram", float(row))
        return next((post.pictures[key] for post in self.posts if key in post.pictures), None)

    def projection(self) -> tuple[int, Pixels, str] | None:
        """Return number, pixels and units of the newest projection that all workers have."""
        pieces = [(post.projection, post.pictures.get("projection")) for post in self.posts]
        told = pieces[0][0]
        if told is None or any(pixels is None or one != told for one, pixels in pieces):
            return self._projection
        bands = [pixels for _, pixels in pieces if pixels is not None]
        self._projection = told[0], np.concatenate(bands), told[1]
        return self._projection

    def _assembled(self, key: str) -> Pixels:
        """Return a picture of the volume from what the shares have of it."""
        plane, _ = parse_key(key)
        rows, columns, _ = self.volume_shape
        pieces = [(post, post.pictures[key]) for post in self.posts if key in post.pictures]
        if plane in ("xz", "yz"):
            whole = np.full((rows, columns), np.nan, np.float32)
            for post, pixels in pieces:
                first = post.share.rows[0] // self.corrections.binning
                if pixels.shape[1] == columns and first + len(pixels) <= rows:
                    whole[first : first + len(pixels)] = pixels
            return whole
        fitting = [pixels for _, pixels in pieces if pixels.shape == (columns, columns)]
        if not fitting:
            return np.full((columns, columns), np.nan, np.float32)
        # an oblique plane is the sum of what each band of rows adds to it
        return np.asarray(np.sum(fitting, axis=0), np.float32)

    def about(self) -> dict[str, Any]:
        """Return what else there is to say in summary.json: who did it, and of which cameras."""
        return {
            "camera": self.field.name,
            "tiles": self._tiles(),
            "workers": [f"{w.name}, rows {w.rows[0]} to {w.rows[1] - 1}" for w in self.workers],
            "shares_begun_anew": self.began_anew,
        }

    def _tiles(self) -> dict[str, dict[str, int]]:
        """Return where the cameras lie in the field, if there are several."""
        if not self.field.is_joined:
            return {}
        placed = zip(self.field.cameras, self.field.mosaic.tiles, strict=True)
        return {camera: {"row": tile.row, "column": tile.column} for camera, tile in placed}


def taken(own: Rows, rows: int, corrections: CorrectionSettings) -> Rows:
    """Return the rows that a share keeps: its own, and those beside them that corrections need."""
    # as many as the largest binning needs, so that zingers and binning can be chosen while a scan runs
    around = ALIGNED
    if (phase := corrections.paganin) is not None:
        around += reach(
            energy_kev=phase.energy_kev,
            distance_m=phase.distance_m,
            pixel_size_m=phase.pixel_size_um * 1e-6,
            delta_beta=phase.delta_beta,
        )
    return max(0, own[0] - around), min(rows, own[1] + around)
