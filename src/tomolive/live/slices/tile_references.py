"""Darks and flats of the detectors that make up a field."""

from collections.abc import Iterable, Sequence

from tomolive.live.documents.references import References, Stack, lit


class TileReferences:
    """The mean darks and flats of several detectors, as far as all of them have any.

    Parameters
    ----------
    tiles
        Of each detector.
    """

    def __init__(self, tiles: Sequence[References]) -> None:
        self._tiles = tiles

    def darks(self, run_uids: Iterable[str]) -> list[Stack] | None:
        """Return the mean dark (1, rows, columns) of each detector; None if one has none."""
        runs = tuple(run_uids)
        found = [dark for tile in self._tiles if (dark := tile.dark(runs)) is not None]
        return found if len(found) == len(self._tiles) else None

    def lit_flats(self, run_uids: Iterable[str]) -> tuple[list[list[Stack]], list[float], list[str]]:
        """Return, for each time, the mean flats (1, rows, columns) of each detector; the times; and words.

        Times when a detector saw no beam are left out, of which the words tell.
        """
        runs = tuple(run_uids)
        found = [tile.flats(runs) for tile in self._tiles]
        times = found[0][1][: min(len(flats) for flats, _ in found)]
        kept, told = lit([flats for flats, _ in found], times, [tile.dark(runs) for tile in self._tiles])
        return [[flats[k] for flats, _ in found] for k in kept], [times[k] for k in kept], told
