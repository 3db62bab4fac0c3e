"""Document streams of tomography scans, made without a RunEngine and valid by event-model's own checks."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from event_model import DocumentNames, schema_validators

from tomolive.files.frames import Frames, MissingFrames

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
