"""A simulated camera, stage and flyer for classic ophyd: Resource and Datum documents."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np
from event_model import compose_resource
from ophyd import Component, Device, DeviceStatus, Signal, SoftPositioner

from tomolive.acquire.scene import Kind, Scene, kind_of
from tomolive.acquire.swmr import Recorder

Document = tuple[str, dict[str, Any]]

BLOCK = 8
"""Frames that are taken and written together at most, however far the camera is behind."""


class Stage(Device):
    """Rotation in degrees, a shutter, and a slide that takes the sample out of the beam."""

    rotation = Component(SoftPositioner, egu="deg", init_pos=0.0)
    shutter_open = Component(Signal, value=True, kind="omitted")
    sample_in = Component(Signal, value=True, kind="omitted")

    @property
    def angle_key(self) -> str:
        """Data key of the angle in an event."""
        return self.rotation.name

    def look(self) -> tuple[Kind, float]:
        """Return what is in the beam, and the angle in degrees."""
        kind = kind_of(bool(self.shutter_open.get()), bool(self.sample_in.get()))
        return kind, float(self.rotation.position or 0.0)


class ImageSignal(Signal):
    """The newest frame: its value is the identifier of a datum, its description that of the frame."""

    def __init__(self, *, scene: Scene, **kwargs: Any) -> None:
        super().__init__(value="", **kwargs)
        self._scene = scene

    def describe(self) -> dict[str, dict[str, Any]]:
        """Describe the frame as areaDetector's HDF5 plugin does: one frame for each event."""
        return {
            self.name: {
                "source": f"SIM:{self.name}",
                "shape": [1, self._scene.rows, self._scene.columns],
                "dtype": "array",
                "dtype_numpy": self._scene.dtype.str,
                "units": "counts",
                "external": "FILESTORE:",
            }
        }


class Camera(Device):
    """A camera that looks at a scene and writes one file each time it is staged.

    Parameters
    ----------
    scene
        what there is to see.
    directory
        where the files go; documents announce this path.
    stage
        says what is in the beam and at which angle; default: no sample.
    """

    exposure_time = Component(Signal, value=0.0, kind="config")
    """Seconds from trigger to frame."""

    def __init__(
        self, prefix: str = "", *, name: str, scene: Scene, directory: Path, stage: Stage | None = None
    ) -> None:
        self.scene, self._directory, self._stage = scene, Path(directory).resolve(), stage
        self._recorder = Recorder("/entry/data/data", (scene.rows, scene.columns), scene.dtype)
        self._documents: deque[Document] = deque()
        self._compose_datum: Any = None
        super().__init__(prefix, name=name)
        self.image = ImageSignal(scene=scene, name=f"{name}_image", parent=self)

    @property
    def image_key(self) -> str:
        """Data key of the frames."""
        return self.image.name

    def stage(self) -> list[Any]:
        """Open a new file."""
        path = self._directory / f"{self.name}_{uuid4().hex}.h5"
        self._recorder.open(path)
        resource = compose_resource(
            spec="AD_HDF5",
            root=str(self._directory),
            resource_path=path.name,
            resource_kwargs={"frame_per_point": 1},
            path_semantics="posix",
        )
        self._compose_datum = resource.compose_datum
        self._documents.append(("resource", dict(resource.resource_doc)))
        return super().stage()

    def unstage(self) -> list[Any]:
        """Close the file."""
        self._recorder.close()
        return super().unstage()

    def trigger(self) -> DeviceStatus:
        """Take one frame of what is in the beam."""
        status = DeviceStatus(self)
        seconds: Any = self.exposure_time.get()

        def expose() -> None:
            time.sleep(seconds)
            kind, angle = self._stage.look() if self._stage else ("flat", 0.0)
            try:
                (datum,) = self.take(kind, [angle])
            except Exception as error:  # noqa: BLE001  (whatever it is, the plan must hear of it)
                status.set_exception(error)
                return
            self._documents.append(("datum", datum))
            self.image.put(datum["datum_id"])
            status.set_finished()

        threading.Thread(target=expose, name=f"{self.name}-expose", daemon=True).start()
        return status

    def take(self, kind: Kind, angles: Sequence[float]) -> list[dict[str, Any]]:
        """Take and write one frame at each angle (degrees); return their datum documents."""
        last = self._recorder.append(np.stack([self.scene.expose(kind, angle) for angle in angles]))
        return [
            dict(self._compose_datum(datum_kwargs={"point_number": i}))
            for i in range(last - len(angles), last)
        ]

    def describe(self) -> dict[str, Any]:
        """Describe the frame."""
        return self.image.describe()

    def read(self) -> dict[str, Any]:
        """Return the identifier of the newest frame."""
        return self.image.read()

    def collect_asset_docs(self) -> Iterator[Document]:
        """Return the resource and datum documents since the last call."""
        while self._documents:
            yield self._documents.popleft()


