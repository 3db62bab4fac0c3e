"""``tomolive bench recon``: the kernels beside algotom, ASTRA and scikit-image, on the same data."""

# pyright: reportMissingImports=false
# The peers to compare with are optional: where one is not installed, its rows say so.

import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]
Clock = Callable[[], float]
_BLOCK = 16


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    work: str
    by: str
    milliseconds: float
    ratio: float | None = None
    """How many times longer than the first line of the same work."""
    error: float | None = None
    """Root mean square against the phantom, inside the circle; or columns, for a centre."""
    note: str = ""


@click.command()
@click.option("--size", default=512, show_default=True, help="detector columns")
@click.option("--angles", default=720, show_default=True, help="projections over half a turn")
@click.option("--threads", default=1, show_default=True, help="threads of each contestant")
@click.option("--rounds", default=3, show_default=True, help="each figure is the best of so many rounds")
@click.option("--peers/--no-peers", default=True, show_default=True, help="measure the other libraries too")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures there")
def recon(size: int, angles: int, threads: int, rounds: int, peers: bool, json_file: Path | None) -> None:
    """Time slices, the live path, the rotation centre and stripe removal."""
    import numba

    numba.set_num_threads(threads)
    figures = []
    clock = "processor time of one thread" if threads == 1 else f"wall time of {threads} threads"
    click.echo(f"{size} columns, {angles} projections, {clock}, best of {rounds}")
    click.echo(f"{'work':<37}{'by':<34}{'ms':>10}{'ratio':>8}{'error':>9}  note")
    for figure in _figures(size, angles, threads, rounds, peers):
        figures.append(figure)
        ratio = f"{figure.ratio:>8.1f}" if figure.ratio is not None else " " * 8
        error = f"{figure.error:>9.4f}" if figure.error is not None else " " * 9
        click.echo(
            f"{figure.work:<37}{figure.by:<34}{figure.milliseconds:>10.3f}{ratio}{error}  {figure.note}"
        )
    if json_file:
        json_file.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


def _figures(size: int, count: int, threads: int, rounds: int, peers: bool) -> Iterator[Figure]:
    yield from _slices(size, count, threads, rounds, peers)
    yield from _live(size, threads, rounds)
    yield from _center(size, count, threads, rounds, peers)
    yield from _stripes(size, count, threads, rounds, peers)


def _best(work: Callable[[], Any], rounds: int, clock: Clock) -> tuple[float, Any]:
    """Return the shortest of ``rounds`` times in milliseconds, after one that warms up, and the result."""
    result = work()
    best = np.inf
    for _ in range(rounds):
        start = clock()
        result = work()
        best = min(best, clock() - start)
    return 1e3 * best, result


def _clock(threads: int) -> Clock:
    """Return what measures: one thread by its processor time, which other programs disturb least."""
    return time.process_time if threads == 1 else time.perf_counter


# -- slices across the axis ------------------------------------------------------------------------------


def _slices(size: int, count: int, threads: int, rounds: int, peers: bool) -> Iterator[Figure]:
    from tomolive.bench import shepp_logan
    from tomolive.recon import reconstruct

    radians = np.arange(count) * np.pi / count
    middle = (size - 1) / 2
    sinogram = shepp_logan.sinogram(size, radians, middle)
    block = np.repeat(sinogram[np.newaxis], _BLOCK, axis=0)
    truth = shepp_logan.image(size, middle)
    work = "slice, sinogram to picture"
    own: dict[str, Callable[[], Floats]] = {
        "tomolive gridding": lambda: reconstruct(block, radians, middle, method="gridding", threads=threads),
        "tomolive backprojection": lambda: reconstruct(
            block, radians, middle, method="backprojection", threads=threads
        ),
    }
    first = None
    for by, function in own.items():
        took, images = _best(function, rounds, _clock(threads))
        first = first or took / _BLOCK
        note = f"each of {_BLOCK} slices done together"
        yield Figure(work, by, took / _BLOCK, took / _BLOCK / first, _error(images[0], truth), note)
    if not peers or first is None:
        return
    for by, prepare in (
        ("algotom fbp", _algotom),
        ("ASTRA FBP linear", _astra),
        ("scikit-image iradon", _skimage),
    ):
        try:
            function, origin = prepare(size, radians, middle)
        except ImportError as error:
            yield Figure(work, by, np.nan, note=f"not measured: {error}")
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            took, picture = _best(function, 1 if size > 512 else rounds, _clock(threads))
        expected = shepp_logan.image(size, origin)
        note = "" if by != "scikit-image iradon" else "one thread only"
        yield Figure(work, by, took, took / first, _error(_upright(picture, expected), expected), note)


