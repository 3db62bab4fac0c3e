"""The ramp filter of filtered backprojection and its smoother relatives, by name.

The ramp is used in its band-limited, discrete form (Kak and Slaney 1988, eq. 61 of chapter 3): sampling |f|
in Fourier space instead would lose the zero frequency and with it the grey level.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.recon.fourier import rfft

_BUTTERWORTH_CUTOFF = 0.25
_BUTTERWORTH_ORDER = 4


def _parzen(f: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x = 2 * f
    return np.where(x < 0.5, 1 - 6 * x**2 * (1 - x), 2 * (1 - x) ** 3)


WINDOWS: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "ramp": np.ones_like,
    "shepp-logan": np.sinc,
    "cosine": lambda f: np.cos(np.pi * f),
    "hann": lambda f: 0.5 + 0.5 * np.cos(2 * np.pi * f),
    "butterworth": lambda f: 1 / np.sqrt(1 + (f / _BUTTERWORTH_CUTOFF) ** (2 * _BUTTERWORTH_ORDER)),
    "parzen": _parzen,
}
"""Name -> what multiplies the ramp at the frequency ``f``, cycles per pixel, 0 to 0.5."""

FILTERS = tuple(WINDOWS)
"""Names of the filters, sharpest first."""


def check_filter(name: str) -> str:
    """Return ``name`` if it is a filter; raises ReconstructionError otherwise."""
    if name not in WINDOWS:
        raise ReconstructionError(f"filter={name!r} is not known; expected one of {', '.join(FILTERS)}")
    return name


def check_padding(padding: str) -> str:
    """Return ``padding`` if it is known; raises ReconstructionError otherwise."""
    if padding not in ("edge", "zero"):
        raise ReconstructionError(f"padding={padding!r} is not known; expected 'edge' or 'zero'")
    return padding


@lru_cache(maxsize=64)
def response(name: str, length: int) -> npt.NDArray[np.float32]:
    """Return the filter at the frequencies of ``rfft`` of ``length`` samples, 1/pixel.

    The kernel of the ramp is ``h[0] = 1/4``, ``h[n] = -1 / (pi n)**2`` for odd n and 0 for even n.
    """
    check_filter(name)
    n = np.arange(length)
    n = np.minimum(n, length - n)
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = n % 2 == 1
    kernel[odd] = -1 / (np.pi * n[odd]) ** 2
    ramp = np.real(rfft(kernel))
    values = (ramp * WINDOWS[name](np.fft.rfftfreq(length))).astype(np.float32)
    values.flags.writeable = False
    return values
