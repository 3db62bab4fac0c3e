"""What comes before the blocks of a volume: the scan is read, and all that the blocks share is settled."""

import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive import __version__, geometry
from tomolive.errors import FileAccessError
from tomolive.live.beam import ranges_of
from tomolive.live.documents.rules import Rules, load_rules, shipped_rules
from tomolive.live.volume.disk import require_room
from tomolive.live.volume.in_place import IN_PLACE, MovedError, RowsInPlace
from tomolive.live.volume.job import JOB, ROWS, BlockMaker, VolumeJob
from tomolive.live.volume.memory import Share, peak_mb, share_memory
from tomolive.live.volume.output import VolumeForm
from tomolive.live.volume.reading import Reading, ScanRows
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.rows import RowLayout, Rows, RowStore
from tomolive.live.volume.source import ScanArrays, StoredProjections
from tomolive.live.volume.tiles import read_field
from tomolive.recon.binning import binned_place
from tomolive.recon.half_acquisition import NO_OVERLAP, is_half_acquisition, widen
from tomolive.recon.slices import check_center

log = logging.getLogger(__name__)

ABOUT, LOCK = "about.json", "lock"
_BOOT, _READING = "boot", "rows.reading"
_IN_FLIGHT_MB = 128
"""Megabytes of frames between the files and the rows."""
_SAMPLE_BLOCKS = 3
_PERCENTILES = (0.02, 99.98)
_HEADROOM = 0.25
"""What the range of uint16 is wider than that of the sample, on both sides, part of its width."""


