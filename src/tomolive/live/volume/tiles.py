"""A finished run of several detectors that see one field together is read, one detector after the other.

What each sees is added to the rows of the field with its weight, so that no frame waits in memory for those
of another detector, however a catalog announces them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.errors import ScanError
from tomolive.live.documents.fields import Field, cameras_of, check_corrections, fields_of, tiles_of
from tomolive.live.documents.references import References
from tomolive.live.documents.run import Batch, Scan
from tomolive.live.volume.reading import (
    Document,
    Fetch,
    Projections,
    Reading,
    ScanRows,
    read_scan,
    understand,
)
from tomolive.live.volume.rows import RowLayout, Rows
from tomolive.recon.pipeline import retrieve_phase


def read_field(
    documents: Sequence[Document],
    fetch: Fetch,
    make_store: Callable[[RowLayout], Rows],
    how: Reading,
) -> ScanRows:
    """Read a run: one detector, or the field of those of which the start document says where they lie.

    See `tomolive.live.volume.reading.read_scan`.

    Raises
    ------
    ScanError
        if the detectors do not fill a field, have not announced the same projections, or have hardly any that
        each of them has.
    ReconstructionError
        if the field is to be binned.
    """
    scan = understand(documents, how.rules)
    field = _field_of(scan, documents)
    if field is None:
        return read_scan(documents, fetch, make_store, how)
    check_corrections(field, how.corrections)
    scans = [understand(documents, how.rules, camera) for camera in field.cameras]
    if any(list(one.announced) != list(scans[0].announced) for one in scans):
        raise ScanError(f"{field.name} have not announced the same projections")
    weights = field.mosaic.weights(range(len(scans)), (0, field.mosaic.rows))
    earlier = cache(lambda uid: list(fetch(uid)))
    found: list[ScanRows] = []
    for number, camera in enumerate(field.cameras):
        make = (lambda _, store=found[0].store: store) if found else make_store
        take = partial(_TileProjections, field, number, weights[number])
        found.append(read_scan(documents, earlier, make, replace(how, camera=camera), take))
    return _together(field, found, how)


def _field_of(scan: Scan, documents: Sequence[Document]) -> Field | None:
    tiles = tiles_of(scan.start, scan.rules, {})
    descriptors = [doc for name, doc in documents if name == "descriptor"]
    cameras = next((found for doc in descriptors if (found := cameras_of(scan, doc))), {})
    joined = [field for field in fields_of(cameras, tiles).values() if field.is_joined] if tiles else []
    return joined[0] if joined else None


def _together(field: Field, found: Sequence[ScanRows], how: Reading) -> ScanRows:
    """Return the rows of a field that all its detectors have been added to."""
    first = found[0]
    present = np.logical_and.reduce([rows.present for rows in found])
    if present.sum() < 2:
        first.store.close()
        raise ScanError(f"{field.name} have no two projections that each of them has, with beam")
    if how.corrections.paganin is not None:
        for frame in np.flatnonzero(present):
            joined = first.store.read_frame(int(frame))[np.newaxis]
            first.store.write(int(frame), retrieve_phase(joined, how.corrections))
    notes = list(dict.fromkeys(note for rows in found for note in rows.notes))
    dark = np.unique(np.concatenate([rows.without_beam for rows in found]))
    return replace(first, present=present, without_beam=dark, shape=field.shape, notes=notes)


class _TileProjections(Projections):
    """Adds the projections of one detector to the rows of its field."""

    def __init__(
        self,
        field: Field,
        number: int,
        weights: npt.NDArray[np.float32],
        scan: Scan,
        found: References,
        make_store: Callable[[RowLayout], Rows],
        how: Reading,
        *more: Any,
    ) -> None:
        super().__init__(scan, found, make_store, how, *more)
        mosaic, tile = field.mosaic, field.mosaic.tiles[number]
        first, last = max(tile.row, 0), min(tile.row + tile.rows, mosaic.rows)
        self._seen = slice(first - tile.row, last - tile.row)
        self._place = slice(first, last), slice(tile.column, tile.column + tile.columns)
        self._share = weights[first:last]
        self._field_shape = field.shape
        self._corrected, self._context = True, 0
        self._tile_corrections = how.corrections.model_copy(update={"paganin": None})

    def _layout(self) -> RowLayout:
        return RowLayout(self.total, *self._field_shape, "<f4", 0)

    def _frames(self, batch: Batch) -> npt.NDArray[np.float32]:
        return self._corrected_frames(batch, self._tile_corrections)

    def _put(self, store: Rows, place: int, frames: npt.NDArray[np.generic]) -> None:
        part = np.asarray(frames[:, self._seen], np.float32) * self._share
        for number, frame in enumerate(part, place):
            joined = store.read_frame(number)
            joined[self._place] += frame
            store.write(number, joined[np.newaxis])
