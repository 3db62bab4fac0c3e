"""What a camera would see: the counts of each exposure, for a dark, a flat or a projection."""

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from tomolive.acquire.phantom import Phantom

Kind = Literal["dark", "flat", "projection"]


def kind_of(shutter_open: bool, sample_in: bool) -> Kind:
    """Return what a camera sees behind a shutter and a sample that can be moved out of the beam."""
    if not shutter_open:
        return "dark"
    return "projection" if sample_in else "flat"


class Scene(Protocol):
    """The world in front of a camera. Exposures are asked for in the order in which they are taken."""

    rows: int
    columns: int
    dtype: np.dtype

    def expose(self, kind: Kind, angle: float) -> npt.NDArray:
        """Return one frame, (rows, columns) of ``dtype``, with the stage at ``angle`` degrees."""
        ...


class UniformScene:
    """Every pixel of every frame has the same value: the simplest thing to count on."""

    def __init__(self, rows: int = 5, columns: int = 5, value: int = 1) -> None:
        self.rows, self.columns, self.dtype = rows, columns, np.dtype(np.uint16)
        self._frame = np.full((rows, columns), value, self.dtype)

    def expose(self, kind: Kind, angle: float) -> npt.NDArray:
        """Return the frame."""
        del kind, angle
        return self._frame


class SimulatedScene:
    """A phantom in an uneven X-ray beam, seen by a camera with dark current, photon noise and bad columns.

    A pixel counts ``dark + flat * t * (1 + bad (1 - t))`` on average, where t is the transmission. ``bad``
    is zero but for a few columns: their response is not linear, which no flat can correct, and which makes
    rings. Noise is Poisson noise of one photon for one count. The mean is about 100 in darks and thousands
    elsewhere, so that the normal limit is taken, four times as fast to draw.

    Parameters
    ----------
    phantom
        the sample.
    rows, columns
        size of the camera, pixels.
    center
        detector column of the rotation axis.
    seed
        of noise, beam and bad columns; the same seed gives the same scan to the bit.
    full
        counts in the middle of the beam; dark current is about 100.
    window
        what the camera sees of a larger field: (row, column) of its first pixel there, and (rows, columns) of
        the field, to which ``center`` belongs; None: the camera sees all of it.
    """

    dtype = np.dtype(np.uint16)

    def __init__(
        self,
        phantom: Phantom,
        rows: int,
        columns: int,
        center: float,
        seed: int = 0,
        full: float = 30_000,
        window: tuple[tuple[int, int], tuple[int, int]] | None = None,
    ) -> None:
        self.phantom, self.rows, self.columns, self.center = phantom, rows, columns, center
        (row, column), self._field = window or ((0, 0), (rows, columns))
        self._seen = slice(row, row + rows), slice(column, column + columns)
        self._noise = np.random.default_rng(seed)
        fixed = np.random.default_rng(seed)
        self.dark = (100 + fixed.normal(0, 3, columns) + fixed.normal(0, 2, (rows, 1))).astype(np.float32)
        self.flat = _beam(rows, columns, full, fixed)
        self.bad = np.zeros(columns, np.float32)
        number = min(4, columns // 16)
        self.bad[fixed.choice(columns, number, replace=False)] = fixed.choice([-0.05, 0.04, 0.06], number)

    def expose(self, kind: Kind, angle: float) -> npt.NDArray:
        """Return one noisy frame, (rows, columns) uint16 counts."""
        match kind:
            case "dark":
                photons = np.zeros((self.rows, self.columns), np.float32)
            case "flat":
                photons = self.flat
            case "projection":
                integrals = self.phantom.projection(np.deg2rad(angle), *self._field, self.center)
                transmitted = np.exp(-integrals[self._seen])
                photons = self.flat * transmitted
                photons += photons * self.bad * (1 - transmitted)
        counts = photons + self.dark
        noise = self._noise.standard_normal(counts.shape, dtype=np.float32)
        counts += noise * np.sqrt(counts)
        return np.clip(np.rint(counts, out=counts), 0, 65535, out=counts).astype(np.uint16)


def _beam(rows: int, columns: int, full: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return the beam profile, (rows, columns) counts: brightest in the middle, striped, blemished."""
    y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, columns, dtype=np.float32)
    stripes = sum(
        strength * np.sin(frequency * y + phase)
        for strength, frequency, phase in zip(
            (0.03, 0.02, 0.015), rng.uniform(8, 60, 3), rng.uniform(0, 6, 3), strict=True
        )
    )
    profile = np.exp(-0.35 * x**2 - 0.5 * y**2) * (1 + stripes)
    gain = rng.normal(1, 0.01, (rows, columns))
    return (full * profile * gain).astype(np.float32)
