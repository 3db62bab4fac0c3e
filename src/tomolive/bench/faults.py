"""``tomolive bench faults``: kill hub, publisher and consumer at random moments, and count what arrived."""

import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tomolive.bench import fault_roles
from tomolive.errors import TomoliveError

_ARRIVAL_SECONDS = 120.0


@dataclass
class Outcome:
    """What became of the documents."""

    rounds: int = 0
    promised: int = 0
    """Calls of the Publisher that returned."""
    arrived: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    hub_kills: int = 0
    publisher_kills: int = 0
    consumer_kills: int = 0

    @property
    def sound(self) -> bool:
        """Whether everything arrived, once, in order."""
        return not (self.lost or self.duplicated or self.out_of_order)


@click.command()
@click.option("--rounds", default=100, show_default=True)
@click.option("--documents", default=10_000, show_default=True, help="Events in each round.")
@click.option("--kills", default=3, show_default=True, help="Processes killed in each round.")
@click.option("--rate", default=4000.0, show_default=True, help="Events a second.")
@click.option("--seed", type=int, help="Repeat the moments of an earlier run.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
def faults(
    rounds: int, documents: int, kills: int, rate: float, seed: int | None, json_file: Path | None
) -> None:
    """SIGKILL hub, publisher and consumer at random moments, and count what a consumer got."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    click.echo(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="tomolive-faults-") as folder:
        outcome = run(Path(folder), rounds, documents, kills, rate, seed, progress=click.echo)
    table = Table("what", "count", title=f"SIGKILL at random moments, seed {seed}")
    for name, value in asdict(outcome).items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)
    if json_file:
        json_file.write_text(json.dumps({"seed": seed, **asdict(outcome)}, indent=2))
    if not outcome.sound:
        sys.exit(1)


def run(
    folder: Path, rounds: int, documents: int, kills: int, rate: float, seed: int, progress=print
) -> Outcome:
    """Run so many rounds and count.

    Raises
    ------
    TomoliveError
        if a process ends by itself with an error, or the documents of a round do not arrive in time.
    """
    dice = random.Random(seed)  # noqa: S311  # moments to kill at, not secrets
    outcome = Outcome()
    with ExitStack() as stack:
        stage = stack.enter_context(_Stage(folder))
        for number in range(rounds):
            stage.play(number, documents, kills, rate, dice, outcome)
            progress(f"round {number + 1}: {outcome.arrived} arrived, {outcome.lost} lost, "
                     f"{outcome.duplicated} doubled, {outcome.out_of_order} out of order")  # fmt: skip
    return outcome


class _Stage:
    """The three processes, and the files that tell what they did."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._native = f"127.0.0.1:{_free_port()}"
        self._log = (folder / "log").open("ab")
        self._processes: dict[str, subprocess.Popen] = {}
        self._sink = fault_roles.Sink(folder / "sink")
        self._values: dict[int, list[int]] = {}
        """round -> numbers of its events, as the consumer saw them."""

    def __enter__(self) -> "_Stage":
        self._start_hub()
        self._start_consumer()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._log.close()

    def play(
        self, number: int, documents: int, kills: int, rate: float, dice: random.Random, outcome: Outcome
    ) -> None:
        """Publish one round while processes are killed, wait until it has arrived, and count."""
        self._start_publisher(number, documents, rate)
        moments = sorted(dice.uniform(0, 0.5 + documents / rate) for _ in range(kills))
        begun = time.monotonic()
        for moment in moments:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            victim = dice.choice(["hub", "publisher", "consumer"])
            if victim == "publisher" and self._processes["publisher"].poll() is not None:
                victim = "hub"
            self._kill(victim)
            setattr(outcome, f"{victim}_kills", getattr(outcome, f"{victim}_kills") + 1)
            restart = {"hub": self._start_hub, "consumer": self._start_consumer}
            restart.get(victim, lambda: self._start_publisher(number, documents, rate))()
        self._wait_for_publisher()
        self._wait_for_arrival(number, documents)
        self._count(number, outcome)

    def _count(self, number: int, outcome: Outcome) -> None:
        values = self._arrived(number)
        promised = set(fault_roles.numbers_in(self._folder / f"done-{number}"))
        counts = Counter(values)
        outcome.rounds += 1
        outcome.promised += len(promised)
        outcome.arrived += len(counts)
        outcome.lost += len(promised - counts.keys())
        outcome.duplicated += sum(times - 1 for times in counts.values())
        outcome.out_of_order += sum(after < before for before, after in pairwise(values))

    def _arrived(self, number: int) -> list[int]:
        for _, _, value in self._sink.read():
            self._values.setdefault(value // 1_000_000, []).append(value % 1_000_000)
        return self._values.get(number, [])

    def _wait_for_arrival(self, number: int, documents: int) -> None:
        deadline = time.monotonic() + _ARRIVAL_SECONDS
        while documents - 1 not in self._arrived(number)[-1:]:
            if time.monotonic() > deadline:
                return  # what is missing is counted as lost
            self._require("consumer")
            time.sleep(0.1)

    def _wait_for_publisher(self) -> None:
        process = self._processes["publisher"]
        try:
            code = process.wait(_ARRIVAL_SECONDS)
        except subprocess.TimeoutExpired:
            raise TomoliveError(f"the publisher did not end: {self._tail()}") from None
        if code:
            raise TomoliveError(f"the publisher ended with {code}: {self._tail()}")

    def _require(self, name: str) -> None:
        if (code := self._processes[name].poll()) is not None:
            raise TomoliveError(f"the {name} ended by itself with {code}: {self._tail()}")

    def _tail(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]

    def _kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def _start_hub(self) -> None:
        ports = ["--native", self._native]
        for option in ("--in", "--out", "--http"):
            ports += [option, "127.0.0.1:0"]
        self._start("hub", "tomolive", "hub", "--journal", str(self._folder / "journal"), *ports)

    def _start_consumer(self) -> None:
        self._start("consumer", "tomolive.bench.fault_roles", "consume", self._address, str(self._folder))

    def _start_publisher(self, number: int, documents: int, rate: float) -> None:
        arguments = [self._address, str(self._folder), str(number), str(documents), str(rate)]
        self._start("publisher", "tomolive.bench.fault_roles", "publish", *arguments)

    @property
    def _address(self) -> str:
        return f"tcp://{self._native}"

    def _start(self, name: str, module: str, *arguments: str) -> None:
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdout=self._log, stderr=self._log
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
