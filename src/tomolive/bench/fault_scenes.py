"""A slow consumer beside a fast one, a cut network, a full disk, a consumer that comes late."""

import os
import random
import resource
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tomolive.bench.fault_cast import Cast, Tally
from tomolive.errors import TomoliveError

Say = Callable[[str], object]
AT_ONCE = 1e9
_SLOWED_PERCENT = 10.0
_IP, _MOUNT, _UMOUNT = (shutil.which(name) or name for name in ("ip", "mount", "umount"))


class UnavailableError(TomoliveError):
    """The machine cannot play a scene."""


# ---- a burst with a slow consumer


@dataclass
class Slow(Tally):
    """A burst that one consumer takes slowly and another at once."""

    slow_seconds: float = 0.0
    """From the first to the last document at the slow consumer."""
    rate_alone: float = 0.0
    """Documents a second at the fast consumer, without the slow one."""
    rate_beside: float = 0.0

    @property
    def slowed_percent(self) -> float:
        """By how much the fast consumer was slower beside the slow one."""
        return 100 * (1 - self.rate_beside / self.rate_alone)

    @property
    def promise_broken(self) -> str:
        """What is beyond the figures that are promised; only idle cores can tell."""
        if self.slowed_percent > _SLOWED_PERCENT:
            return f"the fast consumer was slowed by {self.slowed_percent:.1f} %, {_SLOWED_PERCENT:g} may be"
        return ""


def slow(folder: Path, documents: int, pause: float, say: Say = print) -> Slow:
    """Publish a burst to a fast consumer alone, beside a slow one, and alone again."""
    outcome = Slow()
    before = _burst(folder, "before", documents)
    say(f"a fast consumer alone: {before:,.0f} documents/s")
    with _theatre(folder, "beside") as cast:
        cast.start_hub()
        cast.start_consumer("slow", pause=pause)
        outcome.rate_beside = _fast_rate(cast, documents, consumers=2)
        say(f"beside a slow one: {outcome.rate_beside:,.0f} documents/s")
        cast.wait_for_arrival("slow", documents - 1, timeout=60 + 3 * documents * max(pause, 1e-4))
        for consumer in ("fast", "slow"):
            outcome.add(cast.promised(0), cast.numbers(consumer, 0))
        taken = cast.arrivals("slow")
        outcome.slow_seconds = taken[-1].time - taken[0].time
    after = _burst(folder, "after", documents)
    say(f"alone again: {after:,.0f} documents/s")
    outcome.rate_alone = (before + after) / 2
    return outcome


def _burst(folder: Path, name: str, documents: int) -> float:
    with _theatre(folder, name) as cast:
        cast.start_hub()
        return _fast_rate(cast, documents, consumers=1)


def _fast_rate(cast: Cast, documents: int, consumers: int) -> float:
    cast.start_consumer("fast")
    cast.wait_until(lambda: cast.health().get("consumers") == consumers, "the arrival of the consumers")
    cast.start_publisher(0, documents, AT_ONCE)
    cast.wait_for_arrival("fast", documents - 1)
    cast.wait_for_publisher()
    events = [arrival.time for arrival in cast.arrivals("fast") if arrival.name == "event"]
    return (len(events) - 1) / (events[-1] - events[0])


@contextmanager
def _theatre(folder: Path, name: str, **options) -> Iterator[Cast]:
    (folder / name).mkdir()
    with Cast(folder / name, **options) as cast:
        yield cast


# ---- a consumer that comes late


@dataclass
class Late(Tally):
    """A consumer that comes while a run is under way."""

    begins_with: str = ""
    """The first document that it got."""

    @property
    def sound(self) -> bool:
        """Whether it got everything from the start document on."""
        return super().sound and self.begins_with == "start"


def late(folder: Path, documents: int, rate: float, after: float = 1.0) -> Late:
    """Publish a run, and let a consumer come some seconds after its start."""
    outcome = Late()
    with _theatre(folder, "late") as cast:
        cast.start_hub()
        cast.start_publisher(0, documents, rate)
        cast.wait_until(lambda: cast.health().get("documents"), "the first document")
        time.sleep(after)
        cast.start_consumer("consumer", start="newest")
        cast.wait_for_publisher()
        cast.wait_for_arrival("consumer", documents - 1)
        outcome.add(cast.promised(0), cast.numbers("consumer", 0))
        outcome.begins_with = cast.arrivals("consumer")[0].name
    return outcome


# ---- a network that is cut


@dataclass
class Network(Tally):
    """A cable between the hub and everyone else that is pulled and plugged in again."""

    cuts: int = 0
    seconds_cut: float = 0.0


