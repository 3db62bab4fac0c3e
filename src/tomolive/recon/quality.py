"""Numbers that answer "should I stop this scan?": pure functions of frames, flats or slices.

Of frames and references::

    mean_transmission(integrals)            (n,)    beam loss: the mean of exp(-p) of each projection
    saturated_fraction(counts, full=None)   (n,)    pixels that count all they can
    bad_fraction(field)                     float   dead and hot pixels of a `FlatField`
    flat_drift(before, after)               float   a beam profile that moved, part of its mean
    shift(before, after)                    (down, across)  pixels; two projections at the same angle
    shift_of_opposite(first, second, center)  (down, across)  pixels; 0 and 180 degrees

Of slices and sinograms::

    noise(image)                            float   in the units of the slice
    sharpness(image)                        float   1/pixel; grows as edges come
    ring_correlation(first, second)         (frequencies, correlation)
    resolution(frequencies, correlation, criterion="half-bit"|"0.143")   pixels
    even_odd_resolution(sinogram, angles, center, ...)                   pixels
"""

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.recon.checks import check_angles
from tomolive.recon.flat_field import AnyField
from tomolive.recon.minimum import vertex
from tomolive.recon.slices import reconstruct

Array = npt.NDArray[np.generic]

CRITERIA = ("half-bit", "0.143")
"""Where a Fourier shell correlation may be said to end, see `resolution`."""
_SOFT_EDGE = 0.25
"""Part of the radius over which a slice fades out before it is transformed."""
_REFINEMENTS = 3


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


