"""Document streams of tomography scans, made without a RunEngine and valid by event-model's own checks."""

import itertools
import json
import threading
import uuid
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from event_model import DocumentNames, schema_validators

from tomolive.files.frames import Frames, MissingFrames
from tomolive.stream.hub import Hub, HubSettings

ROWS, COLUMNS = 4, 6


class Run:
    """Builds the documents of one run, in the order in which its methods are called."""

    _numbers = itertools.count(1)

    def __init__(self, **start):
        self.uid = f"run-{next(self._numbers):06d}-0000"
        self.start = self._valid("start", {"uid": self.uid, "time": 1000.0, "scan_id": 7, **start})
        self.streams = {}

    @staticmethod
    def _valid(name, doc):
        schema_validators[DocumentNames[name]].validate(doc)
        return (name, doc)

    def descriptor(self, name, **data_keys):
        """A stream; a data key is a tuple (shape, units, external)."""
        uid = f"{self.uid}-{name}"
        keys = {}
        for key, (shape, units, external) in data_keys.items():
            keys[key] = {"source": "test", "dtype": "array" if shape else "number", "shape": shape}
            keys[key] |= {"units": units} if units else {}
            keys[key] |= {"external": "STREAM:"} if external else {}
        self.streams[name] = SimpleNamespace(uid=uid, keys=keys)
        hints = {"configuration": {}, "hints": {}, "object_keys": {}}
        doc = {"uid": uid, "run_start": self.uid, "time": 1000.0, "name": name, "data_keys": keys, **hints}
        return self._valid("descriptor", doc)

    def resource(self, key):
        """One file for each data key."""
        doc = {
            "uid": f"{self.uid}-{key}",
            "run_start": self.uid,
            "data_key": key,
            "mimetype": "application/x-hdf5",
            "uri": f"file://localhost/data/{key}.h5",
            "parameters": {},
        }
        return self._valid("stream_resource", doc)

    def datum(self, stream, key, first, last):
        """Announce frames ``[first, last)`` of a stream."""
        doc = {
            "uid": f"{self.uid}-{key}/{stream}-{first}",
            "descriptor": self.streams[stream].uid,
            "stream_resource": f"{self.uid}-{key}",
            "indices": {"start": first, "stop": last},
            "seq_nums": {"start": first + 1, "stop": last + 1},
        }
        return self._valid("stream_datum", doc)

    def event(self, stream, seq_num, time=None, timestamps=None, **data):
        """One event; each key's time is the event's unless ``timestamps`` has it."""
        time = 1000.0 + seq_num if time is None else time
        doc = {
            "uid": f"{self.uid}-{stream}-{seq_num}",
            "descriptor": self.streams[stream].uid,
            "seq_num": seq_num,
            "time": time,
            "data": data,
            "timestamps": dict.fromkeys(data, time) | (timestamps or {}),
            "filled": {},
        }
        return self._valid("event", doc)

    def stop(self, exit_status="success", reason=""):
        """End the run."""
        doc = {
            "uid": f"{self.uid}-stop",
            "run_start": self.uid,
            "time": 2000.0,
            "exit_status": exit_status,
            "reason": reason,
        }
        return self._valid("stop", doc)

    def frames(self, stream, key, first, array):
        """Arrays, as a reader of files gives them."""
        return Frames(self.uid, stream, self.streams[stream].uid, key, first, np.asarray(array))

    def images(self, stream, key, first, last, rows=ROWS, columns=COLUMNS):
        """Frames whose every pixel tells the frame's number."""
        numbers = np.arange(first, last, dtype=np.uint16)[:, None, None]
        return self.frames(stream, key, first, np.broadcast_to(numbers, (last - first, rows, columns)))

    def missing(self, stream, key, first, last, reason, final):
        """Frames that a reader of files does not find."""
        return MissingFrames(self.uid, stream, self.streams[stream].uid, key, first, last, reason, final)


def feed(reader, *items):
    """Give documents, Frames and MissingFrames to a reader; return what comes out."""
    out = []
    for item in items:
        if isinstance(item, Frames):
            out += reader.frames(item)
        elif isinstance(item, MissingFrames):
            out += reader.missing(item)
        else:
            out += reader.document(*item)
    return out


def tomolive_start(**changes):
    """The keys of a start document of tomolive's own plans."""
    block = {
        "version": 1,
        "image_key": "camera",
        "streams": {"darks": "darks", "flats": "flats", "projections": "projections"},
        "angle_key": "angle",
        "num_darks": 2,
        "num_flats": 2,
        "num_projections": 8,
        "angle_start": 0.0,
        "angle_stop": 180.0,
        "pixel_size": 2.0,
        "pixel_size_units": "um",
    }
    return {"plan_name": "tomo_fly", "sample": {"name": "bean"}, "tomography": block | changes}


@pytest.fixture
def scans():
    """What the tests of the live reconstruction build scans with."""
    image, scalar = ([1, ROWS, COLUMNS], "", True), ([], "deg", False)
    file_scalar = ([1], "deg", True)
    return SimpleNamespace(
        Run=Run,
        feed=feed,
        tomolive_start=tomolive_start,
        image=image,
        scalar=scalar,
        file_scalar=file_scalar,
        shape=(ROWS, COLUMNS),
    )