def _error(picture: Floats, truth: Floats) -> float:
    size = len(truth)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = x**2 + y**2 < (0.97 * size / 2) ** 2
    return float(np.sqrt(np.mean((picture - truth)[inside].astype(np.float64) ** 2)))


def _upright(picture: Floats, truth: Floats) -> Floats:
    """Turn or mirror a picture as its library's axes need it: the one of eight ways nearest to the truth."""
    turned = [np.rot90(p, k) for p in (picture, picture[:, ::-1]) for k in range(4)]
    return min(turned, key=lambda p: _error(p, truth))


def _algotom(size: int, radians: Floats, middle: float) -> tuple[Callable[[], Floats], float]:
    from algotom.rec.reconstruction import fbp_reconstruction

    from tomolive.bench import shepp_logan

    sinogram = shepp_logan.sinogram(size, radians, middle)
    ramp: Any = None  # algotom's own name for its plain ramp
    return (
        lambda: fbp_reconstruction(
            sinogram, middle, angles=radians, filter_name=ramp, apply_log=False, gpu=False, ncore=1
        ),
        middle,
    )


def _astra(size: int, radians: Floats, middle: float) -> tuple[Callable[[], Floats], float]:
    import astra

    from tomolive.bench import shepp_logan

    sinogram = shepp_logan.sinogram(size, radians, middle)
    volume = astra.create_vol_geom(size, size)
    projector = astra.create_projector(
        "linear", astra.create_proj_geom("parallel", 1.0, size, radians), volume
    )

    def fbp() -> Floats:
        data = astra.data2d.create("-sino", astra.create_proj_geom("parallel", 1.0, size, radians), sinogram)
        picture = astra.data2d.create("-vol", volume)
        settings = astra.astra_dict("FBP") | {
            "ProjectorId": projector, "ProjectionDataId": data, "ReconstructionDataId": picture,
        }  # fmt: skip
        algorithm = astra.algorithm.create(settings)
        astra.algorithm.run(algorithm)
        result = astra.data2d.get(picture)
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([data, picture])
        return result

    return fbp, middle


def _skimage(size: int, radians: Floats, middle: float) -> tuple[Callable[[], Floats], float]:  # noqa: ARG001
    from skimage.transform import iradon

    from tomolive.bench import shepp_logan

    origin = size // 2
    sinogram = np.ascontiguousarray(shepp_logan.sinogram(size, radians, origin).T)
    # its rows run the other way, about a pixel that is not the middle of an even number of them
    pad = 1 - size % 2
    return lambda: np.roll(iradon(sinogram, np.degrees(radians), circle=True)[::-1], pad, axis=0), origin


# -- the live path ---------------------------------------------------------------------------------------


