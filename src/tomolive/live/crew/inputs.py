"""What a share reads of each of its cameras, and how the frames of several come together."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tomolive.live.documents.references import Dispatcher, EarlierRuns, References
from tomolive.live.documents.rules import Rules
from tomolive.live.documents.run import Batch, Scan
from tomolive.live.documents.scan import ScanReader
from tomolive.live.slices.part import Part
from tomolive.recon.stitching import Tile

Counts = npt.NDArray[np.generic]


class CameraInput:
    """The frames, darks and flats of one camera in one scan."""

    def __init__(
        self,
        number: int,
        camera: str,
        tile: Tile,
        connect: Callable[[str], Dispatcher],
        rules: tuple[Rules, ...] | None,
    ) -> None:
        self.number, self.camera, self.tile = number, camera, tile
        self.reader = ScanReader(rules, camera=camera)
        self.references = References()
        self.earlier = EarlierRuns(connect, rules, camera)

    def misfit(self, batch: Batch) -> str:
        """Return what is wrong with the size of frames, in words; empty if it is right."""
        found, expected = batch.array.shape[1:], (self.tile.rows, self.tile.columns)
        if found == expected:
            return ""
        return f"{self.camera!r} has frames of {found} pixels, but its descriptor says {expected}"

    def scan(self, run_uid: str) -> Scan | None:
        """Return what is known of a run, as this camera sees it."""
        return self.reader.scan(run_uid)


class Together:
    """Has frames of several cameras wait for each other, since a field needs all of them.

    Parameters
    ----------
    part
        The rows that are kept of each.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._waiting: dict[int, dict[int, tuple[Counts, float]]] = {which: {} for which in part.which}

    def add(self, which: int, batch: Batch) -> Iterator[Batch]:
        """Take projections of a tile; yield those that all tiles have by now, side by side."""
        assert batch.angles is not None  # noqa: S101  projections that have angles
        cut = self._part.cut(which, batch.array)
        if not self._part.is_joined:
            yield Batch(batch.kind, batch.run_uid, batch.first, cut, batch.angles)
            return
        numbers = range(batch.first, batch.first + len(cut))
        self._waiting[which].update(zip(numbers, zip(cut, batch.angles.tolist(), strict=True), strict=True))
        ready = [number for number in numbers if all(number in tile for tile in self._waiting.values())]
        edges = [0, *(i for i in range(1, len(ready)) if ready[i] != ready[i - 1] + 1), len(ready)]
        for a, b in pairwise(edges):
            if a < b:
                yield self._side_by_side(batch, ready[a:b])

    def _side_by_side(self, batch: Batch, numbers: list[int]) -> Batch:
        found = [[tile.pop(number) for number in numbers] for tile in self._waiting.values()]
        array = np.concatenate([np.stack([frame for frame, _ in tile]) for tile in found], axis=-1)
        angles = np.array([angle for _, angle in found[0]])
        return Batch(batch.kind, batch.run_uid, numbers[0], array, angles)
