"""The image of one event, out of the blocks in which its frames come."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tomolive.files.announcements import Announcement
from tomolive.files.frames import Frames
from tomolive.files.gathering import Gathering


class EventImage:
    """Frames of one data key of one event.

    Parameters
    ----------
    announced
        Which frames the event is to have.
    limit
        Bytes that they may take in memory; beyond it their array lies in a file.
    """

    def __init__(self, announced: Announcement, limit: int) -> None:
        self.announced = announced
        self.problem = ""
        """Why not all frames that came are in the array."""
        self._gathering = Gathering(limit)
        self._came: list[tuple[Frames, int]] = []
        """What came, without its array, and how many frames."""
        self._apart: list[Frames] = []

    def add(self, frames: Frames) -> None:
        """Take a block of frames; a region of interest may have been moved since the one before."""
        try:
            self._gathering.add(frames.array)
        except ValueError:
            self.problem = "frames of one event differ in shape"
            self._apart.append(frames)
        except OSError as error:
            self.problem = f"no room for an image of this size in the temporary folder: {error.strerror}"
            self._apart.append(frames)
        else:
            self._came.append((replace(frames, array=np.empty(0)), len(frames.array)))

    @property
    def complete(self) -> bool:
        """Whether the event can be filled."""
        wanted = 1 if self.announced.whole else self.announced.count
        return len(self._gathering) >= wanted and not self.problem

    def value(self) -> Any:
        """Return what the event holds: one frame as (rows, columns), several as (n, rows, columns)."""
        array = self._gathering.array()
        value = array[0] if len(array) == 1 else array
        return value.item() if np.ndim(value) == 0 else value

    def blocks(self) -> Iterator[Frames]:
        """Yield the blocks that came."""
        first = 0
        if self._came:
            array = self._gathering.array()
            for frames, count in self._came:
                yield replace(frames, array=array[first : first + count])
                first += count
        yield from self._apart
