"""How the memory limit of a volume is shared out: rows in memory or in a file, and how many processes."""

import resource
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomolive.config import VolumeSettings
from tomolive.errors import SettingsError
from tomolive.live.volume.rows import BAND, RowLayout

AT_ONCE = 2
"""Blocks that one process has in hand."""
_MB = 2**20
BASE_MB = 250
"""A Python with the kernels loaded."""
_PARENT_MB = 300
"""The process that shares out the work."""


@dataclass(frozen=True)
class Share:
    """Who gets what."""

    in_memory: bool
    """Whether the rows lie in memory."""
    processes: int
    threads: int
    """That compute, in each process."""
    rows_mb: float = 0.0
    """Memory of the rows."""


def process_mb(layout: RowLayout, angles: int) -> float:
    """Return what a process takes at most that makes blocks.

    A block's counts, twice, since the next ones are read meanwhile; its line integrals, three times, since
    a half acquisition is widened, and memory that is used again may be larger than needed; the grids of
    `tomolive.recon.gridding`; and slices, of this block and as they are written.
    """
    rows, columns = BAND, layout.columns
    stored = layout.frames * (rows + 2 * layout.context) * columns * np.dtype(layout.dtype).itemsize
    integrals = angles * rows * columns * 4
    lines = angles * 1.5 * columns * rows * 4
    grids = (1.25**2 + 1.25) * columns**2 * rows * 4
    slices = rows * columns**2 * 4
    total = AT_ONCE * stored + 3 * integrals + lines + grids + (1 + AT_ONCE) * slices
    return BASE_MB + total / _MB


def resident_mb() -> float:
    """Return the memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / _MB


def peak_mb() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def share_memory(layout: RowLayout, angles: int, settings: VolumeSettings, *, stored: bool = True) -> Share:
    """Decide how the limit is used: rows in memory if they fit beside the processes, else more processes.

    Rows that are not ``stored``, since they are in files, take none.

    Raises
    ------
    SettingsError
        if it is too little for one process.
    """
    if settings.dask:
        return Share(False, 1, 1)
    each, rows = process_mb(layout, angles), layout.nbytes / _MB
    room = settings.memory_mb - _PARENT_MB
    if room < each:
        raise SettingsError(
            f"a memory of {settings.memory_mb} MB is too little for slices of {layout.columns} columns from "
            f"{angles} projections; set volume.memory_mb to {_PARENT_MB + each:.0f} or more, or bin"
        )
    processes = min(settings.processes, layout.bands, int(room // each))
    threads = max(1, settings.processes // processes)
    in_memory = stored and rows + processes * each <= room
    return Share(in_memory, processes, threads, rows if in_memory else 0.0)
