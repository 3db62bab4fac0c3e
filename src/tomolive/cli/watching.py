"""What ``tomolive watch`` shows: a line for each document, or a progress bar for each run."""

from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tomolive.stream.dispatcher import RemoteDispatcher


def print_lines(dispatcher: RemoteDispatcher) -> None:
    """Print one line for each document until the dispatcher stops."""
    dispatcher.subscribe(lambda name, doc: click.echo(describe(name, doc)))
    dispatcher.start()


def show_bars(dispatcher: RemoteDispatcher) -> None:
    """Show one bar for each run until the dispatcher stops."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns) as progress:
        bars = Bars(progress)
        dispatcher.subscribe(bars)
        dispatcher.start()


def describe(name: str, doc: dict[str, Any]) -> str:
    """Say in one line what a document says."""
    uid = str(doc.get("uid", ""))[:8]
    match name:
        case "start":
            what = f"scan {doc.get('scan_id', '?')} {doc.get('plan_name', '')}"
        case "descriptor":
            what = f"{doc.get('name')}: {', '.join(doc.get('data_keys', ()))}"
        case "event":
            what = f"{doc.get('seq_num')}"
        case "stream_datum":
            indices = doc.get("indices", {})
            what = f"[{indices.get('start')}, {indices.get('stop')}) of {str(doc.get('stream_resource'))[:8]}"
        case "stop":
            what = f"{doc.get('exit_status')} {doc.get('reason', '')}"
        case _:
            what = ""
    return f"{name:<16} {uid:<8} {what}".rstrip()


class Bars:
    """A callback that keeps a progress bar for each run: data points against those that were planned."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._runs: dict[str, str] = {}
        """descriptor uid -> run uid"""
        self._done: dict[str, dict[str, int]] = {}
        """run uid -> stream -> data points"""

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take one document."""
        match name:
            case "start":
                title = f"scan {doc.get('scan_id', '?')} {doc.get('plan_name', '')} {doc['uid'][:8]}"
                self._done[doc["uid"]] = {}
                self._tasks[doc["uid"]] = self._progress.add_task(title, total=_planned(doc), state="running")
            case "descriptor":
                self._runs[doc["uid"]] = doc["run_start"]
            case "event":
                self._advance(doc["descriptor"], doc["seq_num"])
            case "event_page":
                self._advance(doc["descriptor"], max(doc["seq_num"], default=0))
            case "stream_datum":
                self._advance(doc["descriptor"], doc["seq_nums"]["stop"] - 1)
            case "stop":
                self._finish(doc)

    def _advance(self, descriptor: str, points: int) -> None:
        run = self._runs.get(descriptor, "")
        if run in self._done:
            streams = self._done[run]
            streams[descriptor] = max(streams.get(descriptor, 0), points)
            self._progress.update(self._tasks[run], completed=sum(streams.values()))

    def _finish(self, doc: dict[str, Any]) -> None:
        run = doc["run_start"]
        self._runs = {descriptor: of for descriptor, of in self._runs.items() if of != run}
        self._done.pop(run, None)
        if (task := self._tasks.pop(run, None)) is not None:
            self._progress.update(task, state=doc.get("exit_status", "?"))
            self._progress.stop_task(task)


def _planned(start: dict[str, Any]) -> int | None:
    scan = start.get("tomography", {})
    numbers = [scan.get(key) for key in ("num_darks", "num_flats", "num_projections")]
    if all(isinstance(number, int) for number in numbers):
        return sum(numbers)
    points = start.get("num_points")
    return points if isinstance(points, int) else None
