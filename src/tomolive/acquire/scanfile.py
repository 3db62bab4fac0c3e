"""Existing scans: Data Exchange, NXtomo, and files whose datasets someone names.

Data Exchange: F. De Carlo et al., "Scientific data exchange: a schema for HDF5-based storage of raw and
analyzed data", J. Synchrotron Rad. 21 (2014). NXtomo: the application definition of the NeXus standard.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomolive.acquire.angles import from_range, to_degrees
from tomolive.acquire.h5tree import Tree, open_hdf5, walk
from tomolive.acquire.layouts import DARK, FLAT, INVALID, PROJECTION, Layout, Paths, find_layout
from tomolive.acquire.scaninfo import read_details
from tomolive.errors import FileAccessError, ScanError

AHEAD = 32 * 2**20
"""Bytes that are read at once."""


class Stack:
    """Some frames of a dataset, in order.

    Parameters
    ----------
    dataset
        (n, rows, columns), or (rows, columns) for one frame.
    path
        its path in the file that was opened.
    indices
        of the frames along the first axis; None: all.
    """

    def __init__(self, dataset: h5py.Dataset, path: str, indices: npt.NDArray | None = None) -> None:
        self.path = path
        self.dtype = dataset.dtype
        self.rows, self.columns = dataset.shape[-2:]
        self._dataset = dataset
        self.indices = np.arange(len(dataset) if dataset.ndim == 3 else 1) if indices is None else indices
        self._block: npt.NDArray | None = None
        self._first = 0

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> npt.NDArray:
        """Return frame ``i``; reading in order is fast.

        Raises
        ------
        FileAccessError
            if it cannot be read.
        """
        if self._block is None or not self._first <= i < self._first + len(self._block):
            ahead = max(1, AHEAD // (self.rows * self.columns * self.dtype.itemsize))
            self._first, self._block = i, self._read(self.indices[i : i + ahead])
        return self._block[i - self._first]

    def _read(self, indices: npt.NDArray) -> npt.NDArray:
        try:
            if self._dataset.ndim == 2:
                return self._dataset[()][None]
            if indices[-1] - indices[0] == len(indices) - 1:
                return self._dataset[indices[0] : indices[-1] + 1]
            return self._dataset[indices]
        except OSError as error:
            unknown = "required filter" in str(error) or "plugin" in str(error)
            hint = "; pip install 'tomolive[formats]' reads more kinds of compression" if unknown else ""
            raise FileAccessError(f"cannot read frame {indices[0]} of {self.path}: {error}{hint}") from None


@dataclass(frozen=True)
class ScanFile:
    """A scan in a file; close it, or use it as a context manager."""

    path: Path
    layout: Layout
    projections: Stack
    flats: Stack | None
    darks: Stack | None
    angles: npt.NDArray[np.float64]
    """Degrees, one for each projection."""
    notes: Sequence[str]
    """What was assumed, in plain words."""
    details: Mapping[str, Any]
    """Sample, pixel size and energy as far as the file has them, by their keys in a start document."""
    tree: Tree
    file: h5py.File

    def __enter__(self) -> "ScanFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def describe(self) -> list[str]:
        """Return what the file holds and what is used of it, a line each."""
        first, last = self.angles[0], self.angles[-1]
        lines = [f"{self.path}: {self.layout.name}"]
        for name, stack in (("projections", self.projections), ("flats", self.flats), ("darks", self.darks)):
            if stack is not None:
                size = f"{len(stack)} frames of {stack.rows} x {stack.columns}, {stack.dtype}"
                lines.append(f"  {name:<12} {size}, {stack.path}")
        lines.append(f"  {'angles':<12} {first:g} to {last:g} degrees, {self.layout.angles}")
        if "sample" in self.details:
            lines.append(f"  {'sample':<12} {self.details['sample']}")
        lines += [
            f"  {label:<12} {self.details[key]:g} {self.details[key + '_units']}"
            for label, key in (("pixel size", "pixel_size"), ("energy", "energy"))
            if key in self.details
        ]
        return lines + [f"  note: {note}" for note in self.notes]


def open_scan(path: Path, paths: Paths | None = None) -> ScanFile:
    """Open a file as a tomography scan.

    Parameters
    ----------
    path
        an HDF5 file.
    paths
        where its parts are, if they are not where the field puts them.

    Raises
    ------
    FileAccessError, UnknownLayoutError
        if it is no readable HDF5 file.
    ScanError
        if it is no scan, or its parts do not fit together: says what was found and what to pass.
    """
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  (more kinds of compression)
    file = open_hdf5(path)
    try:
        return _read_scan(path, file, paths or Paths())
    except ScanError as error:
        file.close()
        raise ScanError(f"{path}: {error}") from None
    except BaseException:
        file.close()
        raise


def _read_scan(path: Path, file: h5py.File, paths: Paths) -> ScanFile:
    paths = paths.absolute()
    tree = walk(file, paths.given())
    layout = find_layout(tree, paths)
    projections, flats, darks, notes = _stacks(tree, layout)
    angles, how = _angles(tree, layout, projections)
    notes = [f"angles: {how}", *notes]
    if flats is None:
        notes.append("no flats: a reconstruction takes the beam as even, as bright as the brightest pixels")
    if darks is None:
        notes.append("no darks: the dark current is taken as zero")
    return ScanFile(
        path, layout, projections, flats, darks, angles, notes, read_details(tree, layout.data), tree, file
    )


def _stacks(tree: Tree, layout: Layout) -> tuple[Stack, Stack | None, Stack | None, list[str]]:
    data = tree.datasets[layout.data]
    if data.ndim != 3 or data.dtype.kind not in "uif" or len(data) < 2:
        raise ScanError(
            f"{layout.data} is {data.shape} {data.dtype}: expected numbers, (frames, rows, columns), "
            "2 frames or more; pass another --data"
        )
    _require_sources(data, layout.data)
    if layout.image_key is None:
        projections = Stack(data, layout.data)
        flats, darks = (_reference(tree, p, projections) for p in (layout.flats, layout.darks))
        return projections, flats, darks, []
    keys = tree.datasets[layout.image_key][()]
    if keys.shape != (len(data),):
        raise ScanError(
            f"{layout.image_key} is {keys.shape}, but {layout.data} has {len(data)} frames; "
            "pass another --image-key"
        )
    chosen = {value: np.flatnonzero(keys == value) for value in (PROJECTION, FLAT, DARK)}
    if len(chosen[PROJECTION]) < 2:
        raise ScanError(f"{layout.image_key} marks {len(chosen[PROJECTION])} frames as projections (0)")
    left = len(keys) - sum(map(len, chosen.values()))
    notes = [f"{left} frames marked as invalid (image_key {INVALID} or unknown) are left out"] if left else []
    stacks = {value: Stack(data, layout.data, found) for value, found in chosen.items() if len(found)}
    return stacks[PROJECTION], stacks.get(FLAT), stacks.get(DARK), notes


def _require_sources(dataset: h5py.Dataset, path: str) -> None:
    """Refuse a virtual dataset whose files are gone: HDF5 reads zeros there, and says nothing."""
    if not dataset.is_virtual:
        return
    home = Path(dataset.file.filename).parent
    for source in dataset.virtual_sources():
        name = Path(source.file_name)
        if source.file_name != "." and not (home / name).exists() and not name.exists():
            raise ScanError(f"frames of {path} are in {name}, which is not there")


def _reference(tree: Tree, path: str | None, projections: Stack) -> Stack | None:
    if path is None:
        return None
    dataset = tree.datasets[path]
    if dataset.ndim not in (2, 3) or dataset.shape[-2:] != (projections.rows, projections.columns):
        raise ScanError(
            f"{path} is {dataset.shape}, but the frames of {projections.path} are "
            f"{projections.rows} x {projections.columns}; pass --flats and --darks"
        )
    stack = Stack(dataset, path)
    return stack if len(stack) else None


def _angles(tree: Tree, layout: Layout, projections: Stack) -> tuple[npt.NDArray[np.float64], str]:
    number = len(projections)
    if layout.angles is None:
        raise ScanError(
            f"no angles for the {number} projections in {layout.data}; pass --angles with a dataset, "
            "or with START:STOP in degrees, such as 0:180"
        )
    if layout.angles not in tree.datasets:
        return from_range(layout.angles, number), f"equal steps over {layout.angles} degrees, as given"
    dataset = tree.datasets[layout.angles]
    values = np.ravel(dataset[()])
    frames = len(tree.datasets[layout.data])
    if len(values) not in (number, frames):
        raise ScanError(
            f"{layout.angles} has {len(values)} angles, but {layout.data} has {frames} frames, "
            f"{number} of them projections; pass another --angles"
        )
    if len(values) != number:
        values = values[projections.indices]
    units = dataset.attrs.get("units")
    if isinstance(units, np.ndarray) and units.size == 1:
        units = units.item()
    text = units.decode(errors="replace") if isinstance(units, bytes) else units
    return to_degrees(values, str(text) if text else None)
