"""``tomolive bench volume``: files to volume, beside the same pipeline of algotom's functions and ASTRA."""

# pyright: reportMissingImports=false
# The peers to compare with are optional: where one is not installed, its rows say so.

import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

from tomolive.bench.astra_fbp import astra_fbp

if TYPE_CHECKING:
    from tomolive.live.volume.rows import RowLayout

Floats = npt.NDArray[Any]

_DARK, _FULL = 100, 40_000
_ABSORBED = 2.0
"""Largest line integral."""
_STRIPE = 0.002
_UID = "bench-volume-0000"
_ALGOTOM: dict[str, str | None] = {"ramp": None, "hann": "hann"}
_ASTRA = {"ramp": "ram-lak", "hann": "hann"}
"""What the peers call a filter."""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    work: str
    by: str
    seconds: float
    """For the whole volume."""
    each_ms: float
    """For a slice."""
    ratio: float | None = None
    """How many times longer than tomolive's volume with the same corrections."""
    error: float | None = None
    """Root mean square against the phantom, inside the circle, part of its largest value."""
    exact: float | None = None
    """The same of a slice of exact line integrals: what of the error is none of the noise."""
    note: str = ""


@click.command()
@click.option("--size", default=1024, show_default=True, help="detector columns")
@click.option("--rows", type=int, help="detector rows.  [default: as many as columns]")
@click.option("--angles", default=1500, show_default=True, help="projections over half a turn")
@click.option("--memory", default=4096, show_default=True, metavar="MB", help="limit of the reconstruction")
@click.option("--processes", type=int, help="processes.  [default: the cores that may be used]")
@click.option("--rings/--no-rings", "with_rings", default=True, show_default=True,
              help="also with zingers and stripes removed")  # fmt: skip
@click.option("--noise/--no-noise", default=False, show_default=True,
              help="photon noise and stripes; the smoother a method, the less it shows of them")  # fmt: skip
@click.option("--filter", "filter_", default="ramp", show_default=True, type=click.Choice(list(_ALGOTOM)),
              help="reconstruction filter of all; hann is what algotom takes by default")  # fmt: skip
@click.option("--peers/--no-peers", default=True, show_default=True, help="measure the other libraries too")
@click.option("--sample", default=2, show_default=True, help="slices that each peer makes; the rest is told")
@click.option("--format", "format_", default="ome-zarr", show_default=True,
              type=click.Choice(["ome-zarr", "nxtomoproc"]))  # fmt: skip
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False),
              help="folder with room for scan and volume.  [default: that for temporary files]")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures there")
