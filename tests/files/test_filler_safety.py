"""What must not stop the flow of documents: odd memory, odd handlers, odd announcements."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tomolive.errors import OutsideRootsError
from tomolive.files import assets
from tomolive.files.filler import Filler
from tomolive.files.locate import Locator
from tomolive.files.readers import handlers
from tomolive.files.readers.base import Source
from tomolive.files.readers.hdf5 import Hdf5Reader
from tomolive.files.readers.sequence import TiffReader
from tomolive.metrics import DISPATCHER_ERRORS
from tomolive.stream.dispatcher import RemoteDispatcher

CYCLES = """
import gc, numpy as np
from tomolive.files.pool import FramePool

class Holder:
    pass

pool = FramePool(keep=1 << 24)
gc.set_threshold(1)
for _ in range(3000):
    holder = Holder()
    holder.itself = holder
    holder.array = pool.empty((1, 256, 256), np.dtype("u2"))
    del holder
gc.collect()
print(pool.kept <= 1 << 24)
"""


def test_frames_in_cycles_of_references_do_not_stop_the_pool():
    """The garbage collector may give memory back while memory is being taken."""
    done = subprocess.run([sys.executable, "-c", CYCLES], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr


class ClosesBadly:
    """A handler whose files cannot be closed."""

    def __init__(self, path, **kwargs):
        pass

    def __call__(self, index):
        """Give a frame."""
        assert index == 0
        return np.ones((1, 4, 5))

    def close(self):
        """Fail."""
        raise RuntimeError("already closed")


def run_of_handler(beamlines) -> list[tuple[str, dict]]:
    """A run with one event, whose image only a handler can read."""
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key((4, 5), external="FILESTORE:")),
        run.resource("SITE_SPEC", "/detector", "a"),
    ]
    datum = run.datum(index=0)
    return [*pairs, datum, run.event("primary", det=datum[1]["datum_id"]), run.stop()]


def test_a_handler_that_fails_to_close_does_not_take_the_stop_document(
    beamlines, mounted, seen, monkeypatch, tmp_path
):
    """The error is logged, and the run ends as it did."""
    monkeypatch.setattr(handlers, "_find", {"SITE_SPEC": ClosesBadly}.get)
    filler = mounted(fill_events=True, frames=False)
    (tmp_path / "files/a").touch()
    seen.run(filler, run_of_handler(beamlines))
    assert [name for name, _ in seen.documents][-2:] == ["event", "stop"]
    assert seen.events("primary")[0]["filled"] == {"det": True}


def test_a_reader_that_cannot_look_does_not_take_the_document(beamlines, mounted, seen, monkeypatch):
    """A site's reader whose ``sign_of_life`` raises: its frames are missing, the documents come."""

    def fail(self, frame):
        raise RuntimeError("no idea")

    monkeypatch.setattr(Hdf5Reader, "sign_of_life", fail)
    run = beamlines.Run()
    pairs = [
        run.start(),
        run.descriptor("tomo", det=beamlines.image_key((1, 5, 6))),
        run.stream_resource("det", "application/x-hdf5", "/detector/nowhere.h5", dataset="d"),
        run.stream_datum("tomo", "det", (0, 4), 1),
        run.stop(),
    ]
    seen.run(mounted(patience=0.2), pairs)
    assert [name for name, _ in seen.documents][-2:] == ["stream_datum", "stop"]
    assert [(m.first, m.last, m.final) for m in seen.missing] == [(0, 4, False), (0, 4, True)]


def tiffs_of(run, beamlines, shape: tuple[int, ...], count: int) -> list[tuple[str, dict]]:
    """The documents that announce ``count`` events' images in TIFF files."""
    mimetype = "multipart/related;type=image/tiff"
    return [
        run.start(),
        run.descriptor("primary", det=beamlines.image_key(shape)),
        run.stream_resource("det", mimetype, "/detector/", template="img_{}.tif", chunk_shape=[1]),
        run.stream_datum("primary", "det", (0, count), 1),
    ]