class Sample:
    """A disc off the axis, seen by a noiseless camera; what a reconstruction of it must be is known."""

    rows, columns, center = 4, 48, 21.5
    dark, beam = 100, 40000
    attenuation = 0.02
    radius, x, y = 7.0, 4.0, -3.0

    def projections(self, angles):
        """Counts (n, rows, columns), uint16, at ``angles`` in degrees."""
        t = np.deg2rad(np.asarray(angles, float))[:, None]
        u = np.arange(self.columns) - self.center - self.x * np.cos(t) - self.y * np.sin(t)
        path = 2 * np.sqrt(np.clip(self.radius**2 - u**2, 0, None))
        counts = self.dark + self.beam * np.exp(-self.attenuation * path)
        return np.repeat(counts[:, None, :], self.rows, axis=1).round().astype(np.uint16)

    def level(self, kind, count):
        """Darks or flats (n, rows, columns), uint16."""
        value = self.dark + (self.beam if kind == "flats" else 0)
        return np.full((count, self.rows, self.columns), value, np.uint16)


class Scan:
    """A fly scan of the sample: the items that a dispatcher gives, whole or in parts."""

    def __init__(self, projections=60, step=3.0, **start):
        self.sample = Sample()
        planned = {"num_projections": projections, "angle_stop": (projections - 1) * step}
        self.run = Run(**(tomolive_start(**planned, num_darks=3, num_flats=3) | start))
        self.uid = self.run.uid
        self.angles = np.arange(projections) * step
        self.counts = self.sample.projections(self.angles)
        image = ([1, self.sample.rows, self.sample.columns], "", True)
        self.opening = [self.run.start, self.run.resource("camera"), self.run.resource("angle")]
        self.opening += [self.run.descriptor(name, camera=image) for name in ("darks", "flats")]
        self.opening += [self.run.descriptor("projections", camera=image, angle=([1], "deg", True))]

    def level(self, kind, count=3):
        """The items of the darks or the flats."""
        frames = self.run.frames(kind, "camera", 0, self.sample.level(kind, count))
        return [self.run.datum(kind, "camera", 0, count), frames]

    def turn(self, first, last, block=5):
        """The items of projections ``[first, last)``."""
        items = []
        for a in range(first, last, block):
            b = min(a + block, last)
            items += [self.run.datum("projections", key, a, b) for key in ("camera", "angle")]
            items += [self.run.frames("projections", "angle", a, self.angles[a:b])]
            items += [self.run.frames("projections", "camera", a, self.counts[a:b])]
        return items

    def whole(self):
        """The items of the whole scan."""
        count = len(self.angles)
        opening = [*self.opening, *self.level("darks"), *self.level("flats")]
        return [*opening, *self.turn(0, count), self.run.stop()]


class Feeder:
    """Gives prepared items to callbacks as a RemoteDispatcher does; an item that is callable is called."""

    def __init__(self, items):
        self.items = list(items)
        self.stopped = False
        self.behind = 0
        self.documents, self.frames, self.missing, self.idle = [], [], [], []

    def subscribe(self, func, name="all"):  # noqa: ARG002
        """As RemoteDispatcher."""
        self.documents.append(func)

    def subscribe_frames(self, callback, missing=None):
        """As RemoteDispatcher."""
        self.frames.append(callback)
        self.missing.append(missing)

    def subscribe_idle(self, callback):
        """As RemoteDispatcher."""
        self.idle.append(callback)

    def start(self):
        """Give all items, one after the other."""
        for item in self.items:
            if self.stopped:
                return
            self.give(item)

    def give(self, item):
        """Give one item, or call it."""
        if callable(item):
            item()
        elif isinstance(item, Frames):
            self._give(self.frames, item)
        elif isinstance(item, MissingFrames):
            self._give(self.missing, item)
        else:
            self._give(self.documents, *item)

    def stop(self):
        """End ``start``."""
        self.stopped = True

    def be_idle(self):
        """No document waits."""
        self._give(self.idle)

    @staticmethod
    def _give(callbacks, *content):
        for callback in callbacks:
            callback(*content)


@pytest.fixture
def scan_of():
    """Builds scans of a sample and feeds them."""
    return SimpleNamespace(Scan=Scan, Feeder=Feeder, Sample=Sample)


@pytest.fixture
def hub(tmp_path):
    """The address of a hub with an empty journal, in a thread of this process."""
    here = "127.0.0.1:0"
    hub = Hub(HubSettings(journal=tmp_path / "journal", native=here, stock_in=here, stock_out=here))
    thread = threading.Thread(target=hub.run, name="hub")
    thread.start()
    yield hub.native
    hub.stop()
    thread.join(60)
    hub.close()
    assert not thread.is_alive()


