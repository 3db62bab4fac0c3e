"""A camera in a process of its own whose files give trouble: unreliable_camera.py MODE DIRECTORY SEED.

Prints the documents of one run as JSON lines, at the moments at which a RunEngine would send them.
"""

import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import tifffile

sys.path.insert(0, str(Path(__file__).parents[1]))
import beamlines  # the folder above is no package

FRAMES = 12
ANNOUNCED = "file://localhost/detector"
Pair = beamlines.Pair


def hdf5_run() -> tuple[beamlines.Run, list[Pair]]:
    """A run that announces all its frames at once, in an HDF5 file."""
    return _run("application/x-hdf5", f"{ANNOUNCED}/camera.h5", dataset="/entry/data/data")


def tiff_run() -> tuple[beamlines.Run, list[Pair]]:
    """A run that announces all its frames at once, in TIFF files."""
    return _run("multipart/related;type=image/tiff", f"{ANNOUNCED}/", template="img_{:06d}.tiff")


def _run(mimetype: str, uri: str, **parameters: str) -> tuple[beamlines.Run, list[Pair]]:
    run = beamlines.Run()
    parameters["chunk_shape"] = [1, *beamlines.SHAPE]
    return run, [
        run.start(),
        run.descriptor("tomo", det=beamlines.image_key((1, *beamlines.SHAPE))),
        run.stream_resource("det", mimetype, uri, **parameters),
        run.stream_datum("tomo", "det", (0, FRAMES), 1),
    ]


def image(number: int):
    """The truth."""
    return beamlines.frame("projection", number)


