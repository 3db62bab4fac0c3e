"""Several readers of one process, and one file that grows."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tomolive.files.readers.base import NotReadyError, Source
from tomolive.files.readers.hdf5 import Hdf5Reader

WRITER = """
import h5py, sys
with h5py.File(sys.argv[1], "w", libver="latest") as file:
    room = {"maxshape": (None, 16, 32), "chunks": (1, 16, 32), "dtype": "u2"}
    data = file.create_dataset("entry/data", (0, 16, 32), **room)
    angle = file.create_dataset("angle", (0,), maxshape=(None,), chunks=(64,), dtype="f8")
    file.swmr_mode = True
    print("begun", flush=True)
    for line in sys.stdin:
        count = data.shape[0] + 1
        data.resize(count, axis=0)
        data[count - 1] = count
        angle.resize(count, axis=0)
        angle[count - 1] = count
        data.flush()
        angle.flush()
        print(count, flush=True)
"""


@pytest.fixture
def grow(tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Return what has another process write the next frame, whose pixels are its count from 1 on."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "a.h5")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stdout.readline() == "begun\n"

    def one_more() -> int:
        writer.stdin.write("\n")
        writer.stdin.flush()
        return int(writer.stdout.readline())

    with writer:
        yield one_more
        writer.stdin.close()
        assert writer.wait(30) == 0


def _reader(tmp_path: Path, dataset: str = "/entry/data", path: str = "a.h5") -> Hdf5Reader:
    return Hdf5Reader(Source(tmp_path / path, lambda p: p.resolve(), {"dataset": dataset}, np.empty))


def test_each_reader_gets_each_frame(tmp_path: Path, grow: Callable[[], int]) -> None:
    """Two readers of one dataset, one of another, one that comes late, one by another name of the file."""
    grow()
    (tmp_path / "link.h5").symlink_to("a.h5")
    readers = [_reader(tmp_path), _reader(tmp_path), _reader(tmp_path, path="link.h5")]
    angles = _reader(tmp_path, "/angle")
    for count in range(1, 30):
        if count > 1:
            grow()
        if count == 10:
            readers.append(_reader(tmp_path))
        if count == 20:
            readers.pop(0).close()
        for reader in readers:
            assert (reader.read(count - 1, count) == count).all()
        assert angles.read(count - 1, count).tolist() == [count]
    for reader in (*readers, angles):
        reader.close()
    with h5py.File(tmp_path / "a.h5", "r", swmr=True, locking=False) as file:
        assert len(file["entry/data"]) == 29  # nothing of it is left open


def test_one_who_comes_after_the_writer_has_gone(tmp_path: Path, grow: Callable[[], int]) -> None:
    """A reader that holds an old view does not keep a new one from the frames."""
    grow()
    old = _reader(tmp_path)
    assert (old.read(0, 1) == 1).all()
    for _ in range(5):
        grow()
    new = _reader(tmp_path)
    assert new.read(0, 6)[:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert old.read(5, 6)[:, 0, 0].tolist() == [6]
    old.close()
    new.close()


def test_other_code_that_has_the_dataset_open_is_named(tmp_path: Path, grow: Callable[[], int]) -> None:
    """No frame is better than another one's pixels; they come once it is closed."""
    grow()
    reader = _reader(tmp_path)
    assert (reader.read(0, 1) == 1).all()
    with h5py.File(tmp_path / "a.h5", "r", swmr=True, locking=False) as file:
        other = file["entry/data"]
        assert other.shape == (1, 16, 32)
        grow()
        with pytest.raises(NotReadyError, match="open a second time"):
            reader.read(1, 2)
        del other
    assert (reader.read(1, 2) == 2).all()
    reader.close()
