"""How many frames make an event: the same to whoever reads the files and to whoever gives them angles."""

import h5py
import numpy as np
import pytest

from tomolive.files.filler import Filler
from tomolive.files.locate import Locator
from tomolive.live.documents.explain import explain
from tomolive.live.documents.run import Batch
from tomolive.live.documents.scan import ScanReader

ROWS, COLUMNS, EVENTS = 4, 6, 5

STREAMS = {
    "the shape has a leading 1": ((1, ROWS, COLUMNS), {}, 1),
    "the shape has rows and columns only": ((ROWS, COLUMNS), {}, 1),
    "the shape counts": ((2, ROWS, COLUMNS), {}, 2),
    "a multiplier, and the shape agrees": ((2, ROWS, COLUMNS), {"multiplier": 2}, 2),
    "a multiplier, and the shape does not know": ((ROWS, COLUMNS), {"multiplier": 3}, 3),
    "frame_per_point, and the shape says otherwise": ((5, ROWS, COLUMNS), {"frame_per_point": 2}, 2),
    "frame_per_point of 1, and the shape says otherwise": ((5, ROWS, COLUMNS), {"frame_per_point": 1}, 1),
    "a slice": ((1, ROWS, COLUMNS), {"slice": "3:"}, 1),
    "a slice and the shape": ((2, ROWS, COLUMNS), {"slice": "3:,:,:"}, 2),
    "a slice, a multiplier, another shape": ((1, ROWS, COLUMNS), {"slice": "3:", "multiplier": 2}, 2),
    "axes of events and of frames": ((2, ROWS, COLUMNS), {"chunk_shape": [1, 2, ROWS, COLUMNS]}, 2),
    "two axes before the rows": ((2, 3, ROWS, COLUMNS), {}, 6),
}
DATUMS = {
    "the shape agrees": ((2, ROWS, COLUMNS), 2),
    "rows and columns only": ((ROWS, COLUMNS), 2),
    "an axis of unknown length behind": ((ROWS, COLUMNS, 0), 3),
    "the shape says otherwise": ((5, ROWS, COLUMNS), 2),
    "one, and the shape says otherwise": ((7, ROWS, COLUMNS), 1),
}


@pytest.fixture
def camera(tmp_path):
    """Write a file whose frame i is full of i, after ``before`` frames that nobody announces."""

    def write(each, before=0, grouped=False):
        numbers = np.arange(-before, EVENTS * each + 4 * each, dtype="i4")
        images = np.broadcast_to(numbers[:, None, None], (len(numbers), ROWS, COLUMNS))
        shape = (-1, each, ROWS, COLUMNS) if grouped else (-1, ROWS, COLUMNS)
        with h5py.File(tmp_path / "camera.h5", "w", libver="latest") as file:
            file.create_dataset("entry/data/data", data=images.reshape(shape))
        return Filler(Locator({"/detector": str(tmp_path)}), patience=0.1)

    return write


def assert_each_frame_has_the_angle_of_its_event(filler, pairs, each):
    """All announced frames, no other, in order; ``each`` of them at every event's angle."""
    reader, out = ScanReader(), []
    for pair in pairs:
        for kind, *content in filler.process(*pair):
            take = {"document": reader.document, "frames": reader.frames, "missing": reader.missing}[kind]
            out += take(*content)
    batches = [b for b in out if isinstance(b, Batch)]
    numbers = np.concatenate([b.array[:, 0, 0] for b in batches])
    assert numbers.tolist() == list(range(EVENTS * each))
    degrees = np.rad2deg(np.concatenate([b.angles for b in batches]))
    np.testing.assert_allclose(degrees, np.repeat(np.arange(EVENTS) * 10.0, each))
    scan = reader.scan(pairs[0][1]["uid"])
    assert list(scan.announced) == [(0, EVENTS * each)]
    assert scan.complete
    told = explain(pairs)
    assert f"{EVENTS * each} frames announced" in told
    assert (f", {each} to an event" in told) == (each > 1)


