"""The phantom of Shepp and Logan (IEEE Trans. Nucl. Sci. 21, 21 (1974)), contrasts of Toft (1996)."""

import numpy as np
import numpy.typing as npt

# value, semi-axis x, semi-axis y, centre x, centre y in half widths, turned by degrees
ELLIPSES = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0),
)
_SAMPLES = 4


def image(size: int, origin: float) -> npt.NDArray[np.float32]:
    """Return the phantom (y, x), each pixel averaged; the rotation axis is at index ``origin`` of both."""
    fine = (np.arange(size * _SAMPLES) + 0.5) / _SAMPLES - 0.5 - origin
    total = np.zeros((size, size), np.float32)
    for first in range(0, size, 32):
        rows = fine[first * _SAMPLES : (first + 32) * _SAMPLES]
        y, x = np.meshgrid(rows * 2 / size, fine * 2 / size, indexing="ij")
        part = np.zeros(x.shape, np.float32)
        for value, a, b, x0, y0, degrees in ELLIPSES:
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            u, v = (x - x0) * c + (y - y0) * s, -(x - x0) * s + (y - y0) * c
            part += np.float32(value) * ((u / a) ** 2 + (v / b) ** 2 <= 1)
        total[first : first + 32] = part.reshape(-1, _SAMPLES, size, _SAMPLES).mean(axis=(1, 3))
    return total


def sinogram(size: int, angles: npt.NDArray[np.float64], center: float) -> npt.NDArray[np.float32]:
    """Return exact line integrals in pixels, averaged over the width of a column, (angles, size)."""
    offsets = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
    t = ((np.arange(size)[:, np.newaxis] + offsets - center) * 2 / size).astype(np.float64)
    out = np.zeros((len(angles), size), np.float32)
    for row, angle in zip(out, angles, strict=True):
        for value, a, b, x0, y0, degrees in ELLIPSES:
            turned = angle - np.radians(degrees)
            width = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
            away = t - x0 * np.cos(angle) - y0 * np.sin(angle)
            chord = 2 * a * b * np.sqrt(np.maximum(width - away**2, 0)) / width
            row += (value * size / 2 * chord.mean(axis=1)).astype(np.float32)
    return out
