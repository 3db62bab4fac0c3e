"""``tomolive bench faults``: break what can break, and count what a consumer got."""

import json
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tomolive.bench import fault_kills, fault_scenes
from tomolive.bench.fault_cast import Tally

_SCENARIOS = ("kills", "late", "network", "disk", "slow")


@click.command()
@click.option(
    "--scenario", type=click.Choice([*_SCENARIOS, "all"]), default="kills", show_default=True,
    help="SIGKILL at random moments; a consumer that comes late; a network that is cut (root); a disk that "
    "fills (root: a tmpfs); a consumer at 1 ms a document beside a fast one.",
)  # fmt: skip
@click.option("--rounds", default=100, show_default=True, help="Of kills.")
@click.option("--documents", default=10_000, show_default=True, help="Events in each round.")
@click.option("--kills", default=3, show_default=True, help="Processes killed in each round.")
@click.option("--jobs", default=1, show_default=True, help="Rounds of kills at a time, each with a hub.")
@click.option("--cuts", default=4, show_default=True, help="Times that the network is cut.")
@click.option("--burst", default=200_000, show_default=True, help="Events for the slow consumer.")
@click.option("--rate", default=4000.0, show_default=True, help="Events a second.")
@click.option("--seed", type=int, help="Repeat the moments of an earlier run.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
def faults(
    scenario: str,
    rounds: int,
    documents: int,
    kills: int,
    jobs: int,
    cuts: int,
    burst: int,
    rate: float,
    seed: int | None,
    json_file: Path | None,
) -> None:
    """Kill processes, cut the network, fill the disk, be late or slow: count what a consumer got."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    click.echo(f"seed {seed}")
    echo = click.echo
    scenes: dict[str, Callable[[Path], Tally]] = {
        "kills": lambda at: fault_kills.run(at, rounds, documents, kills, rate, seed, echo, jobs),
        "late": lambda at: fault_scenes.late(at, documents // 2, 1000.0),
        "network": lambda at: fault_scenes.network(at, documents, rate / 4, cuts, 8.0, seed, echo),
        "disk": lambda at: fault_scenes.disk(at, 3 * documents, rate, 150 * documents, echo),
        "slow": lambda at: fault_scenes.slow(at, burst, 0.001, echo),
    }
    outcomes: dict[str, Tally] = {}
    for name in _SCENARIOS if scenario == "all" else (scenario,):
        outcome = _play(scenes[name], name)
        if outcome is not None:
            outcomes[name] = outcome
            _print(name, outcome, seed)
    if json_file:
        figures = {name: asdict(outcome) for name, outcome in outcomes.items()}
        json_file.write_text(json.dumps({"seed": seed, **figures}, indent=2))
    broken = [
        f"{name}: documents were lost, doubled or disordered" for name, o in outcomes.items() if not o.sound
    ]
    if isinstance(slow := outcomes.get("slow"), fault_scenes.Slow) and slow.promise_broken:
        broken.append(f"slow: {slow.promise_broken}")
    for promise in broken:
        click.echo(f"broken: {promise}")
    if broken or not outcomes:
        sys.exit(1)


def _play(scene: Callable[[Path], Tally], name: str) -> Tally | None:
    with tempfile.TemporaryDirectory(prefix="tomolive-faults-") as folder:
        try:
            return scene(Path(folder))
        except fault_scenes.UnavailableError as error:
            click.echo(f"{name}: left out, {error}")
            return None


def _print(name: str, outcome: Tally, seed: int) -> None:
    table = Table("what", "count", title=f"{name}, seed {seed}")
    figures = asdict(outcome)
    if isinstance(outcome, fault_scenes.Slow):
        figures["slowed_percent"] = outcome.slowed_percent
    for key, value in figures.items():
        table.add_row(key.replace("_", " "), f"{value:,.1f}" if isinstance(value, float) else str(value))
    Console().print(table)