def bad_fraction(field: AnyField) -> float:
    """Return the part of the pixels that are of no use, dead or hot, as the references tell."""
    return float(np.mean(field.gain == 0))


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
    inwards = np.clip((0.95 - np.hypot(x, y) * 2 / size) / _SOFT_EDGE, 0, 1)
    mask = np.sin(0.5 * np.pi * inwards) ** 2
    a, b = (np.fft.fft2((image - image.mean()) * mask) for image in (first, second))
    radius = np.hypot(np.fft.fftfreq(size)[:, np.newaxis], np.fft.fftfreq(size)) * size
    ring = np.minimum(np.round(radius).astype(int), size // 2 + 1).ravel()

    def total(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(ring, values.ravel(), size // 2 + 2)[: size // 2 + 1].astype(np.float64)

    power = np.sqrt(total(np.abs(a) ** 2) * total(np.abs(b) ** 2))
    correlation = np.divide(total(np.real(a * np.conj(b))), power, out=np.zeros_like(power), where=power > 0)
    return np.arange(size // 2 + 1) / size, correlation


def resolution(
    frequencies: npt.NDArray[np.float64], correlation: npt.NDArray[np.float64], criterion: str = "half-bit"
) -> float:
    """Return the resolution in pixels, where the correlation first falls below a threshold.

    Parameters
    ----------
    frequencies, correlation
        From `ring_correlation`, of slices from half of the projections each.
    criterion
        "half-bit": one half-bit of information in each pixel of the Fourier transform of the whole scan; the
        threshold depends on how many of them a ring has (van Heel and Schatz, J. Struct. Biol. 151, 250
        (2005), eq. 17). "0.143": the fixed threshold of Rosenthal and Henderson, J. Mol. Biol. 333, 721
        (2003), more hopeful in small pictures.

    Returns
    -------
    One over the frequency, between two rings; 2.0, the best that a grid can hold, if it never falls below.
    """
    if criterion not in CRITERIA:
        raise ReconstructionError(f"criterion={criterion!r}; expected one of {', '.join(CRITERIA)}")
    size = 2 * (len(frequencies) - 1)
    root = 1 / np.sqrt(np.maximum(2 * np.pi * frequencies * size, 1))
    half_bit = (0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root)
    above = correlation - (half_bit if criterion == "half-bit" else 0.143)
    below = np.flatnonzero(above[1:] < 0) + 1
    if not below.size:
        return 2.0
    last = int(below[0])
    share = above[last - 1] / (above[last - 1] - above[last]) if above[last - 1] > 0 else 1.0
    return float(1 / (frequencies[last - 1] + share * (frequencies[last] - frequencies[last - 1])))


def even_odd_resolution(
    sinogram: npt.ArrayLike,
    angles: npt.ArrayLike,
    center: float,
    *,
    criterion: str = "half-bit",
    threads: int | None = None,
) -> float:
    """Return the resolution of a slice in pixels, from its even and its odd projections.

    Parameters
    ----------
    sinogram
        Line integrals, (angles, columns).
    angles
        Radians; what is even or odd is counted in their order on the half turn.
    center
        Column of the rotation axis.

    Raises
    ------
    ReconstructionError
        if there are fewer than four projections, or the arrays do not fit together.
    """
    radians = check_angles(angles)
    rows = np.asarray(sinogram, np.float32)
    if rows.ndim != 2 or len(rows) != len(radians) or len(rows) < 4:
        raise ReconstructionError(
            f"sinogram has shape {rows.shape} and there are {len(radians)} angles; expected (angles, "
            "columns) with at least 4 angles"
        )
    order = np.argsort(np.mod(radians, np.pi), kind="stable")
    even, odd = (
        reconstruct(rows[half], radians[half], center, threads=threads)[0]
        for half in (order[::2], order[1::2])
    )
    return resolution(*ring_correlation(even, odd), criterion)


def shift(before: npt.NDArray[np.floating], after: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return by how much the sample moved between two projections at the same angle.

    The maximum of their cross-correlation, refined by a parabola; then the second is moved back by what was
    found and compared again, because the window that keeps the borders out pulls an estimate towards zero.

    Parameters
    ----------
    before, after
        Line integrals, (rows, columns), the same shape.

    Returns
    -------
    (down, across): pixels, positive towards larger rows and columns.
    """
    if before.shape != after.shape or before.ndim != 2 or 0 in before.shape:
        raise ReconstructionError(
            f"projections have shapes {before.shape} and {after.shape}; expected two of (rows, columns)"
        )
    rows, columns = before.shape
    window = np.outer(_hann(rows), _hann(columns))
    down = np.fft.fftfreq(rows)[:, np.newaxis]
    across = np.fft.rfftfreq(columns)
    reference = np.conj(np.fft.rfft2(_levelled(before.astype(np.float64)) * window))
    moving = np.fft.rfft2(_levelled(after.astype(np.float64)))
    found = np.zeros(2)
    for _ in range(_REFINEMENTS):
        turn = np.exp(2j * np.pi * (down * found[0] + across * found[1]))
        back = np.fft.irfft2(moving * turn, s=before.shape) * window
        found += _peak(np.fft.irfft2(np.fft.rfft2(back) * reference, s=before.shape))
    return float(found[0]), float(found[1])


def shift_of_opposite(
    projection: npt.NDArray[np.floating], opposite: npt.NDArray[np.floating], center: float
) -> tuple[float, float]:
    """Return by how much the sample moved between two projections half a turn apart.

    Parameters
    ----------
    projection, opposite
        Line integrals, (rows, columns).
    center
        Column of the rotation axis as other projections give it: an error of it shows here twice.

    Returns
    -------
    (down, across): pixels, as `shift`, in the second projection; across as seen from behind it, mirrored.
    """
    down, across = shift(projection, opposite[:, ::-1])
    expected = projection.shape[1] - 1 - 2 * center
    return down, across - expected


def _hann(size: int) -> npt.NDArray[np.float64]:
    return np.hanning(size + 2)[1:-1]


def _levelled(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return image - image.mean()


def _peak(correlation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return where the maximum lies, as signed (rows, columns), between pixels."""
    place = np.unravel_index(np.argmax(correlation), correlation.shape)
    found = np.empty(2)
    for axis, (index, size) in enumerate(zip(place, correlation.shape, strict=True)):
        line = np.moveaxis(correlation, axis, 0)[:, place[1 - axis]]
        around = [-float(line[(index + step) % size]) for step in (-1, 0, 1)]
        fraction = vertex(*around) if size > 2 else 0.0
        found[axis] = (index if index <= size // 2 else index - size) + fraction
    return found
