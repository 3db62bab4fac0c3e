"""A simulated rotation stage for ophyd-async, and the pulses that it sends while it turns."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from bluesky.protocols import Flyable, Preparable
from ophyd_async.core import AsyncStatus, Device, soft_signal_rw
from ophyd_async.sim import SimMotor

from tomolive.acquire.scene import Kind, kind_of


class Stage(Device):
    """Rotation in degrees, a shutter, and a slide that takes the sample out of the beam."""

    def __init__(self, name: str = "") -> None:
        self.rotation = SimMotor(units="deg")
        self.shutter_open = soft_signal_rw(bool, True)
        self.sample_in = soft_signal_rw(bool, True)
        super().__init__(name=name)

    @property
    def angle_key(self) -> str:
        """Data key of the angle in the event of a step scan."""
        return self.rotation.user_readback.name

    async def look(self) -> tuple[Kind, float]:
        """Return what is in the beam, and the angle in degrees."""
        shutter_open, sample_in, angle = await asyncio.gather(
            self.shutter_open.get_value(),
            self.sample_in.get_value(),
            self.rotation.user_readback.get_value(),
        )
        return kind_of(shutter_open, sample_in), angle


class TriggerLine:
    """The cable from the position comparator to whoever is armed; a pulse carries the angle in degrees."""

    def __init__(self) -> None:
        self._armed: list[asyncio.Queue[float]] = []

    def arm(self) -> asyncio.Queue[float]:
        """Return a queue that gets every pulse from now on."""
        pulses: asyncio.Queue[float] = asyncio.Queue()
        self._armed.append(pulses)
        return pulses

    def disarm(self, pulses: asyncio.Queue[float]) -> None:
        """Send no more pulses to this queue."""
        self._armed.remove(pulses)

    def fire(self, angle: float) -> None:
        """Send a pulse."""
        for pulses in self._armed:
            pulses.put_nowait(angle)


@dataclass(frozen=True)
class Trajectory:
    """A turn at constant speed."""

    angles: Sequence[float]
    """Degrees; one pulse at each."""
    period: float
    """Seconds from pulse to pulse."""


class PositionComparator(Device, Flyable, Preparable):
    """Turns the stage with ``move`` and fires the trigger line at each planned angle.

    The stage is where it was planned to be within ``jitter`` degrees (standard deviation); a pulse carries
    where it really was.
    """

    def __init__(
        self,
        move: Callable[[float], Awaitable[object]],
        line: TriggerLine,
        jitter: float = 0.0,
        seed: int = 0,
        name: str = "",
    ) -> None:
        self._move, self._line = move, line
        self._jitter, self._random = jitter, np.random.default_rng(seed)
        self._trajectory = Trajectory((), 1.0)
        self._turn: asyncio.Task[None] | None = None
        super().__init__(name=name)

    @AsyncStatus.wrap
    async def prepare(self, value: Trajectory) -> None:
        """Move to the first angle."""
        self._trajectory = value
        await self._move(value.angles[0])

    @AsyncStatus.wrap
    async def kickoff(self) -> None:
        """Begin to turn."""
        self._turn = asyncio.create_task(self._fly(self._trajectory))

    @AsyncStatus.wrap
    async def complete(self) -> None:
        """Wait for the last angle."""
        await finished(self._turn)

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Stand still."""
        await cancel_and_wait(self._turn)

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        """Stand still."""
        await cancel_and_wait(self._turn)

    async def _fly(self, trajectory: Trajectory) -> None:
        planned = np.asarray(trajectory.angles, dtype=np.float64)
        real = planned + self._random.normal(0, self._jitter, len(planned)) if self._jitter else planned
        async for i in clock(len(real), trajectory.period):
            self._line.fire(float(real[i]))
        await self._move(float(real[-1]))


async def clock(ticks: int, period: float) -> AsyncIterator[int]:
    """Count ``ticks``, one a period; ticks that were slept over come at once, none is lost."""
    start = time.monotonic()
    for i in range(ticks):
        await asyncio.sleep(max(0.0, start + (i + 1) * period - time.monotonic()))
        yield i


async def finished(task: asyncio.Task[None] | None) -> None:
    """Wait for ``task``, and raise what went wrong in it; one that was cancelled is finished too."""
    if task is not None:
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def cancel_and_wait(task: asyncio.Task[None] | None) -> None:
    """End ``task``; what went wrong in it is raised here."""
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
