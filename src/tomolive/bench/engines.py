"""``tomolive bench engines``: the same documents through the hub and through brokers, side by side."""

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tomolive.bench import fault_kills
from tomolive.bench import transport as transporting
from tomolive.bench.brokers import ENGINES, Broker
from tomolive.bench.fault_cast import Cast, Tally
from tomolive.bench.fault_scenes import AT_ONCE
from tomolive.bench.transport_roles import Load, peak_memory
from tomolive.errors import TomoliveError


@click.command()
@click.option("--documents", default=20_000, show_default=True, help="Events of the burst.")
@click.option("--seconds", default=3.0, show_default=True, help="Length of each latency measurement.")
@click.option("--rounds", default=2, show_default=True, help="Of kills, each of 4,000 events.")
@click.option("--kills", default=3, show_default=True, help="Processes killed in each round.")
@click.option(
    "--slow", default=20_000, show_default=True, help="Events for a consumer at 1 ms each; 0: none."
)
@click.option(
    "--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)),
    help="Repeat; default: all whose speed says something. Of kafka-mock only the counts are taken.",
)  # fmt: skip
@click.option("--seed", type=int, help="Repeat the moments of an earlier run.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
def engines(
    documents: int,
    seconds: float,
    rounds: int,
    kills: int,
    slow: int,
    engines: tuple[str, ...],
    seed: int | None,
    json_file: Path | None,
) -> None:
    """Measure documents per second, latency, and what is lost when brokers, publishers and consumers die."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    click.echo(f"seed {seed}")
    figures: dict[str, dict[str, Any]] = {}
    for name in engines or [name for name, kind in ENGINES.items() if kind.is_quick]:
        with tempfile.TemporaryDirectory(prefix="tomolive-bench-") as folder:
            figures[name] = of = {}
            try:
                of |= _kills(ENGINES[name], Path(folder), rounds, kills, seed)
                if ENGINES[name].is_quick:
                    of |= _speed(ENGINES[name], Path(folder), documents, seconds)
                    of |= _slow(ENGINES[name], Path(folder), slow) if slow else {}
            except (TomoliveError, ModuleNotFoundError) as error:
                click.echo(f"{name}: {'not all of it was measured' if of else 'left out'}, {error}")
    _print(figures)
    if json_file:
        json_file.write_text(json.dumps({"documents": documents, "seed": seed, **figures}, indent=2))


def _speed(kind: Callable[[Path], Broker], folder: Path, documents: int, seconds: float) -> dict[str, Any]:
    """Take rate and latency; a process that says nothing for minutes ends it."""
    with kind(folder / "speed") as broker:
        middle = transporting.Middle("tomolive", broker.address, broker.address, broker.pid)
        paced = {
            rate: transporting.run(middle, folder, Load(int(rate * seconds), rate))
            for rate in (100.0, 1000.0)
        }
        burst = transporting.run(middle, folder, Load(documents))
    return {
        "documents_per_s": burst["received"] / (burst["last_at"] - burst["begun_at"]),
        "acknowledged_per_s": documents / burst["acknowledged_s"] if burst["acknowledged_s"] else None,
        "burst_events": documents,
        "burst_lost": documents - burst["received"],
        **{f"p50_us_at_{rate:.0f}": run["p50_us"] for rate, run in paced.items()},
        **{f"p99_us_at_{rate:.0f}": run["p99_us"] for rate, run in paced.items()},
    }


def _kills(
    kind: Callable[[Path], Broker], folder: Path, rounds: int, kills: int, seed: int
) -> dict[str, Any]:
    """End broker, publishers and consumers at random moments, and count."""
    with kind(folder / "kills") as broker:
        outcome = fault_kills.run(
            folder,
            rounds,
            4000,
            kills,
            2000.0,
            seed,
            lambda _: None,
            cast_in=lambda at: EngineCast(at, broker),
        )
    return {
        "broker_fault": "SIGKILL" if broker.keeps else "SIGSTOP, 1 s",
        "broker_kills": outcome.hub_kills + outcome.hub_and_consumer_kills,
        "publisher_kills": outcome.publisher_kills,
        "consumer_kills": outcome.consumer_kills + outcome.hub_and_consumer_kills,
        "promised": outcome.promised,
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "out_of_order": outcome.out_of_order,
    }


def _slow(kind: Callable[[Path], Broker], folder: Path, documents: int) -> dict[str, Any]:
    """Give a burst to a consumer at 1 ms a document, and look at its memory."""
    pause, tally = 0.001, Tally()
    theatre = folder / "slow"
    theatre.mkdir()
    with kind(folder / "slow-broker") as broker, EngineCast(theatre, broker) as cast:
        cast.start_consumer("slow", pause=pause)
        cast.start_publisher(0, documents, AT_ONCE)
        cast.wait_until(lambda: cast.arrivals("slow"), "the first document of the slow consumer")
        begun_mb = peak_memory(cast.pid("slow"))
        cast.wait_for_publisher()
        cast.wait_for_arrival("slow", documents - 1, timeout=60 + 3 * documents * pause)
        tally.add(cast.promised(0), cast.numbers("slow", 0))
        return {
            "slow_events": documents,
            "slow_wrong": tally.lost + tally.duplicated + tally.out_of_order,
            "slow_begun_mb": begun_mb,
            "slow_peak_mb": peak_memory(cast.pid("slow")),
        }


class EngineCast(Cast):
    """Publishers and consumers around a broker; one that keeps nothing is only stopped for a second."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        super().__init__(folder)
        self._broker = broker

    def start_hub(self) -> None:
        """Start the broker, at the same address."""
        if not self._broker.is_running:
            self._broker.start()

    def kill(self, name: str) -> None:
        """End a process by SIGKILL."""
        if name != "hub":
            super().kill(name)
        elif self._broker.keeps:
            self._broker.kill()
        else:
            self._broker.pause(1.0)

    @property
    def _address(self) -> str:
        return self._broker.address


_ROWS = [
    ("documents per second, received", "documents_per_s", "{:,.0f}"),
    ("documents per second, acknowledged", "acknowledged_per_s", "{:,.0f}"),
    ("events of the burst", "burst_events", "{:,}"),
    ("documents lost in the burst", "burst_lost", "{:,}"),
    ("latency at 100/s, p50, us", "p50_us_at_100", "{:,.0f}"),
    ("latency at 100/s, p99, us", "p99_us_at_100", "{:,.0f}"),
    ("latency at 1000/s, p50, us", "p50_us_at_1000", "{:,.0f}"),
    ("latency at 1000/s, p99, us", "p99_us_at_1000", "{:,.0f}"),
    ("what the broker suffered", "broker_fault", "{}"),
    ("how often", "broker_kills", "{}"),
    ("publishers killed", "publisher_kills", "{}"),
    ("consumers killed", "consumer_kills", "{}"),
    ("documents promised meanwhile", "promised", "{:,}"),
    ("lost", "lost", "{:,}"),
    ("duplicated", "duplicated", "{:,}"),
    ("out of order", "out_of_order", "{:,}"),
    ("a consumer at 1 ms each, events", "slow_events", "{:,}"),
    ("of them lost, doubled or out of order", "slow_wrong", "{:,}"),
    ("its memory at the first one, MB", "slow_begun_mb", "{:,.0f}"),
    ("its peak memory, MB", "slow_peak_mb", "{:,.0f}"),
]


def _print(figures: dict[str, dict[str, Any]]) -> None:
    table = Table(title="engines: events of 0.6 kB")
    table.add_column("")
    for name in figures:
        table.add_column(name, justify="right")
    for label, key, form in _ROWS:
        values = [figures[name].get(key) for name in figures]
        table.add_row(label, *("-" if value is None else form.format(value) for value in values))
    Console().print(table)
