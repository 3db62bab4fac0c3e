"""Frames in numbered image files."""

import os
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from tomolive.errors import OutsideRootsError, UnknownLayoutError
from tomolive.files.locate import Locator
from tomolive.files.readers.base import NotReadyError, Source
from tomolive.files.readers.registry import reader_for
from tomolive.files.readers.sequence import file_name

TRUTH = np.random.default_rng(4).poisson(1000, (6, 5, 7)).astype("<u2")


@pytest.fixture
def sequence(tmp_path):
    """Make a reader of image files; ``place`` is relative to the folder that may be read."""
    folder = tmp_path / "images"
    folder.mkdir()
    locator = Locator({}, roots=[folder])

    def make(kind="tiff", place="", **parameters):
        source = Source(folder / place, locator.confine, parameters)
        return reader_for(f"multipart/related;type=image/{kind}")(source)

    make.folder = folder
    return make


@pytest.mark.parametrize(
    ("template", "filename", "names"),
    [
        ("scan_{:06d}.tiff", "", "scan_{:06d}.tiff"),
        ("scan_{:d}.tiff", "", "scan_{:d}.tiff"),
        ("scan_{}.tiff", "", "scan_{:d}.tiff"),
        ("%s%s_%6.6d.tiff", "scan", "scan_{:06d}.tiff"),
        ("%s%s_%d.tif", "scan", "scan_{:d}.tif"),
    ],
)
def test_templates_of_both_styles(sequence, template, filename, names):
    """New style with braces, areaDetector's with percent signs."""
    for number, image in enumerate(TRUTH):
        tifffile.imwrite(sequence.folder / names.format(number), image)
    frames = sequence(template=template, filename=filename, chunk_shape=[1, 5, 7]).read(1, 6)
    np.testing.assert_array_equal(frames, TRUTH[1:])


def test_a_prefix_instead_of_a_folder(sequence):
    """Some producers announce the beginning of the file names."""
    for number, image in enumerate(TRUTH):
        tifffile.imwrite(sequence.folder / f"uid_{number}.tif", image)
    np.testing.assert_array_equal(sequence(place="uid", template="_{:d}.tif").read(0, 6), TRUTH)


def test_several_pages_a_file(sequence):
    """``chunk_shape`` says how many frames a file holds."""
    tifffile.imwrite(sequence.folder / "x_0.tif", TRUTH[:4], photometric="minisblack")
    tifffile.imwrite(sequence.folder / "x_1.tif", TRUTH[4:], photometric="minisblack")
    frames = sequence(template="x_{:d}.tif", chunk_shape=[4, 5, 7]).read(2, 6)
    np.testing.assert_array_equal(frames, TRUTH[2:])


def test_one_file_without_a_template(sequence):
    """Then the URI names a file, and frames are its pages."""
    tifffile.imwrite(sequence.folder / "all.tif", TRUTH, photometric="minisblack")
    np.testing.assert_array_equal(sequence(place="all.tif").read(2, 5), TRUTH[2:5])


def test_compressed_tiff(sequence):
    """Deflate is common and needs nothing but zlib."""
    tifffile.imwrite(sequence.folder / "x_0.tif", TRUTH[0], compression="zlib")
    np.testing.assert_array_equal(sequence(template="x_{:d}.tif").read(0, 1)[0], TRUTH[0])


def test_jpeg(sequence):
    """Grey images, as lossy as JPEG is."""
    image = np.full((16, 24), 120, "u1")
    Image.fromarray(image).save(sequence.folder / "x_0.jpg", quality=95)
    frames = sequence("jpeg", template="x_{:d}.jpg").read(0, 1)
    assert frames.shape == (1, 16, 24)
    np.testing.assert_allclose(frames[0], image, atol=3)


def test_a_cut_jpeg_is_not_ready(sequence):
    """At any length."""
    path = sequence.folder / "x_0.jpg"
    Image.fromarray(TRUTH[0].astype("u1")).save(path)
    content = path.read_bytes()
    reader = sequence("jpeg", template="x_{:d}.jpg")
    for length in range(0, len(content) - 2, 7):
        path.write_bytes(content[:length])
        with pytest.raises(NotReadyError):
            reader.read(0, 1)


