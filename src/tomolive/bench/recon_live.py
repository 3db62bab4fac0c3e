"""The live path: from counts to three orthogonal slices, beside textbook loops and the correction alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.bench.recon_figures import ANGLES, Clock, Figure, at_least, at_most

Floats = npt.NDArray[Any]
_BATCH = 16


def live(size: int, clock: Clock) -> Iterator[Figure]:
    """Time dark, flat, -log, ramp filter of all rows and three planes, and one plane from what is kept."""
    from tomolive.live.slices.planes import Filtered, PlaneSet, bands
    from tomolive.recon.correct import flat_field, line_integrals
    from tomolive.recon.fused import correct_and_filter

    rng = np.random.default_rng(0)
    raw = rng.integers(5000, 40000, (_BATCH, size, size), dtype=np.uint16)
    dark, flat = np.full((size, size), 100.0), np.full((size, size), 45000.0)
    field = flat_field(flat, dark)
    radians = np.arange(_BATCH) * np.pi / 1500 + 0.3
    weights, center = np.ones(_BATCH), size / 2
    at = {"xy": size // 2, "xz": size // 3, "yz": size // 3}
    planes = PlaneSet(size, size, clock.threads)
    for plane, position in at.items():
        planes.begin((plane, (float(position),)))
    rows = bands(size)

    class Bands(Sequence[Floats]):
        """Made where they are used, as those of a scan."""

        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, band: Any) -> Any:
            return correct_and_filter(raw, field, rows[band])

    def three_planes() -> None:
        planes.add([Filtered(Bands(), radians, weights)], center)

    out = np.empty(raw.shape, np.float32)

    def correction() -> None:
        line_integrals(raw, field, out)

    work = f"live {size} x {size}, uint16"
    textbook = _textbook(raw[:2], dark, flat, radians, at)
    took, alone, slow = Clock(1, clock.rounds).by_turns(three_planes, correction, textbook)
    took, alone, slow = took / _BATCH, alone / _BATCH, slow / 2
    if clock.threads != 1:
        took = clock.best(three_planes)[0] / _BATCH
    rate = f"{1e3 / took:.0f} projections/s, {raw[0].nbytes / took / 1e6:.2f} GB/s, batches of {_BATCH}"
    yield Figure(work, "tomolive, all of it", took, 1.0, note=rate)
    note = f"one thread; all of it costs {took / alone:.1f} times this, the best of many rounds by turns"
    must = at_most(took / alone, 4, " times") if clock.threads == 1 else {}
    yield Figure(work, "dark, flat, -log alone", alone, alone / took, note=note, **must)
    must = at_least(slow / took, 5)
    yield Figure(work, "textbook numba and scipy.fft", slow, slow / took, note="one thread", **must)
    yield from _on_demand(size, clock, [correct_and_filter(raw, field, band) for band in rows])


def _on_demand(size: int, clock: Clock, bands: list[Floats]) -> Iterator[Figure]:
    """Time planes at another place, and about another centre, from all projections of a scan."""
    from tomolive.live.slices.filtered import KeptPiece
    from tomolive.live.slices.planes import Filtered, Place, PlaneSet

    count, copies = ANGLES.get(size, 1500), 4
    # more than fits any cache, less than all of a scan
    pieces = [KeptPiece(size, size) for _ in range(copies)]
    for piece in pieces:
        for kept, band in zip(piece.bands, bands, strict=True):
            kept[:] = band
    radians = (np.arange(copies * _BATCH) * np.pi / (copies * _BATCH)).reshape(copies, _BATCH)
    planes = PlaneSet(size, size, clock.threads)
    note = f"{count} projections filtered and in memory, scaled from {copies * _BATCH}"

    def draw(places: list[Place]) -> float:
        for place in places:
            planes.begin(place)
        parts = [
            Filtered(piece.bands, some, np.ones(_BATCH)) for piece, some in zip(pieces, radians, strict=True)
        ]
        took, _ = clock.best(lambda: planes.add(parts, size / 2, places))
        return took * count / (copies * _BATCH)

    here = (float(size // 4),)
    for plane in ("xy", "xz"):
        took = draw([(plane, here)])
        must = at_most(took, 300, " ms") if size == 1024 else {}
        yield Figure(f"another {plane} slice, {size}", "tomolive", took, None, note=note, **must)
    took = draw([("xy", here), ("xz", here), ("yz", here)])
    limits = {512: 300, 1024: 1500}
    must = at_most(took, limits[size], " ms") if size in limits else {}
    yield Figure(f"three slices, another centre, {size}", "tomolive", took, None, note=note, **must)


def _textbook(
    raw: Floats, dark: Floats, flat: Floats, radians: Floats, at: dict[str, int]
) -> Callable[[], None]:
    import scipy.fft
    from numba import njit

    size = raw.shape[2]
    ramp = np.abs(np.fft.rfftfreq(2 * size)).astype(np.float32)
    planes = [np.zeros((size, size), np.float32) for _ in range(3)]
    middle = (size - 1) / 2
    dark, flat = dark.astype(np.float32), flat.astype(np.float32)

    @njit
    def draw(rows: Floats, start: Floats, step: float, image: Floats) -> None:
        for y in range(image.shape[0]):
            row = rows[y % rows.shape[0]]
            for x in range(image.shape[1]):
                position = start[y] + x * step
                i = int(position)
                if 0 <= i < row.size - 1:
                    image[y, x] += row[i] + (position - i) * (row[i + 1] - row[i])

    def three_planes() -> None:
        for counts, angle in zip(raw, radians, strict=False):
            integrals = -np.log((counts - dark) / (flat - dark))
            spectrum = np.asarray(scipy.fft.rfft(integrals, 2 * size, axis=1)) * ramp
            filtered = np.asarray(scipy.fft.irfft(spectrum, axis=1))[:, :size]
            c, s = np.cos(angle), np.sin(angle)
            origin = size / 2 - middle * (c + s)
            every = np.ones(size)
            draw(filtered[at["xy"]][None], origin + s * np.arange(size), c, planes[0])
            draw(filtered, (origin + s * at["xz"]) * every, c, planes[1])
            draw(filtered, (origin + c * at["yz"]) * every, s, planes[2])

    return three_planes
