"""What is reconstructed together: each camera by itself, or several cameras that see one field."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from tomolive.config import CorrectionSettings, TileSettings
from tomolive.errors import ReconstructionError, ScanError
from tomolive.files.announcements import axes_of
from tomolive.live.documents.rules import Rules
from tomolive.live.documents.run import Scan
from tomolive.live.documents.streams import choose_camera
from tomolive.recon.stitching import Mosaic, Rows, Tile

ALIGNED = 8
"""Bands begin at multiples of so many rows, the largest binning."""
_MOST = 1_000_000


@dataclass(frozen=True)
class Field:
    """What is reconstructed as one; plain values, so that it travels."""

    name: str
    cameras: tuple[str, ...]
    """Their data keys."""
    tiles: tuple[Tile, ...]
    """Where the frames of each lie."""

    @cached_property
    def mosaic(self) -> Mosaic:
        """The field that they fill."""
        return Mosaic(self.tiles)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.mosaic.rows, self.mosaic.columns

    @property
    def is_joined(self) -> bool:
        """Whether several cameras see it."""
        return len(self.cameras) > 1


def cameras_of(scan: Scan, descriptor: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return data key -> (rows, columns) of the cameras of a stream, if it is one of images that are used."""
    kind, _ = scan.rules.kind_of_stream(scan.start, descriptor.get("name", "primary"))
    keys = choose_camera(scan.rules, scan.start, descriptor) if kind or scan.rules.frame_kinds else []
    shapes = {key: axes_of(descriptor["data_keys"][key]) for key in keys}
    return {key: (int(shape[-2]), int(shape[-1])) for key, shape in shapes.items()}


def fields_of(
    cameras: Mapping[str, tuple[int, int]], tiles: Mapping[str, tuple[int, int]]
) -> dict[str, Field]:
    """Return the fields of a scan by their names.

    Parameters
    ----------
    cameras
        Data key of each camera -> (rows, columns) of its frames.
    tiles
        Data key of each camera that sees a field with others -> (row, column) of its first pixel there.

    Raises
    ------
    ScanError
        if a tile is of a camera that the scan has not, or they leave part of the field open.
    """
    if lacking := [camera for camera in tiles if camera not in cameras]:
        raise ScanError(
            f"tiles name {', '.join(map(repr, lacking))}, but the cameras of this scan are "
            f"{', '.join(map(repr, cameras))}; one camera at several positions, in one run or several, "
            "is not stitched"
        )
    found = {}
    if len(tiles) > 1:
        together = tuple(camera for camera in cameras if camera in tiles)
        placed = tuple(Tile(*cameras[camera], *tiles[camera]) for camera in together)
        field = Field("+".join(together), together, placed)
        try:
            field.mosaic  # noqa: B018  made now: it says what is wrong
        except ReconstructionError as error:
            raise ScanError(f"the field of {field.name} cannot be stitched: {error}") from None
        found[field.name] = field
    else:
        together = ()
    alone = {camera: shape for camera, shape in cameras.items() if camera not in together}
    return found | {camera: Field(camera, (camera,), (Tile(*shape),)) for camera, shape in alone.items()}


def tiles_of(
    start: Mapping[str, Any], rules: Rules, settings: Mapping[str, TileSettings]
) -> dict[str, tuple[int, int]]:
    """Return where cameras lie in their field: as the settings say, else the start document.

    Raises
    ------
    ScanError
        if the start document says it in another form.
    """
    if settings:
        return {camera: (tile.row, tile.column) for camera, tile in settings.items()}
    told = rules.first_of(start, rules.tiles)
    if told is None:
        return {}
    if not isinstance(told, Mapping):
        keys = " or ".join(rules.tiles)
        raise ScanError(f"{keys} is {told!r}; expected data key -> {{row: ..., column: ...}}")
    return {str(camera): _offset(str(camera), place) for camera, place in told.items()}


def check_corrections(field: Field, corrections: CorrectionSettings) -> None:
    """Refuse what cannot be done to a field.

    Raises
    ------
    ReconstructionError
        with what to do instead.
    """
    if corrections.binning > 1 and field.is_joined:
        raise ReconstructionError(
            f"binning={corrections.binning} of the field of {field.name}: what several cameras see together "
            "is not binned; expected 1"
        )


def bands(rows: int, count: int) -> list[Rows]:
    """Cut rows into at most ``count`` bands of nearly the same height.

    >>> bands(100, 3)
    [(0, 32), (32, 64), (64, 100)]
    """
    count = max(1, min(count, rows // ALIGNED))
    edges = (np.linspace(0, rows, count + 1) / ALIGNED).round().astype(int) * ALIGNED
    edges[-1] = rows
    return [(int(a), int(b)) for a, b in pairwise(edges) if a < b]


def _offset(camera: str, place: Any) -> tuple[int, int]:
    """Return (row, column), which a document gives as whole numbers of pixels."""
    values = [place.get(key, 0) for key in ("row", "column")] if isinstance(place, Mapping) else [None]
    whole = [_whole(value) for value in values]
    if None in whole:
        raise ScanError(f"the tile of {camera!r} lies at {place!r}; expected row and column, whole pixels")
    return whole[0] or 0, whole[1] or 0


def _whole(value: Any) -> int | None:
    """Return a whole number; what is computed from a motor's position may be 511.9999."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST:
        return None
    return round(value) if abs(value - round(value)) < 1e-3 else None
