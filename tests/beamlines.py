"""Runs as real beamlines emit them: (name, doc) pairs, valid by event-model, and their files.

Each generator writes its files as the documents flow, so that a test may look between any two of them.
"""

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import event_model

Pair = tuple[str, dict[str, Any]]


class Run:
    """Composes the documents of one run."""

    def __init__(self, **metadata: Any) -> None:
        self._bundle = event_model.compose_run(metadata=metadata, time=next(_clock))
        self._descriptors: dict[str, Any] = {}
        self._assets: dict[str, Any] = {}
        self._numbers: dict[str, Iterator[int]] = {}

    @property
    def uid(self) -> str:
        """The run's uid."""
        return self._bundle.start_doc["uid"]

    def start(self) -> Pair:
        """The start document."""
        return "start", self._bundle.start_doc

    def descriptor(self, stream: str, **data_keys: dict[str, Any]) -> Pair:
        """A descriptor; opens a stream."""
        composed = self._bundle.compose_descriptor(
            name=stream, data_keys=data_keys, object_keys={"det": list(data_keys)}, time=next(_clock)
        )
        self._descriptors[stream] = composed
        self._numbers[stream] = itertools.count(1)
        return "descriptor", dict(composed.descriptor_doc)

    def stream_resource(self, data_key: str, mimetype: str, uri: str, **parameters: Any) -> Pair:
        """A stream_resource for one data key, of all streams."""
        composed = self._bundle.compose_stream_resource(
            mimetype=mimetype, uri=uri, data_key=data_key, parameters=parameters
        )
        self._assets[data_key] = composed
        return "stream_resource", dict(composed.stream_resource_doc)

    def stream_datum(self, stream: str, data_key: str, indices: tuple[int, int], first_seq: int) -> Pair:
        """A stream_datum: events ``indices`` of the file are numbered from ``first_seq`` (1 is the first)."""
        start, stop = indices
        doc = self._assets[data_key].compose_stream_datum(
            indices={"start": start, "stop": stop},
            seq_nums={"start": first_seq, "stop": first_seq + stop - start},
            descriptor=self._descriptors[stream].descriptor_doc,
        )
        return "stream_datum", dict(doc)

    def resource(self, spec: str, root: str, resource_path: str, **resource_kwargs: Any) -> Pair:
        """A resource; the datums that follow belong to it."""
        composed = self._bundle.compose_resource(
            spec=spec, root=root, resource_path=resource_path, resource_kwargs=resource_kwargs
        )
        self._datum = composed.compose_datum
        return "resource", dict(composed.resource_doc)

    def datum(self, **datum_kwargs: Any) -> Pair:
        """A datum of the newest resource."""
        return "datum", dict(self._datum(datum_kwargs=datum_kwargs))

    def event(self, stream: str, seq_num: int | None = None, time: float | None = None, **data: Any) -> Pair:
        """The next event of a stream."""
        composed = self._descriptors[stream]
        keys = composed.descriptor_doc["data_keys"]
        filled = {key: False for key in data if "external" in keys[key]}
        now = next(_clock) if time is None else time
        doc = {
            "uid": str(uuid.uuid4()),
            "descriptor": composed.descriptor_doc["uid"],
            "seq_num": seq_num if seq_num is not None else next(self._numbers[stream]),
            "time": now,
            "data": data,
            "timestamps": dict.fromkeys(data, now),
            "filled": filled,
        }
        event_model.schema_validators[event_model.DocumentNames.event].validate(doc)
        return "event", doc

    def stop(self, exit_status: str = "success") -> Pair:
        """The stop document."""
        return "stop", dict(self._bundle.compose_stop(exit_status=exit_status))


_clock = itertools.count(1_700_000_000, 1)


def image_key(shape: tuple[int, ...], external: str = "STREAM:", dtype: str = "<u2") -> dict[str, Any]:
    """The data key of a camera."""
    return {
        "source": "sim", "dtype": "array", "shape": list(shape), "dtype_numpy": dtype, "external": external
    }  # fmt: skip


def number_key(units: str = "deg", **more: Any) -> dict[str, Any]:
    """The data key of a number, in the event or (``external="STREAM:"``) in a file."""
    return {"source": "sim", "dtype": "number", "shape": [], "units": units, **more}
