"""What an analysis of the user's own is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["projections", "slices", "volume"]
KINDS: tuple[Kind, ...] = ("projections", "slices", "volume")


@dataclass(frozen=True, eq=False)
class AnalysisInput:
    """A piece of one scan, at one moment."""

    kind: Kind
    run_uid: str
    arrays: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Slices: "xy", "xz", "yz" (rows, columns), in `units`. Projections: "projections" (n, rows, columns),
    line integrals after all corrections. Volume: nothing; see `path`."""
    path: str = ""
    """Folder or file of a finished volume."""
    angles: npt.NDArray[np.float64] | None = None
    """Of projections (n,), radians."""
    numbers: npt.NDArray[np.intp] | None = None
    """Of projections (n,), within the scan."""
    scan_id: int | None = None
    sample: str = ""
    coverage_deg: float = 0.0
    """How much of the turn slices hold."""
    final: bool = False
    """Nothing more will come of this scan."""
    units: str = ""
    """Of slices: "1/cm" or "1/pixel"."""
    pixel_size_um: float | None = None
    """Of a pixel of these arrays; None: not known."""
