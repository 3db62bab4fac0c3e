"""An analytic phantom: ellipses, whose projections are known exactly."""

from dataclasses import dataclass

import numpy as np
import pytest

# value, semi-axis x, semi-axis y, centre x, centre y, turned by (degrees); lengths in half widths
_ELLIPSES = (
    (0.010, 0.70, 0.86, 0.02, -0.03, 0),
    (-0.004, 0.12, 0.32, 0.24, 0.00, -18),
    (-0.003, 0.17, 0.42, -0.24, 0.05, 18),
    (0.006, 0.21, 0.15, 0.02, 0.45, 10),
    (0.008, 0.06, 0.05, 0.00, -0.12, 0),
    (0.012, 0.04, 0.04, -0.10, -0.58, 0),
    (0.012, 0.03, 0.06, 0.36, -0.48, 30),
)


@dataclass(frozen=True)
class Phantom:
    """Ellipses in a slice of ``size`` pixels; row z of a stack is scaled by 1 - 0.02 z."""

    size: int

    def image(self, oversampling: int = 4) -> np.ndarray:
        """Return the slice, each pixel averaged; (y, x)."""
        fine = (np.arange(self.size * oversampling) + 0.5) / oversampling - 0.5 - (self.size - 1) / 2
        y, x = np.meshgrid(fine * 2 / self.size, fine * 2 / self.size, indexing="ij")
        total = np.zeros_like(x)
        for value, a, b, x0, y0, phi in _ELLIPSES:
            c, s = np.cos(np.radians(phi)), np.sin(np.radians(phi))
            u, v = (x - x0) * c + (y - y0) * s, -(x - x0) * s + (y - y0) * c
            total += value * ((u / a) ** 2 + (v / b) ** 2 <= 1)
        return total.reshape(self.size, oversampling, self.size, oversampling).mean(axis=(1, 3)).astype("f4")

    def sinogram(
        self, angles: np.ndarray, center: float | None = None, columns: int | None = None
    ) -> np.ndarray:
        """Return exact line integrals, averaged over the width of a column; (angles, columns)."""
        columns = columns or self.size
        center = (self.size - 1) / 2 if center is None else center
        offsets = (np.arange(4) + 0.5) / 4 - 0.5
        t = (np.arange(columns)[:, None] + offsets - center) * 2 / self.size
        total = np.zeros((len(angles), columns))
        for value, a, b, x0, y0, phi in _ELLIPSES:
            turned = np.asarray(angles) - np.radians(phi)
            width = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
            shift = x0 * np.cos(angles) + y0 * np.sin(angles)
            inside = np.maximum(width[:, None, None] - (t[None] - shift[:, None, None]) ** 2, 0)
            chord = 2 * a * b * np.sqrt(inside) / width[:, None, None]
            total += value * chord.mean(axis=2) * self.size / 2
        return total.astype("f4")

    def stack(self, angles: np.ndarray, rows: int, center: float | None = None) -> np.ndarray:
        """Return projections (angles, rows, columns)."""
        scale = 1 - 0.02 * np.arange(rows, dtype="f4")
        return self.sinogram(angles, center)[:, None, :] * scale[:, None]

    def inside(self, radius: float = 0.97) -> np.ndarray:
        """Return the mask of the circle that every projection sees."""
        y, x = np.mgrid[: self.size, : self.size] - (self.size - 1) / 2
        return x**2 + y**2 < (radius * self.size / 2) ** 2

    def error(self, image: np.ndarray) -> float:
        """Return the root mean square error inside the circle."""
        mask = self.inside()
        return float(np.sqrt(np.mean((image - self.image())[mask].astype("f8") ** 2)))


@pytest.fixture(scope="session")
def phantom():
    """Make a phantom of a size."""
    return Phantom


def _counts(
    projections: np.ndarray, photons: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    columns = projections.shape[-1]
    beam = photons * (0.8 + 0.2 * np.cos(np.linspace(-1, 1, columns)))
    beam = np.broadcast_to(beam, projections.shape[1:])
    flats = rng.poisson(np.broadcast_to(beam, (20, *beam.shape))) + 100
    darks = rng.poisson(100, (20, *beam.shape))
    raw = rng.poisson(beam * np.exp(-projections)) + 100
    return raw.astype("u2"), flats.astype("u2"), darks.astype("u2")


@pytest.fixture(scope="session")
def counts():
    """Turn exact projections into a camera's counts with flats and darks."""
    return _counts
