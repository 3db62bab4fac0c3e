"""Every spec of the installed databroker handlers: a file as producers write it, and the event's array."""

import struct
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import tifffile

from tomolive.files.filler import Filler
from tomolive.files.locate import Locator

FRAMES = np.random.default_rng(6).poisson(500, (4, 5, 7)).astype("<u2")
SPECS = sorted(point.name for point in entry_points(group="databroker.handlers"))


class Made(NamedTuple):
    """A file, and the words of the documents that lead to it."""

    truth: np.ndarray
    resource_path: str
    resource_kwargs: dict[str, Any]
    datum_kwargs: dict[str, Any]


def hdf5(folder: Path, dataset: str, data: np.ndarray = FRAMES) -> Path:
    """Write one dataset."""
    with h5py.File(folder / "x.h5", "w", libver="latest") as file:
        file.create_dataset(dataset, data=data, chunks=(1, *data.shape[1:]))
    return folder / "x.h5"


def area_detector_hdf5(folder: Path) -> Made:
    """Frames of areaDetector's HDF5 plugin."""
    hdf5(folder, "entry/data/data")
    return Made(FRAMES[2:4], "x.h5", {"frame_per_point": 2}, {"point_number": 1})


def area_detector_times(folder: Path) -> Made:
    """The frames' times, seconds and nanoseconds apart."""
    seconds, nanoseconds = np.arange(4) + 1_100_000_000, np.arange(4) * 250_000_000
    with h5py.File(folder / "x.h5", "w", libver="latest") as file:
        group = file.create_group("entry/instrument/NDAttributes")
        group["NDArrayEpicsTSSec"], group["NDArrayEpicsTSnSec"] = seconds, nanoseconds
    truth = (seconds + nanoseconds * 1e-9)[2:4]
    return Made(truth, "x.h5", {"frame_per_point": 2}, {"point_number": 1})


def area_detector_tiff(folder: Path) -> Made:
    """One file a frame."""
    for number, image in enumerate(FRAMES):
        tifffile.imwrite(folder / f"x_{number:06d}.tiff", image)
    words = {"template": "%s%s_%6.6d.tiff", "filename": "x", "frame_per_point": 2}
    return Made(FRAMES[2:4], "", words, {"point_number": 1})


def hdf5_single(folder: Path) -> Made:
    """One HDF5 file a frame."""
    for number, image in enumerate(FRAMES):
        with h5py.File(folder / f"x_{number:06d}.h5", "w") as file:
            file["entry/data/data"] = image
    words = {"template": "%s%s_%6.6d.h5", "filename": "x", "frame_per_point": 2}
    return Made(FRAMES[2:4], "", words, {"point_number": 1})


def specs_table(folder: Path) -> Made:
    """A table: the spectra's columns, and the energies that attributes of the file tell."""
    counts = FRAMES[0].astype(float)
    with h5py.File(folder / "x_000000.h5", "w") as file:
        file["entry/data/data"] = counts
        for name, value in {"StartEnergy": 10.0, "StopEnergy": 16.0, "StepEnergy": 1.0}.items():
            file[f"entry/instrument/NDAttributes/{name}"] = [value]
    truth = np.column_stack([counts.T, np.arange(10.0, 17.0)])
    names = [f"channel {n}" for n in range(5)]
    words = {"template": "%s%s_%6.6d.h5", "filename": "x", "column_names": names}
    return Made(truth, "", words, {"point_number": 0})


def timepix(folder: Path) -> Made:
    """Frames under another name."""
    hdf5(folder, "entry/instrument/detector/data")
    return Made(FRAMES[2:4], "x.h5", {"frame_per_point": 2}, {"point_number": 1})


def xspress_fly(folder: Path) -> Made:
    """All of a fly scan's row at once."""
    hdf5(folder, "entry/instrument/detector/data")
    return Made(FRAMES, "x.h5", {}, {"target": "data"})