class Flyer:
    """Turns the stage at constant speed; camera and encoder record at each planned angle.

    Frames can be collected while it turns. The stage is where it was planned to be within ``jitter`` degrees
    (standard deviation); the encoder says where it really was.
    """

    parent = None
    angle_key = "encoder_angle"

    def __init__(self, stage: Stage, camera: Camera, jitter: float = 0.0, seed: int = 0) -> None:
        self.name = "encoder"
        self._turntable, self._camera = stage, camera
        self._jitter, self._random = jitter, np.random.default_rng(seed)
        self._angles: Sequence[float] = ()
        self._period = 1.0
        self._new: deque[tuple[float, float, dict[str, Any]]] = deque()
        self._announced: list[tuple[float, float, dict[str, Any]]] = []
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._done: DeviceStatus | None = None

    def plan_turn(self, angles: Sequence[float], period: float) -> None:
        """Set the angles (degrees) and the time between them (seconds)."""
        self._angles, self._period = angles, period

    def stage(self) -> list[Any]:
        """Get ready."""
        self._halt.clear()
        self._new.clear()
        return [self]

    def unstage(self) -> list[Any]:
        """Stand still: after this no frame is taken."""
        self._halt.set()
        if self._thread is not None:
            self._thread.join()
        return [self]

    def kickoff(self) -> DeviceStatus:
        """Begin to turn."""
        self._done = DeviceStatus(self)
        self._thread = threading.Thread(target=self._fly, args=(self._done,), name="turn", daemon=True)
        self._thread.start()
        status = DeviceStatus(self)
        status.set_finished()
        return status

    def complete(self) -> DeviceStatus:
        """Return a status that is done after the last angle."""
        if self._done is None:
            raise RuntimeError("complete() before kickoff()")
        return self._done

    def describe_collect(self) -> dict[str, Any]:
        """Describe a frame and its angle."""
        angle = {"source": "SIM:encoder", "dtype": "number", "shape": [], "units": "deg"}
        return {**self._camera.describe(), self.angle_key: angle}

    def read_configuration(self) -> dict[str, Any]:
        """Nothing is configured."""
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        """Nothing is configured."""
        return {}

    def collect_asset_docs(self) -> Iterator[Document]:
        """Return the documents of the frames that were taken since the last call."""
        yield from self._camera.collect_asset_docs()
        self._announced = [self._new.popleft() for _ in range(len(self._new))]
        for _, _, datum in self._announced:
            yield "datum", datum

    def collect(self) -> Iterator[Mapping[str, Any]]:
        """Return an event for each frame that ``collect_asset_docs`` announced last."""
        image = self._camera.image_key
        for when, angle, datum in self._announced:
            yield {
                "time": when,
                "data": {image: datum["datum_id"], self.angle_key: angle},
                "timestamps": {image: when, self.angle_key: when},
                "filled": {image: False},
            }
        self._announced = []

    def _fly(self, done: DeviceStatus) -> None:
        try:
            self._turn()
        except Exception as error:  # noqa: BLE001  (whatever it is, the plan must hear of it)
            done.set_exception(error)
        else:
            done.set_finished()

    def _turn(self) -> None:
        kind, _ = self._turntable.look()
        planned = np.asarray(self._angles, dtype=np.float64)
        real = planned + self._random.normal(0, self._jitter, len(planned)) if self._jitter else planned
        start, first = time.monotonic(), 0
        while first < len(real):
            if self._halt.wait(max(0.0, start + (first + 1) * self._period - time.monotonic())):
                return
            due = int((time.monotonic() - start) / self._period)
            angles = real[first : min(max(due, first + 1), first + BLOCK)].tolist()
            datums = self._camera.take(kind, angles)
            self._new.extend(zip([time.time()] * len(angles), angles, datums, strict=True))
            first += len(angles)
        self._turntable.rotation.set(float(real[-1]))


@dataclass(frozen=True)
class ClassicBeamline:
    """What a tomography scan moves and reads, classic ophyd."""

    stage: Stage
    camera: Camera
    encoder: Flyer
    classic: ClassVar[bool] = True


def classic_beamline(scene: Scene, directory: Path, *, jitter: float = 0.0, seed: int = 0) -> ClassicBeamline:
    """Return the devices."""
    stage = Stage(name="stage")
    camera = Camera(name="camera", scene=scene, directory=directory, stage=stage)
    return ClassicBeamline(stage, camera, Flyer(stage, camera, jitter, seed))