def _live(size: int, threads: int, rounds: int, batch: int = 16) -> Iterator[Figure]:
    from tomolive.live.ortho import OrthoSlices
    from tomolive.recon.correct import flat_field, line_integrals

    rng = np.random.default_rng(0)
    raw = rng.integers(5000, 40000, (batch, size, size), dtype=np.uint16)
    dark, flat = np.full((size, size), 100.0), np.full((size, size), 45000.0)
    field = flat_field(flat, dark)
    radians = np.arange(batch) * np.pi / 1500 + 0.3
    weights = np.ones(batch)
    positions = {"xy": size // 2, "xz": size // 3, "yz": size // 3}
    slices = OrthoSlices(size, size, positions, threads)
    work = "live, each projection, 3 planes"
    out = np.empty(raw.shape, np.float32)
    corrected, _ = _best(lambda: line_integrals(raw, field, out), rounds, _clock(threads))
    corrected /= batch

    def live() -> None:
        slices.add(slices.filtered(raw, field, "ramp"), radians, weights, size / 2)

    took, _ = _best(live, rounds, _clock(threads))
    took /= batch
    naive, _ = _best(_naive_live(raw[:2], dark, flat, radians, positions), rounds, _clock(threads))
    naive /= 2
    per_second = f"{1e3 / took:.0f} projections/s, batches of {batch}, {size} x {size} uint16"
    yield Figure(work, "tomolive, all of it", took, 1.0, note=per_second)
    note = f"one thread; all of it costs {took / corrected:.1f} times this"
    yield Figure(work, "tomolive, dark, flat, -log alone", corrected, corrected / took, note=note)
    yield Figure(
        work, "plain numpy, scipy.fft and numba", naive, naive / took, note="one thread, textbook loops"
    )


def _naive_live(
    raw: Floats, dark: Floats, flat: Floats, radians: Floats, positions: dict[str, int]
) -> Callable[[], None]:
    import scipy.fft
    from numba import njit

    size = raw.shape[2]
    ramp = np.abs(np.fft.rfftfreq(2 * size)).astype(np.float32)
    planes = [np.zeros((size, size), np.float32) for _ in range(3)]
    middle = (size - 1) / 2

    @njit
    def draw(rows: Floats, start: Floats, step: float, image: Floats) -> None:
        for y in range(image.shape[0]):
            row = rows[y % rows.shape[0]]
            for x in range(image.shape[1]):
                position = start[y] + x * step
                i = int(position)
                if 0 <= i < row.size - 1:
                    image[y, x] += row[i] + (position - i) * (row[i + 1] - row[i])

    def live() -> None:
        for counts, angle in zip(raw, radians, strict=False):
            integrals = -np.log((counts - dark) / (flat - dark)).astype(np.float32)
            spectrum = np.asarray(scipy.fft.rfft(integrals, 2 * size, axis=1)) * ramp
            filtered = np.asarray(scipy.fft.irfft(spectrum, axis=1))[:, :size]
            c, s = np.cos(angle), np.sin(angle)
            origin = size / 2 - middle * (c + s)
            every = np.ones(size)
            draw(filtered[positions["xy"]][None], origin + s * np.arange(size), c, planes[0])
            draw(filtered, (origin + s * positions["xz"]) * every, c, planes[1])
            draw(filtered, (origin + c * positions["yz"]) * every, s, planes[2])

    return live


# -- centre and stripes ----------------------------------------------------------------------------------


def _center(size: int, count: int, threads: int, rounds: int, peers: bool) -> Iterator[Figure]:
    from tomolive.bench import shepp_logan
    from tomolive.recon import find_center
    from tomolive.recon.center import from_opposite

    radians = np.linspace(0, np.pi, count)
    true = (size - 1) / 2 + 3.15
    exact = shepp_logan.sinogram(size, radians, true)
    exact *= 2 / exact.max()
    scale = 1 - 0.003 * np.arange(128)[:, np.newaxis]
    rng = np.random.default_rng(0)
    first, last = (
        -np.log(np.maximum(rng.poisson(1e4 * np.exp(-exact[i] * scale)), 1) / 1e4) for i in (0, -1)
    )
    took, found = _best(lambda: from_opposite(first, last), rounds, _clock(threads))
    work = "centre, 0 and 180 degrees, 128 rows"
    yield Figure(work, "tomolive", took, 1.0, abs(found - true), "error in columns, 10,000 photons")
    base = took
    if peers:
        try:
            from algotom.prep.calculation import find_center_based_phase_correlation as algotom_center
        except ImportError as error:
            yield Figure(work, "algotom phase correlation", np.nan, note=f"not measured: {error}")
        else:
            took, found = _best(lambda: algotom_center(first, last), rounds, _clock(threads))
            yield Figure(work, "algotom phase correlation", took, took / base, abs(found - true))
    took, found = _best(lambda: find_center(exact, radians, threads=threads), 1, _clock(threads))
    yield Figure("centre, found and refined, 1 row", "tomolive", took, 1.0, abs(found - true))


def _stripes(size: int, count: int, threads: int, rounds: int, peers: bool) -> Iterator[Figure]:
    from tomolive.recon.rings import remove_stripes

    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(size=(count, size)), axis=1) / 100
    sinogram = (smooth + rng.normal(0, 0.01, size)).astype(np.float32)
    work = "stripes by sorting, one sinogram"
    base, cleaned = _best(lambda: remove_stripes(sinogram, 21, threads=threads), rounds, _clock(threads))
    yield Figure(work, "tomolive", base, 1.0)
    if not peers:
        return
    try:
        from algotom.prep.removal import remove_stripe_based_sorting
    except ImportError as error:
        yield Figure(work, "algotom", np.nan, note=f"not measured: {error}")
        return
    took, theirs = _best(lambda: remove_stripe_based_sorting(sinogram, 21), 1, _clock(threads))
    note = f"largest difference {np.abs(theirs - cleaned).max():.1e}"
    yield Figure(work, "algotom", took, took / base, note=note)