def test_an_event_whose_frames_differ_in_shape_comes_unfilled(beamlines, mounted, seen, tmp_path):
    """They are no array; the event is there all the same, and the word that its image is not."""
    filler = mounted(fill_events=True, frames=False)
    for number, columns in enumerate((5, 6)):
        tifffile.imwrite(tmp_path / "files" / f"img_{number}.tif", np.ones((4, columns), "u2"))
    run = beamlines.Run()
    pairs = [*tiffs_of(run, beamlines, (2, 4, 5), 1), run.event("primary"), run.stop()]
    pairs[2][1]["parameters"]["multiplier"] = 2
    seen.run(filler, pairs)
    assert [name for name, _ in seen.documents][-2:] == ["event", "stop"]
    assert seen.events("primary")[0]["filled"] == {"det": False}
    assert [(m.first, m.last, "shape" in m.reason) for m in seen.missing] == [(0, 2, True)]


def test_a_document_is_given_even_if_its_images_break_the_filler(monkeypatch):
    """The dispatcher gives it as it came, and counts the error."""

    def fail(self, name, doc):
        raise RuntimeError("a defect")
        yield

    monkeypatch.setattr(Filler, "process", fail)
    dispatcher = RemoteDispatcher("tcp://127.0.0.1:1", start="new")
    given = []
    dispatcher.subscribe(lambda *pair: given.append(pair))
    before = DISPATCHER_ERRORS._value.get()
    pair = ("stop", {"uid": "a"})
    dispatcher._give_all(Filler(Locator()).process(*pair), pair)
    assert (given, DISPATCHER_ERRORS._value.get() - before) == ([pair], 1)


@pytest.mark.parametrize("lists_files", [True, False])
@pytest.mark.parametrize("text", ["/etc/hostname", "../calibration.h5"])
def test_a_handler_is_not_made_with_a_path_that_leads_elsewhere(tmp_path, monkeypatch, text, lists_files):
    """It might open the file at once, before it says which files it reads."""
    made = []

    class Handler:
        def __init__(self, path, calibration):
            made.append((path, calibration))

        if lists_files:
            get_file_list = staticmethod(lambda _: [])

    monkeypatch.setattr(handlers, "_find", {"SITE_SPEC": Handler}.get)
    source = Source(tmp_path / "a", Locator({}, [tmp_path]).confine, {"calibration": [text]})
    with pytest.raises(OutsideRootsError, match="might lead"):
        handlers.HandlerReader("SITE_SPEC", source).read({})
    assert made == []


@pytest.fixture
def site_reader(tmp_path, monkeypatch):
    """Make a reader of ``images/a.h5`` whose handler opens it with h5py, and gives what ``inside`` names."""
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "secret").mkdir()
    with h5py.File(tmp_path / "secret/s.h5", "w") as file:
        file["d"] = np.full((1, 4, 5), 13)

    class Handler:
        def __init__(self, path):
            self.file = h5py.File(path, "r")

        def __call__(self, inside):
            return self.file[inside][:]

    monkeypatch.setattr(handlers, "_find", {"SITE_SPEC": Handler}.get)
    source = Source(folder / "a.h5", Locator({}, [folder]).confine)
    return handlers.HandlerReader("SITE_SPEC", source)


def _external_link(file, secret):
    file["x"] = h5py.ExternalLink(secret, "d")


def _link_in_a_group(file, secret):
    file["deep/in/x"] = h5py.ExternalLink(f"../secret/{secret.name}", "d")


def _virtual(file, secret):
    layout = h5py.VirtualLayout((1, 4, 5), "i8")
    layout[:] = h5py.VirtualSource(secret, "d", (1, 4, 5))
    file.create_virtual_dataset("x", layout)


