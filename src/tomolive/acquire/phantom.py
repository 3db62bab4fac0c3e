"""A sample made of ellipsoids: its slices and its projections are known exactly.

Coordinates are detector pixels, relative to the point where the rotation axis crosses the middle row: x and
y across the axis, z along it (growing with the detector row). A ray at angle t that meets the detector in
column ``center + s`` runs through all points with ``x cos t + y sin t = s``.

Ellipsoids add up, so that a cavity is an ellipsoid of negative attenuation inside a positive one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.errors import ScanError

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ellipsoid:
    """One ellipsoid; the line integral along any ray through it is a closed formula."""

    center: tuple[float, float, float]
    """x, y, z, pixels."""
    axes: tuple[float, float, float]
    """Semi-axes, pixels."""
    turn: float
    """Rotation about the z axis, degrees, after the tilt."""
    tilt: float
    """Rotation about the x axis, degrees."""
    attenuation: float
    """What it adds to the linear attenuation coefficient, 1/pixel."""

    def form(self) -> npt.NDArray[np.float64]:
        """Return the (3, 3) matrix A for which ``(r - center) A (r - center) <= 1`` inside."""
        turn, tilt = np.deg2rad(self.turn), np.deg2rad(self.tilt)
        about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
        about_x = np.array([[1.0, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        frame = about_z @ about_x
        return frame @ np.diag(1 / np.square(self.axes)) @ frame.T


class Phantom:
    """A sum of ellipsoids.

    Parameters
    ----------
    ellipsoids
        in pixels; see the module for the coordinates.
    """

    def __init__(self, ellipsoids: Iterable[Ellipsoid]) -> None:
        self.ellipsoids = tuple(ellipsoids)
        if not self.ellipsoids:
            raise ScanError("a phantom needs at least one ellipsoid")
        self._forms = np.array([e.form() for e in self.ellipsoids])
        self._centers = np.array([e.center for e in self.ellipsoids], dtype=np.float64)
        self._attenuations = np.array([e.attenuation for e in self.ellipsoids])

    def projection(self, angle: float, rows: int, columns: int, center: float) -> Array:
        """Return the line integrals of attenuation at ``angle``, exact at the middle of each detector pixel.

        The chord of a ray ``p + u d`` in an ellipsoid with the form A follows from the quadratic equation for
        u: with ``k = d A d`` it is ``2 sqrt((1 - q S q) / k)``, where q is the place on the detector relative
        to the ellipsoid's shadow and ``S = A - A d d A / k`` the form of that shadow.

        Parameters
        ----------
        angle
            radians.
        rows, columns
            size of the detector, pixels.
        center
            detector column of the rotation axis.

        Returns
        -------
        (rows, columns) float32, no unit.
        """
        across = np.array([np.cos(angle), np.sin(angle), 0.0])
        along = np.array([-np.sin(angle), np.cos(angle), 0.0])
        slanted = self._forms @ along
        k = slanted @ along
        shadows = self._forms - slanted[:, :, None] * slanted[:, None, :] / k[:, None, None]
        ss, sz, zz = shadows @ across @ across, shadows[:, 2] @ across, shadows[:, 2, 2]
        area = ss * zz - sz * sz
        left, right = _span(center + self._centers @ across, np.sqrt(zz / area), columns)
        top, bottom = _span((rows - 1) / 2 + self._centers[:, 2], np.sqrt(ss / area), rows)
        total = np.zeros((rows, columns), np.float32)
        seen = np.flatnonzero((left < right) & (top < bottom))
        for i in seen:
            s = (np.arange(left[i], right[i]) - center - self._centers[i] @ across).astype(np.float32)
            z = (np.arange(top[i], bottom[i]) - (rows - 1) / 2 - self._centers[i, 2]).astype(np.float32)
            inside = np.multiply.outer(np.float32(-2 * sz[i]) * z, s)
            inside += np.float32(1) - np.float32(ss[i]) * s * s
            inside -= (np.float32(zz[i]) * z * z)[:, None]
            np.maximum(inside, 0, out=inside)
            np.sqrt(inside, out=inside)
            inside *= np.float32(2 * self._attenuations[i] / np.sqrt(k[i]))
            total[top[i] : bottom[i], left[i] : right[i]] += inside
        return total

    def slice_truth(self, plane: str, position: float, rows: int, columns: int, fine: int = 4) -> Array:
        """Return the attenuation in one plane of the volume, averaged over each pixel across the axis.

        Averages are over ``fine`` x ``fine`` points in x and y. Along z it is taken at the middle of the row,
        where the projections are exact too.

        Parameters
        ----------
        plane
            'xy', 'xz' or 'yz'.
        position
            index of the plane in the volume: z for xy, y for xz, x for yz.
        rows, columns
            size of the detector; the volume is (rows, columns, columns).

        Returns
        -------
        float32, 1/pixel; (columns, columns) for xy, else (rows, columns).

        Raises
        ------
        ScanError
            if there is no such plane.
        """
        sub = (np.arange(fine) + 0.5) / fine - 0.5
        wide = (np.arange(columns)[:, None] + sub).ravel() - (columns - 1) / 2
        here = position + sub - (columns - 1) / 2
        tall = np.arange(rows) - (rows - 1) / 2
        match plane:
            case "xy":
                z, y, x = np.array([position - (rows - 1) / 2]), wide, wide
                shape, mean = (columns, fine, columns, fine), (1, 3)
            case "xz":
                z, y, x = tall, here, wide
                shape, mean = (rows, fine, columns, fine), (1, 3)
            case "yz":
                z, y, x = tall, wide, here
                shape, mean = (rows, columns, fine, fine), (2, 3)
            case _:
                raise ScanError(f"no plane {plane!r}: expected 'xy', 'xz' or 'yz'")
        return self._attenuation(z, y, x).reshape(shape).mean(mean, dtype=np.float64).astype(np.float32)

    def _attenuation(self, z: npt.NDArray, y: npt.NDArray, x: npt.NDArray) -> Array:
        """Return the attenuation on the grid z, y, x as (len(z), len(y), len(x)) float32."""
        total = np.zeros((len(z), len(y), len(x)), np.float32)
        for ellipsoid, form in zip(self.ellipsoids, self._forms, strict=True):
            reach = np.sqrt(np.diag(np.linalg.inv(form)))
            (xs, xa), (ys, ya), (zs, za) = (
                _within(axis, ellipsoid.center[i], reach[i]) for i, axis in enumerate((x, y, z))
            )
            za, ya = za[:, None, None], ya[:, None]
            inside = form[0, 0] * xa**2 + form[1, 1] * ya**2 + form[2, 2] * za**2
            inside = inside + 2 * (form[0, 1] * xa * ya + form[0, 2] * xa * za + form[1, 2] * ya * za)
            total[zs, ys, xs] += np.float32(ellipsoid.attenuation) * (inside <= 1)
        return total

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return plain dictionaries, as a start document can hold them."""
        return [
            {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(e).items()} for e in self.ellipsoids
        ]

    @classmethod
    def from_dicts(cls, dicts: Iterable[Mapping[str, Any]]) -> "Phantom":
        """Return the phantom that ``to_dicts`` described.

        Raises
        ------
        ScanError
            if a dictionary is no ellipsoid.
        """
        try:
            return cls(
                Ellipsoid(
                    center=(float(d["center"][0]), float(d["center"][1]), float(d["center"][2])),
                    axes=(float(d["axes"][0]), float(d["axes"][1]), float(d["axes"][2])),
                    turn=float(d["turn"]),
                    tilt=float(d["tilt"]),
                    attenuation=float(d["attenuation"]),
                )
                for d in dicts
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ScanError(f"not a phantom: {error!r} while reading its ellipsoids") from None


def porous_sample(rows: int, columns: int, center: float, seed: int = 1) -> Phantom:
    """Return a porous stone: an upright body with a rim, pores, and dense grains, different at each height.

    It stays in the field of view at all angles, and lets 0.15 to 0.9 of the beam through.

    Parameters
    ----------
    rows, columns
        size of the detector, pixels.
    center
        detector column of the rotation axis.
    seed
        which stone.
    """
    rng = np.random.default_rng(seed)
    radius = 0.93 * (min(center, columns - 1 - center) + 0.5)
    tall = max(rows, 8)
    density = 1.9 / (2 * radius)
    body = Ellipsoid((0, 0, 0), (radius, 0.86 * radius, 0.78 * tall), 25.0, 0.0, density)
    core = Ellipsoid((0, 0, 0), (0.9 * radius, 0.76 * radius, 0.72 * tall), 25.0, 0.0, -0.2 * density)
    kinds = [(-0.8, 16, 0.16, 0.26), (0.6, 14, 0.10, 0.16), (-0.8, 40, 0.05, 0.10), (1.6, 30, 0.02, 0.05)]
    placed: list[Ellipsoid] = []
    for value, number, smallest, largest in kinds:
        for _ in range(number):
            extra = _place(rng, placed, radius, tall, (smallest, largest), value * density)
            if extra is not None:
                placed.append(extra)
    return Phantom([body, core, *placed])


def _place(
    rng: np.random.Generator,
    placed: list[Ellipsoid],
    radius: float,
    tall: float,
    sizes: tuple[float, float],
    attenuation: float,
) -> Ellipsoid | None:
    """Return an ellipsoid inside the body that touches none of those ``placed``; None if there is no room."""
    for _ in range(200):
        axes = radius * rng.uniform(*sizes) * rng.uniform(0.6, 1.0, 3)
        reach = axes.max()
        distance = (0.72 * radius - reach) * np.sqrt(rng.uniform())
        direction = rng.uniform(0, 2 * np.pi)
        center = np.array(
            [distance * np.cos(direction), distance * np.sin(direction), rng.uniform(-0.5, 0.5) * tall]
        )
        if all(np.linalg.norm(center - other.center) > reach + max(other.axes) for other in placed):
            turn, tilt = rng.uniform(0, 180, 2)
            x, y, z = (round(float(v), 3) for v in center)
            a, b, c = (round(float(v), 3) for v in axes)
            return Ellipsoid((x, y, z), (a, b, c), round(turn, 2), round(tilt, 2), attenuation)
    return None


def _span(middle: npt.NDArray, reach: npt.NDArray, size: int) -> tuple[npt.NDArray, npt.NDArray]:
    """Return the pixels ``[first, last)`` of ``size`` that lie within ``reach`` of ``middle``."""
    first = np.clip(np.ceil(middle - reach), 0, size).astype(int)
    last = np.clip(np.floor(middle + reach) + 1, 0, size).astype(int)
    return first, last


def _within(axis: npt.NDArray, middle: float, reach: float) -> tuple[slice, npt.NDArray]:
    """Return where the ascending ``axis`` is within ``reach`` of ``middle``, and how far from it."""
    first, last = np.searchsorted(axis, [middle - reach, middle + reach], side="left")
    last = min(last + 1, len(axis))
    return slice(first, last), axis[first:last] - middle
