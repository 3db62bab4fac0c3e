"""How long the first picture takes in a fresh process: with nothing compiled yet, and the next time.

Its first column is processor time, its second one the clock on the wall, which is what the limits are about.
"""

import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from tomolive.bench.recon_figures import Figure, at_most

_SIZE = 512


def start(threads: int) -> Iterator[Figure]:
    """Start a process twice, with a cache that is empty the first time."""
    with tempfile.TemporaryDirectory(prefix="tomolive-bench-") as cache:
        for by, limit in (("tomolive, nothing compiled", 20_000), ("tomolive, compiled before", 3_000)):
            began, used = time.perf_counter(), _children_s()
            done = subprocess.run(
                [sys.executable, "-c", f"from {__name__} import first_picture; first_picture({threads})"],
                env={**os.environ, "NUMBA_CACHE_DIR": cache},
                check=False,
                capture_output=True,
                text=True,
            )
            took, used = 1e3 * (time.perf_counter() - began), 1e3 * (_children_s() - used)
            work = "start of a process to first picture"
            if done.returncode:
                yield Figure(work, by, math.nan, note=f"not measured: {done.stderr.strip().splitlines()[-1]}")
                continue
            must = at_most(took, limit, " ms wall")
            yield Figure(work, by, used, note=done.stdout.strip(), together=took, **must)


def _children_s() -> float:
    """Return the processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_picture(threads: int) -> None:
    """Draw a first picture from 16 projections, and say how many threads that took."""
    import threading

    import numpy as np

    import tomolive.live.worker  # noqa: F401  what a live process imports
    from tomolive.live.slices.accumulate import SliceAccumulator
    from tomolive.recon.startup import without_extensions

    without_extensions()
    slices = SliceAccumulator(_SIZE, _SIZE, threads=threads)
    rng = np.random.default_rng(0)
    flats = rng.integers(40000, 41000, (4, _SIZE, _SIZE), dtype=np.uint16)
    slices.set_references(flats // 400, flats)
    counts = rng.integers(5000, 40000, (16, _SIZE, _SIZE), dtype=np.uint16)
    slices.add(counts, np.linspace(0, np.pi, 16), range(16))
    slices.slices()
    pool = sum(thread.name.startswith("recon") for thread in threading.enumerate())
    print(  # noqa: T201
        f"threads that compute: {pool or 1} of {threads}; of the process: {_threads()}"
    )


def _threads() -> str:
    try:
        return str(len(os.listdir("/proc/self/task")))  # noqa: PTH208
    except OSError:
        return "not known"
