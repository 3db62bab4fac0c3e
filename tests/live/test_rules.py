"""Rules are data: one YAML file for each beamline style, chosen by the start document."""

from itertools import pairwise

import numpy as np
import pytest

from tomolive.errors import SettingsError
from tomolive.live.documents.rules import AngleSource, Rules, RunKinds, choose, load_rules, shipped_rules
from tomolive.live.documents.run import Batch, Note
from tomolive.live.documents.scan import ScanReader

RULES = """
name: mine
match:
  - {beamline: [P05, P07], plan_name: "tomo*"}
  - {proposal.kind: tomography}
streams: {dark: beam_off, flat: [open_*], projection: [fly]}
angles:
  - {data_key: [turn], units: rad}
pixel_size:
  - {key: optics.pixel, units: nm}
sample: [sample.label]
"""


@pytest.fixture
def mine(tmp_path):
    """A rule set of one's own."""
    path = tmp_path / "mine.yaml"
    path.write_text(RULES)
    return load_rules(path)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ({"tomography": {"version": 1}}, "tomolive"),
        ({"tomo_scanning_mode": "tomo_flyscan"}, "hex"),
        ({"tomo_scanning_mode": "tomo_dark_flat"}, "hex"),
        ({"plan_name": "fly_scan", "num_dark_images": 20, "num_bkg_images": 20}, "fxi"),
        ({"plan_name": "x", "min_theta": 0, "max_theta": 180, "num_projections": 9}, "dls-step"),
        ({"plan_name": "tomo_scan"}, "dls-step"),
        ({"definition": "NXtomo"}, "nxtomo-image-key"),
        ({"plan_name": "tomo_plan"}, "bluesky-tomo-plan"),
        ({"plan_name": "my_tomo_demo"}, "bluesky-tomo-plan"),
        ({"plan_name": "count"}, None),
        ({"tomography": {"version": 2}}, None),
        ({}, None),
    ],
)
def test_the_start_document_chooses(start, name):
    """The first shipped rule set that matches is used; without one it is no tomography scan."""
    chosen = choose(shipped_rules(), start)
    assert (chosen and chosen.name) == name


def test_rules_of_ones_own(mine):
    """Alternatives, patterns and paths into the start document."""
    assert mine.why({"beamline": "P05", "plan_name": "tomo_fly"})
    assert not mine.why({"beamline": "P05", "plan_name": "count"})
    assert not mine.why({"beamline": "P06", "plan_name": "tomo_fly"})
    assert mine.why({"proposal": {"kind": "tomography"}})
    assert not mine.why({"proposal": "tomography"})
    kinds = [mine.kind_of_stream({}, name)[0] for name in ("beam_off", "open_2", "fly", "baseline")]
    assert kinds == ["dark", "flat", "projection", None]


