"""The runs of three beamlines whose files give trouble: troubled_beamlines.py MODE DIRECTORY SEED.

Each run is recorded as it should be; then its documents are printed, and the files made once more, in the way
that the mode says, in a process that shares nothing with the reader but the folder.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py

sys.path.insert(0, str(Path(__file__).parents[1]))
import beamlines  # the folder above is no package

IMAGES = "entry/data/data"
NEVER_WRITTEN = (1, 4)
"""Rows of each file of images that the mode ``missing`` leaves out."""
TOLD = "told"
"""Name of the file by which a reader says that it knows of the lock."""
Files = list[tuple[Path, Path]]


def slow(files: Files, _rng: random.Random) -> None:
    """Frames come one by one, long after they were announced."""
    for true, here in files:
        _write(true, here, in_order, pause=0.004)


def late(files: Files, _rng: random.Random) -> None:
    """Each file appears, whole, after a while."""
    for true, here in files:
        time.sleep(0.1)
        true.rename(here)


def truncated(files: Files, _rng: random.Random) -> None:
    """Each file arrives in pieces, as through a slow copy."""
    for true, here in files:
        content = true.read_bytes()
        with here.open("wb", buffering=0) as file:
            for first in range(0, len(content), len(content) // 5):
                file.write(content[first : first + len(content) // 5])
                time.sleep(0.03)


def locked(files: Files, _rng: random.Random) -> None:
    """Files are written without SWMR, and closed once somebody has noticed it."""
    opened = []
    for true, here in files:
        opened.append(_written(true, here, in_order, swmr=False))
    deadline = time.monotonic() + 60
    told = Path(sys.argv[2]) / TOLD
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    for file in opened:
        file.close()


def reordered(files: Files, rng: random.Random) -> None:
    """Datasets have their full length at once, and frames are written in any order."""
    for true, here in files:
        _write(true, here, lambda count: rng.sample(range(count), count), pause=0.004)


def missing(files: Files, _rng: random.Random) -> None:
    """Some frames are never written."""
    for true, here in files:
        _write(true, here, lambda count: [row for row in range(count) if row not in NEVER_WRITTEN])


MODES = {mode.__name__: mode for mode in (slow, late, truncated, locked, reordered, missing)}


def in_order(count: int) -> range:
    """One row after the other."""
    return range(count)


def _write(true: Path, here: Path, order: Callable[[int], object], pause: float = 0.0) -> None:
    _written(true, here, order, pause=pause).close()


def _written(true: Path, here: Path, order: Callable, *, pause: float = 0.0, swmr: bool = True) -> h5py.File:
    """Make a file of the same datasets; numbers at once, then frame by frame; return it open."""
    file = h5py.File(here, "w", libver="latest")
    with h5py.File(true, "r") as source:
        names: list[str] = []
        source.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            data = source[name]
            chunks = (1, *data.shape[1:]) if name == IMAGES else (4,)
            made = file.create_dataset(name, data.shape, data.dtype, chunks=chunks)
            if name != IMAGES:
                made[:] = data[:]
        if swmr:
            file.swmr_mode = True
        if IMAGES in names:
            for row in order(len(source[IMAGES])):
                time.sleep(pause)
                file[IMAGES][row] = source[IMAGES][row]
                file[IMAGES].flush()
    return file


def runs(directory: Path) -> Iterator[beamlines.Pair]:
    """All documents; the files are under ``directory`` as the three beamlines have mounted it."""
    yield from beamlines.hex_runs(directory / "hex", announced="/detector/hex")
    yield from beamlines.fxi_run(directory / "fxi", announced="/detector/fxi")
    yield from beamlines.dls_run(directory / "dls", announced="/detector/dls")


def main(mode: str, directory: Path, seed: int) -> None:
    """Print the documents and make the files; where frames are missing, the files come first."""
    true = directory.with_name("true")
    pairs = list(runs(true))
    paths = sorted(true.rglob("*.h5"), key=lambda path: path.stat().st_ctime_ns)
    files = [(path, directory / path.relative_to(true)) for path in paths]
    for _, here in files:
        here.parent.mkdir(parents=True, exist_ok=True)
    if mode == "missing":
        MODES[mode](files, random.Random(seed))
    for pair in pairs:
        print(json.dumps(pair), flush=True)  # noqa: T201
    if mode != "missing":
        MODES[mode](files, random.Random(seed))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
