"""The darks and flats that one reconstruction corrects with, and what they come to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.live.documents.references import averaged, check_frames
from tomolive.live.slices.part import Part
from tomolive.recon.flat_field import AnyField

Counts = npt.NDArray[np.generic]
Given = tuple[Any, Sequence[Any], Sequence[float] | None]
"""Darks, the flats of each time, and those times, if there are several; of a part of a field: by tiles."""


class ReferencesInForce:
    """Darks and flats of one scan.

    Parameters
    ----------
    shape
        Rows and columns of a frame.
    part
        What part of a field this is; None: all of a detector.

    Attributes
    ----------
    given : tuple
        Darks and flats.
    field : FlatField or FlatSeries or None
        What they come to, binned; None: not known yet.
    assumed : list of str
        What had to be assumed, in plain sentences.
    """

    def __init__(self, shape: tuple[int, int], part: Part | None) -> None:
        self._shape, self._averaged = shape, part.averaged if part else averaged
        self.given: Given = (None, (), None)
        self.field: AnyField | None = None
        self.assumed: list[str] = []

    def checked(
        self,
        darks: Counts | None,
        flats: Counts | Sequence[Counts] | None,
        times: Sequence[float] | None,
    ) -> Given:
        """Return darks and flats of whole frames, of one time or, with ``times``, of each of these.

        Raises
        ------
        ReconstructionError
            if their frames do not have the shape of the projections.
        """
        sets = [] if flats is None else [np.asarray(f) for f in (flats if times is not None else [flats])]
        sets = [frames for frames in sets if len(frames)]
        darks = darks if darks is not None and len(darks) else None
        check_frames(darks, sets, self._shape)
        return darks, sets, times

    def come_to(
        self, corrections: CorrectionSettings, first: Counts | None
    ) -> tuple[AnyField | None, list[str]]:
        """Return the field and what had to be assumed with these corrections.

        ``first`` holds the counts of the first projection; None: there is none yet.
        """
        return self._averaged(*self.given, corrections, first)
