"""SIGKILL of hub, publisher and consumer at random moments."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tomolive.bench.fault_cast import Cast, Tally, together


@dataclass
class Outcome(Tally):
    """What became of the documents, and who was killed."""

    rounds: int = 0
    hub_kills: int = 0
    publisher_kills: int = 0
    consumer_kills: int = 0
    hub_and_consumer_kills: int = 0


def run(
    folder: Path,
    rounds: int,
    documents: int,
    kills: int,
    rate: float,
    seed: int,
    progress: Callable[[str], object] = print,
    jobs: int = 1,
    cast_in: Callable[[Path], Cast] = Cast,
) -> Outcome:
    """Run so many rounds, ``jobs`` of them at a time with a hub each, and count.

    ``cast_in`` makes the processes that play, in a folder.

    Raises
    ------
    TomoliveError
        if a process ends by itself with an error.
    """

    def job(number: int) -> Outcome:
        place = folder / f"job-{number}"
        place.mkdir()
        share = range(number, rounds, jobs)
        dice = random.Random(f"{seed}-{number}")  # noqa: S311  # moments to kill at, not secrets
        return _run(place, share, documents, kills, rate, dice, progress, cast_in)

    with ThreadPoolExecutor(jobs) as pool:  # they wait for processes, mostly
        return together(list(pool.map(job, range(jobs))))


def _run(
    folder: Path,
    rounds: range,
    documents: int,
    kills: int,
    rate: float,
    dice: random.Random,
    progress: Callable[[str], object],
    cast_in: Callable[[Path], Cast] = Cast,
) -> Outcome:
    outcome = Outcome()
    with cast_in(folder) as cast:
        cast.start_hub()
        cast.start_consumer("consumer")
        for number in rounds:
            before = outcome.arrived
            _play(cast, number, documents, kills, rate, dice, outcome)
            progress(f"round {number + 1}: {outcome.arrived - before} arrived; so far {outcome.lost} lost, "
                     f"{outcome.duplicated} doubled, {outcome.out_of_order} out of order")  # fmt: skip
    return outcome


def _play(
    cast: Cast, number: int, documents: int, kills: int, rate: float, dice: random.Random, outcome: Outcome
) -> None:
    """Publish one round while processes are killed, wait until it has arrived, and count."""
    cast.start_publisher(number, documents, rate)
    restart: dict[str, Callable[[], None]] = {
        "hub": cast.start_hub,
        "consumer": lambda: cast.start_consumer("consumer"),
        "publisher": lambda: cast.start_publisher(number, documents, rate),
    }
    victims = [("hub",), ("consumer",), ("publisher",), ("hub", "consumer")]
    moments = sorted(dice.uniform(0, 0.5 + documents / rate) for _ in range(kills))
    begun = time.monotonic()
    for moment in moments:
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        chosen = dice.choice(victims)
        if chosen == ("publisher",) and not cast.is_running("publisher"):
            chosen = ("hub",)
        for victim in chosen:
            cast.kill(victim)
        for victim in chosen:
            restart[victim]()
        counter = "_and_".join(chosen) + "_kills"
        setattr(outcome, counter, getattr(outcome, counter) + 1)
    cast.wait_for_publisher()
    cast.wait_for_arrival("consumer", number * 1_000_000 + documents - 1)
    outcome.rounds += 1
    outcome.add(cast.promised(number), cast.numbers("consumer", number))
