"""Memory for arrays: where they begin, and how much there is to spare.

They begin on a cache line, so that a vector of 16 floats never lies across two of them: numpy aligns to 16
bytes, and kernels that add to vectors in place then take twice as long.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

CACHE_LINE = 64
"""Bytes."""


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return an array like ``np.empty`` whose first element begins a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + CACHE_LINE, np.uint8)
    return np.ndarray(shape, dtype, raw, -raw.ctypes.data % CACHE_LINE)


@njit(nogil=True, cache=True)
def aligned_floats(count):
    """Return ``count`` float32 that begin a cache line, within a kernel."""
    raw = np.empty(count + CACHE_LINE // 4, np.float32)
    start = -raw.ctypes.data % CACHE_LINE // 4
    return raw[start : start + count]


def spare_memory() -> float:
    """Return the bytes that may be taken so that a quarter of the machine's memory stays free.

    Infinite where the system does not say.
    """
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return float("inf")
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
    return sizes["MemAvailable"] - sizes["MemTotal"] / 4