def test_rules_of_ones_own_read_a_scan(mine, scans):
    """A scan of that beamline is understood: kinds, angles in radians, pixel size, sample."""
    reader = ScanReader([mine])
    more = {"optics": {"pixel": 650}, "sample": {"label": "tooth"}}
    run = scans.Run(beamline="P07", plan_name="tomo_step", **more)
    scans.feed(reader, run.start, run.descriptor("fly", cam=([4, 6], "", True), turn=([], "", False)))
    out = scans.feed(reader, run.event("fly", 1, cam="datum/0", turn=1.25), run.images("fly", "cam", 0, 1))
    (batch,) = [b for b in out if isinstance(b, Batch)]
    assert (batch.kind, batch.angles.tolist()) == ("projection", [1.25])
    scan = reader.scan(run.uid)
    assert (scan.pixel_size_um, scan.sample) == (0.65, "tooth")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [", "not YAML"),
        ("- a\n- b", "the file"),
        ("name: x", "match"),
        ("name: x\nmatch: [{a: 1}]\nstreams: {white: [w]}", "streams"),
        ("name: x\nmatch: [{a: 1}]\nangels: []", "angels"),
        ("name: x\nmatch: [{a: 1}]\nangles: [{units: deg}]", "exactly one of"),
        ("name: x\nmatch: [{a: 1}]\nangles: [{start: a}]", "start needs stop and count"),
        ("name: x\nmatch: [{a: 1}]\nangles: [{data_key: [a], units: gon}]", "gon"),
    ],
)
def test_mistakes_in_rules(tmp_path, text, told):
    """A mistake is told with the file and the key."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"mine\.yaml") as error:
        load_rules(path)
    assert told in str(error.value)


def test_rules_that_are_not_there(tmp_path):
    """A file that cannot be read is told."""
    with pytest.raises(SettingsError, match="No such file"):
        load_rules(tmp_path / "none.yaml")


def kinds(out):
    """Kind, first number and count of what came out, neighbours of one kind together."""
    found = []
    for batch in (b for b in out if isinstance(b, Batch)):
        if found and found[-1][0] == batch.kind and found[-1][1] + found[-1][2] == batch.first:
            found[-1] = (batch.kind, found[-1][1], found[-1][2] + len(batch.array))
        else:
            found.append((batch.kind, batch.first, len(batch.array)))
    return found


def test_an_image_key_for_each_frame(scans):
    """All frames in one stream; the number beside each says what it is, and 3 is left out."""
    reader = ScanReader()
    run = scans.Run(definition="NXtomo", num_projections=4)
    keys = {"camera": scans.image, "image_key": ([1], "", True), "rotation_angle": ([1], "rad", True)}
    scans.feed(reader, run.start, *(run.resource(key) for key in keys), run.descriptor("entry", **keys))
    out = []
    values = [2, 2, 1, 1, 0, 0, 3, 0, 0, 1]
    for first, last in [(0, 5), (5, 10)]:
        out += scans.feed(reader, *(run.datum("entry", key, first, last) for key in keys))
        out += scans.feed(reader, run.images("entry", "camera", first, last))
        out += scans.feed(reader, run.frames("entry", "image_key", first, values[first:last]))
        out += scans.feed(reader, run.frames("entry", "rotation_angle", first, np.arange(first, last) * 0.1))
    expected = [("dark", 0, 2), ("flat", 2, 2), ("projection", 4, 2), ("projection", 7, 2), ("flat", 9, 1)]
    assert kinds(out) == expected
    angles = np.concatenate([b.angles for b in out if isinstance(b, Batch) and b.kind == "projection"])
    assert angles == pytest.approx([0.4, 0.5, 0.7, 0.8])
    scan = reader.scan(run.uid)
    scans.feed(reader, run.stop())
    assert scan.complete
    assert (len(scan.announced), len(scan.received), scan.darks, scan.flats) == (4, 4, 2, 3)
    assert list(scan.missing) == []


def test_the_stream_names_of_blueskys_example(scans):
    """Flats, darks, projections, and flats again, out of one resource; angles from the start document."""
    reader = ScanReader()
    run = scans.Run(plan_name="tomo_plan", angle_start=0, angle_stop=90, num_projections=4)
    names = ("flats", "darks", "projections")
    scans.feed(reader, run.start, run.resource("det"), *(run.descriptor(n, det=scans.image) for n in names))
    out = []
    order = [("flats", 0, 2), ("darks", 0, 2), ("projections", 0, 4), ("flats", 2, 4)]
    for stream, first, last in order:
        out += scans.feed(
            reader, run.datum(stream, "det", first, last), run.images(stream, "det", first, last)
        )
    assert kinds(out) == [("flat", 0, 2), ("dark", 0, 2), ("projection", 0, 4), ("flat", 2, 2)]
    angles = np.concatenate([b.angles for b in out if isinstance(b, Batch) and b.kind == "projection"])
    assert np.rad2deg(angles) == pytest.approx([0, 30, 60, 90])


def test_several_cameras(scans):
    """The camera that comes first among the detectors is used in all streams; the others are told once."""
    reader = ScanReader()
    run = scans.Run(plan_name="tomo_plan", detectors=["wide", "close"], **turn(4))
    both = {"close_image": scans.image, "wide_image": scans.image}
    streams = [run.descriptor("flats", **both), run.descriptor("projections", **both)]
    out = scans.feed(reader, run.start, *streams, *(run.resource(key) for key in both))
    assert sum("several cameras" in n.text for n in out if isinstance(n, Note)) == 1
    more = []
    for key in both:
        more += scans.feed(reader, run.datum("projections", key, 0, 4), run.images("projections", key, 0, 4))
    assert kinds(more) == [("projection", 0, 4)]
    assert reader.scan(run.uid).camera == "wide_image"
    assert len(reader.scan(run.uid).announced) == 4


def test_a_stream_of_another_camera(scans):
    """A stream that the scan's camera is not part of is left alone, and told."""
    reader = ScanReader()
    run = scans.Run(plan_name="tomo_plan", **turn(4))
    scans.feed(reader, run.start, run.descriptor("projections", det=scans.image))
    out = scans.feed(reader, run.descriptor("tomo_side", other=scans.image))
    assert any("another camera" in note.text for note in out)
    assert scans.feed(reader, run.images("tomo_side", "other", 0, 2)) == []


