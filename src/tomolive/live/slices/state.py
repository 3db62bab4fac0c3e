"""What can be asked of slices that grow, and of what they are made of, without changing them."""

import numpy as np
import numpy.typing as npt

from tomolive import geometry
from tomolive.config import CorrectionSettings
from tomolive.live.slices.arrivals import Arrivals
from tomolive.live.slices.centring import Centring
from tomolive.live.slices.drawing import Drawing
from tomolive.live.slices.planes import Place
from tomolive.live.slices.prepared import PreparedProjections
from tomolive.live.slices.references_in_force import ReferencesInForce
from tomolive.live.slices.result_planes import ResultPlanes
from tomolive.recon.flat_field import AnyField
from tomolive.recon.half_acquisition import NO_OVERLAP


class SliceState:
    """How things stand with the slices of one scan.

    Attributes
    ----------
    arrivals : Arrivals
        Projections that came, whether they are used or not.
    """

    def __init__(
        self,
        columns: int,
        arrivals: Arrivals,
        references: ReferencesInForce,
        projections: PreparedProjections,
        centring: Centring,
        drawing: Drawing,
        planes: ResultPlanes,
    ) -> None:
        self._columns = columns
        self.arrivals = arrivals
        self._references = references
        self._projections = projections
        self._centring = centring
        self._drawing = drawing
        self._planes = planes

    @property
    def center(self) -> float:
        """Rotation centre in force, detector column."""
        return self._centring.center

    @property
    def center_source(self) -> str:
        """How it was found."""
        return self._centring.source

    @property
    def filter(self) -> str:
        """Name of the filter in force."""
        return self._projections.filter

    @property
    def corrections(self) -> CorrectionSettings:
        """Corrections in force."""
        return self._projections.corrections

    @property
    def positions(self) -> dict[str, int]:
        """Index of each plane of the results in the volume."""
        return self._planes.positions

    def grows(self, place: Place) -> bool:
        """Whether a plane grows, and holds all projections."""
        return place in self._drawing.places

    @property
    def columns(self) -> int:
        """Columns of the detector."""
        return self._columns

    @property
    def projections(self) -> PreparedProjections:
        """What slices are made of."""
        return self._projections

    @property
    def angles(self) -> npt.NDArray[np.float64]:
        """Of the projections that are used, radians, in order of arrival."""
        return self.arrivals.angles[self._projections.used]

    @property
    def field(self) -> AnyField | None:
        """Darks and flats in force, binned."""
        return self._references.field

    @property
    def received(self) -> int:
        """Projections that are used."""
        return len(self._projections)

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Rows, columns, columns of the volume that slices are of."""
        return self._projections.rows, self._projections.columns, self._projections.columns

    @property
    def coverage(self) -> float:
        """Degrees of the half turn that the projections cover; of the whole turn in a half acquisition."""
        if self._projections.is_widened:
            return float(np.degrees(2 * geometry.covered(self.angles / 2)))
        return float(np.degrees(geometry.covered(self.angles)))

    @property
    def coverage_wanted(self) -> float:
        """Degrees that a complete scan covers."""
        return 360.0 if self._projections.is_widened else 180.0

    @property
    def notes(self) -> list[str]:
        """What was assumed, and what is not done yet, in plain sentences."""
        notes = list(self._references.assumed)
        if self._projections.is_widened:
            notes.append(
                "A half acquisition: what half a turn does not see of the sample is seen by the other half."
            )
        elif self.corrections.half_acquisition and self._projections.ready:
            notes.append(NO_OVERLAP)
        if self.corrections.rings != "none":
            striped = self._drawing.striped
            late = f", not yet from the newest {striped} projections" if striped else ""
            notes.append(
                f"Rings are removed from slices across the axis{late}; slices along it are shown as they are."
            )
        return notes
