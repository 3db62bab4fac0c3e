"""``tomolive bench files``: reading announced frames, beside plain h5py and event_model's Filler."""

import json
import multiprocessing
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

Pair = tuple[str, dict[str, Any]]
DATASET = "/entry/data/data"


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    case: str
    what: str
    ms_per_frame: float
    note: str = ""


@click.command()
@click.option(
    "--directory", type=click.Path(path_type=Path), help="where files are written; default: temporary"
)
@click.option("--rounds", default=5, show_default=True, help="each figure is the best of so many rounds")
@click.option("--threads", default=2, show_default=True, help="threads that may decompress")
@click.option("--quick", is_flag=True, help="few and small frames: shows that it works, not how fast")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures there")
def files(directory: Path | None, rounds: int, threads: int, quick: bool, json_file: Path | None) -> None:
    """Read frames that documents announce, out of files in the page cache."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        figures = list(_figures(Path(folder), rounds, threads, shrink=16 if quick else 1))
    click.echo(f"{'case':<56}{'read by':<40}{'ms/frame':>9}  note")
    for figure in figures:
        click.echo(f"{figure.case:<56}{figure.what:<40}{figure.ms_per_frame:>9.3f}  {figure.note}")
    if json_file:
        json_file.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


def _figures(folder: Path, rounds: int, threads: int, shrink: int) -> Iterator[Figure]:
    big, middle, small = 2048 // shrink, 1024 // shrink, 512 // shrink
    many = 1000 // shrink
    yield from _whole_frames(folder, rounds, count=48, size=big, announced=1)
    yield from _whole_frames(folder, rounds, count=many, size=small, announced=1)
    yield from _whole_frames(folder, rounds, count=many, size=small, announced=50)
    yield from _latency(folder, count=300 // shrink, size=small)
    yield from _compressed(folder, rounds, threads, count=16, size=middle)


def _whole_frames(folder: Path, rounds: int, *, count: int, size: int, announced: int) -> Iterator[Figure]:
    path = folder / f"{size}.h5"
    _write(path, count, size)
    case = f"{count} frames {size} x {size} uint16, {announced} a document"
    contestants: dict[str, Callable[[], float]] = {
        "h5py read_direct into one buffer": lambda: _by_h5py(path, count),
        "tomolive, stream_datum": lambda: _by_tomolive(path, _fly_scan(path, count, size, announced)),
    }
    if announced == 1:
        contestants["tomolive, datum, filled events"] = lambda: _by_tomolive(
            path, _step_scan(path, count, size), fill_events=True
        )
        contestants["event_model.Filler, correct handler"] = lambda: _by_event_model(
            _step_scan(path, count, size)
        )
    # In turn, so that whatever else the machine does meets all of them.
    took = [{what: measure() for what, measure in contestants.items()} for _ in range(rounds)]
    seconds = {what: min(each[what] for each in took) for what in contestants}
    base = seconds["h5py read_direct into one buffer"]
    for what, best in seconds.items():
        note = f"{base / best:.2f} of h5py's rate, {1e3 * (best - base) / count:+.3f} ms a frame"
        yield Figure(case, what, 1e3 * best / count, note)


def _latency(folder: Path, *, count: int, size: int) -> Iterator[Figure]:
    """From the document's arrival to the array, while another process writes the file frame by frame."""
    path = folder / "live.h5"
    context = multiprocessing.get_context("spawn")
    announcements, documents = context.Pipe(duplex=False)
    writer = context.Process(target=_write_live, args=(path, count, size, documents))
    writer.start()
    documents.close()
    seconds = []
    with _filler(path) as filler:
        for name, doc in _fly_scan(path, count, size, 1):
            if name == "stream_datum":
                announcements.recv()
            start = time.perf_counter()
            frames = [item[1] for item in filler.process(name, doc) if item[0] == "frames"]
            if frames:
                seconds.append(time.perf_counter() - start)
    writer.join()
    p50, p99 = (1e3 * float(np.percentile(seconds, q)) for q in (50, 99))
    case = f"live, {size} x {size} uint16, another process writes"
    yield Figure(case, "tomolive, document to array, p50", p50, "target: below 3 ms")
    yield Figure(case, "tomolive, document to array, p99", p99, "target: below 20 ms")


def _compressed(folder: Path, rounds: int, threads: int, *, count: int, size: int) -> Iterator[Figure]:
    try:
        import hdf5plugin
    except ImportError:
        yield Figure("compressed", "(hdf5plugin is not installed)", float("nan"))
        return
    filters: dict[str, dict[str, Any]] = {
        "gzip 4, shuffle": {"compression": "gzip", "shuffle": True},
        "bitshuffle LZ4": dict(hdf5plugin.Bitshuffle(cname="lz4")),
        "Blosc LZ4": dict(hdf5plugin.Blosc()),
    }
    for name, options in filters.items():
        path = folder / "compressed.h5"
        _write(path, count, size, **options)
        case = f"{count} frames {size} x {size} uint16, {name}"
        base = min(_by_h5py(path, count) for _ in range(rounds))
        yield Figure(case, "h5py read_direct into one buffer", 1e3 * base / count)
        for number in sorted({1, threads}):
            scan = _fly_scan(path, count, size, count)
            took = min(_by_tomolive(path, scan, threads=number) for _ in range(rounds))
            what = f"tomolive, one block, {number} thread{'s' if number > 1 else ''}"
            yield Figure(case, what, 1e3 * took / count, f"{base / took:.2f} of h5py's rate")


