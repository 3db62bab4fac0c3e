"""Which frames are darks, flats and projections, and at which angles."""

import tempfile

import numpy as np
import pytest

from tomolive.live.documents.run import Batch, Note
from tomolive.live.documents.scan import ScanReader


@pytest.fixture
def reader():
    """A reader with the shipped rules."""
    return ScanReader()


def batches(out, kind=None):
    """The batches of a kind."""
    return [b for b in out if isinstance(b, Batch) and kind in (None, b.kind)]


def notes(out):
    """What the user is told."""
    return " | ".join(n.text for n in out if isinstance(n, Note))


def numbers(out, kind="projection"):
    """The frame numbers that came out; each frame's pixels must tell the same number."""
    found = []
    for batch in batches(out, kind):
        pixels = batch.array[:, 0, 0].astype(int)
        assert pixels.tolist() == list(range(batch.first, batch.first + len(pixels)))
        found += pixels.tolist()
    return found


def degrees(out):
    """The angles of all projections."""
    return np.round(np.rad2deg(np.concatenate([b.angles for b in batches(out, "projection")])), 6).tolist()


def fly(scans, **start):
    """A fly scan of tomolive's own: documents of darks, flats and projections, angle in a file."""
    run = scans.Run(**scans.tomolive_start(**start))
    opening = [run.start, run.resource("camera"), run.resource("angle")]
    opening += [run.descriptor(n, camera=scans.image) for n in ("darks", "flats")]
    opening += [run.descriptor("projections", camera=scans.image, angle=scans.file_scalar)]
    for name in ("darks", "flats"):
        opening += [run.datum(name, "camera", 0, 2), run.images(name, "camera", 0, 2)]
    return run, opening


def announced(run, first, last):
    """The documents that announce projections and their angles."""
    return [run.datum("projections", key, first, last) for key in ("camera", "angle")]


def images(run, first, last):
    """Projections as arrays."""
    return run.images("projections", "camera", first, last)


def angles(run, first, last, step=22.5):
    """Angles from a file, degrees."""
    return run.frames("projections", "angle", first, np.arange(first, last) * step)


def test_a_fly_scan_of_tomolive(scans, reader):
    """Streams are named in the start document, angles lie in a file; degrees become radians."""
    run, opening = fly(scans)
    out = scans.feed(reader, *opening)
    assert [(b.kind, b.first, len(b.array)) for b in batches(out)] == [("dark", 0, 2), ("flat", 0, 2)]
    scan = reader.scan(run.uid)
    assert scan.state == "flats"
    out = scans.feed(reader, *announced(run, 0, 8), images(run, 0, 8), angles(run, 0, 8))
    assert numbers(out) == list(range(8))
    assert degrees(out) == [22.5 * i for i in range(8)]
    assert scan.state == "projections"
    assert (scan.planned, scan.sample, scan.plan, scan.scan_id) == (8, "bean", "tomo_fly", 7)
    assert (scan.pixel_size_um, scan.darks, scan.flats) == (2.0, 2, 2)
    assert not scan.complete
    scans.feed(reader, run.stop())
    assert scan.complete
    assert scan.outcome == "success"
    reader.close(run.uid)
    assert scan.state == "finished"
    assert (len(scan.announced), len(scan.received), list(scan.missing)) == (8, 8, [])
    assert (scan.angle_first, scan.angle_last) == (0.0, 157.5)


def test_images_wait_for_their_angles(scans, reader):
    """Images come out as soon as their angles do, whichever comes first, in pieces that fit."""
    run, opening = fly(scans)
    scans.feed(reader, *opening, *announced(run, 0, 8))
    assert numbers(scans.feed(reader, images(run, 0, 6))) == []
    assert numbers(scans.feed(reader, angles(run, 0, 2))) == [0, 1]
    out = scans.feed(reader, angles(run, 4, 8))
    assert numbers(out) == [4, 5]
    assert degrees(out) == [90.0, 112.5]
    assert numbers(scans.feed(reader, images(run, 6, 8))) == [6, 7]
    assert numbers(scans.feed(reader, angles(run, 2, 4))) == [2, 3]