def turn(count):
    """Start keys of planned angles."""
    return {"angle_start": 0, "angle_stop": 180, "num_projections": count}


def test_several_sweeps(scans):
    """Sweeps in streams of their own are one scan; their frames have numbers of their own."""
    reader = ScanReader()
    run = scans.Run(plan_name="tomo_plan", **turn(4))
    names = ("sweep_0", "sweep_1")
    keys = {"det": scans.image, "theta": ([], "deg", False)}
    scans.feed(reader, run.start, *(run.descriptor(name, **keys) for name in names))
    out = []
    for name, direction in zip(names, (1, -1), strict=True):
        for i in range(3):
            out += scans.feed(reader, run.event(name, i + 1, det=f"datum/{i}", theta=direction * 10.0 * i))
            out += scans.feed(reader, run.images(name, "det", i, i + 1))
    batches = [b for b in out if isinstance(b, Batch)]
    assert np.rad2deg([b.angles[0] for b in batches]) == pytest.approx([0, 10, 20, 0, -10, -20])
    assert len({b.first for b in batches}) == 6
    scan = reader.scan(run.uid)
    scans.feed(reader, run.stop())
    assert scan.complete
    assert (len(scan.announced), len(scan.received)) == (6, 6)


def test_a_monitor_that_reads_less_often_than_the_camera(scans):
    """Angles are interpolated in time; frames after the newest reading wait for the next one."""
    reader = ScanReader()
    run = scans.Run(plan_name="fly_scan")
    monitor, keys = {"zps_pi_r": ([], "deg", False)}, {"cam": ([4, 6], "", True)}
    scans.feed(reader, run.start, run.descriptor("zps_pi_r_monitor", **monitor))
    scans.feed(reader, run.descriptor("primary", **keys))

    def reading(number, time, angle):
        return run.event("zps_pi_r_monitor", number, time=time, zps_pi_r=angle)

    def taken(i, time):
        return [run.event("primary", i + 1, time=time, cam=f"d/{i}"), run.images("primary", "cam", i, i + 1)]

    out = scans.feed(reader, reading(1, 100.0, 0.0), *taken(0, 101.0), *taken(1, 105.0), *taken(2, 112.0))
    assert kinds(out) == []
    out = scans.feed(reader, reading(2, 110.0, 20.0))
    assert kinds(out) == [("projection", 0, 2)]
    assert np.rad2deg([b.angles[0] for b in out]) == pytest.approx([2.0, 10.0])
    out = scans.feed(reader, run.stop())
    assert kinds(out) == [("projection", 2, 1)]
    assert np.rad2deg(out[0].angles) == pytest.approx([20.0])