def xspress(folder: Path) -> Made:
    """One channel's spectrum of one frame."""
    hdf5(folder, "entry/instrument/detector/data")
    words = {"key": "/entry/instrument/detector/data"}
    return Made(FRAMES[2, 1], "x.h5", words, {"frame": 2, "channel": 2})


def numpy_sequence(folder: Path) -> Made:
    """One array a file."""
    np.save(folder / "x_3.npy", FRAMES[3])
    return Made(FRAMES[3], "x", {}, {"index": 3})


def eiger(folder: Path) -> Made:
    """A master file that links to files of frames; one datum is the whole sequence."""
    with h5py.File(folder / "x_7_data_000001.h5", "w") as file:
        file["entry/data/data"] = FRAMES
    with h5py.File(folder / "x_7_master.h5", "w") as file:
        detector = file.create_group("entry/instrument/detector")
        for name in ("y_pixel_size", "x_pixel_size", "detector_distance", "frame_time", "count_time"):
            detector[name] = 1.0
        detector["beam_center_x"] = detector["beam_center_y"] = 2.0
        detector["detectorSpecific/pixel_mask"] = np.zeros((5, 7), "u4")
        file["entry/instrument/beam/incident_wavelength"] = 1.0
        link = h5py.ExternalLink("x_7_data_000001.h5", "entry/data/data")
        file.create_group("entry/data")["data_000001"] = link
    return Made(FRAMES, "x", {"images_per_file": 4}, {"seq_id": 7})


def princeton(folder: Path) -> Made:
    """SPE of Princeton's cameras: a header of 4100 bytes, then the frames."""
    header = bytearray(4100)
    for place, form, value in (
        (42, "<h", 7), (656, "<h", 5), (1446, "<I", 2), (108, "<h", 3),
        (20, "10s", b"01Nov2026\0"), (172, "7s", b"120000\0"),
    ):  # fmt: skip
        struct.pack_into(form, header, place, value)
    (folder / "x_000001.spe").write_bytes(bytes(header) + FRAMES[2:4].tobytes())
    words = {"template": "%s%s_%6.6d.spe", "filename": "x", "frame_per_point": 2}
    return Made(FRAMES[2:4], "", words, {"point_number": 1})


def imm(folder: Path) -> Made:
    """Sparse frames of photon counting: places, then counts, after a header each."""
    form = "ii32s16si16siiiiiiiiiiiiiddiiIiiI40sf40sf40sf40sf40sf40sf40sf40sf40sf40sfffiiifc295s84s12s"
    blank = list(struct.unpack(form, bytes(1024)))
    with (folder / "x.imm").open("wb") as file:
        for image in FRAMES:
            values = blank.copy()
            values[1], values[14], values[15], values[23] = 6, 5, 7, image.size
            file.write(struct.pack(form, *values))
            file.write(np.arange(image.size, dtype="u4").tobytes() + image.tobytes())
    return Made(FRAMES[2:4], "x.imm", {"frames_per_point": 2}, {"index": 1})


def cbf(folder: Path) -> Made:
    """Pilatus: one file a frame, counted from 1; read by the package fabio, which a test stands in for."""
    for number, image in enumerate(FRAMES):
        np.save(folder / f"x_{number:05d}.npy", image)
    words = {"template": "%s%s_%5.5d.npy", "filename": "x", "frame_per_point": 1}
    return Made(FRAMES[2], "", words, {"point_number": 1})


MADE = {
    "NPY_SEQ": numpy_sequence, "AD_CBF": cbf, "AD_EIGER": eiger, "AD_EIGER2": eiger,
    "AD_EIGER_SLICE": eiger, "AD_HDF5": area_detector_hdf5, "AD_HDF5_SWMR": area_detector_hdf5,
    "AD_HDF5_TS": area_detector_times, "AD_HDF5_SWMR_TS": area_detector_times, "AD_SPE": princeton,
    "AD_HDF5_SINGLE": hdf5_single, "AD_TIFF": area_detector_tiff, "DEXELA_FLY_V1": xspress_fly, "IMM": imm,
    "MERLIN_FLY": xspress_fly, "MERLIN_FLY_STREAM_V1": xspress_fly, "XPS3_FLY": xspress_fly,
    "XSP3_FLY": xspress_fly, "XSP3": xspress, "SPECS_HDF5_SINGLE_DATAFRAME": specs_table, "TPX_HDF5": timepix,
}  # fmt: skip


