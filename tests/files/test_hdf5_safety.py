"""What an HDF5 file must not do to its readers: invent frames, or lead them astray."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tomolive.errors import OutsideRootsError, UnknownLayoutError
from tomolive.files.locate import Locator
from tomolive.files.readers.base import NotReadyError, Source
from tomolive.files.readers.hdf5 import Hdf5Reader

WRITER = """
import sys, h5py
file = h5py.File(sys.argv[1], "w", libver="latest")
shape = eval(sys.argv[2])
data = file.create_dataset("d", (0, *shape), "f8", maxshape=(None, *shape), chunks=(4, *shape))
file.swmr_mode = True
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
file.close()
"""


class Writer:
    """A detector in another process, which does as it is told."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        command = [sys.executable, "-c", WRITER, str(path), repr(shape)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def do(self, statement: str) -> None:
        """Have one line of Python done there."""
        assert self.process.stdin is not None
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()
        self._answer()

    def finish(self) -> None:
        """Close the file and end."""
        self.process.communicate(timeout=60)


@pytest.fixture
def writer(tmp_path):
    """Start a writer of chunks of four frames."""
    writers = []

    def start(shape: tuple[int, ...] = (16, 16)) -> Writer:
        writers.append(Writer(tmp_path / "x.h5", shape))
        return writers[-1]

    yield start
    for each in writers:
        each.process.kill()
        each.finish()


@pytest.fixture
def reader(tmp_path):
    """Make a reader of a file in a folder that may be read."""
    readers = []

    def make(name: str = "x.h5", **parameters) -> Hdf5Reader:
        source = Source(tmp_path / name, Locator({}, [tmp_path]).confine, {"dataset": "d", **parameters})
        readers.append(Hdf5Reader(source))
        return readers[-1]

    yield make
    for each in readers:
        each.close()


@pytest.fixture
def frames_of():
    """The numbers that are in frames, each of which is uniform."""
    return lambda array: [float(frame.mean()) for frame in array]


def test_frames_that_share_a_chunk_are_not_invented(writer, reader, frames_of):
    """The chunk is in the file since its first frame; what was not flushed reads as zeros there."""
    detector, camera = writer(), reader()
    detector.do("data.resize(4, axis=0); data[0:2] = 7; data.flush()")
    assert frames_of(camera.read(0, 4)) == [7, 7]
    detector.do("data[2] = 8")
    with pytest.raises(NotReadyError, match="fill values"):
        camera.read(2, 3)
    detector.do("data.flush()")
    assert frames_of(camera.read(2, 4)) == [8]


@pytest.mark.parametrize(
    "more", ["data[1] = 0.5; data.flush()", "data.resize(5, axis=0); data[4] = 0; data.flush()"]
)
def test_an_angle_of_zero_comes_with_the_next(writer, reader, more):
    """What was written after it, in the same chunk or in a later one, proves it."""
    detector, encoder = writer(()), reader()
    detector.do("data.resize(4, axis=0); data[0] = 0; data.flush()")
    with pytest.raises(NotReadyError, match="fill values"):
        encoder.read(0, 1)
    detector.do(more)
    assert encoder.read(0, 1).tolist() == [0.0]


def test_an_angle_of_zero_comes_when_the_file_is_closed(writer, reader):
    """Then all that will ever be written was."""
    detector, encoder = writer(()), reader()
    detector.do("data.resize(1, axis=0); data[0] = 0; data.flush()")
    with pytest.raises(NotReadyError, match="fill values"):
        encoder.read(0, 1)
    detector.finish()
    assert encoder.read(0, 1).tolist() == [0.0]


def test_an_angle_of_zero_comes_when_the_file_is_still(writer, reader, tmp_path):
    """A detector that pauses, or was killed, leaves its last chunk as it is."""
    detector, encoder = writer(()), reader()
    detector.do("data.resize(1, axis=0); data[0] = 0; data.flush()")
    with pytest.raises(NotReadyError, match="fill values"):
        encoder.read(0, 1)
    os.utime(tmp_path / "x.h5", (0, 0))
    assert encoder.read(0, 1).tolist() == [0.0]


