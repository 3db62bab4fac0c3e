"""What people at the page ask for: which wish is meant for which scan, and what is still to be done."""

import time
from collections.abc import Callable, Iterable
from typing import Any, get_args

from tomolive.config import CorrectionSettings, LiveSettings
from tomolive.live.controls import Controls, Wish
from tomolive.live.followed import Watched
from tomolive.live.snapshot import Change
from tomolive.live.tomogram import SLICES

_BINNINGS: tuple[int, ...] = get_args(CorrectionSettings.model_fields["binning"].annotation)


class Wishes:
    """Wishes on their way from the page to a scan.

    Filter, corrections and positions also hold for later scans, a centre does not.

    Attributes
    ----------
    settings : LiveSettings
        Those in force for the scans to come.
    positions : dict
        Where slices of the results shall lie in the scans to come.
    """

    def __init__(self, controls: Controls, settings: LiveSettings) -> None:
        self._controls = controls
        self.settings = settings
        self.positions: dict[str, int] = {}
        self._waiting: list[Wish] = []
        """Those that wait for the first picture of their scan."""
        self._ended: list[Wish] = []

    def grant(self, grant: Callable[[Wish], bool]) -> bool:
        """Have the newest wishes granted; return whether any was.

        ``grant`` returns False if the scan that a wish is for has no picture yet: the wish waits for it.
        """
        came = [*self._waiting, *self._controls.take()]
        wishes = newest(came)
        kept = set(map(id, wishes))
        self._ended += [wish for wish in came if id(wish) not in kept]
        self._waiting = [wish for wish in wishes if not grant(wish)]
        return len(self._waiting) < len(wishes)

    def end(self, *wishes: Wish) -> None:
        """Note that the next picture shows what these asked for, or the next status why not."""
        self._ended += wishes

    def shown(self) -> None:
        """Note that what has ended is shown by now."""
        self._controls.done(self._ended)
        self._ended.clear()

    @property
    def looked_at(self) -> frozenset[str]:
        """Keys of the pictures that at least one viewer looks at."""
        return self._controls.looked_at

    def settings_for(self, shape: tuple[int, int]) -> tuple[LiveSettings, str]:
        """Return the settings for a scan with frames of ``shape``, and what of them cannot be, in words."""
        corrections = self.settings.corrections
        wanted, most = corrections.binning, max(1, *(b for b in _BINNINGS if b <= min(shape)))
        if wanted <= most:
            return self.settings, ""
        rows, columns = shape
        told = (
            f"binning {wanted} is too much for frames of {rows} x {columns} pixels: it is {most} in this scan"
        )
        fitting = corrections.model_copy(update={"binning": most})
        return self.settings.model_copy(update={"corrections": fitting}), told

    def keep_for_later(self, wish: Wish) -> None:
        """Have the scans to come be as this wish says."""
        update: dict[str, Any] = {"filter": wish.filter, "corrections": wish.corrections}
        self.settings = self.settings.model_copy(
            update={key: value for key, value in update.items() if value is not None}
        )
        if wish.plane in SLICES and wish.position is not None:
            self.positions[wish.plane] = wish.position


def note_changes(watched: Watched, wish: Wish) -> None:
    """Note who changed what of a scan, and when."""
    words = {
        "centre": "estimated" if wish.estimate_center else wish.center and f"{wish.center:g}",
        "filter": wish.filter,
        "corrections": wish.corrections and in_words(wish.corrections),
        "volume": wish.volume,
    }
    now = time.time()
    watched.changes += [Change(what, value, wish.who, now) for what, value in words.items() if value]


def in_words(corrections: CorrectionSettings) -> str:
    """Return what is corrected, as people say it.

    >>> in_words(CorrectionSettings(zingers=True, binning=2))
    'zingers, binning 2'
    """
    words = ["zingers"] if corrections.zingers else []
    words += [f"rings ({corrections.rings})"] if corrections.rings != "none" else []
    if (phase := corrections.paganin) is not None:
        words.append(f"Paganin ({phase.energy_kev:g} keV, {phase.distance_m:g} m, {phase.delta_beta:g})")
    words += [f"binning {corrections.binning}"] if corrections.binning > 1 else []
    if (half := corrections.half_acquisition) is not None:
        words.append("half acquisition" if half else "no half acquisition")
    return ", ".join(words) or "none"


def newest(wishes: Iterable[Wish]) -> list[Wish]:
    """Leave out wishes that a later one overrides: a slider that is dragged posts dozens."""
    kept: dict[tuple[Any, ...], Wish] = {}
    for wish in wishes:
        centre = wish.center is not None or wish.estimate_center
        given = (wish.filter, wish.corrections, wish.candidates, wish.volume)
        what = (wish.run_uid, centre, wish.plane, *(value is not None for value in given))
        kept.pop(what, None)
        kept[what] = wish
    return list(kept.values())
