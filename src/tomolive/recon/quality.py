"""Numbers that answer "should I stop this scan?": pure functions of frames, flats or slices."""

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError

Array = npt.NDArray[np.generic]


def mean_transmission(integrals: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the mean transmission of each projection (n, rows, columns), 0 to about 1.

    It changes slowly with the angle; a jump says that the beam was lost or the shutter moved.
    """
    return np.exp(-integrals.astype(np.float64)).mean(axis=(1, 2))


def saturated_fraction(counts: Array, full: float | None = None) -> npt.NDArray[np.float64]:
    """Return the part of the pixels of each frame (n, rows, columns) that count all they can.

    ``full`` is the largest count of the camera; default: the largest number of an integer type.
    """
    if full is None:
        if not np.issubdtype(counts.dtype, np.integer):
            raise ReconstructionError(f"full is not given, and {counts.dtype} counts have no largest number")
        full = np.iinfo(counts.dtype.name).max
    return (counts.astype(np.float64) >= full).mean(axis=(1, 2))


def flat_drift(before: Array, after: Array) -> float:
    """Return by how much two flats (rows, columns) differ, as a part of their mean, after equal scaling.

    The scale is the machine's current and harmless; what is left is a beam profile that moved, which makes
    rings and streaks.
    """
    first, second = before.astype(np.float64), after.astype(np.float64)
    if not first.mean() > 0 or not second.mean() > 0:
        raise ReconstructionError("before and after are flats without counts")
    return float(np.sqrt(np.mean((first / first.mean() - second / second.mean()) ** 2)))


def _circle(size: int, radius: float) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return x**2 + y**2 < (radius * size / 2) ** 2


def noise(image: npt.NDArray[np.floating]) -> float:
    """Return the standard deviation of the noise of a slice (n, n), in its units.

    From the second differences across both axes, which a smooth sample does not have (Immerkaer, Comput. Vis.
    Image Underst. 64, 300 (1996)), by their median, which edges do not move. Noise that is correlated from
    pixel to pixel makes this an index rather than a calibrated number.
    """
    a = image.astype(np.float64)
    rows = a[:, :-2] - 2 * a[:, 1:-1] + a[:, 2:]
    both = rows[:-2] - 2 * rows[1:-1] + rows[2:]
    inner = _circle(image.shape[0], 0.9)[1:-1, 1:-1]
    return float(1.4826 * np.median(np.abs(both[inner])) / 6)


def sharpness(image: npt.NDArray[np.floating]) -> float:
    """Return the mean gradient of a slice (n, n) over the standard deviation of its values, 1/pixel.

    It grows as streaks go and edges come; compare it with itself along a scan, not between samples.
    """
    a = image.astype(np.float64)
    inner = _circle(image.shape[0], 0.9)
    down, across = np.gradient(a)
    gradient = np.hypot(down, across)[inner].mean()
    spread = a[inner].std()
    return float(gradient / spread) if spread > 0 else 0.0


def ring_correlation(
    first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the Fourier ring correlation of two slices of the same sample.

    Saxton and Baumeister, J. Microsc. 127, 127 (1982). Reconstruct one slice from the even, one from the odd
    projections.

    Parameters
    ----------
    first, second
        (n, n), the same grid, independent noise.

    Returns
    -------
    (frequencies, correlation): cycles per pixel, 0 to 0.5, and the correlation of each ring, -1 to 1.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] != first.shape[1]:
        raise ReconstructionError(
            f"slices have shapes {first.shape} and {second.shape}; expected two of (n, n)"
        )
    size = first.shape[0]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    # a soft edge, or the common circle would correlate for the sample
    mask = np.clip((0.95 * size / 2 - np.hypot(x, y)) / (0.05 * size), 0, 1)
    a, b = (np.fft.fft2((image - image.mean()) * mask) for image in (first, second))
    radius = np.hypot(np.fft.fftfreq(size)[:, np.newaxis], np.fft.fftfreq(size)) * size
    ring = np.minimum(np.round(radius).astype(int), size // 2 + 1).ravel()

    def total(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(ring, values.ravel(), size // 2 + 2)[: size // 2 + 1].astype(np.float64)

    power = np.sqrt(total(np.abs(a) ** 2) * total(np.abs(b) ** 2))
    correlation = np.divide(total(np.real(a * np.conj(b))), power, out=np.zeros_like(power), where=power > 0)
    return np.arange(size // 2 + 1) / size, correlation


def resolution(frequencies: npt.NDArray[np.float64], correlation: npt.NDArray[np.float64]) -> float:
    """Return the resolution in pixels where the correlation falls below one half-bit of information.

    Van Heel and Schatz, J. Struct. Biol. 151, 250 (2005), eq. 17, with the number of pixels of each ring. Two
    pixels is the best that a grid can hold.
    """
    size = 2 * (len(frequencies) - 1)
    count = np.maximum(2 * np.pi * frequencies * size, 1)
    root = 1 / np.sqrt(count)
    threshold = (0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root)
    below = np.flatnonzero((correlation < threshold)[1:]) + 1
    return float(1 / frequencies[below[0]]) if below.size else 2.0
