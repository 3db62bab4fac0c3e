"""The full volume of a scan that is over: read once, then block by block of slices, within a memory limit.

Everything under way lies in one folder beside the result: the rows of the projections (unless they fit into
memory), the volume as far as it is, and the list of blocks that are done. A reconstruction that was killed is
taken up from there by the next one with the same parameters, and gives the same volume to the byte. When all
is done the volume gets its name, and the folder goes.
"""

import fcntl
import json
import logging
import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive import __version__, geometry
from tomolive.errors import SettingsError
from tomolive.live.rules import Rules, load_rules, shipped_rules
from tomolive.live.snapshot import VolumeProgress
from tomolive.live.volume_job import JOB, ROWS, BlockMaker, VolumeJob
from tomolive.live.volume_memory import Share, peak_mb, resident_mb, share_memory
from tomolive.live.volume_output import VolumeForm
from tomolive.live.volume_pool import DaskPool, LocalPool, Pool
from tomolive.live.volume_reading import Reading, ScanRows, read_scan
from tomolive.live.volume_request import VolumeRequest
from tomolive.live.volume_rows import RowLayout, RowStore
from tomolive.live.volume_source import ScanArrays, StoredProjections
from tomolive.recon.binning import binned_place
from tomolive.recon.filters import check_filter
from tomolive.recon.half_acquisition import is_half_acquisition, widen
from tomolive.recon.slices import check_center

log = logging.getLogger(__name__)

ABOUT, DONE, LOCK, BOOT = "about.json", "done", "lock", "boot"
_TOLD_EVERY_S = 0.2
_RATE_OVER_S = 20.0
_SAMPLE_BLOCKS = 3
_PERCENTILES = (0.02, 99.98)
_HEADROOM = 0.25
"""What the range of uint16 is wider than that of the sample, on both sides, part of its width."""


class CancelledError(Exception):
    """Somebody asked to stop; what is done stays for the next time."""


@dataclass(frozen=True)
class VolumeResult:
    """A finished volume."""

    path: Path
    about: dict[str, Any]
    """Where it comes from: run, centre, filter, corrections, frames, form, notes."""
    uid: str
    """Of its run in the catalog."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What took how long: ``wall``, ``reading`` the scan, and sums over blocks of ``read``, ``compute``,
    ``write``; empty if it was there already."""
    peak_mb: float = 0.0
    """Largest memory of all processes together, an upper bound; only for processes of this machine."""


Tell = Callable[[VolumeProgress], object]


def make_volume(
    request: VolumeRequest, tell: Tell = lambda _: None, cancelled: Callable[[], bool] = lambda: False
) -> VolumeResult:
    """Reconstruct a volume, or take up one that was begun.

    Parameters
    ----------
    request
        What is asked for.
    tell
        Called with the progress, a few times a second.
    cancelled
        Asked a few times a second whether to stop.

    Raises
    ------
    CancelledError
        if it was stopped; asked for again, it goes on where it was.
    TomoliveError
        if it cannot be made; the text says why.
    """
    check_filter(request.filter)
    path = request.path
    final = path.with_name(f"{path.name}.json")
    if path.exists() and final.exists():
        about = json.loads(final.read_text())
        log.info("%s is there already", path)
        return VolumeResult(path, about, about["result_uid"])
    with _work_folder(path) as folder:
        return _Making(request, folder, tell, cancelled).run()