def filled(beamlines, folder, spec, made, **settings):
    """Send one classic event through a Filler; return its document, the frames and what is missing."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key(made.truth.shape, external="FILESTORE:")),
        run.resource(spec, "/detector", made.resource_path, **made.resource_kwargs),
        (datum := run.datum(**made.datum_kwargs)),
        run.event("primary", det=datum[1]["datum_id"]),
        run.stop(),
    ]
    filler = Filler(Locator({"/detector": str(folder)}), fill_events=True, **settings)
    items = [item for pair in pairs for item in filler.process(*pair)]
    filler.close()
    (event,) = [item[2] for item in items if item[1] == "event"]
    found = {kind: [item[1] for item in items if item[0] == kind] for kind in ("frames", "missing")}
    return event, found["frames"], found["missing"]


@pytest.mark.parametrize("spec", SPECS)
def test_a_file_of_every_installed_spec(beamlines, tmp_path, monkeypatch, spec):
    """The event holds what the file holds, and so do the frames; a spec that is new here has to be added."""
    if spec == "AD_CBF":
        stand_in = SimpleNamespace(open=lambda name: SimpleNamespace(data=np.load(name)))
        monkeypatch.setitem(sys.modules, "fabio", stand_in)
    made = MADE[spec](tmp_path)

    event, frames, missing = filled(beamlines, tmp_path, spec, made)

    assert missing == []
    assert event["filled"] == {"det": True}
    np.testing.assert_array_equal(event["data"]["det"], made.truth)
    came = np.concatenate([block.array for block in frames])
    np.testing.assert_array_equal(came.reshape(made.truth.shape), made.truth)


@pytest.mark.parametrize("spec", SPECS)
def test_a_file_of_every_spec_that_is_late(beamlines, tmp_path, monkeypatch, spec):
    """A file that is not there is waited for, whoever reads it, and then named."""
    monkeypatch.setitem(sys.modules, "fabio", SimpleNamespace(open=np.load))
    (tmp_path / "hidden").mkdir()
    made = MADE[spec](tmp_path / "hidden")

    event, frames, missing = filled(beamlines, tmp_path, spec, made, patience=0.1)

    assert event["filled"] == {"det": False}
    assert frames == []
    assert missing[0].final is False
    assert missing[-1].final is True
    assert str(tmp_path) in missing[0].reason


def test_a_handler_that_needs_another_package_says_so(beamlines, tmp_path, monkeypatch):
    """At once, whatever patience is: waiting does not install it."""
    monkeypatch.setitem(sys.modules, "fabio", None)

    event, _, (missing,) = filled(beamlines, tmp_path, "AD_CBF", cbf(tmp_path), patience=1e6)

    assert missing.final
    assert "needs another package" in missing.reason
    assert event["filled"] == {"det": False}


def test_a_lazy_stack_that_is_bigger_than_the_memory(beamlines, tmp_path):
    """Handlers that give lazy arrays are asked for piece after piece; the event's array lies in a file."""
    event, frames, missing = filled(
        beamlines, tmp_path, "AD_EIGER", eiger(tmp_path), memory=4 * FRAMES[0].nbytes
    )

    assert missing == []
    np.testing.assert_array_equal(event["data"]["det"], FRAMES)
    np.testing.assert_array_equal(np.concatenate([block.array for block in frames]), FRAMES)
    base = event["data"]["det"]
    while not isinstance(base, np.memmap):
        base = base.base
