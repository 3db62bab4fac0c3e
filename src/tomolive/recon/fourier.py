"""scipy's Fourier transforms, with the types that its own annotations do not give."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

Array = npt.NDArray[Any]


def rfft(values: Array, length: int | None = None, axis: int = -1) -> Array:
    """Transform of real values; float32 stays single precision."""
    return np.asarray(scipy.fft.rfft(values, length, axis=axis))


def irfft(spectrum: Array, length: int | None = None, axis: int = -1) -> Array:
    """Inverse of `rfft`; may overwrite ``spectrum``."""
    return np.asarray(scipy.fft.irfft(spectrum, length, axis=axis, overwrite_x=True))


def cosines2(values: Array) -> Array:
    """Transform of a picture mirrored at its edges (DCT-II); float32 stays single precision."""
    return np.asarray(scipy.fft.dctn(values))


def from_cosines2(spectrum: Array) -> Array:
    """Inverse of `cosines2`; may overwrite ``spectrum``."""
    return np.asarray(scipy.fft.idctn(spectrum, overwrite_x=True))


def fast_length(least: int) -> int:
    """Return a length, at least ``least``, that real transforms are quick for."""
    length = scipy.fft.next_fast_len(least, real=True)
    assert length is not None  # noqa: S101  scipy's annotation says None, its code an int
    return length