def _write(path: Path, count: int, size: int, **options: Any) -> None:
    import h5py

    rng = np.random.default_rng(1)
    few = rng.poisson(1000, (4, size, size)).astype("<u2")
    with h5py.File(path, "w", libver="latest") as file:
        images = file.create_dataset(
            DATASET, (0, size, size), "<u2", maxshape=(None, size, size), chunks=(1, size, size), **options
        )
        file.swmr_mode = True
        images.resize(count, axis=0)
        for number in range(count):
            images[number] = few[number % len(few)]


def _write_live(path: Path, count: int, size: int, documents: Any) -> None:
    import h5py

    with h5py.File(path, "w", libver="latest") as file:
        images = file.create_dataset(
            DATASET, (0, size, size), "<u2", maxshape=(None, size, size), chunks=(1, size, size)
        )
        file.swmr_mode = True
        for number in range(count):
            images.resize(number + 1, axis=0)
            images[number] = number + 1
            images.flush()
            documents.send(number)
            time.sleep(0.01)


def _by_h5py(path: Path, count: int) -> float:
    import h5py

    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        images = _images(file)
        buffer = np.empty(images.shape[1:], images.dtype)
        start = time.perf_counter()
        for number in range(count):
            images.read_direct(buffer, np.s_[number])
        return time.perf_counter() - start


def _images(file: Any) -> Any:
    return file[DATASET]


def _filler(path: Path, **settings: Any) -> Any:
    import contextlib

    from tomolive.files.filler import Filler
    from tomolive.files.locate import Locator

    return contextlib.closing(Filler(Locator({}, roots=[path.parent]), **settings))


def _by_tomolive(path: Path, pairs: list[Pair], **settings: Any) -> float:
    received = 0
    with _filler(path, **settings) as filler:
        start = time.perf_counter()
        for name, doc in pairs:
            for item in filler.process(name, doc):
                if item[0] == "frames":
                    received += len(item[1].array)
        took = time.perf_counter() - start
    announced = sum(
        doc["indices"]["stop"] - doc["indices"]["start"] for name, doc in pairs if "indices" in doc
    )
    announced += sum(name == "event" for name, _ in pairs)
    if received != announced:
        raise click.ClickException(f"{announced} frames were announced, {received} came")
    return took


def _by_event_model(pairs: list[Pair]) -> float:
    from event_model import Filler

    with Filler({"AD_HDF5": _Handler}, coerce="force_numpy", inplace=False) as filler:
        start = time.perf_counter()
        for name, doc in pairs:
            filler(name, doc)
        return time.perf_counter() - start


class _Handler:
    """What the shipped handler of AD_HDF5 would have to be to read files that grow."""

    def __init__(self, filename: str, frame_per_point: int = 1) -> None:
        import h5py

        self._images = _images(h5py.File(filename, "r", libver="latest", swmr=True))
        self._each = frame_per_point

    def __call__(self, point_number: int) -> np.ndarray:
        last = (point_number + 1) * self._each
        if len(self._images) < last:
            self._images.refresh()
        return self._images[point_number * self._each : last]


def _fly_scan(path: Path, count: int, size: int, announced: int) -> list[Pair]:
    run, descriptor, resource = (str(uuid.uuid4()) for _ in range(3))
    pairs = _head(run, descriptor, [1, size, size], "STREAM:")
    parameters = {"dataset": DATASET, "chunk_shape": [1, size, size]}
    pairs.append(
        (
            "stream_resource",
            {
                "uid": resource, "run_start": run, "data_key": "camera", "mimetype": "application/x-hdf5",
                "uri": f"file://localhost{path}", "parameters": parameters,
            },
        )
    )  # fmt: skip
    for first in range(0, count, announced):
        last = min(first + announced, count)
        doc = {
            "uid": f"{resource}/{first}", "stream_resource": resource, "descriptor": descriptor,
            "indices": {"start": first, "stop": last}, "seq_nums": {"start": first + 1, "stop": last + 1},
        }  # fmt: skip
        pairs.append(("stream_datum", doc))
    return [*pairs, _stop(run, descriptor)]


def _step_scan(path: Path, count: int, size: int) -> list[Pair]:
    run, descriptor, resource = (str(uuid.uuid4()) for _ in range(3))
    pairs = _head(run, descriptor, [1, size, size], "FILESTORE:")
    doc: dict[str, Any] = {
        "uid": resource, "run_start": run, "spec": "AD_HDF5", "root": str(path.parent),
        "resource_path": path.name, "resource_kwargs": {"frame_per_point": 1}, "path_semantics": "posix",
    }  # fmt: skip
    pairs.append(("resource", doc))
    for number in range(count):
        datum_id = f"{resource}/{number}"
        kwargs = {"point_number": number}
        pairs.append(("datum", {"datum_id": datum_id, "resource": resource, "datum_kwargs": kwargs}))
        doc = {
            "uid": f"{descriptor}/{number}", "descriptor": descriptor, "seq_num": number + 1, "time": 0.0,
            "data": {"camera": datum_id}, "timestamps": {"camera": 0.0}, "filled": {"camera": False},
        }  # fmt: skip
        pairs.append(("event", doc))
    return [*pairs, _stop(run, descriptor)]


def _head(run: str, descriptor: str, shape: list[int], external: str) -> list[Pair]:
    camera = {"source": "", "dtype": "array", "dtype_numpy": "<u2", "shape": shape, "external": external}
    doc = {
        "uid": descriptor, "run_start": run, "time": 0.0, "name": "primary", "data_keys": {"camera": camera},
        "configuration": {}, "object_keys": {},
    }  # fmt: skip
    return [("start", {"uid": run, "time": 0.0}), ("descriptor", doc)]


def _stop(run: str, descriptor: str) -> Pair:
    return "stop", {"uid": f"{descriptor}/stop", "run_start": run, "time": 0.0, "exit_status": "success"}
