"""Which planes grow: those that someone looks at, while he does, and not more than a machine can draw.

Of many planes the newest grow; those beyond are drawn anew now and then from what is there. A plane that
nobody looks at any more is kept for a moment: he may come back.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tomolive.errors import ReconstructionError
from tomolive.live.slices.planes import Place, check_place
from tomolive.live.snapshot import parse_key

MOST_GROWING = 12
MOST_SINOGRAMS = 24
"""Each takes the memory of a row of all projections, and is corrected with each projection."""
KEPT_S = 4.0
"""Seconds that a plane grows on after the last look at it."""
_PLANES = ("xy", "xz", "yz", "oblique")


@dataclass
class _Look:
    since: float
    last: float


@dataclass
class Looks:
    """The pictures that are looked at, and since when."""

    _seen: dict[str, _Look] = field(default_factory=dict)

    def update(self, keys: Iterable[str], volume: tuple[int, int, int]) -> None:
        """Take the keys that are looked at now; those that a volume of this shape has not are left out."""
        now = time.monotonic()
        for key in keys:
            if place_of(key, volume) is not None:
                self._seen.setdefault(key, _Look(now, now)).last = now
        self._seen = {
            key: look
            for key, look in self._seen.items()
            if now - look.last <= KEPT_S and place_of(key, volume) is not None
        }

    def forget_others(self, keys: Iterable[str]) -> None:
        """Keep only the planes that are looked at now: all that grow are about to be drawn again."""
        wanted = frozenset(keys)
        self._seen = {key: look for key, look in self._seen.items() if key in wanted}

    def growing(self, volume: tuple[int, int, int]) -> Mapping[str, Place]:
        """Return the planes that grow, the newest ones."""
        return dict(self._by_age(volume)[:MOST_GROWING])

    def on_demand(self, volume: tuple[int, int, int]) -> Mapping[str, Place]:
        """Return the planes for which there is no room among those that grow."""
        now = time.monotonic()
        beyond = dict(self._by_age(volume)[MOST_GROWING:])
        return {key: place for key, place in beyond.items() if now - self._seen[key].last < KEPT_S / 4}

    def notes(self, volume: tuple[int, int, int]) -> list[str]:
        """Return what the user should know, in plain sentences."""
        beyond = len(self.on_demand(volume))
        words = f"{MOST_GROWING} planes grow with each projection; {beyond} more are drawn anew now and then"
        hidden = len(self._sinograms()) - MOST_SINOGRAMS
        more = f"{MOST_SINOGRAMS} sinograms are drawn at once; {hidden} older ones are not"
        return [words] * (beyond > 0) + [more] * (hidden > 0)

    def rows(self) -> Mapping[str, int]:
        """Return the newest sinograms that are looked at, by the row that they are of."""
        return dict(self._sinograms()[:MOST_SINOGRAMS])

    def _sinograms(self) -> list[tuple[str, int]]:
        parsed = ((key, *parse_key(key)) for key in self._keys())
        return [(key, int(at[0])) for key, plane, at in parsed if plane == "sinogram"]

    def _keys(self) -> list[str]:
        # who is looked at now, before those that only linger; then the newest first
        order = sorted(self._seen.items(), key=lambda item: (item[1].last, item[1].since), reverse=True)
        return [key for key, _ in order]

    def _by_age(self, volume: tuple[int, int, int]) -> list[tuple[str, Place]]:
        places = ((key, place_of(key, volume)) for key in self._keys())
        return [(key, place) for key, place in places if place is not None and place[0] in _PLANES]


def place_of(key: str, volume: tuple[int, int, int]) -> Place | None:
    """Return the plane that a key names, None if a volume of this shape has none there."""
    try:
        plane, at = parse_key(key)
        if plane == "sinogram":
            check_place(("xy", at), *volume[:2])
            return plane, at
        return check_place((plane, at), *volume[:2])
    except (ValueError, ReconstructionError):
        return None
