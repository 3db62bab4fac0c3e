"""Frames out of Zarr arrays."""

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
    group = zarr.create_group(tmp_path / "roots/x.zarr")
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