def test_out_of_order_and_twice(scans, reader):
    """Each frame comes out once, with its own angle, however often and in whatever order it arrives."""
    run, opening = fly(scans)
    scans.feed(reader, *opening)
    out = []
    for first, last in [(4, 8), (0, 3), (2, 6), (0, 8)]:
        more = [*announced(run, first, last), images(run, first, last), angles(run, first, last)]
        out += scans.feed(reader, *more)
    assert sorted(numbers(out)) == list(range(8))
    assert dict(zip(numbers(out), degrees(out), strict=True)) == {i: 22.5 * i for i in range(8)}
    assert len(reader.scan(run.uid).announced) == 8


def test_missing_frames_are_told_by_number(scans, reader):
    """Frames that no file holds are missing by number; the scan is complete without them."""
    run, opening = fly(scans)
    scans.feed(reader, *opening, *announced(run, 0, 8), angles(run, 0, 8), images(run, 0, 3))
    out = scans.feed(reader, run.missing("projections", "camera", 3, 5, "proj.h5 is too short", final=True))
    assert "3 to 4" in notes(out)
    assert "proj.h5 is too short" in notes(out)
    scans.feed(reader, images(run, 5, 8), run.stop())
    scan = reader.scan(run.uid)
    assert scan.complete
    assert list(scan.missing) == [(3, 5)]
    assert len(scan.received) == 6


def test_frames_that_were_missing_and_come_after_all(scans, reader):
    """A frame that was given up and then appears counts as received."""
    run, opening = fly(scans)
    scans.feed(reader, *opening, *announced(run, 0, 8), angles(run, 0, 8), images(run, 0, 3))
    scans.feed(reader, run.missing("projections", "camera", 3, 8, "late", final=True))
    assert numbers(scans.feed(reader, images(run, 3, 8))) == [3, 4, 5, 6, 7]
    assert list(reader.scan(run.uid).missing) == []


def test_images_not_readable_yet(scans, reader):
    """While a file cannot be read the scan says so, once; when it opens, the scan goes on."""
    run, opening = fly(scans)
    scans.feed(reader, *opening, *announced(run, 0, 8), angles(run, 0, 8))
    locked = run.missing("projections", "camera", 0, 8, "the detector has the file open", final=False)
    assert "the detector has the file open" in notes(scans.feed(reader, locked))
    assert scans.feed(reader, locked) == []
    assert reader.scan(run.uid).state == "unreadable"
    scans.feed(reader, images(run, 0, 8))
    assert reader.scan(run.uid).state == "projections"


def test_frames_without_angles_are_reported(scans, reader):
    """A frame whose angle never comes, or is no number, is missing, and the reason is told."""
    run, opening = fly(scans)
    scans.feed(reader, *opening, *announced(run, 0, 8), images(run, 0, 8))
    scans.feed(reader, run.frames("projections", "angle", 0, [0.0, 22.5, np.nan, 67.5]))
    out = scans.feed(reader, run.missing("projections", "angle", 4, 6, "angle.h5 is not there", final=True))
    assert "angle.h5 is not there" in notes(out)
    scans.feed(reader, run.stop())
    scan = reader.scan(run.uid)
    assert not scan.complete
    out = reader.close(run.uid)
    assert "6 to 7" in notes(out)
    assert list(scan.missing) == [(2, 3), (4, 8)]
    assert len(scan.received) == 3


