"""Frames out of Zarr arrays."""

import json
import pickle

import numpy as np
import pytest
import zarr

from tomolive.errors import OutsideRootsError
from tomolive.files.locate import Locator
from tomolive.files.readers.base import NotReadyError, Source
from tomolive.files.readers.registry import reader_for

TRUTH = np.random.default_rng(5).poisson(1000, (8, 6, 7)).astype("<u2")


@pytest.fixture
def reader(tmp_path):
    """Make a reader of an array in a folder that may be read."""
    locator = Locator({}, roots=[tmp_path / "roots"])

    def make(**parameters):
        source = Source(tmp_path / "roots/x.zarr", locator.confine, parameters)
        return reader_for("application/x-zarr")(source)

    return make


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("chunks", [(1, 6, 7), (3, 6, 7), (1, 4, 4)])
def test_an_array_that_grows(reader, tmp_path, zarr_format, chunks):
    """Frames come as they are written; the rest of the array is not there, whatever its shape says."""
    camera = reader()
    with pytest.raises(NotReadyError, match="no Zarr array"):
        camera.read(0, 1)
    path = tmp_path / "roots/x.zarr"
    array = zarr.create_array(path, shape=(3, 6, 7), chunks=chunks, dtype="<u2", zarr_format=zarr_format)
    before = camera.sign_of_life(0)
    array[:3] = TRUTH[:3]
    np.testing.assert_array_equal(camera.read(0, 8), TRUTH[:3])
    assert camera.sign_of_life(0) != before
    array.resize((8, 6, 7))
    with pytest.raises(NotReadyError, match="no frame 3"):
        camera.read(3, 8)
    array[3:6] = TRUTH[3:6]
    np.testing.assert_array_equal(camera.read(1, 8), TRUTH[1:6])


def test_several_frames_an_event_are_flat(reader, tmp_path):
    """An array (events, frames, rows, columns) is a sequence of frames, as far as it was written."""
    path = tmp_path / "roots/x.zarr"
    array = zarr.create_array(path, shape=(4, 2, 6, 7), chunks=(1, 2, 6, 7), dtype="<u2")
    array[:3] = TRUTH[:6].reshape(3, 2, 6, 7)
    camera = reader()
    for first, last in ((0, 6), (1, 4), (3, 4), (5, 8)):
        np.testing.assert_array_equal(camera.read(first, last), TRUTH[first : min(last, 6)])
    with pytest.raises(NotReadyError, match="no frame 6"):
        camera.read(6, 8)


def test_numbers_are_flat(reader, tmp_path):
    """An array of numbers gives (n,)."""
    zarr.create_array(tmp_path / "roots/x.zarr", data=np.linspace(0, 1, 20), chunks=(8,))
    np.testing.assert_array_equal(reader().read(3, 17), np.linspace(0, 1, 20)[3:17])


def test_an_array_in_a_group(reader, tmp_path):
    """``dataset`` names it."""
    group = zarr.create_group(tmp_path / "roots/x.zarr", zarr_format=2)
    group.create_array("entry/data", data=TRUTH, chunks=(1, 6, 7))
    np.testing.assert_array_equal(reader(dataset="/entry/data").read(2, 8), TRUTH[2:])


def test_a_cut_chunk_is_not_ready(reader, tmp_path):
    """Its writer may not be done."""
    zarr.create_array(tmp_path / "roots/x.zarr", data=TRUTH, chunks=(1, 6, 7))
    chunk = tmp_path / "roots/x.zarr/c/2/0/0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(NotReadyError):
        reader().read(2, 3)


@pytest.mark.parametrize("name", ["../secret", "link"])
def test_nothing_outside_is_read(reader, tmp_path, name):
    """Neither by name nor by a link of a folder or of a single chunk."""
    zarr.create_array(tmp_path / "secret", data=TRUTH, chunks=(1, 6, 7))
    zarr.create_array(tmp_path / "roots/x.zarr", data=TRUTH, chunks=(1, 6, 7))
    (tmp_path / "roots/x.zarr/link").symlink_to(tmp_path / "secret")
    with pytest.raises(OutsideRootsError):
        reader(dataset=f"../{name}" if name.startswith("..") else name).read(0, 1)
    chunk = tmp_path / "roots/x.zarr/c/2/0/0"
    chunk.unlink()
    chunk.symlink_to(tmp_path / "secret/c/2/0/0")
    with pytest.raises(OutsideRootsError):
        reader().read(2, 3)


@pytest.mark.parametrize(
    "codecs",
    [
        {"filters": [{"id": "pickle"}], "compressor": None},
        {"filters": [{"id": "delta", "dtype": "<u2"}, {"id": "pickle"}], "compressor": None},
        {"filters": None, "compressor": {"id": "pickle"}},
    ],
)
@pytest.mark.parametrize("dtype", ["<u2", "|O"])
def test_an_array_of_pickles_runs_nothing(reader, tmp_path, dtype, codecs):
    """Whoever may write into the folder could otherwise have any code run here."""
    path = tmp_path / "roots/x.zarr"
    path.mkdir(parents=True)
    metadata = {
        "zarr_format": 2, "shape": [2, 3], "chunks": [1, 3], "dtype": dtype, "fill_value": 0,
        "order": "C", **codecs,
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(metadata))
    for chunk in ("0.0", "1.0"):
        (path / chunk).write_bytes(pickle.dumps(_Touch(tmp_path / "touched")))
    with pytest.raises(NotReadyError, match="pickle"):
        reader().read(0, 1)
    assert not (tmp_path / "touched").exists()


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_shard_is_a_sign_of_life(reader, tmp_path):
    """Chunks lie in files of several: what is looked at is the file that the detector writes."""
    path = tmp_path / "roots/x.zarr"
    array = zarr.create_array(path, shape=(8, 6, 7), chunks=(1, 6, 7), shards=(4, 6, 7), dtype="<u2")
    array[:4] = TRUTH[:4]
    camera = reader()
    np.testing.assert_array_equal(camera.read(0, 8), TRUTH[:4])
    before = camera.sign_of_life(5)
    array[4:] = TRUTH[4:]
    assert camera.sign_of_life(5) != before
    np.testing.assert_array_equal(camera.read(4, 8), TRUTH[4:])


def test_an_array_outgrows_its_consolidated_metadata(reader, tmp_path):
    """A copy of the metadata that a group was given at the beginning of the scan does not count."""
    group = zarr.create_group(tmp_path / "roots/x.zarr", zarr_format=2)
    array = group.create_array("camera", shape=(2, 6, 7), chunks=(1, 6, 7), dtype="<u2")
    array[:] = TRUTH[:2]
    zarr.consolidate_metadata(group.store)
    camera = reader(dataset="camera")
    np.testing.assert_array_equal(camera.read(0, 8), TRUTH[:2])
    array.resize((8, 6, 7))
    array[2:] = TRUTH[2:]
    np.testing.assert_array_equal(camera.read(0, 8), TRUTH)


def test_a_chunk_with_a_tail_of_zeros_is_not_ready(reader, tmp_path):
    """A file that got its size before its content."""
    path = tmp_path / "roots/x.zarr"
    array = zarr.create_array(path, shape=(2, 6, 7), chunks=(1, 6, 7), dtype="<u2", compressors=None)
    array[:] = TRUTH[:2]
    content = (path / "c/1/0/0").read_bytes()
    (path / "c/1/0/0").write_bytes(content[:40].ljust(len(content), b"\0"))
    camera = reader()
    np.testing.assert_array_equal(camera.read(0, 2), TRUTH[:1])
    with pytest.raises(NotReadyError, match="no frame 1"):
        camera.read(1, 2)
