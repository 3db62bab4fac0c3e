"""The full volume of a scan that is over: read once, then block by block of slices, within a memory limit.

Everything under way lies in one folder beside the result: the rows of the projections that are still needed
(unless they fit into memory, or stay where the detector wrote them), the volume as far as it is, and the list
of blocks that are done. A reconstruction that was killed is taken up from there by the next one with the same
parameters, and gives the same volume to the byte. When all is done the volume gets its name, and the folder
goes.
"""

import fcntl
import json
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomolive.errors import ReconstructionError, SettingsError
from tomolive.live.snapshot import VolumeProgress
from tomolive.live.volume.job import VolumeJob
from tomolive.live.volume.memory import BASE_MB, resident_mb
from tomolive.live.volume.pool import DaskPool, LocalPool, Pool
from tomolive.live.volume.preparation import ABOUT, LOCK, Preparation
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.rows import Rows
from tomolive.recon.filters import check_filter

log = logging.getLogger(__name__)

DONE = "done"
_TOLD_EVERY_S = 0.2
_RATE_OVER_S = 20.0


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
        shutil.rmtree(_partial(path), ignore_errors=True)  # what a process killed at its very end has left
        return VolumeResult(path, about, about["result_uid"])
    with _work_folder(path) as folder:
        return _Making(request, folder, tell, cancelled).run()


@contextmanager
def _work_folder(path: Path) -> Iterator[Path]:
    """Make the folder of what is under way, or find it; no other process works in it."""
    folder = _partial(path)
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


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


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
        self._local: LocalPool | None = None
        self._preparation = Preparation(
            request, folder, lambda message, new: self._say(message, force=new), self._start_processes
        )

    def run(self) -> VolumeResult:
        """Do it all."""
        try:
            while (job := self._made()) is None:
                self._preparation.begin_anew()
        finally:
            self._end_processes()
        return self._finish(job)

    # -- the blocks -----------------------------------------------------------------------------------------

    def _made(self) -> VolumeJob | None:
        """Make all blocks; return None if somebody wrote to the detector's files meanwhile."""
        store = self._preparation.rows()
        self._seconds["reading"] += self._preparation.seconds
        try:
            job = VolumeJob.load(self._folder)
            self._make_blocks(job, store)
        except ReconstructionError as error:
            if not store.is_changed():
                raise
            log.warning("the volume begins anew, of a copy: %s", error)
            return None
        finally:
            store.close()
        return job

    def _make_blocks(self, job: VolumeJob, store: Rows) -> None:
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
                    if isinstance(pool, LocalPool):
                        # of a cluster, a worker that was given up may be at the same block still
                        store.release(said["band"])
                    self._count(said)
                    slices += _rows(job, said["band"])
                    rate.add(_rows(job, said["band"]))
                    self._say("", slices, job.layout.rows, rate)
            finally:
                pool.close()

    def _pool(self, store: Rows) -> Pool:
        if self._request.volume.dask:
            return DaskPool(self._request.volume.dask, self._folder)
        share = self._preparation.share
        if self._local is None or self._local.share != share:  # slices turned out to be larger
            self._start_processes(store)
        assert self._local is not None  # noqa: S101  it was started
        return self._local

    def _start_processes(self, rows: Rows) -> None:
        """Start those that will make blocks: they get ready while the scan is read."""
        self._end_processes()
        if not self._request.volume.dask:
            share = self._preparation.share
            self._local = LocalPool(self._folder, rows.descriptor if share.in_memory else None, share)

    def _end_processes(self) -> None:
        if self._local is not None:
            self._local.close()
            self._local = None

    def _count(self, said: dict[str, Any]) -> None:
        for part in ("read", "compute", "write"):
            self._seconds[part] += said[part]
        self._cut += said["cut"]
        self._peaks[said["by"]] = said["peak_mb"]

    # -- the end --------------------------------------------------------------------------------------------

    def _finish(self, job: VolumeJob) -> VolumeResult:
        path, made = self._request.path, Path(job.path)
        about = json.loads((self._folder / ABOUT).read_text())
        if made.exists():  # else a process before has come just so far
            if path.exists():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            made.rename(path)
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
        before, now = self._preparation.peak_mb, resident_mb() + sum(self._peaks.values())
        share = self._preparation.share
        return share.rows_mb + max(before + share.processes * BASE_MB, now)

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
