"""What a consumer gets for the documents of a run."""

import os
import threading
import time
from pathlib import Path

import event_model
import h5py
import numpy as np
import pytest

from tomolive.files.filler import Filler
from tomolive.files.locate import Locator
from tomolive.files.waiting import Patience


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


@pytest.fixture
def fly_scan(beamlines, camera_file):
    """A run that announces the ten frames of the camera's file in one stream_datum."""
    run = beamlines.Run()
    return [
        run.start(),
        run.descriptor("tomo", det=beamlines.image_key((1, 5, 6))),
        run.stream_resource("det", "application/x-hdf5", "/detector/camera.h5", dataset="/entry/data/data"),
        run.stream_datum("tomo", "det", (0, 10), 1),
        run.stop(),
    ]


def test_a_block_fits_into_memory(fly_scan, locator):
    """A big range comes in blocks of at most a quarter of the memory that is allowed."""
    items = run_through(Filler(locator, memory=4 * 3 * 60), fly_scan)
    assert [len(item[1].array) for item in items if item[0] == "frames"] == [3, 3, 3, 1]


def test_a_range_is_one_block_if_memory_allows(fly_scan, locator):
    """One read for each stream_datum."""
    items = run_through(Filler(locator), fly_scan)
    assert [len(item[1].array) for item in items if item[0] == "frames"] == [10]


def test_several_frames_an_event(beamlines, camera_file, locator):
    """A descriptor's leading number counts frames in each event; the event holds them all."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key((2, 5, 6))),
        run.stream_resource(
            "det",
            "application/x-hdf5",
            "file://localhost/detector/camera.h5",
            dataset="/entry/data/data",
            chunk_shape=[1, 5, 6],
        ),
        run.stream_datum("primary", "det", (0, 3), 1),
        run.event("primary", seq_num=2),
        run.stop(),
    ]

    items = run_through(Filler(locator, fill_events=True), pairs)

    (frames,) = [item[1] for item in items if item[0] == "frames"]
    assert (frames.first, frames.array[:, 0, 0].tolist()) == (0, [1, 2, 3, 4, 5, 6])
    (event,) = [item[2] for item in items if item[1] == "event"]
    assert event["data"]["det"].shape == (2, 5, 6)
    assert event["data"]["det"][:, 0, 0].tolist() == [3, 4]


def test_a_page_of_events_comes_as_events(beamlines, camera_file, locator):
    """So that images of a long page need not fit into memory at once; numbers only stay a page."""
    run = beamlines.Run()
    descriptor = run.descriptor("primary", det=beamlines.image_key((5, 6), external="FILESTORE:"))
    pairs = [run.start(), descriptor, run.resource("AD_HDF5", "/detector", "camera.h5", frame_per_point=1)]
    datums = [run.datum(point_number=point)[1] for point in range(4)]
    events = [run.event("primary", det=datum["datum_id"])[1] for datum in datums]
    numbers = run.descriptor("baseline", motor=beamlines.number_key())
    plain = run.event("baseline", motor=1.5)[1]
    pairs += [
        ("datum_page", event_model.pack_datum_page(*datums)),
        ("event_page", event_model.pack_event_page(*events)),
        numbers,
        ("event_page", event_model.pack_event_page(plain)),
        run.stop(),
    ]

    items = run_through(Filler(locator, fill_events=True, frames=False), pairs)

    names = [item[1] for item in items]
    assert names.count("event") == 4
    assert names.count("event_page") == 1
    images = [item[2]["data"]["det"] for item in items if item[1] == "event"]
    assert [int(image[0, 0]) for image in images] == [1, 2, 3, 4]


def test_an_unfilled_event_says_so(beamlines, locator):
    """An event whose file never comes passes as it was, marked unfilled, after the word that it is."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key((5, 6), external="FILESTORE:")),
        run.resource("AD_HDF5", "/detector", "nowhere.h5", frame_per_point=1),
        (datum := run.datum(point_number=0)),
        run.event("primary", det=datum[1]["datum_id"]),
        run.stop(),
    ]

    items = run_through(Filler(locator, fill_events=True, frames=False, patience=0.2), pairs)

    kinds = [(item[0], item[1] if item[0] == "document" else item[1].final) for item in items]
    assert kinds[4:] == [("missing", True), ("document", "event"), ("document", "stop")]
    event = items[5][2]
    assert event["filled"] == {"det": False}
    assert event["data"]["det"] == datum[1]["datum_id"]


