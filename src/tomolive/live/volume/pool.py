"""Who makes the blocks of a volume: processes of this machine, or the workers of a Dask cluster."""

import json
import logging
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from tomolive.errors import AddressError, ReconstructionError
from tomolive.live.volume.job import BlockMaker
from tomolive.live.volume.memory import AT_ONCE, Share

log = logging.getLogger(__name__)

Done = dict[str, Any]
"""What `BlockMaker.make` returns."""
_MOST_DEATHS = 3
"""Workers that may die one after the other without a block done in between."""


class LocalPool:
    """Processes of this machine.

    Parameters
    ----------
    folder
        Of the job.
    rows
        Descriptor of a row store in memory; None: the rows are a file in the folder.
    share
        How many, and threads that compute in each.

    They start at once, and get ready; what the folder must hold is needed only when blocks are made.
    """

    def __init__(self, folder: Path, rows: int | None, share: Share) -> None:
        self._folder, self._rows, self.share = folder, rows, share
        self._said: queue.SimpleQueue[tuple[_Worker, Done | None]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        for _ in range(share.processes):
            self._start()

    def make(self, bands: Sequence[int], check: Callable[[], object]) -> Iterator[Done]:
        """Make these blocks, and yield what is said of each as it is done.

        ``check`` is called several times a second, and may raise to end it.

        Raises
        ------
        ReconstructionError
            if a block cannot be made.
        """
        waiting = deque(bands)
        left, deaths = len(bands), 0
        while left:
            for worker in self._workers:
                worker.feed(waiting)
            check()
            try:
                worker, done = self._said.get(timeout=0.2)
            except queue.Empty:
                continue
            if done is None:
                deaths += 1
                self._bury(worker, waiting, deaths)
                continue
            if "error" in done:
                raise ReconstructionError(f"slices of block {done['band']}: {done['error']}")
            worker.hands.remove(done["band"])
            left, deaths = left - 1, 0
            yield done

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _start(self) -> None:
        self._workers.append(_Worker(self._folder, self._rows, self.share.threads, self._said))

    def _bury(self, worker: "_Worker", waiting: deque[int], deaths: int) -> None:
        """Replace a worker that died, and have its blocks made again."""
        self._workers.remove(worker)
        code = worker.end()
        if deaths >= _MOST_DEATHS:
            raise ReconstructionError(
                f"processes that reconstruct die again and again, the last one with exit code {code}: too "
                "little memory? volume.memory_mb limits what they take"
            )
        log.warning("a process that reconstructs died (%s); its blocks are made again", code)
        waiting.extendleft(sorted(worker.hands, reverse=True))
        self._start()


class _Worker:
    """One process, see :mod:`tomolive.live.volume.worker`."""

    def __init__(self, folder: Path, rows: int | None, threads: int, said: "queue.SimpleQueue[Any]") -> None:
        self.hands: set[int] = set()
        """Blocks that it has in hand."""
        self._said = said
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tomolive.live.volume.worker",
                str(folder),
                "-" if rows is None else str(rows),
                str(threads),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[] if rows is None else [rows],
            text=True,
            # Ctrl-C is for whoever started this; the end of its input then ends it
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._listen, name="volume-worker", daemon=True)
        self._thread.start()

    def feed(self, waiting: deque[int]) -> None:
        """Give it blocks, as many as it takes at once."""
        while waiting and len(self.hands) < AT_ONCE:
            band = waiting.popleft()
            self.hands.add(band)
            try:
                self._input.write(f"{band}\n")
                self._input.flush()
            except OSError:  # it died, which its listener tells
                return

    def end(self) -> int:
        """Kill it; return its exit code."""
        self._process.kill()
        code = self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    log.debug("a pipe to a dead process", exc_info=True)
        return code

    @property
    def _input(self) -> TextIO:
        assert self._process.stdin is not None  # noqa: S101  it is a pipe
        return self._process.stdin  # pyright: ignore[reportReturnType]

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        for line in self._process.stdout:
            try:
                said = dict(json.loads(line))
            except (ValueError, TypeError):
                log.info("a process that reconstructs prints: %s", line.rstrip())
                continue
            self._said.put((self, said))
        self._said.put((self, None))


class DaskPool:
    """Workers of a Dask cluster, which see the folder of the job under the same path.

    A worker that dies is dealt with by the scheduler: its blocks go to others.
    """

    def __init__(self, address: str, folder: Path) -> None:
        try:
            from distributed import Client

            self._client = Client(address, timeout="10s", set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise AddressError(
                f"no Dask scheduler answers at {address} ({error}); `dask scheduler` starts one"
            ) from None
        self._folder = folder

    def make(self, bands: Sequence[int], check: Callable[[], object]) -> Iterator[Done]:
        """See `LocalPool.make`."""
        from distributed.client import FIRST_COMPLETED, wait

        waiting, running = deque(bands), set()
        while waiting or running:
            check()
            while waiting and len(running) < 2 * self._threads():
                band = waiting.popleft()
                running.add(self._client.submit(make_block, str(self._folder), band, pure=False))
            try:
                with self._client.as_current():
                    ended: Any = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                done, running = ended
            except TimeoutError:
                continue
            for future in done:
                try:
                    yield future.result()
                except Exception as error:
                    raise ReconstructionError(f"a Dask worker: {type(error).__name__}: {error}") from error

    def _threads(self) -> int:
        of_workers: Any = self._client.nthreads()
        return max(1, sum(of_workers.values()))

    def close(self) -> None:
        """Leave the cluster; what runs there is given up."""
        self._client.close()


@lru_cache(maxsize=2)
def _maker(folder: str, stamp: int) -> BlockMaker:
    del stamp
    return BlockMaker(Path(folder))


def make_block(folder: str, band: int) -> Done:
    """Make one block, in a process that may make others of the same job."""
    return _maker(folder, (Path(folder) / "job.json").stat().st_mtime_ns).make(band)


Pool = LocalPool | DaskPool
