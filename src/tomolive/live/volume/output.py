"""The files of a volume: OME-Zarr with a pyramid, or HDF5 as NXtomoproc; any process writes any block.

OME-Zarr 0.4 (Zarr version 2, a file for each chunk): what every viewer reads today, napari, Fiji,
Neuroglancer and ome-zarr-py among them. Chunks are as high as a block, and half as high on each level of
the pyramid, so that no two blocks share a file on any level. The zarr library makes the arrays; their chunks,
which are plain numbers in C order, are written directly, at a third of the library's processor time.

In HDF5 the volume is one contiguous piece whose place in the file is known once it is made: blocks are
written there directly, which HDF5 itself could do from one process only.

uint16 holds ``offset + step * stored``, where the range was chosen beforehand; offset and step are in the
file, under the names that CF conventions (Zarr) and NXdata give them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tomolive import __version__
from tomolive.errors import FileAccessError
from tomolive.live.volume.rows import BAND, write_all

Floats = npt.NDArray[np.float32]

_TILE = 256
_LARGEST_UINT16 = 65535


@dataclass(frozen=True)
class VolumeForm:
    """What a volume file is like."""

    shape: tuple[int, int, int]
    """z, y, x."""
    dtype: str = "float32"
    low: float = 0.0
    """For uint16: the value of 0 ..."""
    high: float = 1.0
    """... and of 65535; what lies beyond is cut."""
    pixel_size_um: float | None = None
    """Of a voxel."""
    units: str = "1/pixel"
    """Of a value."""

    @property
    def step(self) -> float:
        """What a stored value of uint16 counts by."""
        return (self.high - self.low) / _LARGEST_UINT16

    def stored(self, values: Floats) -> npt.NDArray[Any]:
        """Return values as they are stored."""
        if self.dtype == "float32":
            return np.ascontiguousarray(values, "<f4")
        scaled = (np.clip(np.nan_to_num(values), self.low, self.high) - self.low) / self.step
        return np.rint(scaled, out=scaled).astype("<u2")

    def cut(self, values: Floats) -> int:
        """Return how many values lie outside the range."""
        if self.dtype == "float32":
            return 0
        return int(np.count_nonzero((values < self.low) | (values > self.high)))


class VolumeFile(Protocol):
    """A volume under construction."""

    suffix: str
    """Of its name."""

    def __init__(self, path: Path, form: VolumeForm) -> None: ...

    def create(self, about: Mapping[str, Any]) -> None:
        """Make the file; ``about`` is the provenance that goes into it."""
        ...

    def write(self, first: int, values: Floats) -> None:
        """Write the block (slices, y, x) that begins at slice ``first``."""
        ...

    def asset(self) -> dict[str, Any]:
        """Return mimetype, parameters and the path below that of the file, for a stream_resource."""
        ...


class OmeZarr:
    """A multiscale image of version 0.4 of the format, not compressed: noise does not compress."""

    suffix = ".ome.zarr"

    def __init__(self, path: Path, form: VolumeForm) -> None:
        self._path, self._form = path, form

    @property
    def _levels(self) -> int:
        """Levels of the pyramid: down to one tile, and as far as a block can be halved."""
        wide = max(self._form.shape[1:])
        return 1 + min(max(0, (-(-wide // _TILE) - 1).bit_length()), BAND.bit_length() - 1)

    def create(self, about: Mapping[str, Any]) -> None:
        """See `VolumeFile.create`."""
        import zarr

        group = zarr.create_group(self._path, zarr_format=2, attributes=self._attributes(about))
        shape = self._form.shape
        for level in range(self._levels):
            array = group.create_array(
                str(level),
                shape=shape,
                chunks=self._chunk(level, shape[1:]),
                dtype="<f4" if self._form.dtype == "float32" else "<u2",
                compressors=None,
                fill_value=0,
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
            array.attrs.update(self._scaling())
            shape = (-(-shape[0] // 2), -(-shape[1] // 2), -(-shape[2] // 2))

    def write(self, first: int, values: Floats) -> None:
        """See `VolumeFile.write`."""
        for level in range(self._levels):
            self._write_level(level, first // BAND, self._form.stored(values))
            values = halved(values)

    def _write_level(self, level: int, number: int, stored: npt.NDArray[Any]) -> None:
        """Write a row of chunks; also those of zeros: one that is not there was not written."""
        chunk = self._chunk(level, stored.shape[1:])
        for y in range(-(-stored.shape[1] // chunk[1])):
            folder = self._path / str(level) / str(number) / str(y)
            folder.mkdir(parents=True, exist_ok=True)
            for x in range(-(-stored.shape[2] // chunk[2])):
                tile = stored[:, y * chunk[1] : (y + 1) * chunk[1], x * chunk[2] : (x + 1) * chunk[2]]
                if tile.shape != chunk:  # a chunk at an end is as large as the others
                    whole = np.zeros(chunk, stored.dtype)
                    whole[tuple(map(slice, tile.shape))] = tile
                    tile = whole
                (folder / str(x)).write_bytes(np.ascontiguousarray(tile).data)

    @staticmethod
    def _chunk(level: int, plane: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of the chunks of a level whose slices have this shape."""
        return BAND >> level, min(_TILE, plane[0]), min(_TILE, plane[1])

    def asset(self) -> dict[str, Any]:
        """See `VolumeFile.asset`."""
        chunk = [min(side, chunk) for side, chunk in zip(self._form.shape, (BAND, _TILE, _TILE), strict=True)]
        return {"mimetype": "application/x-zarr", "below": "/0", "parameters": {"chunk_shape": chunk}}

    def _scaling(self) -> dict[str, Any]:
        if self._form.dtype == "float32":
            return {"units": self._form.units}
        return {"units": self._form.units, "scale_factor": self._form.step, "add_offset": self._form.low}

    def _attributes(self, about: Mapping[str, Any]) -> dict[str, Any]:
        size = self._form.pixel_size_um
        unit = {"unit": "micrometer"} if size else {}
        datasets = []
        for level in range(self._levels):
            scale = 2.0**level * (size or 1.0)
            # the middle of a voxel of a level is the middle of those that were averaged
            shift = (2.0**level - 1) / 2 * (size or 1.0)
            transforms = [
                {"type": "scale", "scale": [scale] * 3},
                {"type": "translation", "translation": [shift] * 3},
            ]
            datasets.append({"path": str(level), "coordinateTransformations": transforms})
        return {
            "multiscales": [
                {
                    "version": "0.4",
                    "name": str(about.get("title", "volume")),
                    "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
                    "datasets": datasets,
                    "type": "mean",
                }
            ],
            # not when it was made: the same volume is the same to the byte
            "tomolive": {key: value for key, value in about.items() if key != "date"},
        }