def slow_hdf5(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """Frames come one by one long after they were announced."""
    run, pairs = hdf5_run()
    yield from pairs
    file = beamlines.CameraFile(directory / "camera.h5", swmr=True)
    for number in range(FRAMES):
        time.sleep(0.05)
        file.write(image(number))
    file.close()
    yield run.stop()


def late_hdf5(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """The file appears, whole, after a while."""
    run, pairs = hdf5_run()
    yield from pairs
    _write_hdf5(directory / "hidden.h5")
    time.sleep(0.7)
    (directory / "hidden.h5").rename(directory / "camera.h5")
    yield run.stop()


def truncated_hdf5(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """The file arrives byte by byte, as through a slow copy."""
    run, pairs = hdf5_run()
    yield from pairs
    _write_hdf5(directory / "hidden.h5")
    content = (directory / "hidden.h5").read_bytes()
    with (directory / "camera.h5").open("wb", buffering=0) as file:
        for first in range(0, len(content), len(content) // 8):
            file.write(content[first : first + len(content) // 8])
            time.sleep(0.1)
    yield run.stop()


def locked_hdf5(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """Written without SWMR, and closed only after the run."""
    yield from _locked(directory, libver="latest")


def locked_old_hdf5(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """As above, in the oldest format, whose superblock does not say that it is being written."""
    yield from _locked(directory, libver="earliest")


def _locked(directory: Path, libver: str) -> Iterator[Pair]:
    run, pairs = hdf5_run()
    with h5py.File(directory / "camera.h5", "w", libver=libver) as file:
        dataset = file.create_dataset(
            "entry/data/data", (FRAMES, *beamlines.SHAPE), "<u2", chunks=(1, *beamlines.SHAPE)
        )
        for number in range(FRAMES):
            dataset[number] = image(number)
        file.flush()
        yield from pairs
        yield run.stop()
        _wait_until_told(directory)


def _wait_until_told(directory: Path) -> None:
    """Wait until the test has noted that the file cannot be read."""
    deadline = time.monotonic() + 60
    while not (directory / "told").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def locked_event_hdf5(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """One classic event for the whole stack, sent while the file is still being written without SWMR."""
    run = beamlines.Run()
    file = beamlines.CameraFile(directory / "camera.h5", swmr=False)
    file.write()
    yield run.start()
    yield run.descriptor("tomo", det=beamlines.image_key((FRAMES, *beamlines.SHAPE), external="FILESTORE:"))
    yield run.resource("AD_HDF5", "/detector", "camera.h5", frame_per_point=FRAMES)
    yield (datum := run.datum(point_number=0))
    yield run.event("tomo", det=datum[1]["datum_id"])
    _wait_until_told(directory)
    for number in range(FRAMES):
        time.sleep(0.1)
        file.write(image(number))
    file.close()
    yield run.stop()


def preallocated_hdf5(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """The dataset is as long as the plan from the start; what is not written yet reads as zeros."""
    run, pairs = hdf5_run()
    shape = beamlines.SHAPE
    with h5py.File(directory / "camera.h5", "w", libver="latest") as file:
        dataset = file.create_dataset(
            "entry/data/data", (FRAMES + 5, *shape), "<u2", maxshape=(None, *shape), chunks=(1, *shape)
        )
        file.swmr_mode = True
        yield from pairs
        for number in range(FRAMES):
            time.sleep(0.05)
            dataset[number] = image(number)
            dataset.flush()
        yield run.stop()


def missing_hdf5(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """The detector dies before the last three frames."""
    run, pairs = hdf5_run()
    file = beamlines.CameraFile(directory / "camera.h5", swmr=True)
    file.write(*(image(number) for number in range(FRAMES - 3)))
    yield from pairs
    yield run.stop(exit_status="abort")
    _wait_until_told(directory)


def slow_tiff(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """Files come one by one long after they were announced."""
    yield from _tiff_in_order(directory, range(FRAMES), pause=0.05)


def reordered_tiff(directory: Path, rng: random.Random) -> Iterator[Pair]:
    """Files come in any order."""
    yield from _tiff_in_order(directory, rng.sample(range(FRAMES), FRAMES), pause=0.03)


def missing_tiff(directory: Path, _rng: random.Random) -> Iterator[Pair]:
    """Two files in the middle never come."""
    run, pairs = tiff_run()
    for number in range(FRAMES):
        if number not in (4, 7):
            tifffile.imwrite(directory / f"img_{number:06d}.tiff", image(number))
    yield from pairs
    yield run.stop()


def truncated_tiff(directory: Path, rng: random.Random) -> Iterator[Pair]:
    """Each file is cut off at a random place at first."""
    run, pairs = tiff_run()
    for number in range(FRAMES):
        path = directory / f"img_{number:06d}.tiff"
        tifffile.imwrite(path, image(number))
        content = path.read_bytes()
        path.write_bytes(content[: rng.randrange(len(content))])
        shutil.copy(path, path.with_suffix(".cut"))
        path.with_suffix(".whole").write_bytes(content)
    yield from pairs
    for number in range(FRAMES):
        time.sleep(0.05)
        path = directory / f"img_{number:06d}.tiff"
        path.write_bytes(path.with_suffix(".whole").read_bytes())
    yield run.stop()


def _tiff_in_order(directory: Path, order: object, pause: float) -> Iterator[Pair]:
    run, pairs = tiff_run()
    yield from pairs
    for number in order:
        time.sleep(pause)
        tifffile.imwrite(directory / f"img_{number:06d}.tiff", image(number))
    yield run.stop()


def _write_hdf5(path: Path) -> None:
    file = beamlines.CameraFile(path, swmr=False)
    file.write(*(image(number) for number in range(FRAMES)))
    file.close()


MODES: dict[str, Callable[[Path, random.Random], Iterator[Pair]]] = {
    mode.__name__: mode
    for mode in (
        slow_hdf5, late_hdf5, truncated_hdf5, locked_hdf5, locked_old_hdf5,
        locked_event_hdf5, preallocated_hdf5, missing_hdf5, slow_tiff, reordered_tiff, missing_tiff,
        truncated_tiff,
    )
}  # fmt: skip

if __name__ == "__main__":
    _, mode, directory, seed = sys.argv
    for pair in MODES[mode](Path(directory), random.Random(int(seed))):
        print(json.dumps(pair), flush=True)  # noqa: T201