def test_frames_that_share_a_chunk_are_not_invented_in_old_formats(reader, tmp_path, frames_of):
    """Nothing in such a file says whether it is being written."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("d", (8, 6, 6), "f8", chunks=(4, 6, 6))
        data[0:5] = np.arange(5).reshape(5, 1, 1)
    assert frames_of(reader().read(0, 8)) == [0, 1, 2, 3, 4]
    os.utime(tmp_path / "x.h5", (0, 0))
    assert frames_of(reader().read(0, 8)) == [0, 1, 2, 3, 4, 0, 0, 0]


def test_a_file_behind_a_link_may_grow(writer, reader, tmp_path, frames_of):
    """A file that was closed long ago points at the detector's, which is being written."""
    with h5py.File(tmp_path / "master.h5", "w", libver="latest") as file:
        file["link"] = h5py.ExternalLink("x.h5", "d")
    detector, camera = writer(), reader("master.h5", dataset="link")
    detector.do("data.resize(4, axis=0); data[0:2] = 7; data.flush()")
    assert frames_of(camera.read(0, 4)) == [7, 7]
    detector.do("data.resize(6, axis=0); data[2:6] = 8; data.flush()")
    assert frames_of(camera.read(2, 6)) == [8, 8, 8, 8]


def virtual(path: Path, source: Path, name: str = "d") -> Path:
    """Make a file with a dataset that is another one's."""
    with h5py.File(path, "w", libver="latest") as file:
        layout = h5py.VirtualLayout((1, 8, 8), "u1")
        layout[:] = h5py.VirtualSource(str(source), name, shape=(1, 8, 8))
        file.create_virtual_dataset("d", layout)
    return path


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("way", ["storage", "link", "group", "soft link"])
def test_a_virtual_dataset_does_not_lead_outside_by_detours(reader, tmp_path, way, levels):
    """Its source keeps its values outside of the roots, or is itself only a link."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "secret.raw").write_bytes(bytes(64))
    with h5py.File(outside / "secret.h5", "w", libver="latest") as file:
        file["group/d"] = np.zeros((1, 8, 8), "u1")
    name = {"group": "g/d", "soft link": "s"}.get(way, "d")
    with h5py.File(tmp_path / "source.h5", "w", libver="latest") as file:
        if way == "storage":
            file.create_dataset("d", (1, 8, 8), "u1", external=[(str(outside / "secret.raw"), 0, 64)])
        elif way == "link":
            file["d"] = h5py.ExternalLink(str(outside / "secret.h5"), "group/d")
        else:
            file["g"] = h5py.ExternalLink(f"../{outside.name}/secret.h5", "group")
            file["s"] = h5py.SoftLink("/g/d")
    path = tmp_path / "source.h5"
    for level in range(levels):
        path = virtual(tmp_path / f"{level}.h5", path, "d" if level else name)
    with pytest.raises(OutsideRootsError):
        reader(path.name).read(0, 1)


def test_a_link_is_not_opened_before_it_is_confined(reader, tmp_path):
    """A named pipe outside the roots would block whoever opens it; here it is refused by its path."""
    outside = tmp_path.parent / f"{tmp_path.name}-pipe"
    os.mkfifo(outside)
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file["d"] = h5py.ExternalLink(str(outside), "d")
    with pytest.raises(OutsideRootsError):
        reader().read(0, 1)


def test_virtual_datasets_and_links_inside_the_roots_are_read(reader, tmp_path):
    """At several levels, through a group that lies in another file."""
    truth = np.arange(64, dtype="u1").reshape(1, 8, 8)
    with h5py.File(tmp_path / "data.h5", "w", libver="latest") as file:
        file["group/d"] = truth
    with h5py.File(tmp_path / "source.h5", "w", libver="latest") as file:
        file["g"] = h5py.ExternalLink("data.h5", "group")
        file["s"] = h5py.SoftLink("g/d")
    virtual(tmp_path / "0.h5", Path("source.h5"), "s")
    virtual(tmp_path / "x.h5", Path("0.h5"))
    np.testing.assert_array_equal(reader().read(0, 1), truth)
    np.testing.assert_array_equal(reader("source.h5", dataset="s").read(0, 1), truth)


def test_links_in_a_circle_are_refused(reader, tmp_path):
    """Rather than followed for ever."""
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file["d"] = h5py.SoftLink("/e")
        file["e"] = h5py.SoftLink("/d")
    with pytest.raises(UnknownLayoutError, match="too many links"):
        reader().read(0, 1)
