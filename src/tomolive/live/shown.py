"""What is shown and written of a reconstruction, whether one process has it or several share it."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.live.documents.run import Scan
from tomolive.live.slices.planes import Place
from tomolive.live.snapshot import Trend

Pixels = npt.NDArray[np.float32]


class Shown(Protocol):
    """A reconstruction as status, pictures and results need it; see `tomolive.live.tomogram.Tomogram`."""

    scan: Scan

    @property
    def without_beam(self) -> npt.NDArray[np.int64]: ...  # noqa: D102
    @property
    def received(self) -> int: ...  # noqa: D102
    @property
    def coverage(self) -> float: ...  # noqa: D102
    @property
    def coverage_wanted(self) -> float: ...  # noqa: D102
    @property
    def volume_shape(self) -> tuple[int, int, int]: ...  # noqa: D102
    @property
    def corrections(self) -> CorrectionSettings: ...  # noqa: D102
    @property
    def center(self) -> float | None: ...  # noqa: D102
    @property
    def center_source(self) -> str: ...  # noqa: D102
    @property
    def filter(self) -> str: ...  # noqa: D102
    @property
    def positions(self) -> dict[str, int]: ...  # noqa: D102
    @property
    def notes(self) -> list[str]: ...  # noqa: D102
    @property
    def units(self) -> str: ...  # noqa: D102
    def trends(self, *, now: bool = False) -> tuple[Trend, ...]: ...  # noqa: D102
    def finish(self) -> bool: ...  # noqa: D102
    def grows(self, place: Place) -> bool: ...  # noqa: D102
    def look(self, places: Iterable[Place]) -> None: ...  # noqa: D102
    def slices(self, positions: Mapping[str, int] | None = None) -> dict[str, Pixels]: ...  # noqa: D102
    def picture(self, place: Place) -> Pixels: ...  # noqa: D102
    def sinogram(self, row: int) -> Pixels | None: ...  # noqa: D102
    def keep_sinograms(self, rows: set[int]) -> None: ...  # noqa: D102
    def projection(self) -> tuple[int, Pixels, str] | None: ...  # noqa: D102
    def about(self) -> dict[str, Any]: ...  # noqa: D102
