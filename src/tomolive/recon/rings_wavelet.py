"""Stripes as what is smooth along the angles, scale by scale (Muench et al., Opt. Express 17, 8567 (2009)).

A wavelet transform collects vertical structures, at each scale, in the coefficients of the vertical details;
the Fourier transform of these along the angles has the stripes near frequency zero, where a Gaussian damps
them: ``1 - exp(-k^2 / (2 sigma^2))``.
"""

import numpy as np
import numpy.typing as npt

from tomolive.recon.fourier import irfft, rfft

_WAVELET = "db9"
_LEAST = 16
"""Coefficients a side that the coarsest scale must have."""


def without_smooth_stripes(
    sinogram: npt.NDArray[np.float32], level: int, damping: float
) -> npt.NDArray[np.float32]:
    """Remove stripes from one sinogram.

    Parameters
    ----------
    sinogram
        float32 (angles, columns).
    level
        Number of scales; fewer if the sinogram is small.
    damping
        Sigma of the Gaussian, frequencies of the coefficients.
    """
    import pywt

    angles, columns = sinogram.shape
    pad = min(150, int(0.1 * min(angles, columns)))
    padded = np.pad(np.pad(sinogram, ((pad, pad), (0, 0)), mode="mean"), ((0, 0), (pad, pad)), mode="edge")
    scales = max(1, min(level, int(np.log2(min(padded.shape) / _LEAST)))) if min(padded.shape) > _LEAST else 1
    smooth, *details = pywt.wavedec2(padded, _WAVELET, level=scales)
    kept = [(horizontal, _damped(vertical, damping), both) for horizontal, vertical, both in details]
    clean = pywt.waverec2([smooth, *kept], _WAVELET)
    return np.ascontiguousarray(clean[pad : pad + angles, pad : pad + columns], np.float32)


def _damped(details: npt.NDArray[np.float32], damping: float) -> npt.NDArray[np.float32]:
    """Take the lowest frequencies along the angles out of vertical details (angles, columns)."""
    turned = np.ascontiguousarray(details.T)
    spectrum = rfft(turned)
    frequency = np.arange(spectrum.shape[1], dtype=np.float32)
    spectrum *= -np.expm1(-(frequency**2) / np.float32(2 * damping**2))
    return irfft(spectrum, turned.shape[1]).T
