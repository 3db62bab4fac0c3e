"""Runs as real beamlines emit them: (name, doc) pairs, valid by event-model, and their files.

Each generator writes its files as the documents flow, so that a test may look between any two of them.
"""

import itertools
import json
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import event_model
import h5py
import numpy as np

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


SHAPE = (6, 16)
"""Rows and columns of the cameras here."""
EPICS_EPOCH = 631_152_000
"""Unix time of 1990-01-01, from which EPICS counts."""
_KINDS = {"dark": 100, "flat": 4000, "projection": 2000}


def frame(kind: str, number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """The truth: frame ``number`` of a kind, different from all others."""
    noise = np.random.default_rng([_KINDS[kind], number]).integers(0, 50, shape)
    return (_KINDS[kind] + noise).astype("<u2")


def frames(kind: str, count: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """The first ``count`` frames of a kind, (count, rows, columns)."""
    return np.stack([frame(kind, number, shape) for number in range(count)])


class CameraFile:
    """An HDF5 file as areaDetector writes it: one chunk a frame, with or without SWMR."""

    def __init__(self, path: Path, *, swmr: bool, shape: tuple[int, int] = SHAPE) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(path, "w", libver="latest")
        self._images = self._file.create_dataset(
            "entry/data/data", (0, *shape), "<u2", maxshape=(None, *shape), chunks=(1, *shape)
        )
        if swmr:
            self._file.swmr_mode = True

    def write(self, *images: np.ndarray) -> None:
        """Append frames and flush, as before each stream_datum."""
        for image in images:
            self._images.resize(len(self._images) + 1, axis=0)
            self._images[-1] = image
        self._file.flush()

    def close(self) -> None:
        """Close, as at unstage."""
        self._file.close()


def hex_runs(
    directory: Path, *, projections: int = 60, darks: int = 4, flats: int = 4, flush: int = 25,
    announced: str = "/nsls2/data/hex", swmr: bool = False,
) -> Iterator[Pair]:  # fmt: skip
    """NSLS-II HEX: a run of darks and flats, then a fly scan that names it; no events; angles by a PandA.

    The detector stages anew for each stream, so each has its own file, without SWMR: readable when closed,
    which is after its last stream_datum and before the next descriptor or the stop document.
    """
    asset = "proposals/2026-1/pass-1/assets"
    camera_key = {"kinetix-det1": image_key((1, *SHAPE))}

    def announce(run: Run, file: str) -> Pair:
        uri = f"file://localhost{announced}/{asset}/{file}"
        return run.stream_resource(
            "kinetix-det1", "application/x-hdf5", uri, dataset="/entry/data/data", chunk_shape=[1, *SHAPE]
        )

    calibration = Run(plan_name="tomo_dark_flat", tomo_scanning_mode="tomo_dark_flat", scan_id=243)
    yield calibration.start()
    for stream, count in (("dark", darks), ("flat", flats)):
        name = f"kinetix-det1/2026/scan_00243/{stream}_scan_00243.h5"
        yield calibration.descriptor(stream, **camera_key)
        file = CameraFile(directory / asset / name, swmr=swmr)
        file.write(*frames(stream, count))
        yield announce(calibration, name)
        yield calibration.stream_datum(stream, "kinetix-det1", (0, count), 1)
        file.close()
    yield calibration.stop()

    run = Run(
        plan_name="tomo_flyscan", tomo_scanning_mode="tomo_flyscan", scan_id=244, num_points=projections,
        detectors=["kinetix-det1"], current_dark_flat_scan_uid=calibration.uid,
        current_dark_flat_scan_num=243,
    )  # fmt: skip
    yield run.start()
    angle_key = {"source": "pva://PANDA:CALC2:OUT", "dtype": "number", "shape": [1], "dtype_numpy": "<f8"}
    yield run.descriptor("tomo", **camera_key, Angle={**angle_key, "units": "deg", "external": "STREAM:"})
    file = CameraFile(directory / asset / "kinetix-det1/2026/scan_00244/proj_scan_00244.h5", swmr=swmr)
    panda_path = directory / asset / "panda1/2026/scan_00244/panda_scan_00244.h5"
    panda_path.parent.mkdir(parents=True)
    panda = h5py.File(panda_path, "w", libver="latest")
    angles = panda.create_dataset("Angle", (0,), "<f8", maxshape=(None,), chunks=(1024,))
    panda.swmr_mode = True
    for first in range(0, projections, flush):
        last = min(first + flush, projections)
        file.write(*(frame("projection", number) for number in range(first, last)))
        angles.resize((last,))
        angles[first:last] = hex_angles(projections)[first:last]
        panda.flush()
        if first == 0:
            yield announce(run, "kinetix-det1/2026/scan_00244/proj_scan_00244.h5")
            uri = f"file://localhost{announced}/{asset}/panda1/2026/scan_00244/panda_scan_00244.h5"
            yield run.stream_resource(
                "Angle", "application/x-hdf5", uri, dataset="/Angle", chunk_shape=[1024]
            )
        yield run.stream_datum("tomo", "kinetix-det1", (first, last), first + 1)
        yield run.stream_datum("tomo", "Angle", (first, last), first + 1)
    file.close()
    panda.close()
    yield run.stop()


def hex_angles(projections: int = 60) -> np.ndarray:
    """The angles of `hex_runs`, degrees, as the encoder saw them."""
    return np.linspace(0.013, 180.013, projections)


def fxi_run(
    directory: Path, *, projections: int = 60, darks: int = 4, flats: int = 4,
    announced: str = "/nsls2/data/fxi-new",
) -> Iterator[Pair]:  # fmt: skip
    """NSLS-II FXI: one run, each stream one event that holds the whole stack; angles by a monitor stream.

    The frames' times are a datum of their own (seconds since 1990) in the same file, which is closed
    before its event.
    """
    run = Run(
        plan_name="fly_scan", scan_id=1234, num_dark_images=darks, num_bkg_images=flats,
        plan_args={"exposure_time": 0.05, "relative_rot_angle": 180, "rot_speed": 3.0},
    )  # fmt: skip
    yield run.start()

    def stack(stream: str, kind: str, count: int) -> Iterator[Pair]:
        yield run.descriptor(
            stream,
            Andor_image=image_key((count, *SHAPE), external="FILESTORE:"),
            Andor_timestamps=image_key((count,), external="FILESTORE:", dtype="<f8"),
        )
        place = f"proposals/2026-1/pass-2/assets/{stream}.h5"
        file = CameraFile(directory / place, swmr=False)
        file.write(*frames(kind, count))
        file.close()
        times = fxi_times(count) - EPICS_EPOCH
        with h5py.File(directory / place, "a", libver="latest") as attributes:
            group = attributes.create_group("entry/instrument/NDAttributes")
            group["NDArrayEpicsTSSec"] = np.floor(times).astype("u4")
            group["NDArrayEpicsTSnSec"] = np.round((times % 1) * 1e9).astype("u4")
        yield run.resource("AD_HDF5", announced, place, frame_per_point=count)
        yield (image := run.datum(point_number=0))
        yield run.resource("AD_HDF5_TS", announced, place, frame_per_point=count)
        yield (timestamps := run.datum(point_number=0))
        yield run.event(stream, Andor_image=image[1]["datum_id"], Andor_timestamps=timestamps[1]["datum_id"])

    yield from stack("dark", "dark", darks)
    yield run.descriptor("zps_pi_r_monitor", zps_pi_r=number_key())
    for when, angle in zip(*fxi_monitor(projections), strict=True):
        yield run.event("zps_pi_r_monitor", time=float(when), zps_pi_r=float(angle))
    yield from stack("primary", "projection", projections)
    yield from stack("flat", "flat", flats)
    yield run.stop()


def fxi_times(count: int) -> np.ndarray:
    """Unix times of the frames of one stack of `fxi_run`."""
    return 1_780_000_000.25 + 0.5 * np.arange(count)


def fxi_monitor(projections: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Times and angles (degrees) of the monitor stream: ten times a second, the stage turns evenly."""
    first, *_, last = fxi_times(projections)
    times = np.arange(first - 1, last + 1, 0.1)
    return times, 180 * (times - first) / (last - first)


def dls_run(
    directory: Path, *, projections: int = 30, darks: int = 3, flats: int = 3,
    announced: str = "/dls/p46/data", swmr: bool = True,
) -> Iterator[Pair]:  # fmt: skip
    """The training rigs at Diamond: a step scan; the detector is staged once for three streams, one file."""
    run = Run(
        plan_name="tomography_scan", scan_id=7, min_theta=0.0, max_theta=180.0, num_projections=projections,
        num_darks=darks, num_flats=flats,
    )  # fmt: skip
    yield run.start()
    file = CameraFile(directory / "2026/cm1/p46-7-det.h5", swmr=swmr)
    camera_key = {"det": image_key((1, *SHAPE))}
    place = 0
    plan = (("flats", "flat", flats), ("darks", "dark", darks), ("primary", "projection", projections))
    for stream, kind, count in plan:
        theta_key = {"theta": number_key()} if stream == "primary" else {}
        yield run.descriptor(stream, **camera_key, **theta_key)
        for number in range(count):
            file.write(frame(kind, number))
            if place == 0:
                uri = f"file://localhost{announced}/2026/cm1/p46-7-det.h5"
                yield run.stream_resource(
                    "det", "application/x-hdf5", uri, dataset="/entry/data/data", chunk_shape=[1, *SHAPE]
                )
            yield run.stream_datum(stream, "det", (place, place + 1), number + 1)
            theta = {"theta": 180.0 * number / (projections - 1)} if stream == "primary" else {}
            yield run.event(stream, **theta)
            place += 1
    file.close()
    yield run.stop()


if __name__ == "__main__":
    # A run in a process of its own: tests/beamlines.py GENERATOR DIRECTORY [SECONDS BETWEEN DOCUMENTS]
    _, name, directory, *pause = sys.argv
    for pair in {"hex_runs": hex_runs, "fxi_run": fxi_run, "dls_run": dls_run}[name](Path(directory)):
        print(json.dumps(pair), flush=True)  # noqa: T201
        time.sleep(float(pause[0]) if pause else 0)
