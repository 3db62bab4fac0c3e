"""What a consumer gets for the documents of a run."""

import h5py
import numpy as np
import pytest

from tomolive.files.filler import Filler
from tomolive.files.locate import Locator


@pytest.fixture
def camera_file(tmp_path):
    """A closed HDF5 file of 10 frames of 5 x 6; frame i is full of i + 1."""
    path = tmp_path / "camera.h5"
    with h5py.File(path, "w", libver="latest") as file:
        frames = np.arange(1, 11, dtype="u2")[:, None, None] * np.ones((5, 6), "u2")
        file.create_dataset("entry/data/data", data=frames, chunks=(1, 5, 6), maxshape=(None, 5, 6))
    return path


@pytest.fixture
def locator(tmp_path):
    """The detector's folder is mounted elsewhere here."""
    return Locator({"/detector": str(tmp_path)})


def run_through(filler, pairs):
    """Return everything that the filler yields for documents."""
    return [item for name, doc in pairs for item in filler.process(name, doc)]


def test_one_file_feeds_three_streams(beamlines, camera_file, locator):
    """Frames are numbered by their stream, whatever their place in the shared file."""
    run = beamlines.Run()
    pairs = [run.start()]
    for number, (stream, indices) in enumerate({"darks": (0, 2), "flats": (2, 4), "tomo": (4, 10)}.items()):
        pairs.append(run.descriptor(stream, det=beamlines.image_key((1, 5, 6))))
        if number == 0:
            uri = "file://localhost/detector/camera.h5"
            pairs.append(run.stream_resource("det", "application/x-hdf5", uri, dataset="/entry/data/data"))
        pairs.append(run.stream_datum(stream, "det", indices, 1))
    pairs.append(run.stop())

    items = run_through(Filler(locator, patience=1), pairs)

    frames = [item[1] for item in items if item[0] == "frames"]
    assert [(f.stream, f.first, f.array.shape, int(f.array[0, 0, 0])) for f in frames] == [
        ("darks", 0, (2, 5, 6), 1),
        ("flats", 0, (2, 5, 6), 3),
        ("tomo", 0, (6, 5, 6), 5),
    ]
    assert [item[1:] for item in items if item[0] == "document"] == pairs


def test_a_stream_event_gets_its_image(beamlines, camera_file, locator):
    """An event that has no image key gets one, as (rows, columns), with timestamp and filled."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key((1, 5, 6)), theta=beamlines.number_key()),
        run.stream_resource(
            "det", "application/x-hdf5", "file://localhost/detector/camera.h5", dataset="/entry/data/data"
        ),
        run.stream_datum("primary", "det", (0, 1), 1),
        run.event("primary", theta=0.0),
        run.stream_datum("primary", "det", (1, 2), 2),
        run.event("primary", theta=1.0),
        run.stop(),
    ]

    items = run_through(Filler(locator, patience=1, fill_events=True, frames=False), pairs)

    events = [item[2] for item in items if item[1] == "event"]
    assert [event["data"]["det"].tolist() for event in events] == [[[1] * 6] * 5, [[2] * 6] * 5]
    assert all(event["filled"] == {"det": True} and "det" in event["timestamps"] for event in events)
    assert "det" not in pairs[4][1]["data"], "the document that came in is left as it was"


@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR"])
def test_a_classic_event_gets_its_image(beamlines, camera_file, locator, spec):
    """A datum_id is replaced by the array, and the same frames are handed out."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key((1, 5, 6), external="FILESTORE:")),
        run.resource(spec, "/", "detector/camera.h5", frame_per_point=1),
    ]
    for point in range(3):
        datum = run.datum(point_number=point)
        pairs += [datum, run.event("primary", det=datum[1]["datum_id"])]
    pairs.append(run.stop())

    items = run_through(Filler(locator, patience=1, fill_events=True), pairs)

    events = [item[2] for item in items if item[1] == "event"]
    assert [float(event["data"]["det"].sum()) for event in events] == [30.0, 60.0, 90.0]
    assert [(i[1].first, i[1].array.shape) for i in items if i[0] == "frames"] == [
        (0, (1, 5, 6)),
        (1, (1, 5, 6)),
        (2, (1, 5, 6)),
    ]


def test_missing_frames_are_named_and_the_rest_comes(beamlines, camera_file, locator):
    """Twelve announced, ten in the file: ten come, two are missing by number, for now and then for good."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("tomo", det=beamlines.image_key((1, 5, 6))),
        run.stream_resource("det", "application/x-hdf5", "/detector/camera.h5", dataset="/entry/data/data"),
        run.stream_datum("tomo", "det", (0, 12), 1),
        run.stop(),
    ]

    items = run_through(Filler(locator, patience=0.2), pairs)

    assert [item[0] for item in items] == [
        *["document"] * 4, "frames", "missing", "missing", "document"
    ]  # fmt: skip
    assert items[4][1].last == 10
    assert [(m.first, m.last, m.final) for m in (items[5][1], items[6][1])] == [
        (10, 12, False),
        (10, 12, True),
    ]
    assert "camera.h5" in items[5][1].reason


def test_a_file_outside_the_roots_is_never_opened(beamlines, locator):
    """The frames are missing for good, at once, and the reason says why."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("tomo", det=beamlines.image_key((1, 5, 6))),
        run.stream_resource("det", "application/x-hdf5", "file://localhost/etc/passwd", dataset="/x"),
        run.stream_datum("tomo", "det", (0, 2), 1),
        run.stop(),
    ]

    items = run_through(Filler(locator, patience=30), pairs)

    (missing,) = [item[1] for item in items if item[0] == "missing"]
    assert missing.final
    assert "outside the folders that may be read" in missing.reason
