"""Scan files of the field: what is recognised, what is assumed and said, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tomolive.acquire.layouts import Paths
from tomolive.acquire.scanfile import Stack, open_scan
from tomolive.errors import FileAccessError, ScanError, UnknownLayoutError

Write = Callable[..., Path]
ANGLES = np.linspace(0, 180, 9)


def stack(frames: Stack | None) -> np.ndarray:
    """All frames of a stack."""
    assert frames is not None
    return np.array([frames[i] for i in range(len(frames))])


def test_data_exchange(data_exchange: Write, frames: Write) -> None:
    """Projections, flats, darks, angles in degrees and the sample come from where the field puts them."""
    with open_scan(data_exchange()) as scan:
        assert scan.layout.name == "Data Exchange"
        np.testing.assert_array_equal(stack(scan.projections), frames(9))
        np.testing.assert_array_equal(stack(scan.flats), frames(3, 100))
        np.testing.assert_array_equal(stack(scan.darks), frames(2, 200))
        np.testing.assert_allclose(scan.angles, ANGLES)
        assert scan.details == {"sample": "Walnut"}


@pytest.mark.parametrize("entry", ["entry1/tomo_entry", "entry", "scan42"])
def test_nxtomo(nxtomo: Write, frames: Write, entry: str) -> None:
    """The image key sorts the frames, each projection keeps its angle, invalid frames are left out."""
    with open_scan(nxtomo(entry=entry)) as scan:
        assert scan.layout.name == "NXtomo"
        every = frames(15)
        np.testing.assert_array_equal(stack(scan.projections), every[5:14])
        np.testing.assert_array_equal(stack(scan.flats), every[[2, 3, 4, 14]])
        np.testing.assert_array_equal(stack(scan.darks), every[:2])
        np.testing.assert_allclose(scan.angles, ANGLES)
        assert scan.details == {
            "sample": "Ammonite",
            "pixel_size": pytest.approx(6.5), "pixel_size_units": "um",
            "energy": pytest.approx(25.0), "energy_units": "keV",
        }  # fmt: skip
        assert any("1 frames marked as invalid" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("values", "units", "said"),
    [
        (ANGLES, "degrees", "'degrees'"),
        (np.deg2rad(ANGLES), "rad", "'rad'"),
        (np.deg2rad(ANGLES), None, "radians, taken from their range"),
        (ANGLES, None, "degrees, taken from their range"),
        (np.deg2rad(ANGLES), "degrees", "radians, taken from their range, although"),
        (np.deg2rad(ANGLES[:-1]), None, "radians, taken from their range"),
        (ANGLES, "radians", "degrees, taken from their range, although"),
        (ANGLES * 1000, "mdeg", "'mdeg'"),
    ],
)
def test_angles_are_degrees_whatever_the_file_has(
    data_exchange: Write, frames: Write, values: np.ndarray, units: str | None, said: str
) -> None:
    """Units come from the attribute or from the range, the range wins over nonsense; it is said."""
    path = data_exchange(theta=values, units=units, data=frames(len(values)))
    with open_scan(path) as scan:
        np.testing.assert_allclose(scan.angles, ANGLES[: len(values)], atol=1e-9)
        assert said in scan.notes[0]


def test_images_and_angles_behind_external_links(data_exchange: Write, tmp_path: Path, frames: Write) -> None:
    """A master file that only links to others is a scan; links that lead nowhere do no harm."""
    data_exchange("raw.h5")
    master = tmp_path / "master.nxs"
    with h5py.File(master, "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("raw.h5", "/exchange/data")
        file["entry/data/rotation_angle"] = h5py.ExternalLink("raw.h5", "/exchange/theta")
        file["entry/data/flat"] = h5py.ExternalLink("raw.h5", "/exchange/data_white")
        file["entry/data/dark"] = h5py.ExternalLink("raw.h5", "/exchange/data_dark")
        file["entry/ring_current"] = h5py.ExternalLink("gone.h5", "/current")
        file["entry/temperature"] = h5py.SoftLink("/nowhere")
        file["entry/again"] = h5py.SoftLink("/entry")
    with open_scan(master) as scan:
        np.testing.assert_array_equal(stack(scan.projections), frames(9))
        np.testing.assert_array_equal(stack(scan.flats), frames(3, 100))
        np.testing.assert_array_equal(stack(scan.darks), frames(2, 200))
        np.testing.assert_allclose(scan.angles, ANGLES)
        assert scan.tree.broken == {
            "/entry/ring_current": "/current in gone.h5", "/entry/temperature": "/nowhere",
        }  # fmt: skip


def test_nxtomo_with_frames_in_another_file(nxtomo: Write, tmp_path: Path, frames: Write) -> None:
    """The detector's frames may lie behind an external link."""
    path = nxtomo()
    with h5py.File(path, "r+") as file:
        entry = file["entry1/tomo_entry"]
        values = entry["instrument/detector/data"][()]
        del entry["instrument/detector/data"], entry["data/data"]
        entry["instrument/detector/data"] = h5py.ExternalLink("frames.h5", "/entry/data/data")
    with h5py.File(tmp_path / "frames.h5", "w") as other:
        other["entry/data/data"] = values
    with open_scan(path) as scan:
        np.testing.assert_array_equal(stack(scan.projections), frames(15)[5:14])


