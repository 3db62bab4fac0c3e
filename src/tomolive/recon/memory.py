"""Arrays that begin on a cache line, so that a vector of 16 floats never lies across two of them.

numpy aligns to 16 bytes; kernels that add to vectors in place then take twice as long.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

_LINE = 64


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return an array like ``np.empty`` whose first element begins a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size].view(dtype).reshape(shape)


@njit(nogil=True, cache=True)
def aligned_floats(count):
    """Return ``count`` float32 that begin a cache line, within a kernel."""
    raw = np.empty(count + _LINE // 4, np.float32)
    start = -raw.ctypes.data % _LINE // 4
    return raw[start : start + count]
