"""Whether there is room on the disk for a volume that is to be made."""

import shutil
from pathlib import Path

import numpy as np

from tomolive.config import VolumeSettings
from tomolive.errors import SettingsError
from tomolive.live.volume.rows import RowLayout

_PYRAMID = 8 / 7
"""All levels, each of an eighth of the one before."""


def volume_bytes(layout: RowLayout, settings: VolumeSettings) -> float:
    """Return the size of the file of a volume."""
    voxels = layout.rows * layout.columns**2
    return voxels * np.dtype(settings.dtype).itemsize * (_PYRAMID if settings.format == "ome-zarr" else 1)


def require_room(folder: Path, settings: VolumeSettings, layout: RowLayout, *, stored: bool) -> None:
    """See that there is room for a volume, and for rows that are stored in a file beside it.

    The rows of a block give way to its slices, so that what is needed is the larger of both; not where a
    cluster makes them.

    Raises
    ------
    SettingsError
        if there is too little.
    """
    volume, rows = volume_bytes(layout, settings), layout.nbytes if stored else 0
    needed = volume + rows if settings.dask else max(volume, rows)
    there = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free + there
    if free < needed:
        raise SettingsError(
            f"the volume needs {needed / 1e9:.1f} GB of disk in {folder.parent}, which has {free / 1e9:.1f}; "
            "make room there, choose another folder with --out, uint16 values, or bin"
        )