def _external_storage(file, secret):
    file.create_dataset("x", (1, 4, 5), "i8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def _by_a_second_file(file, secret):
    with h5py.File(Path(file.filename).with_name("b.h5"), "w") as second:
        _link_in_a_group(second, secret)
    file["x"] = h5py.ExternalLink("b.h5", "deep/in/x")


@pytest.mark.parametrize("user_block", [0, 4096])
@pytest.mark.parametrize(
    "lead", [_external_link, _link_in_a_group, _virtual, _external_storage, _by_a_second_file]
)
def test_a_handler_is_not_led_outside_by_its_file(site_reader, tmp_path, lead, user_block):
    """HDF5 would follow any link; all are followed before, and the whole file is refused."""
    with h5py.File(tmp_path / "images/a.h5", "w", userblock_size=user_block) as file:
        file["good"] = np.ones((1, 4, 5))
        lead(file, tmp_path / "secret/s.h5")
    with pytest.raises(OutsideRootsError):
        site_reader.read({"inside": "x"})


def test_a_handler_is_not_led_outside_by_a_file_that_has_changed(site_reader, tmp_path):
    """A link that was added after the first read is found before the next."""
    with h5py.File(tmp_path / "images/a.h5", "w") as file:
        file["good"] = np.ones((1, 4, 5))
        file["circle"] = file["/"]
        file["inside"] = h5py.ExternalLink("a.h5", "good")
    np.testing.assert_array_equal(site_reader.read({"inside": "good"}), np.ones((1, 4, 5)))
    np.testing.assert_array_equal(site_reader.read({"inside": "circle/inside"}), np.ones((1, 4, 5)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        _external_link(file, tmp_path / "secret/s.h5")
    (tmp_path / "other.h5").replace(tmp_path / "images/a.h5")
    with pytest.raises(OutsideRootsError):
        site_reader.read({"inside": "x"})


def test_frames_that_are_not_there_are_reported_together(beamlines, mounted, seen, tmp_path):
    """One word for neighbours, before the frames that follow them; each is still looked for."""
    filler = mounted(patience=0.2)
    for number in (3, 4, 7):
        tifffile.imwrite(tmp_path / "files" / f"img_{number}.tif", np.full((4, 5), number, "u2"))
    pairs = tiffs_of(beamlines.Run(), beamlines, (1, 4, 5), 9)
    seen.run(filler, pairs)
    assert [(m.first, m.last, m.final) for m in seen.missing] == [(0, 3, False), (5, 7, False), (8, 9, False)]
    tifffile.imwrite(tmp_path / "files" / "img_1.tif", np.full((4, 5), 1, "u2"))
    seen.run(filler, [("stop", {"uid": "x", "run_start": pairs[0][1]["uid"]})])
    assert seen.numbers("primary", "det") == [3, 4, 7, 1]
    assert [(m.first, m.last) for m in seen.missing if m.final] == [(0, 1), (2, 3), (5, 7), (8, 9)]


def test_an_endless_range_comes_to_an_end(beamlines, mounted, seen, monkeypatch):
    """A thousand million files that are not there cost no more looks than are allowed, and two words."""
    monkeypatch.setattr("tomolive.files.filler.MOST_LOOKS", 100)
    monkeypatch.setattr(assets, "MOST_LOOKS", 100)
    pairs = tiffs_of(beamlines.Run(), beamlines, (1, 4, 5), 10**9)
    pairs.append(("stop", {"uid": "x", "run_start": pairs[0][1]["uid"]}))
    seen.run(mounted(patience=0.2), pairs)
    assert [(m.first, m.last, m.final) for m in seen.missing] == [(0, 10**9, False), (0, 10**9, True)]
    assert [name for name, _ in seen.documents][-1] == "stop"


def test_the_more_it_costs_to_look_the_more_rarely_it_is_done(beamlines, mounted, seen, monkeypatch):
    """Lost files must not hold up all documents to come; nine tenths of the time belong to these."""
    now = [1000.0]
    monkeypatch.setattr(assets.time, "monotonic", lambda: now[0])
    filler = mounted(patience=0.0)
    seen.run(filler, tiffs_of(beamlines.Run(), beamlines, (1, 4, 5), 100))
    looks = []
    look = TiffReader.read

    def slow(self, first, last):
        looks.append(first)
        now[0] += 0.01
        return look(self, first, last)

    monkeypatch.setattr(TiffReader, "read", slow)
    now[0] += 60
    assert (list(filler.poll()), len(looks)) == ([], 100)
    now[0] += 8.9
    assert (list(filler.poll()), len(looks)) == ([], 100)
    now[0] += 0.2
    assert (list(filler.poll()), len(looks)) == ([], 200)
