"""How long the first picture takes in a fresh process: with nothing compiled yet, and the next time."""

import math
import os
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
        for by, limit in (("nothing compiled", 20_000), ("compiled before", 3_000)):
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", f"from {__name__} import first_picture; first_picture({threads})"],
                env={**os.environ, "NUMBA_CACHE_DIR": cache},
                check=False,
                capture_output=True,
                text=True,
            )
            took = 1e3 * (time.perf_counter() - began)
            work = "start to first picture, wall time"
            if done.returncode:
                yield Figure(work, by, math.nan, note=f"not measured: {done.stderr.strip().splitlines()[-1]}")
                continue
            yield Figure(work, by, took, note=done.stdout.strip(), **at_most(took, limit, " ms"))


def first_picture(threads: int) -> None:
    """Draw a first picture from 16 projections, and say how many threads that took."""
    import threading
    import time

    import numpy as np

    import tomolive.live.worker  # noqa: F401  what a live process imports
    from tomolive.live.accumulate import SliceAccumulator
    from tomolive.live.warming import without_extensions

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
        f"processor time {time.process_time():.1f} s; threads that compute: {pool or 1} of {threads}; "
        f"of the process: {_threads()}"
    )


def _threads() -> str:
    try:
        return str(len(os.listdir("/proc/self/task")))  # noqa: PTH208
    except OSError:
        return "not known"
