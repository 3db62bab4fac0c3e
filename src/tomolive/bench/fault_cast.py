"""Hub, publishers and consumers of the fault benchmark as processes, and the count of what arrived."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from tomolive.bench.fault_roles import Arrival, Sink, numbers_in
from tomolive.errors import TomoliveError

TIMEOUT = 120.0


@dataclass
class Tally:
    """What became of the documents of one consumer."""

    promised: int = 0
    """Calls of the Publisher that returned."""
    arrived: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0

    @property
    def sound(self) -> bool:
        """Whether everything arrived, once, in order."""
        return self.promised > 0 and not (self.lost or self.duplicated or self.out_of_order)

    def add(self, promised: Iterable[int], arrived: Sequence[int]) -> None:
        """Count the numbers of one round."""
        kept, counts = set(promised), Counter(arrived)
        self.promised += len(kept)
        self.arrived += len(counts)
        self.lost += len(kept - counts.keys())
        self.duplicated += sum(times - 1 for times in counts.values())
        self.out_of_order += sum(after < before for before, after in pairwise(arrived))


T = TypeVar("T")


def together(tallies: Sequence[T]) -> T:
    """Add up what was counted side by side."""
    first, *others = tallies
    for other in others:
        for name, count in vars(other).items():
            setattr(first, name, getattr(first, name) + count)
    return first


class Cast:
    """The processes; leaving the ``with`` block ends them all.

    Parameters
    ----------
    folder
        For spool, sinks and what the processes print.
    host
        Where the hub listens.
    journal
        The hub's journal; default: in ``folder``.
    hub_in, others_in
        Command that runs the hub, and the others, in a network namespace.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        journal: Path | None = None,
        hub_in: Sequence[str] = (),
        others_in: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._journal = journal or folder / "journal"
        self._hub_in, self._others_in = list(hub_in), list(others_in)
        self._native, self._page = f"{host}:{free_port()}", f"127.0.0.1:{free_port()}"
        self._log = (folder / "log").open("ab")
        self._processes: dict[str, subprocess.Popen] = {}
        self._sinks: dict[str, Sink] = {}
        self._arrivals: dict[str, list[Arrival]] = {}

    def __enter__(self) -> "Cast":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._log.close()

    # ---- who plays

    def start_hub(self) -> None:
        """Start the hub; again at the same address."""
        loopback = [word for name in ("--in", "--out") for word in (name, "127.0.0.1:0")]
        ports = ["--native", self._native, "--http", self._page, *loopback]
        if self._hub_in:
            ports.append("--insecure")  # nobody else is in its namespace
        journal = ["--journal", str(self._journal)]
        self._start("hub", self._hub_in, "tomolive", "hub", *journal, *ports)

    def start_consumer(self, name: str, start: str = "all", pause: float = 0.0) -> None:
        """Start a consumer that writes to a sink of its name."""
        self._sinks.setdefault(name, Sink(self.folder / name))
        arguments = [str(self.folder / name), start, str(pause)]
        self._start(name, self._others_in, "tomolive.bench.fault_roles", "consume", self._address, *arguments)

    def start_publisher(self, number: int, documents: int, rate: float) -> None:
        """Start to publish a round, or go on with it."""
        arguments = [str(self.folder), str(number), str(documents), str(rate)]
        role = "tomolive.bench.fault_roles"
        self._start("publisher", self._others_in, role, "publish", self._address, *arguments)

    def kill(self, name: str) -> None:
        """End a process by SIGKILL."""
        self._processes[name].kill()
        self._processes[name].wait()

    def is_running(self, name: str) -> bool:
        """Whether a process has not ended."""
        return self._processes[name].poll() is None

    def pid(self, name: str) -> int:
        """Return the number of a process."""
        return self._processes[name].pid

    # ---- what they have done

    def health(self) -> dict[str, Any]:
        """Return what the hub says of itself; empty if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self._page}/healthz", timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)
        except OSError:
            return {}

    def arrivals(self, consumer: str) -> list[Arrival]:
        """Return all that a consumer has written down."""
        kept = self._arrivals.setdefault(consumer, [])
        kept += self._sinks[consumer].read()
        return kept

    def numbers(self, consumer: str, number: int) -> list[int]:
        """Return the numbers of a round's events in the order in which a consumer got them."""
        events = (a for a in self.arrivals(consumer) if a.name == "event")
        return [arrival.number for arrival in events if arrival.round == number]

    def promised(self, number: int) -> list[int]:
        """Return the numbers of a round's events whose call has returned."""
        return numbers_in(self.folder / f"done-{number}")

    def wait_for_publisher(self) -> None:
        """Wait until the publisher has ended, with everything sent.

        Raises
        ------
        TomoliveError
            if it fails, or does not end.
        """
        try:
            code = self._processes["publisher"].wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise TomoliveError(f"the publisher did not end: {self._tail()}") from None
        if code:
            raise TomoliveError(f"the publisher ended with {code}: {self._tail()}")

    def wait_for_arrival(self, consumer: str, last: int, timeout: float = TIMEOUT) -> None:
        """Wait until a consumer has the event ``last``; return all the same when time is up.

        Raises
        ------
        TomoliveError
            if the consumer ends by itself.
        """
        deadline, seen = time.monotonic() + timeout, 0
        while time.monotonic() < deadline:  # what is missing then is counted as lost
            arrivals = self.arrivals(consumer)
            if any(arrival.value == last for arrival in arrivals[seen:]):
                return
            seen = len(arrivals)
            if not self.is_running(consumer):
                raise TomoliveError(f"the {consumer} ended by itself: {self._tail()}")
            time.sleep(0.1)

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until a condition holds.

        Raises
        ------
        TomoliveError
            if it does not in time.
        """
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                raise TomoliveError(f"{what} did not happen in {TIMEOUT:.0f} s: {self._tail()}")
            time.sleep(0.05)

    @property
    def address(self) -> str:
        """Where Publishers and consumers connect."""
        return self._address

    @property
    def _address(self) -> str:
        return f"tcp://{self._native}"

    def _tail(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _start(self, name: str, inside: list[str], module: str, *arguments: str) -> None:
        command = [*inside, sys.executable, "-m", module, *arguments]
        self._processes[name] = subprocess.Popen(command, stdout=self._log, stderr=self._log)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