def test_a_cut_tiff_is_not_ready(sequence):
    """At any length, also where decoding it raises nothing."""
    path = sequence.folder / "x_0.tif"
    tifffile.imwrite(path, TRUTH[0])
    content = path.read_bytes()
    reader = sequence(template="x_{:d}.tif")
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(NotReadyError):
            reader.read(0, 1)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("rows_per_strip", [None, 2])
def test_a_tiff_with_a_tail_of_zeros_is_not_ready(sequence, compression, rows_per_strip):
    """A file that got its size before its content, whatever is there of that, is no image with black rows."""
    path = sequence.folder / "x_0.tif"
    tifffile.imwrite(path, TRUTH[0], compression=compression, rowsperstrip=rows_per_strip)
    content = path.read_bytes()
    reader = sequence(template="x_{:d}.tif")
    for length in range(len(content) - 16):
        path.write_bytes(content[:length].ljust(len(content), b"\0"))
        with pytest.raises(NotReadyError):
            reader.read(0, 1)
    path.write_bytes(content)
    np.testing.assert_array_equal(reader.read(0, 1), TRUTH[:1])


def test_a_black_tiff_comes_when_its_file_is_still(sequence):
    """Zeros that the detector has measured are data; those of a file that has just changed are in doubt."""
    path = sequence.folder / "x_0.tif"
    tifffile.imwrite(path, np.zeros_like(TRUTH[0]))
    reader = sequence(template="x_{:d}.tif")
    with pytest.raises(NotReadyError, match="may not be written yet"):
        reader.read(0, 1)
    os.utime(path, (time.time() - 10, time.time() - 10))
    np.testing.assert_array_equal(reader.read(0, 1), np.zeros_like(TRUTH[:1]))


def test_a_jpeg_with_a_tail_of_zeros_is_not_ready(sequence):
    """Zeros decode as grey; the mark at the end of the file is what proves it whole."""
    path = sequence.folder / "x_0.jpg"
    Image.fromarray(np.tile(TRUTH[0].astype("u1"), (8, 8))).save(path)
    content = path.read_bytes()
    reader = sequence("jpeg", template="x_{:d}.jpg")
    for length in range(0, len(content) - 2, 5):
        path.write_bytes(content[:length].ljust(len(content), b"\0"))
        with pytest.raises(NotReadyError):
            reader.read(0, 1)


@pytest.mark.parametrize(
    "template",
    [
        "{0.__class__}_{:d}.tif",
        "{:99999999999d}.tif",
        "{:d}_{:d}.tif",
        "{x}.tif",
        "no number.tif",
        "%(name)s_%d.tif",
        "%s%s_%999999999d.tif",
        "%d%%.tif",
        "{:d!r}.tif",
    ],
)
def test_odd_templates_are_refused(sequence, template):
    """A template comes over the network: it is never handed to str.format or to the % operator."""
    with pytest.raises(UnknownLayoutError, match="template"):
        sequence(template=template)


@pytest.mark.parametrize(
    ("template", "filename"),
    [
        ("../secret_{:d}.tif", ""),
        ("/../secret_{:d}.tif", ""),
        ("%s%s_%d.tif", "../secret"),
        ("sub/../../secret_{:d}.tif", ""),
        ("link/secret_{:d}.tif", ""),
    ],
)
def test_templates_do_not_lead_outside(sequence, template, filename):
    """By .., by an absolute path or by a link, in the template or in the file name."""
    tifffile.imwrite(sequence.folder.parent / "secret_0.tif", TRUTH[0])
    (sequence.folder / "sub").mkdir()
    (sequence.folder / "link").symlink_to(sequence.folder.parent)
    with pytest.raises(OutsideRootsError):
        sequence(template=template, filename=filename).read(0, 1)


def test_an_absolute_template_stays_in_the_folder(sequence):
    """A slash at the beginning is what some producers write between folder and name, nothing else."""
    tifffile.imwrite(sequence.folder / "x_0.tif", TRUTH[0])
    np.testing.assert_array_equal(sequence(template="/x_{:d}.tif").read(0, 1), TRUTH[:1])
    assert file_name("/etc/{:d}", "", 1) == "/etc/1"
    with pytest.raises(NotReadyError):
        sequence(template="/etc/{:d}").read(0, 1)
