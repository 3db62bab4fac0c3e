"""How a scan ends: final slices, a refined centre, the last findings, its results."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from tomolive.live.analysis.findings import ScanAnalyses
from tomolive.live.estimates import Estimates
from tomolive.live.followed import Followed, Watched
from tomolive.live.publication import Publication
from tomolive.live.results.writing import Results
from tomolive.live.volume_orders import VolumeOrders

_PAUSE_S = 0.05


class Endings:
    """Makes the pictures of scans final, and has their results written once all is known of them.

    Parameters
    ----------
    awaits_references
        Whether darks and flats of an earlier run are still looked for, for a scan.
    may_fail
        Guards what is done to a scan.
    show
        Shows a scan at once, if the page tells of it.
    """

    def __init__(
        self,
        scans: Followed,
        publication: Publication,
        estimates: Estimates,
        analyses: ScanAnalyses,
        results: Results,
        orders: VolumeOrders | None,
        awaits_references: Callable[[Watched], bool],
        may_fail: Callable[[Watched], AbstractContextManager[None]],
        show: Callable[[Watched], None],
    ) -> None:
        self._scans, self._publication = scans, publication
        self._estimates, self._analyses = estimates, analyses
        self._results, self._orders = results, orders
        self._awaits_references = awaits_references
        self._may_fail, self._show = may_fail, show
        self._closing = False

    def finish(self, watched: Watched) -> None:
        """Make the pictures of a scan final, and show them at once; its centre is refined beside that."""
        if watched.tomogram is None or watched.scan.failure:
            return
        if watched.fresh:
            # The centre may be refined now, which takes a while: the last frame is shown before.
            self._show(watched)
        with self._may_fail(watched):
            if watched.tomogram.finish(refine=False):
                self._publication.redraw = True
                self.refine(watched)
                if not watched.refining:
                    self._be_final(watched)

    def refine(self, watched: Watched, granted: Callable[[], None] | None = None) -> None:
        """Have the centre refined, if that can be done; slices are final then.

        ``granted`` is called afterwards if it was asked for at the page.
        """

        def refined(moved: bool) -> None:
            if granted:
                granted()
                if moved:
                    self._results.put_off(watched)
            else:
                self._be_final(watched)
            if watched in self._scans.ending:
                self._scans.ending.remove(watched)
                self.write(watched)

        if not self._estimates.refine(watched, refined) and granted:
            granted()

    def write(self, watched: Watched) -> None:
        """Write the results of a scan, now or once its centre is refined and it has been analysed."""
        if self._is_awaited(watched):
            if watched not in self._scans.ending:
                self._scans.ending.append(watched)
        elif watched.scan.takes_projections:
            known = [*self._scans.held(self._results.stale), watched]
            self._publication.retell |= self._analyses.poll(known)[0]
            self._results.write(watched)
            if self._orders:
                self._orders.scan_ended(watched)

    def poll(self) -> bool:
        """Take what analyses have found, and write results that waited for it; return whether any came."""
        ending = self._scans.ending
        ready = [watched for watched in ending if not self._is_awaited(watched)]
        news, about = self._analyses.poll(self._scans.held(self._results.stale))
        for watched in about:
            if watched.ended and watched not in ending:  # its results were not kept waiting for this
                self._results.put_off(watched)
        for watched in ready:
            ending.remove(watched)
            self.write(watched)
        return news

    def wait(self) -> None:
        """Wait, not for long, for refined centres and last findings; write the results that wait for them."""
        self._closing = True
        for watched in list(self._scans.ending):
            self._estimates.wait_for_centre(watched)
        self._estimates.close()
        while self._scans.ending:
            self.poll()
            if self._scans.ending:
                time.sleep(_PAUSE_S)

    def _is_awaited(self, watched: Watched) -> bool:
        if not self._closing and self._awaits_references(watched):
            return True
        return watched.refining or self._analyses.is_awaited(watched)

    def _be_final(self, watched: Watched) -> None:
        """Show slices that are those of all projections of a scan, and note how long they took."""
        self._estimates.judge(watched, last=True)
        self._analyses.see_slices(watched, final=True)
        self._show(watched)
        if watched.announced is not None and watched.to_final is None:
            watched.to_final = time.monotonic() - watched.announced
            self._publication.retell = True
