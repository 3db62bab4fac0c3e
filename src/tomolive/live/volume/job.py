"""One volume to be made: what a process must know to make any block of it, as files in one folder.

The blocks are the bands of the row store: the same on every machine, whatever its memory, so that a volume
that was begun on one can be finished elsewhere, to the same byte.
"""

import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.files.pool import FramePool
from tomolive.geometry import angle_weights
from tomolive.live.volume.in_place import open_rows
from tomolive.live.volume.memory import peak_mb
from tomolive.live.volume.output import FORMATS, VolumeFile, VolumeForm
from tomolive.live.volume.rows import BAND, RowLayout, Rows
from tomolive.live.volume.source import ScanArrays, read_band
from tomolive.recon.flat_field import flat_field
from tomolive.recon.gridding import Plan
from tomolive.recon.half_acquisition import of_half_turn, widen
from tomolive.recon.pipeline import correct_projections, correct_sinograms

Floats = npt.NDArray[np.float32]

JOB, ROWS = "job.json", "rows"


@dataclass(frozen=True)
class VolumeJob:
    """What is to be done, beside the arrays."""

    layout: RowLayout
    corrected: bool
    """Whether the rows are line integrals already."""
    center: float
    """Column among those of the rows."""
    widened: bool
    """Whether it is a half acquisition, whose sinograms are widened about the centre."""
    filter: str
    corrections: CorrectionSettings
    pixel_cm: float | None
    """Size of a voxel; None: values are per pixel."""
    format: str
    form: VolumeForm
    path: str
    """Of the volume while it is being made."""

    def save(self, folder: Path) -> None:
        """Write it into its folder, whole or not at all."""
        values = asdict(self) | {"corrections": self.corrections.model_dump()}
        partial = folder / f"{JOB}.partial"
        partial.write_text(json.dumps(values, indent=1))
        partial.replace(folder / JOB)

    @classmethod
    def load(cls, folder: Path) -> "VolumeJob":
        """Read what `save` has written."""
        values = json.loads((folder / JOB).read_text())
        form = values["form"] | {"shape": tuple(values["form"]["shape"])}
        parts = {
            "layout": RowLayout(**values["layout"]),
            "corrections": CorrectionSettings.model_validate(values["corrections"]),
            "form": VolumeForm(**form),
        }
        return cls(**values | parts)

    def file(self) -> VolumeFile:
        """Return the volume file."""
        return FORMATS[self.format](Path(self.path), self.form)


class BlockMaker:
    """Makes blocks of one volume; threads that call it read and write while one of them computes.

    Parameters
    ----------
    folder
        Of the job.
    store
        The rows; default: those that the folder tells of.
    threads
        That compute.
    """

    def __init__(self, folder: Path, store: Rows | None = None, threads: int = 1) -> None:
        self.job = VolumeJob.load(folder)
        self._arrays = ScanArrays.load(folder)
        self._store = store or open_rows(folder, self.job.layout)
        self._threads = threads
        self._file = self.job.file()
        self._computing = threading.Lock()
        # each block takes the memory of one before: fresh memory takes as long as to compute with it
        self._memory = FramePool(keep=sys.maxsize)

    def make(self, band: int) -> dict[str, Any]:
        """Make one block; return how long its parts took, seconds, and how many values were cut off."""
        began = time.perf_counter()
        stored = self._store.read(band, self._memory.empty)
        read = time.perf_counter()
        with self._computing:
            waited = time.perf_counter()
            volume = self.slices(band, stored)
            computed = time.perf_counter()
        del stored
        first, _ = self.job.layout.rows_of(band)
        self._file.write(first, volume)
        written = time.perf_counter()
        return {
            "band": band,
            "read": read - began,
            "compute": computed - waited,
            "write": written - computed,
            "cut": self.job.form.cut(volume),
            "by": f"{socket.gethostname()}:{os.getpid()}",
            "peak_mb": peak_mb(),
        }

    def sample(self, band: int) -> Floats:
        """Return the slices of a band, (rows, y, x), without writing them."""
        return self.slices(band, self._store.read(band))

    def slices(self, band: int, stored: npt.NDArray[Any]) -> Floats:
        """Return the slices of a band, (rows, y, x), from its stored rows, which may be overwritten."""
        job, threads = self.job, self._threads
        sinograms = read_band(
            band,
            stored,
            job.layout,
            self._arrays,
            job.corrections,
            corrected=job.corrected,
            threads=threads,
            empty=self._memory.empty,
        )
        sinograms = correct_sinograms(sinograms, job.corrections, threads=threads, out=sinograms)
        center = job.center
        if job.widened:
            sinograms, center = widen(sinograms, center)
        out = self._memory.empty((len(sinograms), *job.form.shape[1:]), np.dtype(np.float32))
        return self._plan.reconstruct(sinograms, center, np.asarray(out, np.float32))

    @cached_property
    def _plan(self) -> Plan:
        angles, columns = self._arrays.angles, self.job.form.shape[2]
        weights = angle_weights(of_half_turn(angles) if self.job.widened else angles)
        weights /= self.job.pixel_cm or 1.0
        return Plan(angles, columns, weights=weights, filter=self.job.filter, threads=self._threads)

    def close(self) -> None:
        """Let go of the rows."""
        self._store.close()


def load_kernels() -> None:
    """Do on a few pixels all that blocks need, so that the kernels are loaded when the first comes."""
    settings = CorrectionSettings(zingers=True, rings="sorting")
    counts = np.full((4, BAND, 32), 100, np.uint16)
    integrals = correct_projections(counts, flat_field(counts), settings, threads=1)
    sinograms = correct_sinograms(integrals.transpose(1, 0, 2), settings, threads=1)
    Plan(np.arange(4.0), sinograms.shape[2], threads=1).reconstruct(sinograms, 15.5)