def test_a_monitor_that_begins_after_the_images(scans):
    """Frames wait for it, whichever descriptor comes first; the units of its data key count."""
    reader = ScanReader()
    run = scans.Run(plan_name="fly_scan")
    scans.feed(reader, run.start, run.descriptor("primary", cam=([4, 6], "", True)))
    taken = [run.event("primary", 1, time=101.0, cam="d/0"), run.images("primary", "cam", 0, 1)]
    assert scans.feed(reader, *taken) == []
    scans.feed(reader, run.descriptor("zps_pi_r_monitor", zps_pi_r=([], "mrad", False)))
    readings = [run.event("zps_pi_r_monitor", n + 1, time=100.0 + 2 * n, zps_pi_r=500.0 * n) for n in (0, 1)]
    out = scans.feed(reader, *readings)
    assert kinds(out) == [("projection", 0, 1)]
    assert out[0].angles == pytest.approx([0.25])


def test_a_monitor_that_never_comes(scans):
    """Its frames are missing by number when the run is closed, with the reason."""
    reader = ScanReader()
    run = scans.Run(plan_name="fly_scan")
    scans.feed(reader, run.start, run.descriptor("primary", cam=([4, 6], "", True)))
    event = run.event("primary", 1, time=101.0, cam="d/0")
    assert scans.feed(reader, event, run.images("primary", "cam", 0, 1), run.stop()) == []
    out = reader.close(run.uid)
    assert "angles did not come" in " ".join(note.text for note in out)
    assert list(reader.scan(run.uid).missing) == [(0, 1)]


def test_two_sweeps_share_a_monitor(scans):
    """Readings serve every stream of images; frames are numbered as they come, each with its own angle."""
    rules = Rules(
        name="two",
        match=({"plan_name": "two"},),
        streams={"projection": ("up", "down")},
        angles=(AngleSource(monitor=("*_monitor",)),),
    )
    reader = ScanReader([rules])
    run = scans.Run(plan_name="two")
    scans.feed(reader, run.start, run.descriptor("r_monitor", r=([], "deg", False)))
    scans.feed(reader, *(run.descriptor(name, cam=([4, 6], "", True)) for name in ("up", "down")))
    out = []
    for i, (stream, time) in enumerate([("up", 101.0), ("down", 103.0), ("up", 102.0), ("down", 104.0)]):
        number = i // 2
        out += scans.feed(reader, run.event(stream, number + 1, time=time, cam=f"{stream}/{number}"))
        out += scans.feed(reader, run.images(stream, "cam", number, number + 1))
    assert out == []
    readings = [run.event("r_monitor", n + 1, time=100.0 + 5 * n, r=50.0 * n) for n in (0, 1)]
    batches = [b for b in scans.feed(reader, *readings) if isinstance(b, Batch)]
    found = {b.first + i: float(np.rad2deg(b.angles[i])) for b in batches for i in range(len(b.array))}
    assert found == pytest.approx({0: 10, 1: 30, 2: 20, 3: 40})


@pytest.mark.parametrize(
    ("units", "value"),
    [("deg", 90.0), ("degrees", 90.0), ("rad", np.pi / 2), ("radians", np.pi / 2), ("mrad", 500 * np.pi)],
)
@pytest.mark.parametrize("where", ["event", "file"])
def test_units_of_the_data_key(scans, units, value, where):
    """Degrees or radians, as the data key says, in events and in files, whatever the rules assume."""
    reader = ScanReader()
    run = scans.Run(plan_name="tomo_plan")
    external = where == "file"
    keys = {"det": scans.image, "theta": ([1] if external else [], units, external)}
    scans.feed(reader, run.start, run.resource("det"), run.resource("theta"))
    scans.feed(reader, run.descriptor("projections", **keys), run.datum("projections", "det", 0, 1))
    told = (
        run.frames("projections", "theta", 0, [value])
        if external
        else run.event("projections", 1, theta=value)
    )
    out = scans.feed(reader, told, run.images("projections", "det", 0, 1))
    assert kinds(out) == [("projection", 0, 1)]
    assert out[0].angles == pytest.approx([np.pi / 2])


