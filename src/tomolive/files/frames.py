"""The two things that a reader of announced images can say: here are frames, or these did not come."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Frames:
    """Consecutive frames of one data key of one stream.

    ``first`` and the position in ``array`` count frames of this stream from 0, as the documents number
    them, never positions in a file.
    """

    run_uid: str
    stream: str
    descriptor_uid: str
    data_key: str
    first: int
    array: npt.NDArray[np.generic]
    """(n, rows, columns) for images, (n,) for a scalar that lies in a file."""

    @property
    def last(self) -> int:
        """One past the last frame."""
        return self.first + len(self.array)


@dataclass(frozen=True)
class MissingFrames:
    """Frames ``[first, last)`` that documents announced and that no file holds (yet)."""

    run_uid: str
    stream: str
    descriptor_uid: str
    data_key: str
    first: int
    last: int
    reason: str
    """In plain words, with the path."""
    final: bool
    """False: still looked for. True: given up."""
