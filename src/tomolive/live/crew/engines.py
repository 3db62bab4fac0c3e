"""Where the shares of a crew are done: processes of this machine, or workers of a Dask cluster."""

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from tomolive.errors import AddressError
from tomolive.live.crew.messages import Orders, Report, Share
from tomolive.live.crew.share import advance

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_TRY_EVERY_S, _TRY_FOR_S = 5.0, 2.0


class Answer(Protocol):
    """A report that is on its way: a future of concurrent.futures, or of Dask."""

    def done(self) -> bool: ...  # noqa: D102

    def result(self) -> Report: ...  # noqa: D102


class Engine(Protocol):
    """Asks workers for reports."""

    size: int
    """How many workers there are."""
    lost: tuple[type[BaseException], ...]
    """What an answer raises whose worker is gone."""

    @property
    def trouble(self) -> str:
        """Why no worker can be asked now, and what to do, in words; empty if they can be."""
        ...

    def ask(self, place: int, share: Share, orders: Orders) -> Answer:
        """Have worker number ``place`` report on its share; another one does, if that one died."""
        ...

    def replace(self, place: int) -> None:
        """Worker number ``place`` is gone: have another one in its place."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


class LocalEngine:
    """Processes of this machine; one that dies is replaced."""

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,)
    trouble = ""

    def __init__(self, size: int) -> None:
        self.size = size
        self._context = multiprocessing.get_context("spawn")
        self._pools: list[ProcessPoolExecutor | None] = [None] * size

    def ask(self, place: int, share: Share, orders: Orders) -> Answer:
        """See `Engine.ask`."""
        try:
            return self._pool(place % self.size).submit(advance, share, orders)
        except BrokenProcessPool:
            self._pools[place % self.size] = None
            return self._pool(place % self.size).submit(advance, share, orders)

    def replace(self, place: int) -> None:
        """See `Engine.replace`; the next question does it."""

    def close(self) -> None:
        """See `Engine.close`."""
        for pool in self._pools:
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list((pool._processes or {}).values()):
                    process.terminate()
        self._pools = [None] * self.size

    def _pool(self, place: int) -> ProcessPoolExecutor:
        pool = self._pools[place]
        if pool is None:
            pool = ProcessPoolExecutor(1, mp_context=self._context, initializer=_end_with_master)
            self._pools[place] = pool
        return pool


def _end_with_master() -> None:
    """End this process when its parent does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  a worker has one

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="master", daemon=True).start()


class DaskEngine:
    """Workers of a Dask cluster; another one takes over what a dead one did.

    Parameters
    ----------
    address
        Of the scheduler.
    size
        How many of its workers; default: all that are there by now.

    Raises
    ------
    AddressError
        if no scheduler answers there, or it has no workers.
    """

    def __init__(self, address: str, size: int | None = None, timeout: float = 30.0) -> None:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        self.lost: tuple[type[BaseException], ...] = (
            KilledWorker, FutureCancelledError, CommClosedError, ConnectionError,
        )  # fmt: skip
        self._address = address
        try:
            self._client = self._connect(timeout)
            self._client.wait_for_workers(size or 1, timeout=timeout)
        except (OSError, TimeoutError) as error:
            raise AddressError(
                f"no Dask cluster with workers answers at {address} ({error}); `dask scheduler` starts a "
                f"scheduler, and `dask worker {address}` a worker"
            ) from None
        self._workers = sorted(self._client.nthreads())[:size]
        self.size = len(self._workers)
        self._known, self._seen = set(self._workers), 0.0

    def _connect(self, timeout: float) -> Any:
        from distributed import Client

        return Client(self._address, timeout=timeout, set_as_default=False)

    @property
    def trouble(self) -> str:
        """See `Engine.trouble`."""
        if self._client.status != "running" and not self._connected_again():
            return (
                f"the Dask scheduler at {self._address} does not answer; `dask scheduler` starts one. What "
                "workers had begun is begun anew then, and nothing is lost"
            )
        if not self._alive():
            return f"no worker is at the Dask scheduler any more; `dask worker {self._address}` starts one"
        return ""

    def _connected_again(self) -> bool:
        """Try to reach the scheduler again, now and then, if the client has given it up."""
        if self._client.status != "closed" or time.monotonic() - self._seen < _TRY_EVERY_S:
            return False
        self._seen = time.monotonic()
        try:
            self._client = self._connect(_TRY_FOR_S)
        except (OSError, TimeoutError):
            return False
        self._seen = 0.0
        return True

    def ask(self, place: int, share: Share, orders: Orders) -> Answer:
        """See `Engine.ask`."""
        # By that worker or by none: where the scheduler may choose, an idle worker steals a share and begins
        # it anew.
        where = self._workers[place % self.size]
        future = self._client.submit(advance, share, orders, workers=[where], pure=False, retries=2)
        return _DaskAnswer(future, lambda: where in self._alive())

    def replace(self, place: int) -> None:
        """See `Engine.replace`."""
        self._seen = 0.0
        alive = sorted(self._alive())
        gone = self._workers[place % self.size]
        if alive and gone not in alive:
            fresh = [address for address in alive if address not in self._workers] or alive
            self._workers[place % self.size] = fresh[place % len(fresh)]
            log.warning(
                "the Dask worker at %s is gone; %s takes over", gone, self._workers[place % self.size]
            )

    def close(self) -> None:
        """See `Engine.close`."""
        self._client.close()

    def _alive(self) -> set[str]:
        """Return the workers that there are, as of a second ago at most."""
        if time.monotonic() - self._seen > _LOOK_EVERY_S:
            self._seen = time.monotonic()
            try:
                self._known = set(self._client.nthreads())
            except (OSError, RuntimeError) as error:  # the client connects again by itself
                log.warning("the Dask scheduler does not answer: %s", error)
                self._known = set()
        return self._known


class _DaskAnswer:
    """A report that a Dask worker is to make; done, too, when that worker is gone."""

    def __init__(self, future: Any, alive: Callable[[], bool]) -> None:
        self._future, self._alive = future, alive

    def done(self) -> bool:
        """See `Answer`."""
        return self._future.done() or not self._alive()

    def result(self) -> Report:
        """See `Answer`."""
        if not self._future.done():
            self._future.cancel()
            raise ConnectionError("the Dask worker has left the cluster")
        return self._future.result()