ORDERS = {
    "before": [("darks", 0, 2), ("flats", 0, 2), ("projections", 0, 3), ("projections", 3, 6)],
    "between": [("projections", 0, 3), ("flats", 0, 2), ("darks", 0, 2), ("projections", 3, 6)],
    "after": [("projections", 0, 3), ("projections", 3, 6), ("darks", 0, 2), ("flats", 0, 2)],
    "around": [
        ("flats", 0, 1), ("projections", 0, 3), ("darks", 0, 1), ("projections", 3, 6), ("darks", 1, 2),
        ("flats", 1, 2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_darks_and_flats_in_any_place(scans, order):
    """Before, between, after, or around the projections: each frame has its kind, number and angle."""
    reader = ScanReader()
    run = scans.Run(plan_name="tomo_plan", **turn(6))
    scans.feed(reader, run.start, run.resource("det"))
    opened, out = set(), []
    for stream, first, last in ORDERS[order]:
        if stream not in opened:
            opened.add(stream)
            scans.feed(reader, run.descriptor(stream, det=scans.image))
        blocks = run.datum(stream, "det", first, last), run.images(stream, "det", first, last)
        out += scans.feed(reader, *blocks)
    out += scans.feed(reader, run.stop())
    came = [(b.kind, n) for b in out if isinstance(b, Batch) for n in b.array[:, 0, 0].tolist()]
    kind_of = {"darks": "dark", "flats": "flat", "projections": "projection"}
    assert came == [(kind_of[stream], n) for stream, a, b in ORDERS[order] for n in range(a, b)]
    angles = np.concatenate([b.angles for b in out if isinstance(b, Batch) and b.kind == "projection"])
    assert np.rad2deg(angles) == pytest.approx(np.linspace(0, 180, 6))
    scan = reader.scan(run.uid)
    assert (scan.darks, scan.flats, len(scan.received), scan.complete) == (2, 2, 6, True)


@pytest.mark.parametrize(("value", "kind"), [("dark_run", "dark"), ("white", "flat"), ("fly", "projection")])
def test_a_start_key_says_what_the_run_is(scans, value, kind):
    """All images of a run are of one kind; a value that the rules do not name leaves them alone."""
    rules = Rules(
        name="runs",
        match=({"scan_type": "*"},),
        run_kinds=RunKinds(
            key="scan_type", values={"dark_run": "dark", "white": "flat", "fly": "projection"}
        ),
        angles=(AngleSource(data_key=("theta",), units="deg"),),
    )
    reader = ScanReader([rules])
    for scan_type, expected in ((value, [(kind, 0, 1)]), ("alignment", [])):
        run = scans.Run(scan_type=scan_type)
        keys = {"det": scans.image, "theta": ([], "", False)}
        scans.feed(reader, run.start, run.resource("det"), run.descriptor("primary", **keys))
        out = scans.feed(reader, run.event("primary", 1, theta=0.0), run.images("primary", "det", 0, 1))
        assert kinds(out) == expected


def test_sweeps_to_and_fro_in_one_stream(scans):
    """Frames keep counting; each has the angle that was measured, also where the same angle comes again."""
    reader = ScanReader()
    run = scans.Run(**scans.tomolive_start(num_projections=8))
    keys = {"camera": scans.image, "angle": scans.file_scalar}
    scans.feed(reader, run.start, *map(run.resource, keys), run.descriptor("projections", **keys))
    there_and_back = [0.0, 60.0, 120.0, 180.0, 180.0, 120.0, 60.0, 0.0]
    out = []
    for first, last in ((0, 4), (4, 8)):
        out += scans.feed(reader, *(run.datum("projections", key, first, last) for key in keys))
        out += scans.feed(reader, run.frames("projections", "angle", first, there_and_back[first:last]))
        out += scans.feed(reader, run.images("projections", "camera", first, last))
    assert kinds(out) == [("projection", 0, 8)]
    assert np.rad2deg(np.concatenate([b.angles for b in out])) == pytest.approx(there_and_back)


def test_a_stack_without_times(scans):
    """The frames of a stack that has no times lie evenly between its beginning and its event."""
    reader = ScanReader()
    run = scans.Run(plan_name="fly_scan")
    scans.feed(reader, run.start, run.descriptor("zps_pi_r_monitor", zps_pi_r=([], "deg", False)))
    scans.feed(reader, run.descriptor("primary", cam=([4, 4, 6], "", True)))
    readings = [run.event("zps_pi_r_monitor", i + 1, time=100.0 + i, zps_pi_r=10.0 * i) for i in range(11)]
    event = run.event("primary", 1, time=108.0, timestamps={"cam": 100.0}, cam="datum/0")
    out = scans.feed(reader, *readings, event, run.images("primary", "cam", 0, 4))
    assert kinds(out) == [("projection", 0, 4)]
    assert np.rad2deg(out[0].angles) == pytest.approx([10, 30, 50, 70])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"camera": ([4, 6], "", True), "angle": ([], "furlong", False)}, "furlong"),
        ({"camera": ([4, 6], "", True)}, "angles of stream 'projections'"),
        ({"angle": ([], "deg", False)}, "no images"),
    ],
)
def test_runs_that_cannot_be_understood(scans, keys, told):
    """What is wrong is told in plain words; nothing raises."""
    reader = ScanReader()
    run = scans.Run(**scans.tomolive_start(num_projections=None))
    out = scans.feed(reader, run.start, run.descriptor("projections", **keys))
    assert told in " ".join(note.text for note in out)


