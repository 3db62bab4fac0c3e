"""One pool of threads for each size, shared by everyone who asks for that size: no oversubscription.

The kernels run without the GIL, so threads are enough.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any


def allowed_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=8)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="recon")


def run(function: Callable[..., Any], pieces: Iterable[Any], threads: int | None = None) -> list[Any]:
    """Call ``function`` with each piece, by ``threads`` threads (default: all cores), results in order.

    ``function`` must not call `run` itself: the pool could wait for itself.
    """
    threads = threads or allowed_cores()
    if threads == 1:
        return [function(piece) for piece in pieces]
    return list(_pool(threads).map(function, pieces))


def blocks(count: int, size: int) -> list[tuple[int, int]]:
    """Cut ``range(count)`` into half-open pieces of at most ``size``.

    >>> blocks(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(first, min(first + size, count)) for first in range(0, count, size)]