class Cable:
    """Two network namespaces of our own and a cable between them; needs root."""

    HUB, OTHERS = "192.0.2.1", "192.0.2.2"  # of TEST-NET-1, and known in these namespaces only

    def __init__(self) -> None:
        token = secrets.token_hex(4)
        self._hub, self._others = f"tomolive-{token}-hub", f"tomolive-{token}-others"

    def __enter__(self) -> "Cable":
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise UnavailableError("network namespaces need root and the command `ip`")
        try:
            self._lay()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _lay(self) -> None:
        for namespace in (self._hub, self._others):
            _ip("netns", "add", namespace)
        _ip("-n", self._hub, "link", "add", "cable", "type", "veth", "peer", "cable", "netns", self._others)
        for namespace, address in ((self._hub, self.HUB), (self._others, self.OTHERS)):
            _ip("-n", namespace, "addr", "add", f"{address}/30", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", namespace, "link", "set", device, "up")

    def __exit__(self, *_: object) -> None:
        for namespace in (self._hub, self._others):
            subprocess.run([_IP, "netns", "del", namespace], capture_output=True, check=False)

    @property
    def hub_in(self) -> list[str]:
        """Command that runs another at the hub's end."""
        return [_IP, "netns", "exec", self._hub]

    @property
    def others_in(self) -> list[str]:
        """Command that runs another at the other end."""
        return [_IP, "netns", "exec", self._others]

    def cut(self) -> None:
        """Let nothing through; nobody is told."""
        _ip("-n", self._hub, "link", "set", "cable", "down")

    def heal(self) -> None:
        """Let everything through again."""
        _ip("-n", self._hub, "link", "set", "cable", "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run([_IP, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"`ip {' '.join(arguments)}` says: {done.stderr.strip()}")


def network(
    folder: Path, documents: int, rate: float, cuts: int, longest: float, seed: int, say: Say = print
) -> Network:
    """Cut the network so many times while documents flow, each time for up to ``longest`` seconds.

    Raises
    ------
    UnavailableError
        without root, or where network namespaces cannot be made.
    """
    dice = random.Random(seed)  # noqa: S311  # moments to cut at, not secrets
    outcome = Network()
    with (
        Cable() as cable,
        _theatre(folder, "network", host=Cable.HUB, hub_in=cable.hub_in, others_in=cable.others_in) as cast,
    ):
        cast.start_hub()
        cast.start_consumer("consumer")
        cast.start_publisher(0, documents, rate)
        cast.wait_until(lambda: cast.arrivals("consumer"), "the first document")
        for _ in range(cuts):
            time.sleep(dice.uniform(0.2, 0.8 * documents / rate / cuts))
            duration = dice.uniform(0.2, longest)
            seen = len(cast.arrivals("consumer"))
            cable.cut()
            time.sleep(duration)
            cable.heal()
            outcome.cuts, outcome.seconds_cut = outcome.cuts + 1, outcome.seconds_cut + duration
            say(f"cut for {duration:.1f} s behind document {seen}")
        cast.wait_for_publisher()
        cast.wait_for_arrival("consumer", documents - 1)
        outcome.add(cast.promised(0), cast.numbers("consumer", 0))
    return outcome


# ---- a disk that fills


@dataclass
class Disk(Tally):
    """A journal whose disk fills."""

    limited_by: str = ""
    reason: str = ""
    """What the hub says of it."""
    in_journal_when_full: int = 0
    hub_kills: int = 0

    @property
    def sound(self) -> bool:
        """Whether the hub said that its disk is full, and nothing was lost."""
        return super().sound and bool(self.reason)


def disk(folder: Path, documents: int, rate: float, room: int, say: Say = print) -> Disk:
    """Fill the disk under the journal, kill the hub while it is full, and make room.

    The disk is a tmpfs of ``room`` bytes; without root, the limit on the size of the hub's files.
    """
    outcome = Disk(limited_by="tmpfs" if os.geteuid() == 0 else "RLIMIT_FSIZE")
    small = folder / "small"
    small.mkdir()
    with small_disk(small, room), _theatre(folder, "disk", journal=small / "journal") as cast:
        cast.start_hub()
        cast.start_consumer("consumer")
        cast.wait_until(lambda: cast.health().get("consumers"), "the arrival of the consumer")
        if outcome.limited_by == "RLIMIT_FSIZE":
            resource.prlimit(cast.pid("hub"), resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        cast.start_publisher(0, documents, rate)
        cast.wait_until(lambda: cast.health().get("journal_full"), "the disk's being full")
        health = cast.health()
        outcome.reason, outcome.in_journal_when_full = health["journal_full"], health["documents"]
        say(f"full with {outcome.in_journal_when_full} documents: {outcome.reason}")
        if outcome.limited_by == "tmpfs":
            cast.kill("hub")
            outcome.hub_kills = 1
            _mount("remount", small, 64 * room)
            cast.start_hub()
        else:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(cast.pid("hub"), resource.RLIMIT_FSIZE, unlimited)
        cast.wait_for_publisher()
        cast.wait_for_arrival("consumer", documents - 1)
        outcome.add(cast.promised(0), cast.numbers("consumer", 0))
    return outcome


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Have a small file system at ``folder``, if we are root."""
    if os.geteuid() != 0:
        yield
        return
    _mount("rw", folder, size)
    try:
        yield
    finally:
        subprocess.run([_UMOUNT, str(folder)], check=False)


def _mount(option: str, folder: Path, size: int) -> None:
    command = [_MOUNT, "-t", "tmpfs", "-o", f"{option},size={size}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"`{' '.join(command)}` says: {done.stderr.strip()}")