def test_frame_numbers_that_cannot_be_right(scans):
    """A document that announces billions of frames fails its run, and allocates nothing."""
    reader = ScanReader()
    run = scans.Run(**scans.tomolive_start())
    scans.feed(reader, run.start, run.resource("camera"), run.descriptor("projections", camera=scans.image))
    scans.feed(reader, run.datum("projections", "camera", 0, 1 << 40))
    assert reader.scan(run.uid).state == "failed"


def test_random_orders_give_the_same_frames(scans):
    """Whatever the order of blocks and angles, whatever is repeated: each frame once, at its own angle."""
    seed = int(np.random.SeedSequence().entropy) % 2**32
    print("seed", seed)  # noqa: T201
    random = np.random.default_rng(seed)
    for _ in range(50):
        reader = ScanReader()
        run = scans.Run(**scans.tomolive_start(num_projections=40))
        opening = [run.start, run.resource("camera"), run.resource("angle")]
        keys = {"camera": scans.image, "angle": scans.file_scalar}
        scans.feed(reader, *opening, run.descriptor("projections", **keys))
        items = []
        for key in keys:
            edges = [0, *sorted(random.choice(np.arange(1, 40), 5, replace=False).tolist()), 40]
            pieces = [*pairwise(edges), (5, 20)]
            for first, last in pieces:
                items.append(run.datum("projections", key, first, last))
                if key == "camera":
                    items.append(run.images("projections", key, first, last))
                else:
                    items.append(run.frames("projections", key, first, np.arange(first, last) * 4.5))
        random.shuffle(items)
        out = scans.feed(reader, *items)
        found = {}
        for batch in (b for b in out if isinstance(b, Batch)):
            for i, pixels in enumerate(batch.array):
                assert pixels[0, 0] not in found
                found[int(pixels[0, 0])] = np.rad2deg(batch.angles[i])
        assert found == pytest.approx({i: 4.5 * i for i in range(40)})
        assert list(reader.scan(run.uid).announced) == [(0, 40)]
