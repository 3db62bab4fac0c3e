"""What has arrived of the projections of one scan: which, at which angles, and whether it fits."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError

Counts = npt.NDArray[np.generic]
Numbers = Sequence[int] | npt.NDArray[np.integer]


class Arrivals:
    """The projections of one scan that came.

    Parameters
    ----------
    shape
        Rows and columns of each.

    Attributes
    ----------
    angles : numpy.ndarray
        Radians, in order of arrival.
    duplicates : int
        Projections that came again and were left out.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._numbers: set[int] = set()
        self._dtype: np.dtype | None = None
        self.angles = np.empty(0)
        self.duplicates = 0

    def checked(
        self, projections: Counts, angles: npt.ArrayLike, numbers: Numbers
    ) -> tuple[Counts, npt.NDArray[np.float64]]:
        """Return projections and angles, radians, as arrays.

        Raises
        ------
        ReconstructionError
            if they do not fit each other, or what came before.
        """
        projections = np.asarray(projections)
        radians = np.atleast_1d(np.asarray(angles, np.float64))
        if projections.shape != (len(radians), *self._shape) or len(numbers) != len(radians):
            raise ReconstructionError(
                f"projections has shape {projections.shape} with {len(radians)} angles and {len(numbers)} "
                f"numbers; expected ({len(radians)}, {self._shape[0]}, {self._shape[1]})"
            )
        if not np.isfinite(radians).all():
            raise ReconstructionError(f"angles of projections {list(numbers)} are not all finite")
        if self._dtype is None:
            self._dtype = projections.dtype
        elif not np.can_cast(projections.dtype, self._dtype, "safe"):
            raise ReconstructionError(
                f"projections are {projections.dtype}, but those before were {self._dtype}"
            )
        return projections, radians

    def take(self, radians: npt.NDArray[np.float64], numbers: Numbers) -> npt.NDArray[np.bool_]:
        """Note projections; return which of them were not there yet."""
        fresh = np.zeros(len(numbers), bool)
        for i, number in enumerate(map(int, numbers)):
            fresh[i] = number not in self._numbers
            self._numbers.add(number)
        self.duplicates += int(np.count_nonzero(~fresh))
        self.angles = np.concatenate([self.angles, radians[fresh]])
        return fresh