class NxTomoProc:
    """An HDF5 file of the application definition NXtomoproc; ``/entry/data/data`` is the volume."""

    suffix = ".nxs"
    dataset = "/entry/data/data"

    def __init__(self, path: Path, form: VolumeForm) -> None:
        self._path, self._form = path, form
        self._place: int | None = None

    def create(self, about: Mapping[str, Any]) -> None:
        """See `VolumeFile.create`."""
        import h5py

        with h5py.File(self._path, "w") as file:
            file.attrs["default"] = "entry"
            entry = _group(file, "entry", "NXentry")
            entry.attrs["default"] = "data"
            entry["title"], entry["definition"] = str(about.get("title", "volume")), "NXtomoproc"
            _fill_instrument(entry, about)
            process = _group(entry, "reconstruction", "NXprocess")
            process["program"], process["version"] = "tomolive", __version__
            process["date"] = str(about.get("date", ""))
            parameters = _group(process, "parameters", "NXparameters")
            parameters["raw_file"] = f"bluesky run {about.get('run_uid', '')}"
            for key, value in _flat(about):
                parameters[key] = value
            self._fill_data(_group(entry, "data", "NXdata"))

    def _fill_data(self, group: Any) -> None:
        import h5py

        group.attrs["signal"] = "data"
        group.attrs["axes"] = ["z", "y", "x"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.CONTIGUOUS)
        # its place in the file is settled now, and nothing is written there by HDF5
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        kind = h5py.h5t.IEEE_F32LE if self._form.dtype == "float32" else h5py.h5t.STD_U16LE
        space = h5py.h5s.create_simple(self._form.shape)
        h5py.h5d.create(group.id, b"data", kind, space, properties)
        data = group["data"]
        data.attrs["units"], data.attrs["long_name"] = self._form.units, "attenuation"
        if self._form.dtype != "float32":
            group["data_scaling_factor"], group["data_offset"] = self._form.step, self._form.low
        size = self._form.pixel_size_um
        for axis, count in zip("zyx", self._form.shape, strict=True):
            group[axis] = (np.arange(count) - (count - 1) / 2) * (size or 1.0)
            group[axis].attrs["units"] = "um" if size else "pixel"

    def write(self, first: int, values: Floats) -> None:
        """See `VolumeFile.write`."""
        stored = self._form.stored(values)
        place = self._offset() + first * (stored.nbytes // len(stored))
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
            write_all(descriptor, stored, place)
        finally:
            os.close(descriptor)

    def _offset(self) -> int:
        if self._place is None:
            import h5py

            # other processes write into the same file at places that HDF5 does not look at
            with h5py.File(self._path, "r", locking=False) as file:
                self._place = file[self.dataset].id.get_offset()
            if self._place is None:
                raise FileAccessError(f"{self._path}: {self.dataset} is not one contiguous piece")
        return self._place

    def asset(self) -> dict[str, Any]:
        """See `VolumeFile.asset`."""
        shape = self._form.shape
        parameters = {"dataset": self.dataset, "chunk_shape": [min(BAND, shape[0]), *shape[1:]]}
        return {"mimetype": "application/x-hdf5", "below": "", "parameters": parameters}


FORMATS: dict[str, type[VolumeFile]] = {"ome-zarr": OmeZarr, "nxtomoproc": NxTomoProc}


def halved(values: Floats) -> Floats:
    """Return the means of cubes of two pixels a side; at an odd end, of what there is of them.

    >>> halved(np.arange(3, dtype=np.float32).reshape(1, 1, 3)).ravel().tolist()
    [0.5, 2.0]
    """
    for axis in range(3):
        if values.shape[axis] % 2:
            ends = [(0, int(axis == other)) for other in range(3)]
            values = np.pad(values, ends, mode="edge")
        pairs = np.moveaxis(values, axis, 0)
        values = np.moveaxis((pairs[::2] + pairs[1::2]) * np.float32(0.5), 0, axis)
    return values


def _group(parent: Any, name: str, kind: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _fill_instrument(entry: Any, about: Mapping[str, Any]) -> None:
    source = _group(_group(entry, "instrument", "NXinstrument"), "source", "NXsource")
    source["type"], source["name"] = "Synchrotron X-ray Source", "unknown"
    source["probe"] = "x-ray"
    _group(entry, "sample", "NXsample")["name"] = str(about.get("sample") or "unknown")


def _flat(about: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return nested provenance as pairs of a name and a plain value."""
    pairs: list[tuple[str, Any]] = []
    for key, value in about.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{name}_")
        else:
            plain = isinstance(value, str | int | float | bool)
            pairs.append((name, value if plain else str(value)))
    return pairs