def test_any_other_spec_goes_to_its_handler(beamlines, tmp_path, locator):
    """A handler of the databroker.handlers entry points is called as it is, and called again if it fails."""
    run = beamlines.Run()
    image = np.arange(30, dtype="u2").reshape(1, 5, 6)
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key((1, 5, 6), external="FILESTORE:")),
        run.resource(
            "AD_HDF5_SINGLE", "/detector", "", template="%s%s_%6.6d.h5", filename="one", frame_per_point=1
        ),
        (datum := run.datum(point_number=0)),
        run.event("primary", det=datum[1]["datum_id"]),
        run.stop(),
    ]
    with h5py.File(tmp_path / "hidden.h5", "w") as file:
        file["entry/data/data"] = image
    later = threading.Timer(0.5, (tmp_path / "hidden.h5").rename, [tmp_path / "one_000000.h5"])
    later.start()

    items = run_through(Filler(locator, fill_events=True, patience=30), pairs)

    later.join()
    (event,) = [item[2] for item in items if item[1] == "event"]
    np.testing.assert_array_equal(event["data"]["det"], image[0])
    assert [item[1].array.shape for item in items if item[0] == "frames"] == [(1, 5, 6)]


@pytest.mark.parametrize(("template", "filename"), [("%s%s_%6.6d.h5", "../one"), ("%s../%s_%6.6d.h5", "one")])
def test_a_handler_is_not_led_outside(beamlines, tmp_path, template, filename):
    """The files that a handler would open are asked for, and checked, before it opens any."""
    (tmp_path / "images").mkdir()
    with h5py.File(tmp_path / "one_000000.h5", "w") as file:
        file["entry/data/data"] = np.ones((1, 5, 6))
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key((1, 5, 6), external="FILESTORE:")),
        run.resource("AD_HDF5_SINGLE", "/detector", "", template=template, filename=filename),
        (datum := run.datum(point_number=0)),
        run.event("primary", det=datum[1]["datum_id"]),
        run.stop(),
    ]

    filler = Filler(Locator({"/detector": str(tmp_path / "images")}), fill_events=True)
    (missing,) = [item[1] for item in run_through(filler, pairs) if item[0] == "missing"]

    assert missing.final
    assert (
        "outside the folders" in missing.reason
        or "lead to another file" in missing.reason
        or "might lead to another file" in missing.reason
    )


@pytest.mark.parametrize(
    ("mimetype", "spec", "reason"),
    [("application/x-unheard-of", None, "entry point group"), (None, "UNHEARD_OF", "no reader for spec")],
)
def test_an_unknown_kind_of_file_is_said(beamlines, locator, mimetype, spec, reason):
    """The reason says what can be done; the run goes on."""
    run = beamlines.Run()
    external = "STREAM:" if mimetype else "FILESTORE:"
    pairs = [run.start(), run.descriptor("primary", det=beamlines.image_key((1, 5, 6), external=external))]
    if mimetype:
        pairs += [
            run.stream_resource("det", mimetype, "file://localhost/detector/x"),
            run.stream_datum("primary", "det", (0, 2), 1),
        ]
    else:
        pairs += [
            run.resource(spec, "/detector", "x"),
            (datum := run.datum()),
            run.event("primary", det=datum[1]["datum_id"]),
        ]
    pairs.append(run.stop())

    items = run_through(Filler(locator), pairs)

    (missing,) = [item[1] for item in items if item[0] == "missing"]
    assert missing.final
    assert reason in missing.reason
    assert items[-1][1] == "stop"