def test_other_layouts_are_named(tmp_path: Path, frames: Write) -> None:
    """With paths given, any file of stacks and angles is a scan."""
    path = tmp_path / "own.h5"
    with h5py.File(path, "w") as file:
        file["tomo/pictures"] = frames(9).astype("f4")
        file["tomo/rot"] = ANGLES
        file["before/no_sample"] = frames(3)[0]
        file["before/no_beam"] = frames(2)
    paths = Paths(
        data="/tomo/pictures", angles="/tomo/rot", flats="/before/no_sample", darks="before/no_beam"
    )
    with open_scan(path, paths) as scan:
        assert (len(scan.projections), len(scan.flats or ()), len(scan.darks or ())) == (9, 1, 2)
        assert scan.projections.dtype == np.float32
    with open_scan(path, Paths(data="/tomo/pictures", angles="0:180")) as scan:
        np.testing.assert_allclose(scan.angles, ANGLES)


def test_image_key_can_be_named(tmp_path: Path, frames: Write) -> None:
    """A key under another name sorts the frames too."""
    path = tmp_path / "own.h5"
    with h5py.File(path, "w") as file:
        file["pictures"], file["kinds"], file["rot"] = frames(11), [1, *[0] * 9, 2], np.r_[0, ANGLES, 0]
    with open_scan(path, Paths(data="/pictures", image_key="/kinds", angles="/rot")) as scan:
        np.testing.assert_array_equal(stack(scan.projections), frames(11)[1:10])
        np.testing.assert_allclose(scan.angles, ANGLES)


def test_missing_flats_and_darks_are_said(data_exchange: Write) -> None:
    """A scan without references opens, and what is assumed is in the notes."""
    with open_scan(data_exchange(data_white=None, data_dark=None)) as scan:
        assert scan.flats is None
        assert scan.darks is None
        assert any("no flats" in note for note in scan.notes)
        assert any("no darks" in note for note in scan.notes)


def test_long_stacks_are_read_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: Write
) -> None:
    """Frames are right in any order of reading, also when they are not neighbours in the file."""
    monkeypatch.setattr("tomolive.acquire.scanfile.AHEAD", 4 * frames(1).nbytes)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("data", data=frames(20))
        some = Stack(data, "/data", np.array([0, 1, 5, 6, 7, 8, 15, 19]))
        for i in (0, 1, 2, 7, 3, 6, 0):
            np.testing.assert_array_equal(some[i], frames(20)[some.indices[i]])