def volume(
    size: int,
    rows: int | None,
    angles: int,
    memory: int,
    processes: int | None,
    with_rings: bool,
    noise: bool,
    filter_: str,
    peers: bool,
    sample: int,
    format_: str,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Time the full volume from image files: read, correct, zingers, rings, reconstruct, write."""
    from tomolive.live.volume.rows import RowLayout
    from tomolive.recon.parallel import allowed_cores

    rows, cores = rows or size, processes or allowed_cores()
    _require_room(folder or Path(tempfile.gettempdir()), RowLayout(angles, rows, size, "<u2"))
    click.echo(f"{size} columns, {rows} rows, {angles} projections, {cores} cores, limit {memory} MB")
    figures = []
    with tempfile.TemporaryDirectory(prefix="tomolive-bench-", dir=folder) as temporary:
        scan = _Scan(Path(temporary), size, rows, angles, noise=noise)
        click.echo(f"the scan is written: {scan.gigabytes:.2f} GB of uint16")
        click.echo(
            f"{'work':<34}{'by':<22}{'s':>9}{'ms/slice':>10}{'ratio':>8}{'error':>9}{'exact':>9}  note"
        )
        for corrected in [False, True] if with_rings else [False]:
            how = _How(corrected, filter_, cores, memory, format_)
            for figure in _figures(scan, how, sample if peers else 0):
                figures.append(figure)
                click.echo(_line(figure))
    if json_file:
        json_file.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


def _require_room(folder: Path, layout: "RowLayout") -> None:
    """See that scan and volume find room on the disk."""
    from tomolive.config import VolumeSettings
    from tomolive.live.volume.disk import volume_bytes

    needed, free = layout.nbytes + volume_bytes(layout, VolumeSettings()), shutil.disk_usage(folder).free
    if free < needed:
        raise click.UsageError(
            f"scan and volume need {needed / 1e9:.1f} GB of disk in {folder}, which has {free / 1e9:.1f}; "
            "choose another folder with --dir, or fewer --rows"
        )


def _line(figure: Figure) -> str:
    ratio = f"{figure.ratio:>8.1f}" if figure.ratio is not None else " " * 8
    error, exact = (f"{e:>9.4f}" if e is not None else " " * 9 for e in (figure.error, figure.exact))
    times = f"{figure.seconds:>9.1f}{figure.each_ms:>10.1f}"
    return f"{figure.work:<34}{figure.by:<22}{times}{ratio}{error}{exact}  {figure.note}"


@dataclass(frozen=True)
class _How:
    """How a volume is made."""

    corrected: bool
    filter: str
    cores: int
    memory: int
    format: str

    @property
    def work(self) -> str:
        """In words."""
        corrections = "with zingers and stripes" if self.corrected else "without"
        return corrections if self.filter == "ramp" else f"{corrections}, {self.filter}"


class _Scan:
    """A scan of the phantom of Shepp and Logan on disk, paler from row to row, in uneven light."""

    def __init__(self, folder: Path, size: int, rows: int, count: int, *, noise: bool) -> None:
        from tomolive.bench import shepp_logan

        self.folder, self.size, self.rows = folder, size, rows
        self.radians = np.arange(count) * np.pi / count
        self.center = (size - 1) / 2
        exact = shepp_logan.sinogram(size, self.radians, self.center)
        self.scale = _ABSORBED / float(exact.max())
        self._sinogram = exact * self.scale
        self.paleness = (1 - 0.3 * np.arange(rows) / rows).astype(np.float32)
        rng = np.random.default_rng(0)
        self._light = (_FULL * rng.uniform(0.8, 1.0, (rows, size))).astype(np.float32)
        self._stripes = rng.normal(1, _STRIPE if noise else 0, size).astype(np.float32)
        self.is_noisy, self._noise = noise, float(noise)
        self.file, self.jsonl = folder / "frames.h5", folder / "run.jsonl"
        self._write(count, rng)
        self._write_documents(count)

    @property
    def gigabytes(self) -> float:
        """Of the file."""
        return self.file.stat().st_size / 1e9

    def truth(self, row: int) -> Floats:
        """Return a slice, per pixel."""
        from tomolive.bench import shepp_logan

        return shepp_logan.image(self.size, self.center) * (self.scale * self.paleness[row])

    def exact(self, row: int) -> Floats:
        """Return the exact line integrals of a row, (angles, size)."""
        return self._sinogram * self.paleness[row]

    def _write(self, count: int, rng: np.random.Generator) -> None:
        import h5py

        # enough different noise: the same frame of it again each 16th projection
        noise = self._noise * rng.standard_normal((16, self.rows, self.size), dtype=np.float32)
        with h5py.File(self.file, "w") as file:
            shape = (count + 2, self.rows, self.size)
            data = file.create_dataset("entry/data/data", shape, "<u2", chunks=(1, *shape[1:]))
            data[0], data[1] = _DARK, np.rint(self._light + _DARK)
            for number, line in enumerate(self._sinogram):
                counts = np.exp(-self.paleness[:, np.newaxis] * line) * self._light * self._stripes
                counts += noise[number % len(noise)] * np.sqrt(counts) + _DARK
                data[number + 2] = np.rint(counts)

    def _write_documents(self, count: int) -> None:
        streams = {"darks": "darks", "flats": "flats", "projections": "projections"}
        tomography = {"version": 1, "image_key": "camera", "angle_key": "angle", "streams": streams,
                      "num_projections": count, "angle_start": 0.0, "angle_stop": 180.0}  # fmt: skip
        documents: list[tuple[str, dict[str, Any]]] = [
            ("start", {"uid": _UID, "time": 0.0, "plan_name": "bench", "tomography": tomography})
        ]
        frame = {"source": "bench", "dtype": "array", "dtype_numpy": "<u2", "shape": [self.rows, self.size],
                 "external": "STREAM:"}  # fmt: skip
        angle = {"source": "bench", "dtype": "number", "shape": [], "units": "deg"}
        place = 0
        for stream, number in (("darks", 1), ("flats", 1), ("projections", count)):
            keys = {"camera": frame} | ({"angle": angle} if stream == "projections" else {})
            documents.append(("descriptor", {"uid": stream, "run_start": _UID, "time": 0.0, "name": stream,
                                             "data_keys": keys}))  # fmt: skip
            if place == 0:
                documents.append(("stream_resource", {
                    "uid": "file", "run_start": _UID, "data_key": "camera", "mimetype": "application/x-hdf5",
                    "uri": f"file://localhost{self.file}", "parameters": {"dataset": "/entry/data/data"},
                }))  # fmt: skip
            documents.append(("stream_datum", {
                "uid": f"file/{place}", "stream_resource": "file", "descriptor": stream,
                "indices": {"start": place, "stop": place + number},
                "seq_nums": {"start": 1, "stop": number + 1},
            }))  # fmt: skip
            place += number
        for number, radians in enumerate(self.radians, 1):
            documents.append(("event", {
                "uid": f"e{number}", "descriptor": "projections", "seq_num": number, "time": 0.0,
                "data": {"angle": float(np.degrees(radians))}, "timestamps": {"angle": 0.0}, "filled": {},
            }))  # fmt: skip
        documents.append(("stop", {"uid": "stop", "run_start": _UID, "time": 0.0, "exit_status": "success"}))
        self.jsonl.write_text("".join(json.dumps(document) + "\n" for document in documents))


def _figures(scan: _Scan, how: _How, sample: int) -> Iterator[Figure]:
    own = _own(scan, how)
    yield own
    for by, prepare in (("algotom", _algotom), ("algotom, ASTRA FBP", _astra)) if sample else ():
        try:
            reconstruct = prepare(scan, how.filter)
            seconds, error = _peer(scan, how.corrected, reconstruct, sample)
            exact = _error_of_exact(scan, reconstruct)
        except ImportError as problem:
            yield Figure(how.work, by, np.nan, np.nan, note=f"not measured: {problem}")
            continue
        total = seconds * scan.rows / how.cores
        note = (
            f"{sample} slices on one core, times {scan.rows / sample:.0f}, as if {how.cores} cores shared it"
        )
        each_ms, ratio = 1e3 * seconds / how.cores, total / own.seconds
        yield Figure(how.work, by, total, each_ms, ratio, error, exact, note)


def _error_of_exact(scan: _Scan, reconstruct: Callable[[Floats], Floats]) -> float | None:
    """Return the error of a slice of exact line integrals, if the scan's are not."""
    if not scan.is_noisy:
        return None
    row = scan.rows // 2
    truth = scan.truth(row)
    return _error(_upright(reconstruct(scan.exact(row).astype(np.float32)), truth), truth)


def _own(scan: _Scan, how: _How) -> Figure:
    from tomolive.config import CorrectionSettings, FilesSettings, VolumeSettings
    from tomolive.live.volume.documents import DocumentSource
    from tomolive.live.volume.request import VolumeRequest
    from tomolive.live.volume.volume import make_volume
    from tomolive.recon import reconstruct

    out, cores, memory = scan.folder / "out", how.cores, how.memory
    settings = VolumeSettings.model_validate(
        {"folder": str(out), "memory_mb": memory, "processes": cores, "format": how.format}
    )
    request = VolumeRequest(
        _UID,
        DocumentSource(file=str(scan.jsonl)),
        center=scan.center,
        filter=how.filter,
        corrections=CorrectionSettings(zingers=how.corrected, rings="sorting" if how.corrected else "none"),
        volume=settings,
        files=FilesSettings(roots=(str(scan.folder),)),
    )
    before = _processor_s()
    result = make_volume(request)
    processor = _processor_s() - before
    row = scan.rows // 2
    error = _error(_slice_of(result.path, row), scan.truth(row))
    took = result.seconds
    moved = took["reading"] + (took["read"] + took["write"]) / cores
    computed = took["compute"] / cores
    overlap = took["wall"] / max(moved, computed)
    note = (
        f"reading {took['reading']:.1f}, blocks: read {took['read'] / cores:.1f}, compute {computed:.1f}, "
        f"write {took['write'] / cores:.1f} s on each core; wall {overlap:.2f} x the slower; "
        f"processor {processor:.1f} s; peak {result.peak_mb:.0f} of {memory} MB"
    )
    shutil.rmtree(out)
    exact = _error_of_exact(
        scan,
        lambda sinogram: reconstruct(sinogram[np.newaxis], scan.radians, scan.center, filter=how.filter)[0],
    )
    each_ms = 1e3 * took["wall"] / scan.rows
    return Figure(how.work, "tomolive", took["wall"], each_ms, 1.0, error, exact, note)


def _processor_s() -> float:
    """Return the processor time of this process and of those that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def _slice_of(path: Path, row: int) -> Floats:
    if path.suffix == ".nxs":
        import h5py

        with h5py.File(path) as file:
            volume: Any = file["entry/data/data"]
            return volume[row]
    import zarr

    return np.asarray(zarr.open_array(path / "0", mode="r")[row])


def _error(picture: Floats, truth: Floats) -> float:
    half = (len(truth) - 1) / 2
    y, x = np.mgrid[: len(truth), : len(truth)] - half
    inside = x**2 + y**2 < (0.97 * half) ** 2
    return float(np.sqrt(np.mean((picture - truth)[inside].astype(np.float64) ** 2)) / truth.max())


# -- the peers -------------------------------------------------------------------------------------------


def _peer(
    scan: _Scan, corrected: bool, reconstruct: Callable[[Floats], Floats], sample: int
) -> tuple[float, float]:
    """Return seconds for a slice by one core, and the error of the last, of a pipeline a user would write."""
    import h5py
    import numba
    import tifffile
    from algotom.prep.correction import flat_field_correction
    from algotom.prep.removal import remove_stripe_based_sorting, remove_zinger

    numba.set_num_threads(1)
    rows = scan.rows // 3 + np.arange(sample + 1)
    began, last, picture = 0.0, 0, np.zeros((0, 0))
    with h5py.File(scan.file) as file:
        data: Any = file["entry/data/data"]
        # a block of rows is read at once, as anybody would; its time is shared by them
        started = time.perf_counter()
        block = data[:, rows[0] : rows[0] + 16]
        reading = (time.perf_counter() - started) / block.shape[1]
        for number, row in enumerate(rows):
            if number == 1:  # the first compiles what is compiled
                began = time.perf_counter()
            counts = np.asarray(data[:2, row], np.float32)
            line = block[2:, (row - rows[0]) % block.shape[1]]
            sinogram = flat_field_correction(np.asarray(line, np.float32), counts[1], counts[0])
            if corrected:
                sinogram = remove_zinger(sinogram, 0.08)
            sinogram = -np.log(np.maximum(sinogram, 1e-6))
            if corrected:
                sinogram = remove_stripe_based_sorting(sinogram, 21)
            picture = reconstruct(sinogram.astype(np.float32))
            tifffile.imwrite(scan.folder / "peer.tif", picture.astype(np.float32))
            last = int(row)
    each = (time.perf_counter() - began) / sample
    truth = scan.truth(last)
    return reading + each, _error(_upright(picture, truth), truth)


def _upright(picture: Floats, truth: Floats) -> Floats:
    """Turn or mirror a picture as its library's axes need it: the one of eight ways nearest to the truth."""
    turned = [np.rot90(p, k) for p in (picture, picture[:, ::-1]) for k in range(4)]
    return min(turned, key=lambda p: _error(p, truth))


def _algotom(scan: _Scan, filter_: str) -> Callable[[Floats], Floats]:
    from algotom.rec.reconstruction import fbp_reconstruction

    window: Any = _ALGOTOM[filter_]
    return lambda sinogram: fbp_reconstruction(
        sinogram, scan.center, angles=scan.radians, filter_name=window, apply_log=False, gpu=False, ncore=1
    )


def _astra(scan: _Scan, filter_: str) -> Callable[[Floats], Floats]:
    return astra_fbp(scan.size, scan.radians, _ASTRA[filter_])