def test_documents_that_make_no_sense_pass(fly_scan, locator, caplog):
    """Whatever is left out of a document or put into it, it passes, and nothing but its images is lost."""
    filler = Filler(locator, patience=0.05, fill_events=True)
    rubbish = [None, -1, "x", 1e300, [], {}, {"start": -5, "stop": 3}, {"start": 7, "stop": 3}, float("nan")]
    for name, doc in fly_scan:
        for key in doc:
            for value in rubbish:
                broken = {**doc, key: value}
                documents = [item for item in filler.process(name, broken) if item[0] == "document"]
                assert documents == [("document", name, broken)]
        assert [item[1:] for item in filler.process(name, doc) if item[0] == "document"] == [(name, doc)]


def test_stop_ends_a_wait(beamlines, locator):
    """From another thread, at once, however long patience is."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("tomo", det=beamlines.image_key((1, 5, 6))),
        run.stream_resource("det", "application/x-hdf5", "/detector/nowhere.h5", dataset="/x"),
        run.stream_datum("tomo", "det", (0, 2), 1),
    ]
    filler = Filler(locator, patience=1e9)
    timer = threading.Timer(0.2, filler.stop)
    timer.start()
    run_through(filler, pairs)
    timer.join()


def test_runs_that_never_stop_are_forgotten(beamlines, camera_file, locator):
    """A hundred runs of a RunEngine that is killed each time do not fill the memory or hold files open."""
    filler = Filler(locator)
    for _ in range(100):
        run = beamlines.Run()
        run_through(
            filler,
            [
                run.start(),
                run.descriptor("tomo", det=beamlines.image_key((1, 5, 6))),
                run.stream_resource(
                    "det", "application/x-hdf5", "/detector/camera.h5", dataset="/entry/data/data"
                ),
                run.stream_datum("tomo", "det", (0, 1), 1),
            ],
        )
    held = [fd for fd in Path("/proc/self/fd").iterdir() if os.path.realpath(fd).endswith("camera.h5")]
    assert len(held) <= 32
    filler.close()
    held = [fd for fd in Path("/proc/self/fd").iterdir() if os.path.realpath(fd).endswith("camera.h5")]
    assert held == []


def test_a_descriptor_that_makes_frames_small_does_not_fill_the_memory(beamlines, camera_file, locator):
    """What counts is the size of the frames in the file."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("tomo", det=beamlines.image_key((1, 1, 1))),
        run.stream_resource("det", "application/x-hdf5", "/detector/camera.h5", dataset="/entry/data/data"),
        run.stream_datum("tomo", "det", (0, 10), 1),
        run.stop(),
    ]
    items = run_through(Filler(locator, memory=4 * 3 * 60), pairs)
    assert [len(item[1].array) for item in items if item[0] == "frames"] == [3, 3, 3, 1]