def broken_files(tmp_path: Path, frames: Write) -> dict[str, Path]:
    """Files that are no scans, by what is wrong with them."""
    (tmp_path / "text.h5").write_text("not a scan")
    (tmp_path / "empty.h5").touch()
    with h5py.File(tmp_path / "nothing.h5", "w"):
        pass
    with h5py.File(tmp_path / "stack.h5", "w") as file:
        file["entry/frames"], file["entry/mean"] = frames(9), np.zeros(9)
    with h5py.File(tmp_path / "lost.h5", "w") as file:
        file["exchange/data"] = h5py.ExternalLink("gone.h5", "/data")
    return {path.name: path for path in tmp_path.glob("*.h5")}


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("missing.h5", FileAccessError, "No such file"),
        ("text.h5", UnknownLayoutError, "not an HDF5 file"),
        ("empty.h5", UnknownLayoutError, "not an HDF5 file"),
        ("nothing.h5", ScanError, "no dataset at all.*--data"),
        ("stack.h5", ScanError, r"/entry/frames \(9, 4, 24\).*--angles"),
        ("lost.h5", ScanError, "leads to /data in gone.h5, which is not there"),
    ],
)
def test_files_that_are_no_scans(
    tmp_path: Path, frames: Write, name: str, error: type[Exception], says: str
) -> None:
    """One line names the file, what was found, and what to do."""
    path = broken_files(tmp_path, frames).get(name, tmp_path / name)
    with pytest.raises(error, match=says) as caught:
        open_scan(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "paths", "says"),
    [
        (
            {"theta": ANGLES[:5]},
            {},
            "/exchange/theta has 5 angles, but /exchange/data has 9 frames.*--angles",
        ),
        ({"theta": None}, {}, "no angles.*--angles"),
        ({"theta": np.r_[ANGLES[:8], np.nan]}, {}, "not finite, the first is number 8"),
        ({"data_white": np.zeros((3, 4, 25))}, {}, r"/exchange/data_white is \(3, 4, 25\).*4 x 24"),
        ({"data": np.zeros((4, 24))}, {}, r"/exchange/data is \(4, 24\).*--data"),
        ({}, {"data": "/exchange/dat"}, "--data /exchange/dat: no such dataset.*exchange/data_white"),
        ({}, {"angles": "10"}, "--angles /10: no such dataset"),
        ({}, {"angles": "a:b"}, "START:STOP"),
        ({}, {"image_key": "/exchange/theta"}, "--image-key|marks"),
    ],
)
def test_parts_that_do_not_fit(
    data_exchange: Write, changes: dict[str, Any], paths: dict[str, str], says: str
) -> None:
    """Shapes and numbers are in the error, with the option that mends it."""
    with pytest.raises(ScanError, match=says):
        open_scan(data_exchange(**changes), Paths(**paths))


def test_frames_in_files_that_are_gone_are_refused(
    tmp_path: Path, frames: Write, data_exchange: Write
) -> None:
    """A virtual dataset whose source is missing is named; its zeros are never taken for frames."""
    with h5py.File(tmp_path / "part.h5", "w") as part:
        part["data"] = frames(9)
    path = data_exchange(data=None)
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((9, 4, 24), "u2")
        layout[:] = h5py.VirtualSource("part.h5", "data", (9, 4, 24))
        file.create_virtual_dataset("exchange/data", layout)
    with open_scan(path) as scan:
        np.testing.assert_array_equal(stack(scan.projections), frames(9))
    (tmp_path / "part.h5").unlink()
    with pytest.raises(ScanError, match=r"in part\.h5, which is not there"):
        open_scan(path)


def test_unknown_unit_of_angle_is_refused(data_exchange: Write) -> None:
    """Gradians are not guessed at."""
    with pytest.raises(ScanError, match="'gon'"):
        open_scan(data_exchange(units="gon"))


def test_the_real_scan(tooth: Path) -> None:
    """A file from a beamline opens as it is."""
    with open_scan(tooth) as scan:
        assert (len(scan.projections), len(scan.flats or ()), len(scan.darks or ())) == (181, 10, 10)
        assert scan.projections[0].shape == (2, 640)
        assert scan.angles[-1] == pytest.approx(179.0055, abs=1e-4)
        assert scan.details["sample"] == "Tooth"
