"""A simulated camera and encoder for ophyd-async: StreamResource and StreamDatum documents.

Wired as at a beamline: the stage's position comparator sends a pulse at each planned angle, which triggers
camera and encoder. Darks, flats and single exposures run on the camera's own clock.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from event_model import DataKey
from ophyd_async.core import (
    AsyncStatus,
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    PathProvider,
    StandardDetector,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    WatchableAsyncStatus,
    soft_signal_r_and_setter,
)

from tomolive.acquire.scene import Kind, Scene
from tomolive.acquire.stage_async import (
    PositionComparator,
    Stage,
    TriggerLine,
    cancel_and_wait,
    clock,
    finished,
)
from tomolive.acquire.swmr import Recorder

log = logging.getLogger(__name__)

DEFAULT_PERIOD = 0.02
"""Seconds from exposure to exposure where a plan does not say."""

BLOCK = 8
"""Frames that are taken, written and announced together at most, however far the camera is behind."""


class _Trigger(DetectorTriggerLogic):
    """Remembers how the next exposures are to be timed."""

    external = False
    number = 1
    period = DEFAULT_PERIOD

    def get_deadtime(self, config_values: object) -> float:
        del config_values
        return 0.0

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        self.external, self.number, self.period = False, num, livetime + deadtime or DEFAULT_PERIOD

    async def prepare_edge(self, num: int, livetime: float) -> None:
        del livetime
        self.external, self.number = True, num


Look = Callable[[], Awaitable[tuple[Kind, float]]]


@dataclass
class _Acquire(DetectorAcquireLogic):
    """Makes what the detector sees at each pulse, in a thread, and records it."""

    trigger: _Trigger
    recorder: Recorder
    see: Callable[[Kind, Sequence[float]], npt.NDArray]
    announce: Callable[[int], None]
    look: Look
    line: TriggerLine | None
    _task: asyncio.Task[None] | None = field(default=None, init=False)
    _failure: asyncio.Future[None] | None = field(default=None, init=False)

    def expected_failure(self) -> asyncio.Future[None]:
        """Return what will raise if the exposures that run, or those that come next, fail."""
        if self._failure is None or self._failure.done():
            self._failure = asyncio.get_running_loop().create_future()
        return self._failure

    async def start_acquiring(self) -> None:
        kind, angle = await self.look()
        if not self.trigger.external:
            self._task = asyncio.create_task(self._run(self._free_run(kind, angle)))
        elif self.line is not None:
            # Armed before this returns: no pulse that follows can be missed.
            follow = self._follow(kind, self.line, self.line.arm())
            self._task = asyncio.create_task(self._run(follow))
        else:
            raise RuntimeError("this detector is not wired to a trigger line")

    async def wait_for_idle(self) -> None:
        await finished(self._task)

    async def ensure_stopped(self) -> None:
        await cancel_and_wait(self._task)
        self._task = None

    async def _run(self, exposures: Coroutine[Any, Any, None]) -> None:
        failure = self.expected_failure()
        try:
            await exposures
        except Exception as error:
            log.debug("exposures failed", exc_info=True)
            failure.set_exception(error)

    async def _free_run(self, kind: Kind, angle: float) -> None:
        async for _ in clock(self.trigger.number, self.trigger.period):
            await self._record(kind, [angle])

    async def _follow(self, kind: Kind, line: TriggerLine, pulses: asyncio.Queue[float]) -> None:
        left = self.trigger.number
        try:
            while left:
                angles = [await pulses.get()]
                while not pulses.empty() and len(angles) < min(left, BLOCK):
                    angles.append(pulses.get_nowait())
                await self._record(kind, angles)
                left -= len(angles)
        finally:
            line.disarm(pulses)

    async def _record(self, kind: Kind, angles: Sequence[float]) -> None:
        self.announce(await asyncio.to_thread(lambda: self.recorder.append(self.see(kind, angles))))


class _Provider(StreamResourceDataProvider):
    """Adds units to the data keys."""

    units = ""

    async def make_datakeys(self, collections_per_event: int) -> dict[str, DataKey]:
        keys = await super().make_datakeys(collections_per_event)
        return {name: DataKey(**{**key, "units": self.units}) for name, key in keys.items()}


@dataclass
class _Data(DetectorDataLogic):
    """Opens a new file each time the detector is staged and prepared, and describes it."""

    paths: PathProvider
    recorder: Recorder
    data_key: str | None
    units: str
    chunk: int

    def __post_init__(self) -> None:
        self.written, self.announce = soft_signal_r_and_setter(int, 0)

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        where = self.paths(datakey_name)
        self.recorder.open(Path(where.directory_path) / f"{where.filename}.h5")
        self.announce(0)
        recorder = self.recorder
        provider = _Provider(
            uri=f"{where.directory_uri}{where.filename}.h5",
            resources=[
                StreamResourceInfo(
                    data_key=self.data_key or datakey_name,
                    shape=recorder.shape,
                    chunk_shape=(recorder.chunk, *recorder.shape),
                    dtype_numpy=recorder.dtype.str,
                    parameters={"dataset": recorder.dataset},
                    source=f"sim://{datakey_name}",
                )
            ],
            mimetype="application/x-hdf5",
            collections_written_signal=self.written,
        )
        provider.units = self.units
        return provider

    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        return [self.data_key or datakey_name]

    async def stop(self) -> None:
        self.recorder.close()


async def _open_beam() -> tuple[Kind, float]:
    return "flat", 0.0


class _Detector(StandardDetector):
    """A detector whose exposures can fail: it says so at once, and does not wait for frames in vain."""

    def __init__(self, trigger: _Trigger, acquire: _Acquire, data: _Data, name: str) -> None:
        self._acquire = acquire
        self.add_detector_logics(trigger, acquire, data)
        super().__init__(name=name)

    def trigger(self) -> AsyncStatus[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return AsyncStatus(self._unless_failed(super().trigger()), self.name)

    def complete(self) -> AsyncStatus[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return AsyncStatus(self._unless_failed(super().complete()), self.name)

    async def _unless_failed(self, frames: WatchableAsyncStatus) -> None:
        failure = self._acquire.expected_failure()
        await asyncio.wait([frames.task, failure], return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            frames.task.cancel()
            failure.result()
        await frames


class Camera(_Detector):
    """A camera that looks at a scene.

    Parameters
    ----------
    scene
        what there is to see.
    paths
        where the files go, and how they are announced.
    look
        says what is in the beam and at which angle; default: no sample.
    line
        where external triggers come from.
    """

    def __init__(
        self,
        scene: Scene,
        paths: PathProvider,
        look: Look = _open_beam,
        line: TriggerLine | None = None,
        name: str = "",
    ) -> None:
        recorder = Recorder("/entry/data/data", (scene.rows, scene.columns), scene.dtype)
        data, trigger = _Data(paths, recorder, None, "counts", 1), _Trigger()

        def see(kind: Kind, angles: Sequence[float]) -> npt.NDArray:
            return np.stack([scene.expose(kind, angle) for angle in angles])

        super().__init__(trigger, _Acquire(trigger, recorder, see, data.announce, look, line), data, name)

    @property
    def image_key(self) -> str:
        """Data key of the frames."""
        return self.name


class Encoder(_Detector):
    """Latches the angle at each trigger into a file of its own, as a PandA does; data key ``Angle``."""

    angle_key = "Angle"

    def __init__(self, paths: PathProvider, look: Look, line: TriggerLine, name: str = "") -> None:
        recorder = Recorder("/Angle", (), np.float64, chunk=1024)
        data, trigger = _Data(paths, recorder, self.angle_key, "deg", 1024), _Trigger()

        def see(kind: Kind, angles: Sequence[float]) -> npt.NDArray:
            del kind
            return np.asarray(angles, dtype=np.float64)

        super().__init__(trigger, _Acquire(trigger, recorder, see, data.announce, look, line), data, name)


@dataclass(frozen=True)
class AsyncBeamline:
    """What a tomography scan moves and reads, ophyd-async."""

    stage: Stage
    camera: Camera
    encoder: Encoder
    comparator: PositionComparator
    second: Camera | None = None
    """Another camera, which looks at the same sample at the same time."""
    classic: ClassVar[bool] = False

    @property
    def cameras(self) -> list[Camera]:
        """All cameras, the main one first."""
        return [self.camera, *([self.second] if self.second else [])]


def async_beamline(
    scene: Scene,
    paths: PathProvider,
    *,
    jitter: float = 0.0,
    seed: int = 0,
    second_scene: Scene | None = None,
) -> AsyncBeamline:
    """Return connected devices; the RunEngine must exist, because they live in its loop.

    With ``second_scene`` there is a second camera, ``camera2``, which sees that.
    """
    from ophyd_async.core import init_devices

    line = TriggerLine()
    with init_devices():
        stage = Stage()
        camera = Camera(scene, paths, stage.look, line)
        encoder = Encoder(paths, stage.look, line)
        comparator = PositionComparator(stage.rotation.set, line, jitter, seed)
        camera2 = Camera(second_scene, paths, stage.look, line) if second_scene else None
    return AsyncBeamline(stage, camera, encoder, comparator, camera2)