class Preparation:
    """Prepares one volume in its folder, or finds what a process before has left there.

    Parameters
    ----------
    request
        What is asked for.
    folder
        Of what is under way.
    say
        Told in words what is being done, and whether that is new; may raise to end it.
    begin
        Called with the rows once it is known where they will be, before they are read.

    Attributes
    ----------
    share : Share
        How the memory is used.
    seconds, peak_mb : float
        How long reading the scan took, and the most memory that this process had until then.
    """

    def __init__(
        self,
        request: VolumeRequest,
        folder: Path,
        say: Callable[[str, bool], object],
        begin: Callable[[Rows], object],
    ) -> None:
        self._request, self._folder, self._say, self._begin = request, folder, say, begin
        self._copies = bool(request.volume.dask)  # whose workers may not see the detector's files
        self.share = Share(False, 1, 1)
        self.seconds = self.peak_mb = 0.0

    def rows(self) -> Rows:
        """Return the rows of the projections; the folder then holds a `VolumeJob` and its arrays."""
        return self._taken_up() or self._prepared()

    def begin_anew(self) -> None:
        """Forget what was done; the rows are then copied, whatever somebody does to the detector's files."""
        self._copies = True
        self._clear()

    def _taken_up(self) -> Rows | None:
        """Return the rows that a process before has left complete, or None."""
        if not (self._folder / JOB).exists() or not self._is_trustworthy():
            return None
        job = VolumeJob.load(self._folder)
        rows = None
        if (self._folder / ROWS).exists():
            rows = RowStore.open(self._folder / ROWS, job.layout)
        elif (self._folder / IN_PLACE).exists() and not self._copies:
            try:
                rows = RowsInPlace.load(self._folder)
            except FileAccessError as error:
                log.info("%s", error)
                self._clear()
        if rows is not None:
            log.info("taken up where it stopped: %s", self._folder)
            angles = len(ScanArrays.load(self._folder).angles)
            layout = replace(job.layout, columns=job.form.shape[2])
            self.share = share_memory(layout, angles, self._request.volume, stored=False)
            self._begin(rows)
        return rows

    def _is_trustworthy(self) -> bool:
        """Whether all that was written is on the disk or in the memory of the kernel: no power cut since."""
        boot = self._folder / _BOOT
        return boot.exists() and boot.read_text() == _boot_id()

    def _prepared(self) -> Rows:
        """Read the scan, and settle everything that is the same for all blocks."""
        if (self._folder / _BOOT).exists() and not self._is_trustworthy():
            self._clear()
        began = time.perf_counter()
        self._say("reading the documents", True)
        fetch = self._request.source.fetch
        documents = fetch(self._request.run_uid)
        request = self._request
        # little is on its way from the files at once: memory that is used again and again is the fastest
        in_flight = min(request.files.memory_mb, max(request.volume.memory_mb // 8, 1), _IN_FLIGHT_MB)
        files = request.files.model_copy(update={"memory_mb": in_flight})
        processes = request.volume.processes
        how = Reading(files, request.corrections, self._rules(), processes, told=self._tell_reading)
        rows = None
        if not self._copies:
            with suppress(MovedError):
                rows = read_field(documents, fetch, self._make_store, replace(how, in_place=self._leave))
        rows = rows or read_field(documents, fetch, self._make_store, how)
        # only now it can be taken up
        if isinstance(rows.store, RowsInPlace):
            rows.store.save(self._folder)
        elif not self.share.in_memory:
            (self._folder / _READING).rename(self._folder / ROWS)
        self.seconds, self.peak_mb = time.perf_counter() - began, peak_mb()
        if not self._is_same(rows):
            self._clear()
            self._settle(rows)
        return rows.store

    def _clear(self) -> None:
        """Begin anew."""
        for path in self._folder.iterdir():
            if path.name in (LOCK, ROWS, IN_PLACE):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _rules(self) -> list[Rules]:
        return [*(load_rules(Path(file)) for file in self._request.rule_files), *shipped_rules()]

    def _tell_reading(self, done: int, total: int) -> None:
        self._say(f"reading the projections: {done} of {total}", False)

    def _leave(self, rows: RowsInPlace) -> None:
        self.share = share_memory(rows.layout, rows.layout.frames, self._request.volume, stored=False)
        self._forget_rows()
        require_room(self._folder, self._request.volume, rows.layout, stored=False)
        self._begin(rows)

    def _make_store(self, layout: RowLayout) -> Rows:
        self.share = share_memory(layout, layout.frames, self._request.volume)
        self._forget_rows()
        require_room(self._folder, self._request.volume, layout, stored=not self.share.in_memory)
        store = (
            RowStore.in_memory(layout)
            if self.share.in_memory
            else RowStore.create(self._folder / _READING, layout)
        )
        self._begin(store)
        return store

    def _forget_rows(self) -> None:
        """Remove the rows of a process before, which cannot be taken up."""
        for name in (ROWS, IN_PLACE, _READING):
            (self._folder / name).unlink(missing_ok=True)

    def _is_same(self, rows: ScanRows) -> bool:
        """Whether a volume that was begun is of the same projections."""
        if not (self._folder / JOB).exists():
            return False
        layout = VolumeJob.load(self._folder).layout
        return layout == rows.store.layout and ScanArrays.load(self._folder).same_as(_arrays_of(rows))

    def _settle(self, rows: ScanRows) -> None:
        """Write down what is to be done, with the centre and the range found, and make the volume's file."""
        request, layout = self._request, rows.store.layout
        arrays = _arrays_of(rows)
        center, how = self._center(rows, arrays)
        place = binned_place(center, request.corrections.binning)
        # decided on the detector, as the live slices are, then widened among the binned columns
        turn = max(rows.scan.turn or 0.0, float(np.degrees(np.ptp(arrays.angles))))
        asked, binning = request.corrections.half_acquisition, request.corrections.binning
        widened = is_half_acquisition(center, rows.shape[1], turn, asked, binning=binning)
        if asked and not widened:
            rows.notes.append(NO_OVERLAP)
        phase = request.corrections.paganin
        rows.notes += rows.scan.pixel_size_doubts(phase.pixel_size_um if phase else None)
        columns = layout.columns
        if widened:
            columns = widen(np.zeros((1, columns), np.float32), place)[0].shape[1]
        size = rows.scan.pixel_size_um
        voxel = size * request.corrections.binning if size else None
        units = "1/cm" if voxel else "1/pixel"
        shape = (layout.rows, columns, columns)
        form = VolumeForm(shape, request.volume.dtype, pixel_size_um=voxel, units=units)
        path = self._folder / f"volume{request.path.suffix}"
        job = VolumeJob(
            layout, rows.corrected, place, widened, request.filter, request.corrections,
            voxel * 1e-4 if voxel else None, request.volume.format, form, str(path),
        )  # fmt: skip
        arrays.save(self._folder)
        if request.volume.dtype == "uint16":
            job = self._with_range(job, rows.store)
        about = self._about(job, rows, center, how)
        job.file().create(_provenance(about))
        (self._folder / ABOUT).write_text(json.dumps(about, indent=1))
        (self._folder / _BOOT).write_text(_boot_id())
        if widened:  # slices are larger than the projections let expect
            wide = share_memory(replace(layout, columns=columns), len(arrays.angles), request.volume)
            self.share = replace(self.share, processes=wide.processes, threads=wide.threads)
            require_room(self._folder, request.volume, replace(layout, columns=columns), stored=False)
        # its presence says that all of the above is complete
        job.save(self._folder)

    def _with_range(self, job: VolumeJob, store: Rows) -> VolumeJob:
        """Choose what 0 and 65535 stand for, from a few blocks unless it was given."""
        low_high = self._request.value_range
        if low_high is None:
            self._say("looking for the range of values", True)
            job.save(self._folder)
            maker = BlockMaker(self._folder, store, self._request.volume.processes)
            bands = np.unique(np.linspace(0, job.layout.bands - 1, _SAMPLE_BLOCKS + 2)[1:-1].round())
            found = [np.percentile(maker.sample(int(band)), _PERCENTILES) for band in bands]
            (self._folder / JOB).unlink()
            low, high = min(f[0] for f in found), max(f[1] for f in found)
            spare = _HEADROOM * max(high - low, 1e-12)
            low_high = float(low - spare), float(high + spare)
        return replace(job, form=replace(job.form, low=low_high[0], high=low_high[1]))

    def _center(self, rows: ScanRows, arrays: ScanArrays) -> tuple[float, str]:
        """Return the centre, a column of the detector, and how it was found."""
        request, columns = self._request, rows.shape[1]
        if request.center is not None:
            return check_center(request.center, columns), request.center_source or "given"
        self._say("looking for the rotation centre", True)
        projections = StoredProjections(
            rows.store, arrays, request.corrections,
            corrected=rows.corrected, threads=request.volume.processes,
        )  # fmt: skip
        return projections.center(columns)

    def _about(self, job: VolumeJob, rows: ScanRows, center: float, how: str) -> dict[str, Any]:
        request, scan = self._request, rows.scan
        lost = np.setdiff1d(rows.numbers[~rows.present], rows.without_beam)
        return {
            "title": f"{scan.sample or 'volume'}, run {scan.run_uid[:8]}",
            "result_uid": str(uuid.uuid4()),
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **scan.about(),
            "frames": {
                "planned": scan.planned,
                "announced": len(scan.announced),
                "used": int(rows.present.sum()),
                "missing": [list(r) for r in ranges_of(lost)],
                "without_beam": [list(r) for r in ranges_of(rows.without_beam)],
                "darks": rows.darks,
                "flats": rows.flats,
            },
            "coverage_deg": _coverage(rows.angles[rows.present], widened=job.widened),
            "parameters": {
                "center": center,
                "center_source": how,
                "filter": request.filter,
                "corrections": request.corrections.model_dump(),
                "format": request.volume.format,
                "dtype": request.volume.dtype,
                "value_range": [job.form.low, job.form.high] if request.volume.dtype == "uint16" else None,
                "pixel_size_um": scan.pixel_size_um,
                "voxel_size_um": job.form.pixel_size_um,
                "units": job.form.units,
                "shape": list(job.form.shape),
            },
            "like": request.like,
            "notes": rows.notes,
            "version": __version__,
        }


def _arrays_of(rows: ScanRows) -> ScanArrays:
    """Return the angles and numbers of the frames that are there, in the order of the angles."""
    frames = np.flatnonzero(rows.present)
    angles = rows.angles[frames]
    if not (np.diff(angles) > 0).all():
        order = np.argsort(angles, kind="stable")
        frames, angles = frames[order], angles[order]
    return ScanArrays(angles, frames, rows.numbers[frames], rows.flat_field)


def _coverage(angles: npt.NDArray[np.float64], *, widened: bool) -> float:
    """Return the degrees of the half turn that are covered; of the whole turn in a half acquisition."""
    if widened:
        return float(np.degrees(2 * geometry.covered(angles / 2)))
    return float(np.degrees(geometry.covered(angles)))


def _provenance(about: dict[str, Any]) -> dict[str, Any]:
    """Return what goes into the volume itself: what it was made from and how, not when and by which run."""
    return {key: value for key, value in about.items() if key not in ("result_uid", "like")}


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"no boot id, process {os.getpid()}"
