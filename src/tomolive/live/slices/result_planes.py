"""Where the three slices of the results lie; they stay in place when the volume gets another size."""

import numpy as np

from tomolive.errors import ReconstructionError
from tomolive.live.slices.planes import Place, check_place

PLANES = ("xy", "xz", "yz")

Volume = tuple[int, int, int]
"""Rows, columns, columns."""


class ResultPlanes:
    """Index of each plane in the volume; in the middle until it is moved.

    Attributes
    ----------
    positions : dict
        {"xy": z, "xz": y, "yz": x}.
    """

    def __init__(self, volume: Volume, binning: int) -> None:
        self.positions: dict[str, int] = {}
        self._moved: dict[str, float] = {}
        """Planes that were moved: distance from the middle of the volume, detector pixels."""
        self.fit(volume, binning)

    @property
    def places(self) -> list[Place]:
        """The three planes."""
        return [self.place(plane) for plane in PLANES]

    def place(self, plane: str) -> Place:
        """Return where a plane lies."""
        return plane, (float(self.positions[plane]),)

    def move(self, plane: str, position: int) -> None:
        """Put a plane elsewhere.

        Raises
        ------
        ReconstructionError
            if there is no such plane, or it lies outside the volume.
        """
        if plane not in PLANES:
            raise ReconstructionError(f"plane={plane!r} is not known; expected one of {', '.join(PLANES)}")
        rows, columns, _ = self._volume
        _, (at,) = check_place((plane, (float(position),)), rows, columns)
        self._moved[plane] = (at - (self._count(plane) - 1) / 2) * self._binning
        self.positions[plane] = int(at)

    def fit(self, volume: Volume, binning: int) -> None:
        """Put the planes where they were, in a volume of another size."""
        self._volume, self._binning = volume, binning
        for plane in PLANES:
            count = self._count(plane)
            self.positions[plane] = count // 2
            if plane in self._moved:
                at = (count - 1) / 2 + self._moved[plane] / binning
                self.positions[plane] = int(np.clip(round(at), 0, count - 1))

    def _count(self, plane: str) -> int:
        return self._volume[0] if plane == "xy" else self._volume[1]
