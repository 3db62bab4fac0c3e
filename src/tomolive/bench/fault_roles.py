"""The processes of the fault benchmark: one that publishes, one that consumes.

Both keep on disk what they have done, so that a killed one can go on and nothing is counted from memory.
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tomolive.stream.dispatcher import RemoteDispatcher
from tomolive.stream.messages import Position
from tomolive.stream.publisher import Publisher

_ROUND = 1_000_000
KEYS = {"value": {"source": "SIM:value", "dtype": "number", "shape": []}}


def publish(address: str, folder: Path, round_number: int, documents: int, rate: float) -> None:
    """Publish the events of a round, from where an earlier process was killed.

    Each number is written down before the call ("tries") and after it ("done"): a document is promised when
    the call has returned, so one that was tried and not done may arrive or not, but never twice.
    """
    tried, done = (_Log(folder / f"{kind}-{round_number}") for kind in ("tried", "done"))
    first = max([-1, *tried.numbers()]) + 1
    publisher = Publisher(address, spool=folder / "spool", linger=120.0)
    run, descriptor, begun = str(uuid.uuid4()), str(uuid.uuid4()), time.monotonic()
    publisher("start", {"uid": run, "time": time.time()})
    publisher(
        "descriptor",
        {"uid": descriptor, "run_start": run, "time": time.time(), "name": "primary", "data_keys": KEYS},
    )
    for number in range(first, documents):
        tried.write(number)
        publisher("event", _event(descriptor, round_number, number))
        done.write(number)
        ahead = (number - first) / rate - (time.monotonic() - begun)
        if ahead > 0.002:
            time.sleep(ahead)
    stop = {"uid": str(uuid.uuid4()), "run_start": run, "time": time.time(), "exit_status": "success"}
    publisher("stop", stop)
    publisher.close()


def _event(descriptor: str, round_number: int, number: int) -> dict:
    value = round_number * _ROUND + number
    return {
        "uid": str(uuid.uuid4()), "descriptor": descriptor, "time": time.time(), "seq_num": number + 1,
        "data": {"value": value}, "timestamps": {"value": 0.0}, "filled": {},
    }  # fmt: skip


def consume(address: str, sink: Path, start: str, pause: float) -> None:
    """Write every document down with its position; begin behind the last one that is written.

    ``pause``: seconds that each document takes.
    """
    last = Sink(sink, behind=-300).read()[-1:]
    begin = Position(last[0].epoch, last[0].offset) if last else start
    dispatcher = RemoteDispatcher(address, name=sink.name, start=begin, on_error="stop")
    fd = os.open(sink, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(name: str, doc: dict) -> None:
        if pause:
            time.sleep(pause)
        place = dispatcher.position
        assert place is not None  # noqa: S101  # a document has a position
        value = doc["data"]["value"] if name == "event" else -1
        os.write(fd, f"{place.epoch} {place.offset} {name} {value} {time.time():.6f}\n".encode())

    dispatcher.subscribe(write)
    dispatcher.start()


class Arrival(NamedTuple):
    """A document as a consumer wrote it down."""

    epoch: str
    offset: int
    name: str
    value: int
    """Of an event; -1 otherwise."""
    time: float

    @property
    def round(self) -> int:
        """Round that an event belongs to."""
        return self.value // _ROUND

    @property
    def number(self) -> int:
        """Number of an event in its round."""
        return self.value % _ROUND


class Sink:
    """The file that the consumer writes: a line for each document."""

    def __init__(self, path: Path, behind: int = 0) -> None:
        """Read from the beginning, or from ``-behind`` bytes before the end."""
        self._path = path
        size = path.stat().st_size if path.exists() else 0
        self._at = max(0, size + behind) if behind else 0
        self._skip = self._at > 0  # it begins in the middle of a line

    def read(self) -> list[Arrival]:
        """Return the whole lines that have come since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        lines = whole.decode().splitlines()[self._skip :]
        self._skip = False
        return [
            Arrival(epoch, int(offset), name, int(value), float(moment))
            for epoch, offset, name, value, moment in map(str.split, lines)
        ]


class _Log:
    """Numbers that only grow, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._path = path

    def write(self, number: int) -> None:
        os.write(self._fd, number.to_bytes(8, "little"))

    def numbers(self) -> Iterator[int]:
        data = self._path.read_bytes()
        return (int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - 7, 8))


def numbers_in(path: Path) -> list[int]:
    """Return what a log holds."""
    return list(_Log(path).numbers())


if __name__ == "__main__":
    role, address, where, *rest = sys.argv[1:]
    if role == "publish":
        publish(address, Path(where), int(rest[0]), int(rest[1]), float(rest[2]))
    else:
        consume(address, Path(where), rest[0], float(rest[1]))
