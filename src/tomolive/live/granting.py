"""What people at the page ask for is done, to the scan of which they ask it."""

from tomolive.errors import ScanError, TomoliveError
from tomolive.live.controls import Wish
from tomolive.live.endings import Endings
from tomolive.live.estimates import Estimates
from tomolive.live.followed import Followed, Watched
from tomolive.live.looks import Looks
from tomolive.live.publication import Publication
from tomolive.live.results.writing import Results
from tomolive.live.tomogram import Tomogram
from tomolive.live.volume_orders import VolumeOrders
from tomolive.live.wishes import Wishes, note_changes


class Granting:
    """Grants the wishes that have come."""

    def __init__(
        self,
        scans: Followed,
        wishes: Wishes,
        looks: Looks,
        publication: Publication,
        estimates: Estimates,
        endings: Endings,
        results: Results,
        orders: VolumeOrders | None,
    ) -> None:
        self._scans, self._wishes, self._looks = scans, wishes, looks
        self._publication = publication
        self._estimates, self._endings = estimates, endings
        self._results, self._orders = results, orders

    def grant(self) -> bool:
        """Do what has been asked for since the last call; return whether anything was."""
        return self._wishes.grant(self._grant)

    def _grant(self, wish: Wish) -> bool:
        """Do what is asked, or return False if that scan has no picture yet."""
        if wish.volume == "cancel" and wish.run_uid:
            self._cancel(wish)
            return True
        watched = self._asked_of(wish)
        if watched is None or watched.tomogram is None or not watched.tomogram.received:
            overtaken = watched is None and bool(wish.run_uid)
            self._wishes.end(*[wish] * overtaken)
            return overtaken
        try:
            if wish.volume is not None:
                self._order(watched, wish)
            if wish.candidates is not None:
                self._estimates.draw_strip(watched, wish, lambda: self._wishes.end(wish))
            if wish.redraws:
                self._drop_planes(watched.tomogram)
            watched.tomogram.change(wish)
        except TomoliveError as error:
            watched.tell(str(error))
            self._wishes.end(wish)
            return True
        note_changes(watched, wish)
        self._wishes.keep_for_later(wish)
        if wish.estimate_center:
            self._endings.refine(watched, lambda: self._wishes.end(wish))
        elif wish.candidates is None:
            self._wishes.end(wish)
        if wish.redraws:
            self._publication.redraw = True
            self._results.put_off(watched)
        self._publication.redraw |= wish.plane is not None
        return True

    def _cancel(self, wish: Wish) -> None:
        """Cancel the volume of the run that is named, which may be of a scan that is no longer held."""
        if self._orders is not None:
            self._orders.cancel(wish.run_uid)
        named = self._held(wish.run_uid)
        if named is not None:
            note_changes(named, wish)
        self._publication.retell = True
        self._wishes.end(wish)

    def _drop_planes(self, tomogram: Tomogram) -> None:
        """Let go of the planes that nobody looks at any more, which would be drawn again for nobody."""
        self._looks.forget_others(self._wishes.looked_at)
        growing = self._looks.growing(tomogram.volume_shape).values()
        tomogram.look(place for place in growing if tomogram.grows(place))

    def _order(self, watched: Watched, wish: Wish) -> None:
        if self._orders is None:
            raise ScanError("full volumes are not made here")
        if wish.volume == "start":
            self._orders.start(watched)
        else:  # of whichever scan is shown
            self._orders.cancel(watched.scan.run_uid)
        self._publication.retell = True

    def _asked_of(self, wish: Wish) -> Watched | None:
        """Return the scan to change: the one that the page showed, even if another is shown by now."""
        shown = self._scans.shown
        if not wish.run_uid:
            return shown
        named = self._held(wish.run_uid)
        if named is not None:
            return named
        what = f"run {wish.run_uid[:8]}"
        if wish.volume is not None:
            problem = f"no volume of {what} is begun: `tomolive reconstruct` makes it"
        elif wish.center is not None or wish.estimate_center:
            problem = f"the centre of {what} is as it was"
        else:
            return shown
        if shown:
            shown.tell(f"{problem}; its projections are no longer held")
        return None

    def _held(self, run_uid: str) -> Watched | None:
        held = self._scans.held(self._results.stale)
        return next((one for one in held if one.scan.run_uid == run_uid), None)
