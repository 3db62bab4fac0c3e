"""Frames out of HDF5 files of all layouts; and what a reader must never do to the file's writer."""

import fcntl
import os
import shutil
import subprocess
import sys
import time

import h5py
import hdf5plugin
import numpy as np
import pytest

from tomolive.errors import OutsideRootsError, UnknownLayoutError
from tomolive.files.locate import Locator
from tomolive.files.readers.base import BeingWrittenError, NotReadyError, Source
from tomolive.files.readers.hdf5 import Hdf5Reader

TRUTH = np.random.default_rng(3).poisson(1000, (10, 6, 8)).astype("<u2")
LAYOUTS = {
    "a frame a chunk": {"chunks": (1, 6, 8)},
    "several frames a chunk": {"chunks": (4, 6, 8)},
    "tiles": {"chunks": (1, 4, 5)},
    "contiguous": {},
    "gzip": {"chunks": (1, 6, 8), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "gzip of several": {"chunks": (4, 6, 8), "compression": "gzip"},
    "lz4": {"chunks": (1, 6, 8), **hdf5plugin.LZ4()},
    "bitshuffle": {"chunks": (1, 6, 8), **hdf5plugin.Bitshuffle(cname="lz4")},
    "blosc": {"chunks": (2, 6, 8), **hdf5plugin.Blosc()},
    "blosc2": {"chunks": (1, 6, 8), **hdf5plugin.Blosc2()},
    "zstd": {"chunks": (1, 6, 8), **hdf5plugin.Zstd()},
    "lzf": {"chunks": (1, 6, 8), "compression": "lzf"},
}


@pytest.fixture
def reader(tmp_path):
    """Make a reader of a file in a folder that may be read."""
    (tmp_path / "roots").mkdir()
    locator = Locator({}, roots=[tmp_path / "roots"])
    readers = []

    def make(name: str = "x.h5", threads: int = 1, **parameters) -> Hdf5Reader:
        parameters = {"dataset": "d", **parameters}
        source = Source(tmp_path / "roots" / name, locator.confine, parameters, threads=threads)
        readers.append(Hdf5Reader(source))
        return readers[-1]

    yield make
    for each in readers:
        each.close()


@pytest.fixture
def folder(tmp_path, reader):
    """The folder that may be read."""
    return tmp_path / "roots"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", "u1"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_frames(reader, folder, layout, dtype, threads):
    """However the frames lie in the file and are compressed, any range of them is right, with its dtype."""
    truth = TRUTH.astype(dtype)
    with h5py.File(folder / "x.h5", "w", libver="latest") as file:
        file.create_dataset("d", data=truth, **LAYOUTS[layout])
    camera = reader(threads=threads)
    for first, last in ((0, 10), (3, 4), (2, 7), (9, 10)):
        frames = camera.read(first, last)
        np.testing.assert_array_equal(frames, truth[first:last])
        assert frames.dtype == truth.dtype


@pytest.mark.parametrize("dtype", ["<u2", ">u4", "u1"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_places_are_told_of_plain_numbers_alone(reader, folder, layout, dtype):
    """Where the file holds a frame in one piece, also behind a user block, its bytes are at its place."""
    truth = TRUTH.astype(dtype)
    with h5py.File(folder / "x.h5", "w", userblock_size=512) as file:
        file.create_dataset("d", data=truth, **LAYOUTS[layout])
    found = reader().places(2, 12)
    assert (found is not None) == (layout in ("a frame a chunk", "contiguous"))
    if found is not None:
        path, shape, found_dtype, offsets = found
        assert (path, shape, found_dtype, len(offsets)) == (
            (folder / "x.h5").resolve(),
            (6, 8),
            truth.dtype,
            8,
        )
        for frame, offset in zip(truth[2:], offsets, strict=True):
            np.testing.assert_array_equal(np.fromfile(path, dtype, 48, offset=offset).reshape(6, 8), frame)


def test_places_that_are_not_told(reader, folder):
    """Not of frames in other files, of a slice, or of a file that is being written; -1 of one not there."""
    with h5py.File(folder / "x.h5", "w", libver="latest") as file:
        file.create_dataset("d", shape=(3, 6, 8), chunks=(1, 6, 8), dtype="u2")[1] = TRUTH[1]
        file.create_dataset(
            "external", (1, 6, 8), "u2", external=[(str(folder / "x.raw"), 0, h5py.h5f.UNLIMITED)]
        )
        virtual = h5py.VirtualLayout((3, 6, 8), "u2")
        virtual[:] = h5py.VirtualSource(folder / "x.h5", "d", (3, 6, 8))
        file.create_virtual_dataset("virtual", virtual)
        file.create_dataset("not yet", (3, 6, 8), "u2")
        file.swmr_mode = True
        file.flush()
        shutil.copy(folder / "x.h5", folder / "open.h5")
    found = reader().places(0, 3)
    assert found is not None
    assert (found[3] >= 0).tolist() == [False, True, False]
    assert reader(slice="1:").places(0, 1) is None
    for name in ("external", "virtual", "not yet"):
        assert reader(dataset=name).places(0, 1) is None
    assert reader("open.h5").places(1, 2) is None


@pytest.mark.parametrize("text", ["3:", "3:,:,2:5", "1:9:2,::2", ["3:", ":", ":"]])
def test_a_slice_is_a_part_of_the_dataset(reader, folder, text):
    """The ``slice`` parameter: frames are numbered within it, nothing else is reached."""
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("d", data=TRUTH, chunks=(1, 6, 8))
    slices = {"3:": np.s_[3:], "3:,:,2:5": np.s_[3:, :, 2:5], "1:9:2,::2": np.s_[1:9:2, ::2]}
    truth = TRUTH[slices[text if isinstance(text, str) else "3:"]]
    camera = reader(slice=text)
    np.testing.assert_array_equal(camera.read(1, 3), truth[1:3])
    assert len(camera.read(0, 100)) == len(truth)
    with pytest.raises(NotReadyError):
        camera.read(len(truth), len(truth) + 1)


@pytest.mark.parametrize("text", ["a:b", "::-1", "-3:", "1:2:3:4"])
def test_a_slice_that_makes_no_sense_is_refused(reader, text):
    """At once, with its text."""
    with pytest.raises(UnknownLayoutError, match="slice"):
        reader(slice=text)


def test_several_frames_an_event_are_flat(reader, folder):
    """A dataset (events, frames, rows, columns) is a sequence of frames."""
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("d", data=TRUTH.reshape(5, 2, 6, 8), chunks=(1, 2, 6, 8))
    np.testing.assert_array_equal(reader().read(3, 8), TRUTH[3:8])


def test_scalars_are_flat(reader, folder):
    """A dataset of numbers gives (n,)."""
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("d", data=np.linspace(0, 1, 50), chunks=(16,), maxshape=(None,))
    np.testing.assert_array_equal(reader().read(10, 40), np.linspace(0, 1, 50)[10:40])


def test_frames_past_the_end_do_not_come(reader, folder):
    """A range that begins in the file gives what there is of it; one that begins after it, a reason."""
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("d", data=TRUTH)
    assert len(reader().read(8, 20)) == 2
    with pytest.raises(NotReadyError, match="holds 10 frames"):
        reader().read(10, 20)


@pytest.mark.parametrize("chunks", [(1, 6, 8), (1, 3, 8), (5, 6, 8)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_unwritten_chunks_are_not_zeros(reader, folder, chunks, threads, compression):
    """A dataset that is longer than it is full gives only what was written."""
    with h5py.File(folder / "x.h5", "w") as file:
        dataset = file.create_dataset("d", (20, 6, 8), "u2", chunks=chunks, compression=compression)
        dataset[:5] = TRUTH[:5]
    camera = reader(threads=threads)
    np.testing.assert_array_equal(camera.read(0, 20), TRUTH[:5])
    with pytest.raises(NotReadyError, match="no frame 5"):
        camera.read(5, 6)


def test_unwritten_contiguous_data_is_not_zeros(reader, folder):
    """Without chunks, storage that was never allocated, or fill values of a file that has just changed."""
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("d", (20, 6, 8), "u2")
        partly = file.create_dataset("partly", (20, 6, 8), "u2")
        partly[:5] = TRUTH[:5]
    with pytest.raises(NotReadyError):
        reader().read(0, 1)
    assert len(reader(dataset="partly").read(0, 5)) == 5
    with pytest.raises(NotReadyError, match="nothing but fill values"):
        reader(dataset="partly").read(5, 6)


def test_black_frames_that_were_written_come(reader, folder):
    """Zeros that the detector has measured are data."""
    with h5py.File(folder / "x.h5", "w", libver="latest") as file:
        file.create_dataset("d", data=np.zeros((3, 6, 8), "u2"), chunks=(1, 6, 8))
    assert not reader().read(0, 3).any()


def test_a_closed_file_that_grows_again_is_seen(reader, folder):
    """Some detectors close the file after each burst and append to it later."""
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("d", data=TRUTH[:5], chunks=(1, 6, 8), maxshape=(None, 6, 8))
    camera = reader()
    assert len(camera.read(0, 10)) == 5
    np.save(folder / "rest.npy", TRUTH[5:])
    code = f"""
import h5py, numpy
with h5py.File({str(folder / "x.h5")!r}, "a") as file:
    file["d"].resize(10, axis=0)
    file["d"][5:] = numpy.load({str(folder / "rest.npy")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    np.testing.assert_array_equal(camera.read(0, 10), TRUTH)


def test_a_reader_never_keeps_a_writer_from_its_file(reader, folder):
    """While frames are read and the file is held open here, the detector can open it again, or replace it."""
    for libver in ("earliest", "latest"):
        with h5py.File(folder / "x.h5", "w", libver=libver) as file:
            file.create_dataset("d", data=TRUTH, chunks=(1, 6, 8), maxshape=(None, 6, 8))
        camera = reader()
        camera.read(0, 10)
        for mode in ("r+", "w"):
            code = f"import h5py; h5py.File({str(folder / 'x.h5')!r}, {mode!r}).close()"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
        camera.close()


def test_a_closed_file_of_the_old_format_is_locked_once_for_an_instant(reader, folder, monkeypatch):
    """Then not again while frames are read or awaited, but once more after the file has changed."""
    granted, flock = [], fcntl.flock

    def counted(descriptor, operation):
        flock(descriptor, operation)
        if operation & fcntl.LOCK_SH:
            granted.append(operation)

    monkeypatch.setattr(fcntl, "flock", counted)
    path = folder / "x.h5"
    with h5py.File(path, "w", libver="earliest", locking=False) as file:
        file.create_dataset("d", data=TRUTH[:5], chunks=(1, 6, 8), maxshape=(None, 6, 8))
    camera = reader()
    for expected in (1, 2):
        for _ in range(20):
            camera.read(0, 5)
            with pytest.raises(NotReadyError):
                camera.read(5, 6)
        assert len(granted) == expected
        os.utime(path, (0, 0))


def test_a_file_of_a_writer_that_was_killed_is_read(reader, folder, beamlines):
    """SWMR files stay readable when their writer dies."""
    code = f"""
import os, sys; sys.path.insert(0, {str(beamlines.__file__.rsplit("/", 1)[0])!r})
import beamlines, pathlib
file = beamlines.CameraFile(pathlib.Path({str(folder / "x.h5")!r}), swmr=True)
file.write(*beamlines.frames("projection", 3))
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60)
    frames = reader(dataset="entry/data/data").read(0, 5)
    np.testing.assert_array_equal(frames, beamlines.frames("projection", 3))


def test_a_group_is_not_frames(reader, folder):
    """Waiting does not make a dataset of it."""
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_group("d")
    with pytest.raises(UnknownLayoutError, match="not a dataset"):
        reader().read(0, 1)


def test_a_pipe_is_not_opened(reader, folder):
    """Opening a named pipe would wait for ever."""
    os.mkfifo(folder / "x.h5")
    with pytest.raises(UnknownLayoutError, match="regular file"):
        reader().read(0, 1)


@pytest.fixture
def secret(tmp_path):
    """A file outside the folders that may be read."""
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=TRUTH)
    (tmp_path / "secret.raw").write_bytes(TRUTH.tobytes())
    return path


def test_links_inside_a_file_do_not_lead_outside(reader, folder, secret):
    """External link, virtual dataset, external storage: a file inside the roots hands out none outside."""
    with h5py.File(folder / "x.h5", "w") as file:
        file["link"] = h5py.ExternalLink("../secret.h5", "d")
        layout = h5py.VirtualLayout((10, 6, 8), "u2")
        layout[:] = h5py.VirtualSource(secret, "d", (10, 6, 8))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (10, 6, 8), "u2", external=[(str(secret.with_suffix(".raw")), 0, 960)])
    for name in ("link", "virtual", "raw"):
        with pytest.raises(OutsideRootsError):
            reader(dataset=name).read(0, 1)


def test_links_inside_the_roots_are_followed(reader, folder):
    """NeXus files that only point at the detector's file are common."""
    with h5py.File(folder / "data.h5", "w") as file:
        file.create_dataset("d", data=TRUTH, chunks=(1, 6, 8))
    with h5py.File(folder / "x.h5", "w") as file:
        file["link"] = h5py.ExternalLink("data.h5", "d")
        layout = h5py.VirtualLayout((10, 6, 8), "u2")
        layout[:] = h5py.VirtualSource("data.h5", "d", (10, 6, 8))
        file.create_virtual_dataset("virtual", layout)
    for name in ("link", "virtual"):
        np.testing.assert_array_equal(reader(dataset=name).read(2, 10), TRUTH[2:10])


def test_a_virtual_dataset_waits_for_its_sources(reader, folder):
    """A source that is not there reads as fill values in HDF5; here it is not ready."""
    with h5py.File(folder / "x.h5", "w") as file:
        layout = h5py.VirtualLayout((10, 6, 8), "u2")
        layout[:] = h5py.VirtualSource("later.h5", "d", (10, 6, 8))
        file.create_virtual_dataset("d", layout)
    camera = reader()
    with pytest.raises((NotReadyError, FileNotFoundError)):
        camera.read(0, 1)
    with h5py.File(folder / "later.h5", "w", libver="latest") as file:
        file.create_dataset("d", data=TRUTH)
        with pytest.raises(BeingWrittenError):
            camera.read(0, 1)
    deadline = time.monotonic() + 30
    while True:
        try:
            frames = camera.read(0, 10)
            break
        except NotReadyError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    np.testing.assert_array_equal(frames, TRUTH)


@pytest.mark.parametrize("text", ["2:", "2:,:,0:5"])
def test_a_slice_does_not_give_unwritten_chunks(reader, folder, text):
    """What was written of the part comes, and no more."""
    with h5py.File(folder / "x.h5", "w") as file:
        dataset = file.create_dataset("d", (20, 6, 8), "u2", chunks=(1, 6, 8))
        dataset[:5] = TRUTH[:5]
    camera = reader(slice=text)
    np.testing.assert_array_equal(camera.read(0, 9)[:, :, :5], TRUTH[2:5, :, :5])
    with pytest.raises(NotReadyError):
        camera.read(3, 9)


READ_ALONE = """
import sys, numpy as np
from pathlib import Path
if sys.argv[2] == "without": sys.modules["hdf5plugin"] = None
from tomolive.files.locate import Locator
from tomolive.files.readers import Source
from tomolive.files.readers.hdf5 import Hdf5Reader
path = Path(sys.argv[1])
reader = Hdf5Reader(Source(path, Locator({}, roots=[path.parent]).confine, {"dataset": "d"}))
print(int(reader.read(0, 10).sum()))
"""


def test_filters_of_hdf5plugin_are_found(reader, folder):
    """Nobody has to import it; without it the error says what to install."""
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("d", data=TRUTH, chunks=(1, 6, 8), **hdf5plugin.Zstd())
    command = [sys.executable, "-c", READ_ALONE, str(folder / "x.h5")]
    done = subprocess.run([*command, "with"], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(int(TRUTH.sum())), done.stderr
    done = subprocess.run([*command, "without"], capture_output=True, text=True, timeout=60)
    assert "UnknownLayoutError" in done.stderr
    assert "pip install" in done.stderr