def test_frames_wait_on_disk_beyond_a_limit_of_memory(scans, tmp_path, monkeypatch):
    """None is dropped, however late the angles are; what waits on disk leaves nothing there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run, opening = fly(scans)
    rows, columns = scans.shape
    reader = ScanReader(waiting_limit=3 * rows * columns * 2)
    scans.feed(reader, *opening, *announced(run, 0, 8))
    for first in range(0, 8, 2):
        assert notes(scans.feed(reader, images(run, first, first + 2))) == ""
    stream = next(iter(reader.scan(run.uid).streams.values()))
    in_memory = [w for w in stream.pairing._waiting if not w.stored]
    assert sum(w.array.nbytes for w in in_memory) <= 3 * rows * columns * 2
    out = scans.feed(reader, angles(run, 0, 3)) + scans.feed(reader, angles(run, 3, 8))
    assert sorted(numbers(out)) == list(range(8))
    for batch in batches(out):
        truth = images(run, batch.first, batch.first + len(batch.array)).array
        np.testing.assert_array_equal(batch.array, truth)
    assert list(tmp_path.iterdir()) == []


def test_frames_are_given_up_only_without_any_room(scans, monkeypatch):
    """Neither in memory nor on disk: the oldest are reported by number, with the reason."""
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    run, opening = fly(scans)
    rows, columns = scans.shape
    reader = ScanReader(waiting_limit=3 * rows * columns * 2)
    scans.feed(reader, *opening, *announced(run, 0, 8), images(run, 0, 2))
    out = scans.feed(reader, images(run, 2, 4))
    assert "0 to 1" in notes(out)
    assert "no room" in notes(out)
    assert numbers(scans.feed(reader, angles(run, 0, 8))) == [2, 3]


def test_steps_with_an_angle_in_each_event(scans, reader):
    """One image for each event, the angle a scalar of the event, in radians if its key says so."""
    run = scans.Run(**scans.tomolive_start())
    scans.feed(reader, run.start)
    scans.feed(reader, run.descriptor("projections", camera=([4, 6], "", True), angle=([], "rad", False)))
    out = []
    for i in range(3):
        out += scans.feed(reader, run.event("projections", i + 1, camera=f"datum/{i}", angle=0.5 * i))
        out += scans.feed(reader, images(run, i, i + 1))
    assert numbers(out) == [0, 1, 2]
    assert np.concatenate([b.angles for b in batches(out)]).tolist() == [0.0, 0.5, 1.0]
    assert list(reader.scan(run.uid).announced) == [(0, 3)]


def test_planned_angles_serve_without_an_encoder(scans, reader):
    """Without an angle key the angles are start, stop and number of the start document."""
    run = scans.Run(**scans.tomolive_start(angle_key=None, angle_stop=157.5))
    scans.feed(reader, run.start, run.resource("camera"))
    scans.feed(reader, run.descriptor("projections", camera=scans.image))
    out = scans.feed(reader, run.datum("projections", "camera", 0, 8), images(run, 0, 8))
    assert degrees(out) == [22.5 * i for i in range(8)]
    out = scans.feed(reader, run.datum("projections", "camera", 8, 10), images(run, 8, 10))
    assert numbers(out) == []
    assert "8 to 9" in notes(out)


def test_runs_side_by_side_are_kept_apart(scans, reader):
    """Documents of two runs that interleave do not mix."""
    one, first = fly(scans)
    two, second = fly(scans)
    out = []
    for pair in zip(first, second, strict=True):
        out += scans.feed(reader, *pair)
    for run in (one, two):
        scans.feed(reader, *announced(run, 0, 4))
    out += scans.feed(reader, images(one, 0, 4), images(two, 0, 2), angles(two, 0, 4), angles(one, 0, 4))
    assert numbers([b for b in batches(out) if b.run_uid == one.uid]) == [0, 1, 2, 3]
    assert numbers([b for b in batches(out) if b.run_uid == two.uid]) == [0, 1]


def test_other_runs_are_left_alone(scans, reader):
    """A run that is no tomography scan gives one note and nothing else."""
    run = scans.Run(plan_name="count")
    out = scans.feed(reader, run.start)
    assert "no tomography scan" in notes(out)
    more = [run.descriptor("primary", camera=scans.image), run.resource("camera")]
    more += [run.datum("primary", "camera", 0, 2), run.images("primary", "camera", 0, 2), run.stop()]
    assert scans.feed(reader, *more) == []
    assert reader.scan(run.uid) is None


def test_an_aborted_scan(scans, reader):
    """A scan that stops at 40 degrees is complete with what was announced, and says how it ended."""
    run, opening = fly(scans, num_projections=180)
    scans.feed(reader, *opening, *announced(run, 0, 40), images(run, 0, 40), angles(run, 0, 40, step=1))
    out = scans.feed(reader, run.stop("abort", "beam dump"))
    scan = reader.scan(run.uid)
    assert "beam dump" in notes(out)
    assert (scan.outcome, scan.complete) == ("abort", True)
    assert (scan.planned, len(scan.received), scan.angle_last) == (180, 40, 39.0)
    reader.close(run.uid)
    assert scan.state == "finished"


def test_a_run_without_stop_document(scans, reader):
    """Without a stop document a scan is closed from outside; its outcome says so."""
    run, opening = fly(scans)
    scans.feed(reader, *opening, *announced(run, 0, 4), images(run, 0, 3), angles(run, 0, 4))
    scan = reader.scan(run.uid)
    assert not scan.complete
    out = reader.close(run.uid)
    assert "announced, but not in any file" in notes(out)
    assert (scan.outcome, list(scan.missing)) == ("no stop document", [(3, 4)])


def test_many_runs_do_not_pile_up(scans, reader):
    """Finished runs are forgotten after a while."""
    uids = []
    for _ in range(40):
        run, opening = fly(scans)
        scans.feed(reader, *opening, run.stop())
        reader.close(run.uid)
        uids.append(run.uid)
    assert sum(reader.scan(uid) is not None for uid in uids) <= 20
    assert reader.scan(uids[-1]) is not None


@pytest.mark.parametrize("name", ["datum", "resource", "datum_page", "paired", "no_such_document", ""])
def test_documents_that_tell_nothing(scans, reader, name):
    """Documents for those who read files, and names that are no documents, change nothing."""
    run, opening = fly(scans)
    scans.feed(reader, *opening)
    doc = {"uid": "x", "run_start": run.uid, "descriptor": run.streams["projections"].uid}
    assert reader.document(name, doc) == []
    assert reader.scan(run.uid).failure == ""


def test_an_event_that_makes_no_sense(scans, reader):
    """A value that is no number fails this run with a sentence, and touches no other."""
    run, other = scans.Run(plan_name="fly_scan"), scans.Run(plan_name="fly_scan")
    for each in (run, other):
        scans.feed(reader, each.start, each.descriptor("zps_pi_r_monitor", zps_pi_r=([], "deg", False)))
    out = scans.feed(reader, run.event("zps_pi_r_monitor", 1, zps_pi_r={"not": "a number"}))
    assert "not understood" in notes(out)
    assert reader.scan(run.uid).state == "failed"
    assert reader.scan(other.uid).state == "waiting"


@pytest.mark.parametrize("block", [1, 10, 91])
def test_flats_between_projections_of_one_stream(scans, reader, block):
    """After which projection they were taken does not depend on how many frames come at once."""
    kinds = np.repeat([2.0, 1, 0, 1, 0, 1], [2, 3, 40, 3, 40, 3])
    run = scans.Run(plan_name="nxtomo", num_projections=80)
    keys = {"camera": scans.image, "image_key": scans.file_scalar, "rotation_angle": scans.file_scalar}
    out = scans.feed(reader, run.start, run.descriptor("primary", **keys), *map(run.resource, keys))
    for first in range(0, len(kinds), block):
        last = min(first + block, len(kinds))
        out += scans.feed(
            reader,
            *(run.datum("primary", key, first, last) for key in keys),
            run.frames("primary", "image_key", first, kinds[first:last]),
            run.frames("primary", "rotation_angle", first, 2.0 * np.arange(first, last)),
            run.images("primary", "camera", first, last),
        )
    assert {batch.after for batch in batches(out, "dark")} == {0}
    assert {batch.after for batch in batches(out, "flat")} == {0, 45, 88}
    assert numbers(out)[39:41] == [44, 48]


def test_projections_of_several_streams_are_counted_on(scans, reader):
    """One stream after the other, or in turns: each projection has a number of its own, without leaps."""
    run = scans.Run(plan_name="tomo_plan")
    image = {"camera": scans.image}
    descriptors = [run.descriptor(name, **image, theta=scans.scalar) for name in ("sweep_1", "sweep_2")]
    scans.feed(reader, run.start, run.resource("camera"), *descriptors, run.descriptor("flats", **image))

    def turn(stream, first, last):
        events = [run.event(stream, n + 1, theta=float(n)) for n in range(first, last)]
        return [run.datum(stream, "camera", first, last), *events, run.images(stream, "camera", first, last)]

    out = scans.feed(reader, *turn("sweep_1", 0, 3), *turn("sweep_1", 4, 6), *turn("sweep_2", 0, 4))
    out += scans.feed(reader, run.datum("flats", "camera", 0, 1), run.images("flats", "camera", 0, 1))
    out += scans.feed(
        reader, *turn("sweep_1", 3, 4), *turn("sweep_1", 6, 9), run.datum("sweep_2", "camera", 4, 6)
    )
    out += scans.feed(reader, run.missing("sweep_2", "camera", 4, 6, "not there", final=True), run.stop())
    found = [(b.first, b.array[:, 0, 0].tolist()) for b in batches(out, "projection")]
    assert found == [(0, [0, 1, 2]), (4, [4, 5]), (6, [0, 1, 2, 3]), (3, [3]), (10, [6, 7, 8])]
    assert [batch.after for batch in batches(out, "flat")] == [10]
    scan = reader.scan(run.uid)
    assert (list(scan.received), list(scan.missing), list(scan.announced)) == (
        [(0, 13)],
        [(13, 15)],
        [(0, 15)],
    )
    assert "projections 4 to 5 of stream 'sweep_2' are missing" in notes(out)


@pytest.mark.parametrize("late", [False, True])
def test_numbers_do_not_depend_on_when_images_come(scans, reader, late):
    """Frames that say themselves that they are flats keep their places, also where another sweep follows."""
    run = scans.Run(plan_name="nxtomo", num_projections=5)
    keys = {"camera": scans.image, "image_key": scans.file_scalar, "rotation_angle": scans.file_scalar}
    documents, frames = [run.start], []
    documents += [run.descriptor(name, **keys) for name in ("sweep_1", "sweep_2")]
    documents += map(run.resource, keys)
    for name, kinds in (("sweep_1", [0, 0, 1, 1]), ("sweep_2", [0, 0, 0])):
        asked = [run.datum(name, key, 0, len(kinds)) for key in keys]
        came = [run.frames(name, key, 0, np.array(kinds, float)) for key in ("image_key", "rotation_angle")]
        came += [run.images(name, "camera", 0, len(kinds))]
        documents += asked if late else [*asked, *came]
        frames += came if late else []
    out = scans.feed(reader, *documents, *frames, run.stop())
    assert [(b.first, len(b.array)) for b in batches(out, "projection")] == [(0, 2), (4, 3)]
    assert [b.after for b in batches(out, "flat")] == [2]


def test_flats_after_projections_whose_images_are_late(scans, reader):
    """The documents tell the order in which frames were taken, not the files in which they are found."""
    run, opening = fly(scans)
    scans.feed(reader, *opening[:6], run.datum("flats", "camera", 0, 2), *announced(run, 0, 8))
    out = scans.feed(reader, run.datum("flats", "camera", 2, 4), run.images("flats", "camera", 0, 4))
    found = [(batch.first, len(batch.array), batch.after) for batch in batches(out, "flat")]
    assert found == [(0, 2, 0), (2, 2, 8)]


def test_numbers_in_a_file_that_are_none(scans, reader):
    """A scan whose angles are text is given up with a sentence; nothing is raised."""
    run, opening = fly(scans)
    out = scans.feed(
        reader, *opening, *announced(run, 0, 2), run.frames("projections", "angle", 0, ["a", "b"])
    )
    assert "of 'angle' is not understood: ValueError" in notes(out)
    assert reader.scan(run.uid).state == "failed"


def test_more_frames_to_an_event_than_any_scan_has(scans, reader):
    """A document cannot make the process allocate an angle for each of them."""
    run = scans.Run(plan_name="tomo_scan")
    image = ([10**10, *scans.shape], "", True)
    descriptor = run.descriptor("primary", camera=image, theta=scans.scalar)
    out = scans.feed(reader, run.start, descriptor, run.event("primary", 1, theta=0.0))
    assert "that cannot be right" in notes(out)
    lost = run.missing("primary", "camera", 0, 10**10, "not there", final=True)
    assert scans.feed(reader, lost) == []
    again = ScanReader()
    scans.feed(again, run.start, descriptor)
    assert "that cannot be right" in notes(scans.feed(again, lost))
