"""``tomolive bench transport``: moving documents, beside bluesky's own 0MQ classes in the same run."""

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tomolive.bench import transport_roles as roles
from tomolive.bench.transport_roles import Kind, Load
from tomolive.demo.processes import Services
from tomolive.errors import TomoliveError

_TIMEOUT = 300.0
_processes = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Middle:
    """What passes documents on: a hub or a proxy."""

    kind: Kind
    in_address: str
    out_address: str
    pid: int


@click.command()
@click.option(
    "--documents", default=50_000, show_default=True, help="Events of the burst and of the journal."
)
@click.option("--seconds", default=4.0, show_default=True, help="Length of each latency measurement.")
@click.option("--readback", default=0, help="Read back a journal of so many events, of a hub of its own.")
@click.option("--cores", default=1, show_default=True, help="Cores that all processes share.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
def transport(documents: int, seconds: float, readback: int, cores: int, json_file: Path | None) -> None:
    """Measure documents per second, latency and cost, journaled and acknowledged, beside bluesky's own."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])
    try:
        figures: dict[str, Any] = {
            kind: _measure(kind, documents, seconds) for kind in ("bluesky", "tomolive")
        }
        if readback:
            figures["tomolive"].update(_measure_read_back(readback))
    finally:
        os.sched_setaffinity(0, allowed)
    _print(figures, documents, cores)
    if json_file:
        json_file.write_text(json.dumps({"documents": documents, "cores": cores, **figures}, indent=2))


def _measure(kind: Kind, documents: int, seconds: float) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="tomolive-bench-") as folder,
        _middle(kind, Path(folder)) as middle,
    ):
        paced = {rate: run(middle, Path(folder), Load(int(rate * seconds), rate)) for rate in (100.0, 1000.0)}
        burst = run(middle, Path(folder), Load(documents))
        figures = {
            "documents_per_s": burst["received"] / (burst["last_at"] - burst["begun_at"]),
            "acknowledged_per_s": documents / burst["acknowledged_s"] if burst["acknowledged_s"] else None,
            "lost": documents - burst["received"],
            "call_us": paced[1000.0]["call_us"],
            "burst_call_us": burst["call_us"],
            "burst_cpu_us": burst["cpu_us"],
            **{f"p50_us_at_{rate:.0f}": run["p50_us"] for rate, run in paced.items()},
            **{f"p99_us_at_{rate:.0f}": run["p99_us"] for rate, run in paced.items()},
        }
        if kind == "tomolive":
            figures["read_back_per_s"] = _read_back(middle, documents)
        return {**figures, "memory_mb": roles.peak_memory(middle.pid)}


def _measure_read_back(events: int) -> dict[str, Any]:
    """Make a journal of so many events, and read it from a hub that has just opened it."""
    with tempfile.TemporaryDirectory(prefix="tomolive-bench-") as folder:
        roles.fill_journal(Path(folder) / "journal", events)
        with _middle("tomolive", Path(folder)) as middle:
            return {
                "long_journal": events,
                "long_read_back_per_s": _read_back(middle, events),
                "long_memory_mb": roles.peak_memory(middle.pid),
            }


def run(middle: Middle, folder: Path, load: Load) -> dict[str, Any]:
    """Send one run from one process to another, and return what both have measured."""
    with (
        _process(roles.consume, middle.kind, middle.out_address, "new") as consumer,
        _process(roles.publish, middle.kind, middle.in_address, folder, load) as publisher,
    ):
        _receive(consumer)
        time.sleep(0.5)  # the last probes pass
        publisher.send("go")
        sent = _receive(publisher)
        consumer.send("over")
        return {**sent, **_receive(consumer)}


def _read_back(middle: Middle, documents: int) -> float:
    """Return how many documents a second a consumer gets that reads the whole journal."""
    with _process(roles.read_all, middle.out_address, documents) as consumer:
        return _receive(consumer)


@contextmanager
def _middle(kind: Kind, folder: Path) -> Iterator[Middle]:
    if kind == "bluesky":
        with _process(roles.proxy) as parent:
            in_address, out_address, pid = _receive(parent)
            yield Middle(kind, in_address, out_address, pid)
        return
    with Services(folder) as services:
        ports = [
            word for option in ("--native", "--in", "--out", "--http") for word in (option, "127.0.0.1:0")
        ]
        hub = services.start("hub", ["hub", "--journal", str(folder / "journal"), *ports])
        yield Middle(kind, hub.fields["native"], hub.fields["native"], hub.process.pid)


@contextmanager
def _process(role: Any, *arguments: Any) -> Iterator[Connection]:
    parent, child = _processes.Pipe()
    process = _processes.Process(target=role, args=(*arguments, child), daemon=True)
    process.start()
    child.close()  # so that the end of the process is the end of what it says
    try:
        yield parent
    finally:
        process.terminate()
        process.join()


def _receive(connection: Connection) -> Any:
    if not connection.poll(_TIMEOUT):
        raise TomoliveError(f"a process of the benchmark has said nothing for {_TIMEOUT:.0f} s")
    try:
        return connection.recv()
    except EOFError:
        raise TomoliveError("a process of the benchmark has ended; its error is above") from None


_ROWS = [
    ("documents per second, received", "documents_per_s", "{:,.0f}"),
    ("documents per second, journaled and acknowledged", "acknowledged_per_s", "{:,.0f}"),
    ("documents lost in the burst", "lost", "{:,}"),
    ("RunEngine's cost of a document at 1000/s, median, us", "call_us", "{:.1f}"),
    ("RunEngine's cost of a document in a burst, median, us", "burst_call_us", "{:.1f}"),
    ("processor time of a document in a burst, us", "burst_cpu_us", "{:.1f}"),
    ("latency at 100/s, p50, us", "p50_us_at_100", "{:,.0f}"),
    ("latency at 100/s, p99, us", "p99_us_at_100", "{:,.0f}"),
    ("latency at 1000/s, p50, us", "p50_us_at_1000", "{:,.0f}"),
    ("latency at 1000/s, p99, us", "p99_us_at_1000", "{:,.0f}"),
    ("journal read back, documents per second", "read_back_per_s", "{:,.0f}"),
    ("long journal, documents", "long_journal", "{:,}"),
    ("long journal read back, documents per second", "long_read_back_per_s", "{:,.0f}"),
    ("long journal, hub's peak memory, MB", "long_memory_mb", "{:,.0f}"),
    ("hub or proxy, peak memory, MB", "memory_mb", "{:,.0f}"),
]


def _print(figures: dict[str, dict[str, Any]], documents: int, cores: int) -> None:
    stock, ours = figures["bluesky"], figures["tomolive"]
    table = Table(
        title=f"transport: burst of {documents:,} events of 0.6 kB, {cores} core(s) for all processes"
    )
    table.add_column("")
    for column in ("bluesky 0MQ", "tomolive", "ratio"):
        table.add_column(column, justify="right")
    for label, key, form in _ROWS:
        theirs, mine = stock.get(key), ours.get(key)
        ratio = f"{mine / theirs:.2f}" if theirs and mine else ""
        table.add_row(label, *(form.format(v) if v is not None else "-" for v in (theirs, mine)), ratio)
    Console().print(table)