@contextmanager
def _work_folder(path: Path) -> Iterator[Path]:
    """Make the folder of what is under way, or find it; no other process works in it."""
    folder = path.with_name(f".{path.name}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise SettingsError(
            f"cannot write to {path.parent}: {error.strerror}; choose another folder with --out"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(f"another process makes {path} now") from None
        yield folder


class _Making:
    """One volume being made."""

    def __init__(
        self, request: VolumeRequest, folder: Path, tell: Tell, cancelled: Callable[[], bool]
    ) -> None:
        self._request, self._folder, self._tell, self._cancelled = request, folder, tell, cancelled
        self._began = time.perf_counter()
        self._seconds = {"reading": 0.0, "read": 0.0, "compute": 0.0, "write": 0.0}
        self._told = 0.0
        self._cut = 0
        self._peaks: dict[str, float] = {}
        self._reading_mb = 0.0
        self._share = Share(False, 1, 1)

    def run(self) -> VolumeResult:
        """Do it all."""
        store = self._taken_up() or self._prepared()
        try:
            job = VolumeJob.load(self._folder)
            self._make_blocks(job, store)
        finally:
            store.close()
        return self._finish(job)

    # -- what comes before the blocks -----------------------------------------------------------------------

    def _taken_up(self) -> RowStore | None:
        """Return the rows that a process before has left complete, or None."""
        if not (self._folder / JOB).exists() or not (self._folder / ROWS).exists():
            return None
        if not self._is_trustworthy():
            return None
        job = VolumeJob.load(self._folder)
        log.info("taken up where it stopped: %s", self._folder)
        arrays = ScanArrays.load(self._folder)
        self._share = self._plan(job.layout, len(arrays.angles))
        return RowStore.open(self._folder / ROWS, job.layout)

    def _is_trustworthy(self) -> bool:
        """Whether all that was written is on the disk or in the memory of the kernel: no power cut since."""
        boot = self._folder / BOOT
        return boot.exists() and boot.read_text() == _boot_id()

    def _prepared(self) -> RowStore:
        """Read the scan, and settle everything that is the same for all blocks."""
        if (self._folder / BOOT).exists() and not self._is_trustworthy():
            self._clear()
        began = time.perf_counter()
        self._say("reading the documents", force=True)
        fetch = self._request.source.fetch
        documents = fetch(self._request.run_uid)
        request = self._request
        # what is on its way from the files counts as well
        in_flight = min(request.files.memory_mb, max(request.volume.memory_mb // 8, 1))
        files = request.files.model_copy(update={"memory_mb": in_flight})
        processes = request.volume.processes
        how = Reading(files, request.corrections, self._rules(), processes, self._tell_reading)
        rows = read_scan(documents, fetch, self._make_store, how)
        self._seconds["reading"], self._reading_mb = time.perf_counter() - began, peak_mb()
        if not self._is_same(rows):
            self._clear()
            self._settle(rows)
        return rows.store

    def _clear(self) -> None:
        """Begin anew."""
        for path in self._folder.iterdir():
            if path.name in (LOCK, ROWS):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _rules(self) -> list[Rules]:
        return [*(load_rules(Path(file)) for file in self._request.rule_files), *shipped_rules()]

    def _tell_reading(self, done: int, total: int) -> None:
        self._say(f"reading the projections: {done} of {total}")

    def _plan(self, layout: RowLayout, angles: int) -> Share:
        return share_memory(layout, angles, self._request.volume)

    def _make_store(self, layout: RowLayout) -> RowStore:
        self._share = self._plan(layout, layout.frames)
        if self._share.in_memory:
            (self._folder / ROWS).unlink(missing_ok=True)
            return RowStore.in_memory(layout)
        return RowStore.create(self._folder / ROWS, layout)

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
        turn = float(np.degrees(np.ptp(arrays.angles)))
        widened = is_half_acquisition(center, rows.shape[1], turn)
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
        (self._folder / BOOT).write_text(_boot_id())
        # its presence says that all of the above is complete
        job.save(self._folder)

    def _with_range(self, job: VolumeJob, store: RowStore) -> VolumeJob:
        """Choose what 0 and 65535 stand for, from a few blocks unless it was given."""
        low_high = self._request.value_range
        if low_high is None:
            self._say("looking for the range of values", force=True)
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
        self._say("looking for the rotation centre", force=True)
        projections = StoredProjections(
            rows.store, arrays, request.corrections,
            corrected=rows.corrected, threads=request.volume.processes,
        )  # fmt: skip
        return projections.center(columns)

    def _about(self, job: VolumeJob, rows: ScanRows, center: float, how: str) -> dict[str, Any]:
        request, scan = self._request, rows.scan
        return {
            "title": f"{scan.sample or 'volume'}, run {scan.run_uid[:8]}",
            "result_uid": str(uuid.uuid4()),
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "run_uid": scan.run_uid,
            "scan_id": scan.scan_id,
            "sample": scan.sample,
            "plan": scan.plan,
            "rules": scan.rules.name,
            "outcome": scan.outcome,
            "frames": {
                "planned": scan.planned,
                "announced": len(scan.announced),
                "used": int(rows.present.sum()),
                "missing": _ranges(rows.numbers[~rows.present]),
                "darks": scan.darks,
                "flats": scan.flats,
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

    # -- the blocks -----------------------------------------------------------------------------------------

    def _make_blocks(self, job: VolumeJob, store: RowStore) -> None:
        with (self._folder / DONE).open("a+b") as done:
            finished = _finished(done, job.layout.bands)
            rest = [band for band in range(job.layout.bands) if band not in finished]
            slices = sum(_rows(job, band) for band in finished)
            rate = _Rate()
            self._say("", slices, job.layout.rows, rate, force=True)
            pool = self._pool(store)
            try:
                for said in pool.make(rest, self._check):
                    done.write(f"{said['band']}\n".encode())
                    done.flush()
                    self._count(said)
                    slices += _rows(job, said["band"])
                    rate.add(_rows(job, said["band"]))
                    self._say("", slices, job.layout.rows, rate)
            finally:
                pool.close()

    def _pool(self, store: RowStore) -> Pool:
        if self._request.volume.dask:
            return DaskPool(self._request.volume.dask, self._folder)
        rows = store.descriptor if self._share.in_memory else None
        return LocalPool(self._folder, rows, self._share.processes, self._share.threads)

    def _count(self, said: dict[str, Any]) -> None:
        for part in ("read", "compute", "write"):
            self._seconds[part] += said[part]
        self._cut += said["cut"]
        self._peaks[said["by"]] = said["peak_mb"]

    # -- the end --------------------------------------------------------------------------------------------

    def _finish(self, job: VolumeJob) -> VolumeResult:
        path = self._request.path
        about = json.loads((self._folder / ABOUT).read_text())
        if path.exists():  # of a process that was killed between the two lines below, or somebody else's
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        Path(job.path).rename(path)
        self._seconds["wall"] = time.perf_counter() - self._began
        result = VolumeResult(path, about, about["result_uid"], dict(self._seconds), self._peak())
        final = path.with_name(f"{path.name}.json")
        about |= {"seconds": result.seconds, "values_cut": self._cut, "asset": job.file().asset()}
        partial = self._folder / "final"
        partial.write_text(json.dumps(about, indent=1) + "\n")
        partial.replace(final)
        shutil.rmtree(self._folder)
        rows = job.layout.rows
        self._tell(VolumeProgress("finished", self._request.run_uid, rows, rows, path=str(path)))
        return result

    def _peak(self) -> float:
        """Return the most memory that was in use: while the scan was read, or while blocks were made."""
        return self._share.rows_mb + max(self._reading_mb, resident_mb() + sum(self._peaks.values()))

    # -- words ----------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._cancelled():
            raise CancelledError

    def _say(
        self,
        message: str,
        done: int = 0,
        total: int = 0,
        rate: "_Rate | None" = None,
        *,
        force: bool = False,
    ) -> None:
        self._check()
        now = time.monotonic()
        if not force and now < self._told + _TOLD_EVERY_S:
            return
        self._told = now
        per_second = rate.value() if rate else None
        left = (total - done) / per_second if per_second else None
        run_uid = self._request.run_uid
        progress = VolumeProgress("running", run_uid, done, total, per_second, left, message=message)
        self._tell(progress)


class _Rate:
    """Slices per second over the last while."""

    def __init__(self) -> None:
        self._points = deque([(time.monotonic(), 0)])

    def add(self, count: int) -> None:
        now = time.monotonic()
        self._points.append((now, self._points[-1][1] + count))
        while len(self._points) > 2 and now - self._points[0][0] > _RATE_OVER_S:
            self._points.popleft()

    def value(self) -> float | None:
        (begin, before), (_, after) = self._points[0], self._points[-1]
        took = time.monotonic() - begin
        return (after - before) / took if took > 0 and after > before else None


def _arrays_of(rows: ScanRows) -> ScanArrays:
    """Return the angles and numbers of the frames that are there, in the order of the angles."""
    frames = np.flatnonzero(rows.present)
    angles = rows.angles[frames]
    if not (np.diff(angles) > 0).all():
        order = np.argsort(angles, kind="stable")
        frames, angles = frames[order], angles[order]
    return ScanArrays(angles, frames, rows.numbers[frames], rows.flat_field)


def _ranges(numbers: npt.NDArray[np.int64]) -> list[list[int]]:
    """Return increasing numbers as half-open ranges.

    >>> _ranges(np.array([3, 4, 9]))
    [[3, 5], [9, 10]]
    """
    cuts = np.flatnonzero(np.diff(numbers) > 1) + 1
    return [[int(part[0]), int(part[-1]) + 1] for part in np.split(numbers, cuts) if len(part)]


def _coverage(angles: npt.NDArray[np.float64], *, widened: bool) -> float:
    """Return the degrees of the half turn that are covered; of the whole turn in a half acquisition."""
    if widened:
        return float(np.degrees(2 * geometry.covered(angles / 2)))
    return float(np.degrees(geometry.covered(angles)))


def _rows(job: VolumeJob, band: int) -> int:
    first, last = job.layout.rows_of(band)
    return last - first


def _finished(file: Any, bands: int) -> set[int]:
    """Return the blocks that a process before has done; a line that is cut off counts for nothing."""
    file.seek(0)
    text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    file.truncate(len(whole))
    return {int(line) for line in whole.split() if line.isdigit() and int(line) < bands}


def _provenance(about: dict[str, Any]) -> dict[str, Any]:
    """Return what goes into the volume itself: what it was made from and how, not when and by which run."""
    return {key: value for key, value in about.items() if key not in ("result_uid", "like")}


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"no boot id, process {os.getpid()}"
