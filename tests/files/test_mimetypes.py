"""Every kind of file that a stream_resource may announce, from the documents to blocks and filled events."""

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

FLAT = np.repeat(np.arange(10, 250, 20, dtype="u1"), 16 * 24).reshape(12, 16, 24)
"""Twelve even images, which JPEG keeps."""


def tiff(folder):
    """One file a frame."""
    for number, image in enumerate(FLAT):
        tifffile.imwrite(folder / f"x_{number:06d}.tiff", image)
    return "", {"template": "x_{:06d}.tiff"}


def jpeg(folder):
    """One file a frame."""
    for number, image in enumerate(FLAT):
        Image.fromarray(image).save(folder / f"x_{number:06d}.jpeg", quality=95)
    return "", {"template": "x_{:06d}.jpeg"}


def tiff_pages(folder):
    """All frames are pages of one file."""
    tifffile.imwrite(folder / "x.tiff", FLAT, photometric="minisblack")
    return "x.tiff", {}


def jpeg_alone(folder):
    """One image."""
    Image.fromarray(FLAT[0]).save(folder / "x.jpeg", quality=95)
    return "x.jpeg", {}


def hdf5(folder):
    """One dataset."""
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("images", data=FLAT, chunks=(1, 16, 24))
    return "x.h5", {"dataset": "/images"}


def zarr_array(folder):
    """One array."""
    zarr.create_array(folder / "x.zarr", data=FLAT, chunks=(1, 16, 24))
    return "x.zarr", {}


KINDS = {
    "multipart/related;type=image/tiff": tiff,
    "multipart/related; type=image/jpeg": jpeg,
    "image/tiff": tiff_pages,
    "image/jpeg": jpeg_alone,
    "application/x-hdf5": hdf5,
    "application/x-zarr": zarr_array,
}


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("mimetype", KINDS)
def test_a_scan_in_files_of_every_kind(beamlines, mounted, seen, tmp_path, mimetype, each):
    """Events of one frame or more; blocks and events hold what the files hold."""
    place, parameters = KINDS[mimetype](tmp_path / "files")
    if mimetype == "image/jpeg":
        each = 1
    count = 1 if mimetype == "image/jpeg" else len(FLAT) // each
    run = beamlines.Run()
    pairs = [run.start(), run.descriptor("primary", det=beamlines.image_key((each, 16, 24), dtype="|u1"))]
    uri = f"file://localhost/detector/{place}"
    pairs.append(run.stream_resource("det", mimetype, uri, chunk_shape=[1, 16, 24], **parameters))
    for number in range(count):
        pairs.append(run.stream_datum("primary", "det", (number, number + 1), number + 1))
        pairs.append(run.event("primary"))

    seen.run(mounted(fill_events=True), [*pairs, run.stop()])

    assert seen.missing == []
    tolerance = {"atol": 3} if "jpeg" in mimetype else {"atol": 0}
    truth = FLAT[: count * each].astype(int)
    np.testing.assert_allclose(seen.stack("primary", "det").astype(int), truth, **tolerance)
    images = np.concatenate([event["data"]["det"].reshape(-1, 16, 24) for event in seen.events("primary")])
    np.testing.assert_allclose(images.astype(int), truth, **tolerance)


@pytest.mark.parametrize("swmr", [True, False, None])
def test_what_a_document_says_of_swmr_does_not_matter(beamlines, mounted, seen, tmp_path, swmr):
    """The file itself tells whether it is open for SWMR; documents are often wrong about it."""
    run = beamlines.Run()
    file = beamlines.CameraFile(tmp_path / "files/x.h5", swmr=True)
    file.write(*beamlines.frames("projection", 3))
    words = {} if swmr is None else {"swmr": swmr}
    place = "file://localhost/detector/x.h5"
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key((1, *beamlines.SHAPE))),
        run.stream_resource("det", "application/x-hdf5", place, dataset="/entry/data/data", **words),
        run.stream_datum("primary", "det", (0, 3), 1),
        run.stop(),
    ]
    seen.run(mounted(), pairs)
    file.close()
    np.testing.assert_array_equal(seen.stack("primary", "det"), beamlines.frames("projection", 3))
    assert seen.missing == []
