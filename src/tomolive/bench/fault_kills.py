"""SIGKILL of hub, publisher and consumer at random moments."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tomolive.bench.fault_cast import Cast, Tally


@dataclass
class Outcome(Tally):
    """What became of the documents, and who was killed."""

    rounds: int = 0
    hub_kills: int = 0
    publisher_kills: int = 0
    consumer_kills: int = 0


def run(
    folder: Path,
    rounds: int,
    documents: int,
    kills: int,
    rate: float,
    seed: int,
    progress: Callable[[str], object] = print,
    cast_in: Callable[[Path], Cast] = Cast,
) -> Outcome:
    """Run so many rounds and count; ``cast_in`` makes the processes in a folder.

    Raises
    ------
    TomoliveError
        if a process ends by itself with an error.
    """
    dice = random.Random(seed)  # noqa: S311  # moments to kill at, not secrets
    outcome = Outcome()
    with cast_in(folder) as cast:
        cast.start_hub()
        cast.start_consumer("consumer")
        for number in range(rounds):
            _play(cast, number, documents, kills, rate, dice, outcome)
            progress(f"round {number + 1}: {outcome.arrived} arrived, {outcome.lost} lost, "
                     f"{outcome.duplicated} doubled, {outcome.out_of_order} out of order")  # fmt: skip
    return outcome


def _play(
    cast: Cast, number: int, documents: int, kills: int, rate: float, dice: random.Random, outcome: Outcome
) -> None:
    """Publish one round while processes are killed, wait until it has arrived, and count."""
    cast.start_publisher(number, documents, rate)
    restart = {
        "hub": cast.start_hub,
        "consumer": lambda: cast.start_consumer("consumer"),
        "publisher": lambda: cast.start_publisher(number, documents, rate),
    }
    moments = sorted(dice.uniform(0, 0.5 + documents / rate) for _ in range(kills))
    begun = time.monotonic()
    for moment in moments:
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        victim = dice.choice(list(restart))
        if victim == "publisher" and not cast.is_running("publisher"):
            victim = "hub"
        cast.kill(victim)
        setattr(outcome, f"{victim}_kills", getattr(outcome, f"{victim}_kills") + 1)
        restart[victim]()
    cast.wait_for_publisher()
    cast.wait_for_arrival("consumer", number * 1_000_000 + documents - 1)
    outcome.rounds += 1
    outcome.add(cast.promised(number), cast.numbers("consumer", number))