class RecordedScan:
    """A finished scan of the porous stone on disk: frames in one HDF5 file, documents in run.jsonl."""

    CENTER_PART = 0.48

    def __init__(
        self,
        folder,
        rows=40,
        columns=96,
        angles=None,
        pixel_um=1.0,
        flats=3,
        lost=(),
        unlit=(),
        compression=None,
        **start,
    ):
        from tomolive.acquire.phantom import porous_sample

        self.folder, self.rows, self.columns, self.pixel_um = folder, rows, columns, pixel_um
        self.angles = np.linspace(0, 180, 121) if angles is None else np.asarray(angles)
        self.center = round(self.CENTER_PART * columns, 2)
        self.phantom = porous_sample(rows, columns, self.center)
        self.uid = f"{uuid.uuid4()}"
        self.compression = compression
        self.documents = []
        self._write(flats, set(lost), list(unlit), start)

    def _write(self, flats, lost, unlit, start):
        rng = np.random.default_rng(0)
        stack = np.stack(
            [
                self.phantom.projection(np.deg2rad(a), self.rows, self.columns, self.center)
                for a in self.angles
            ]
        )
        counts = 100 + 30000 * np.exp(-stack)
        counts[unlit] = 150
        size = (self.rows, self.columns)
        references = [np.full((2, *size), 100), np.full((flats, *size), 30100)]
        frames = np.concatenate([*references, rng.normal(counts, 20)])
        self.file = self.folder / "frames.h5"
        with h5py.File(self.file, "w") as file:
            data = frames.astype("u2")
            chunks = (1, *data.shape[1:])
            file.create_dataset("entry/data/data", data=data, chunks=chunks, compression=self.compression)
        tomography = {
            "version": 1, "image_key": "camera", "angle_key": "angle",
            "streams": {"darks": "darks", "flats": "flats", "projections": "projections"},
            "num_projections": len(self.angles), "angle_start": 0.0, "angle_stop": 180.0,
        }  # fmt: skip
        if self.pixel_um:
            tomography |= {"pixel_size": self.pixel_um, "pixel_size_units": "um"}
        about = {"plan_name": "tomo_fly", "scan_id": 7, "sample": {"name": "stone"}, "tomography": tomography}
        self._add("start", uid=self.uid, time=1000.0, **about | start)
        image = {"source": "t", "dtype": "array", "dtype_numpy": "<u2", "shape": [self.rows, self.columns]}
        keys = {"camera": {**image, "external": "STREAM:"}}
        angle = {"angle": {"source": "t", "dtype": "number", "shape": [], "units": "deg"}}
        place = 0
        for stream, count in (("darks", 2), ("flats", flats), ("projections", len(self.angles))):
            if not count:
                continue
            more = angle if stream == "projections" else {}
            self._add(
                "descriptor", uid=f"{self.uid}-{stream}", run_start=self.uid, time=1000.0, name=stream,
                data_keys={**keys, **more}, configuration={}, hints={}, object_keys={},
            )  # fmt: skip
            if place == 0:
                self._add(
                    "stream_resource", uid=f"{self.uid}-file", run_start=self.uid, data_key="camera",
                    mimetype="application/x-hdf5", uri=f"file://localhost{self.file}",
                    parameters={"dataset": "/entry/data/data", "chunk_shape": [1, self.rows, self.columns]},
                )  # fmt: skip
            for first in range(0, count, 50):
                last = min(first + 50, count)
                # frames that are lost are announced at a place where the file has none
                gone = 10_000 if stream == "projections" and lost & set(range(first, last)) else 0
                self._add(
                    "stream_datum", uid=f"{self.uid}-file/{place}", stream_resource=f"{self.uid}-file",
                    descriptor=f"{self.uid}-{stream}",
                    indices={"start": place + gone, "stop": place + last - first + gone},
                    seq_nums={"start": first + 1, "stop": last + 1},
                )  # fmt: skip
                place += last - first
        for number, value in enumerate(self.angles, 1):
            self._add(
                "event", uid=f"{self.uid}-{number}", descriptor=f"{self.uid}-projections", seq_num=number,
                time=1000.0 + number, data={"angle": float(value)}, timestamps={"angle": 1000.0 + number},
                filled={},
            )  # fmt: skip
        self._add("stop", uid=f"{self.uid}-stop", run_start=self.uid, time=2000.0, exit_status="success",
                  num_events={})  # fmt: skip
        self.jsonl = self.folder / "run.jsonl"
        self.jsonl.write_text("".join(json.dumps(document) + "\n" for document in self.documents))

    def _add(self, kind, /, **doc):
        schema_validators[DocumentNames[kind]].validate(doc)
        self.documents.append((kind, doc))

    def truth(self, row):
        """The slice at a detector row, in the units of the volume."""
        scale = 1e4 / self.pixel_um if self.pixel_um else 1.0
        return self.phantom.slice_truth("xy", row, self.rows, self.columns) * scale


@pytest.fixture
def recorded_scan(tmp_path):
    """Writes a finished scan to disk: ``recorded_scan(rows=..., columns=..., ...)``."""

    def write(**options):
        folder = tmp_path / f"scan{len(list(tmp_path.glob('scan*')))}"
        folder.mkdir()
        return RecordedScan(folder, **options)

    return write