def test_a_dead_file_is_waited_for_once(beamlines, locator, monkeypatch):
    """Not once for each of a hundred events: patience counts from the last sign of life."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key((5, 6), external="FILESTORE:")),
        run.resource("AD_HDF5", "/detector", "nowhere.h5", frame_per_point=1),
    ]
    for point in range(100):
        datum = run.datum(point_number=point)
        pairs += [datum, run.event("primary", det=datum[1]["datum_id"])]
    pairs.append(run.stop())
    begun_anew = []
    reset = Patience.reset
    monkeypatch.setattr(Patience, "reset", lambda self: (begun_anew.append(self), reset(self)))

    items = run_through(Filler(locator, fill_events=True, frames=False, patience=1), pairs)

    assert len(begun_anew) < 10
    assert len([item for item in items if item[0] == "missing"]) == 100


def test_late_frames_come_without_documents(beamlines, tmp_path, locator, camera_file):
    """``poll`` finds them between documents, in their order."""
    run = beamlines.Run()
    hidden = camera_file.rename(tmp_path / "hidden.h5")
    pairs = [
        run.start(),
        run.descriptor("tomo", det=beamlines.image_key((1, 5, 6))),
        run.stream_resource("det", "application/x-hdf5", "/detector/camera.h5", dataset="/entry/data/data"),
        run.stream_datum("tomo", "det", (0, 4), 1),
        run.stream_datum("tomo", "det", (4, 10), 5),
    ]
    filler = Filler(locator, patience=0.1)
    items = run_through(filler, pairs)
    assert [(m.first, m.last) for kind, m in items[-3::2] if kind == "missing"] == [(0, 4), (4, 10)]

    hidden.rename(camera_file)
    late = []
    deadline = time.monotonic() + 30
    while not late and time.monotonic() < deadline:
        late += filler.poll()

    assert [(item[1].first, item[1].last) for item in late] == [(0, 10)]
    assert [item[1] for item in run_through(filler, [run.stop()])] == ["stop"]


def test_announcements_in_any_order(beamlines, camera_file, locator):
    """Frames come as they are announced, with the numbers that the documents give them."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("tomo", det=beamlines.image_key((1, 5, 6))),
        run.stream_resource("det", "application/x-hdf5", "/detector/camera.h5", dataset="/entry/data/data"),
        run.stream_datum("tomo", "det", (6, 10), 7),
        run.stream_datum("tomo", "det", (0, 6), 1),
        run.stop(),
    ]
    frames = [item[1] for item in run_through(Filler(locator), pairs) if item[0] == "frames"]
    assert [(f.first, f.array[:, 0, 0].tolist()) for f in frames] == [
        (6, [7, 8, 9, 10]),
        (0, [1, 2, 3, 4, 5, 6]),
    ]


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6)])
def test_a_multiplier_counts_frames(beamlines, camera_file, locator, shape):
    """``multiplier`` or ``frame_per_point`` of the parameters, whatever the descriptor says."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key(shape)),
        run.stream_resource(
            "det", "application/x-hdf5", "/detector/camera.h5", dataset="/entry/data/data", multiplier=2
        ),
        run.stream_datum("primary", "det", (1, 3), 2),
        run.event("primary", seq_num=3),
        run.stop(),
    ]
    items = run_through(Filler(locator, fill_events=True), pairs)
    (frames,) = [item[1] for item in items if item[0] == "frames"]
    assert (frames.first, frames.array[:, 0, 0].tolist()) == (2, [3, 4, 5, 6])
    (event,) = [item[2] for item in items if item[1] == "event"]
    assert event["data"]["det"][:, 0, 0].tolist() == [5, 6]


@pytest.mark.parametrize("fill_events", [False, True])
@pytest.mark.parametrize(
    "odd", ["point_number of -1", "point_number of 1.5", "frame_per_point of text", "an array instead"]
)
def test_an_odd_datum_costs_its_own_key_only(beamlines, camera_file, locator, odd, fill_events):
    """The other camera's frame of the same event comes; the odd one is missing, told by its name."""
    run = beamlines.Run()
    key = beamlines.image_key((5, 6), external="FILESTORE:")
    pairs = [run.start(), run.descriptor("primary", bad=key, good=key)]
    each = "two" if "text" in odd else 1
    pairs.append(run.resource("AD_HDF5", "/detector", camera_file.name, frame_per_point=each))
    point = {"point_number of -1": -1, "point_number of 1.5": 1.5}.get(odd, 0)
    pairs.append(bad := run.datum(point_number=point))
    pairs.append(run.resource("AD_HDF5", "/detector", camera_file.name, frame_per_point=1))
    pairs.append(good := run.datum(point_number=0))
    event = run.event("primary", bad=bad[1]["datum_id"], good=good[1]["datum_id"])
    if "array" in odd:
        event[1]["data"]["bad"] = [[1, 2], [3, 4]]
    filler = Filler(locator, patience=0.1, fill_events=fill_events)

    items = [item for pair in [*pairs, event, run.stop()] for item in filler.process(*pair)]
    filler.close()

    (frames,) = [item[1] for item in items if item[0] == "frames"]
    assert frames.data_key == "good"
    np.testing.assert_array_equal(frames.array, np.ones((1, 5, 6)))
    (missing,) = [item[1] for item in items if item[0] == "missing"]
    assert (missing.data_key, missing.first, missing.last, missing.final) == ("bad", 0, 1, True)
    assert "cannot be understood" in missing.reason
    (passed,) = [item[2] for item in items if item[1] == "event"]
    assert passed["filled"] == {"bad": False, "good": fill_events}