@pytest.mark.parametrize("first", ["resource", "descriptor"])
@pytest.mark.parametrize("case", STREAMS)
def test_frames_in_a_stream_resource(beamlines, camera, case, first):
    """What the file's document says counts more than the shape, whichever of the two comes first."""
    shape, parameters, each = STREAMS[case]
    before = 3 if "slice" in parameters else 0
    filler = camera(each, before, grouped="axes of events" in case)
    run = beamlines.Run(plan_name="tomo_plan")
    keys = {"det": beamlines.image_key(shape, dtype="<i4"), "theta": beamlines.number_key()}
    opening = [
        ("descriptor", lambda: run.descriptor("projections", **keys)),
        (
            "resource",
            lambda: run.stream_resource(
                "det", "application/x-hdf5", "/detector/camera.h5", dataset="/entry/data/data", **parameters
            ),
        ),
    ]
    pairs = [run.start(), *(make() for name, make in sorted(opening, key=lambda item: item[0] != first))]
    for i in range(EVENTS):
        pairs.append(run.stream_datum("projections", "det", (i, i + 1), i + 1))
        pairs.append(run.event("projections", theta=10.0 * i))
    pairs.append(run.stop())
    assert_each_frame_has_the_angle_of_its_event(filler, pairs, each)


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("case", DATUMS)
def test_frames_in_a_resource(beamlines, camera, case, paged):
    """``frame_per_point`` of the resource is what lies in the file, whatever the descriptor's shape says."""
    shape, each = DATUMS[case]
    run = beamlines.Run(plan_name="tomo_plan")
    image = beamlines.image_key(shape, external="FILESTORE:", dtype="<i4")
    pairs = [
        run.start(),
        run.descriptor("projections", det=image, theta=beamlines.number_key()),
        run.resource("AD_HDF5", "/detector", "camera.h5", frame_per_point=each),
    ]
    datums = [run.datum(point_number=i)[1] for i in range(EVENTS)]
    if paged:
        from event_model import pack_datum_page

        pairs.append(("datum_page", pack_datum_page(*datums)))
    for i, datum in enumerate(datums):
        pairs += [] if paged else [("datum", datum)]
        pairs.append(run.event("projections", det=datum["datum_id"], theta=10.0 * i))
    pairs.append(run.stop())
    assert_each_frame_has_the_angle_of_its_event(camera(each), pairs, each)


def test_an_axis_of_angles_for_each_event(beamlines, tmp_path, camera):
    """A file with a row of angles for each event: every frame of the event has its own."""
    run = beamlines.Run(plan_name="tomo_plan")
    angle = {**beamlines.number_key(external="STREAM:"), "dtype": "array", "shape": [3]}
    filler = camera(3)
    with h5py.File(tmp_path / "angles.h5", "w", libver="latest") as file:
        file.create_dataset("theta", data=np.arange(EVENTS * 3.0).reshape(EVENTS, 3))
    hdf5 = "application/x-hdf5"
    pairs = [
        run.start(),
        run.descriptor("projections", det=beamlines.image_key((3, ROWS, COLUMNS)), theta=angle),
        run.stream_resource("det", hdf5, "/detector/camera.h5", dataset="/entry/data/data"),
        run.stream_resource("theta", hdf5, "/detector/angles.h5", dataset="/theta", chunk_shape=[EVENTS, 3]),
    ]
    for first, last in ((0, 2), (2, EVENTS)):
        pairs += [run.stream_datum("projections", key, (first, last), first + 1) for key in ("det", "theta")]
    reader, out = ScanReader(), []
    for pair in [*pairs, run.stop()]:
        for kind, *content in filler.process(*pair):
            out += reader.document(*content) if kind == "document" else reader.frames(*content)
    batches = [b for b in out if isinstance(b, Batch)]
    degrees = np.rad2deg(np.concatenate([b.angles for b in batches]))
    np.testing.assert_allclose(degrees, np.concatenate([b.array[:, 0, 0] for b in batches]))
    assert len(degrees) == EVENTS * 3
