"""What the processes of the transport benchmark do: publish, pass on, consume."""

import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

Kind = Literal["tomolive", "bluesky"]
KEYS = [f"detector_{number}" for number in range(10)]
_FILL_DOCUMENTS = 256
QUIET_SECONDS = 3.0
"""bluesky's transport may lose the end of a run; after this long without a document it is over."""


@dataclass(frozen=True)
class Load:
    """What a publisher sends."""

    events: int
    rate: float | None = None
    """Events a second; None: as fast as it goes."""


class RunMaker:
    """Makes the documents of a run; its events have ten numbers, 0.6 kB as MessagePack."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self._data = dict.fromkeys(KEYS, 1.234)
        self._timestamps = dict.fromkeys(KEYS, 1.7e9)

    def start(self) -> dict[str, Any]:
        """Make the start document."""
        return {"uid": self.uid, "time": time.time(), "plan_name": "bench"}

    def descriptor(self) -> dict[str, Any]:
        """Make the descriptor."""
        keys = {key: {"source": f"SIM:{key}", "dtype": "number", "shape": []} for key in KEYS}
        of = {"run_start": self.uid, "name": "primary", "data_keys": keys}
        return {"uid": f"{self.uid}-d", "time": time.time(), **of}

    def event(self, number: int) -> dict[str, Any]:
        """Make an event; its time is now."""
        return {
            "uid": f"{self.uid}-{number:028}", "descriptor": f"{self.uid}-d", "seq_num": number + 1,
            "time": time.time(), "data": self._data, "timestamps": self._timestamps, "filled": {},
        }  # fmt: skip

    def stop(self) -> dict[str, Any]:
        """Make the stop document."""
        return {"uid": f"{self.uid}-z", "run_start": self.uid, "time": time.time(), "exit_status": "success"}


def publish(kind: Kind, address: str, folder: Path, load: Load, parent: Connection) -> None:
    """Send probes until told to go, then one run; tell what each call cost."""
    publisher = _publisher(kind, address, folder)
    while not parent.poll(0.05):
        publisher("start", RunMaker("probe").start())
    parent.recv()
    run = RunMaker("run")
    publisher("start", run.start())
    publisher("descriptor", run.descriptor())
    begun_at, begun, cpu = time.time(), time.perf_counter(), time.thread_time()
    calls = _send_events(publisher, run, load)
    cpu = time.thread_time() - cpu
    publisher("stop", run.stop())
    kept = publisher.flush(600) if kind == "tomolive" else None
    took = time.perf_counter() - begun
    parent.send(
        {
            "begun_at": begun_at,
            "acknowledged_s": took if kept else None,
            "call_us": statistics.median(calls) * 1e6,
            "cpu_us": cpu / load.events * 1e6,
        }
    )
    publisher.close()


def _send_events(publisher: Callable, run: RunMaker, load: Load) -> list[float]:
    calls = []
    begin = time.perf_counter()
    for number in range(load.events):
        if load.rate:
            time.sleep(max(0.0, begin + number / load.rate - time.perf_counter()))
        event = run.event(number)
        before = time.perf_counter()
        publisher("event", event)
        calls.append(time.perf_counter() - before)
    return calls


def _publisher(kind: Kind, address: str, folder: Path) -> Any:
    if kind == "bluesky":
        from bluesky.callbacks.zmq import Publisher as BlueskyPublisher

        return BlueskyPublisher(address)
    from tomolive.stream.publisher import Publisher

    return Publisher(address, spool=folder / "spool")


def consume(kind: Kind, address: str, start: str, parent: Connection) -> None:
    """Count what arrives of the run, and how late; tell when the first document is here and the run over."""
    tally = _Tally(parent)
    dispatcher = _dispatcher(kind, address, start)
    dispatcher.subscribe(tally)
    threading.Thread(target=tally.give_up_when_quiet, daemon=True).start()
    dispatcher.start()  # until this process is ended


class _Tally:
    """Takes documents in; reports when the run is complete, or when asked."""

    def __init__(self, parent: Connection) -> None:
        self._parent = parent
        self._ready = False
        self._over = threading.Lock()
        self._delays: list[float] = []
        self._last = 0.0

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        now = time.time()
        if name == "event":
            self._last = now
            self._delays.append(now - doc["time"])
        elif name == "stop":
            self._report()
        elif not self._ready:
            self._ready = True
            self._parent.send("ready")

    def give_up_when_quiet(self) -> None:
        """Once the publisher has ended, report what came when nothing more does and nothing is worked on.

        bluesky's dispatcher takes everything from its socket before it calls back for the first time.
        """
        self._parent.recv()
        busy = time.process_time()
        while True:
            time.sleep(QUIET_SECONDS)
            if time.process_time() - busy < QUIET_SECONDS / 10 and time.time() - self._last > QUIET_SECONDS:
                return self._report()
            busy = time.process_time()

    def _report(self) -> None:
        if not self._over.acquire(blocking=False):
            return
        delays = sorted(self._delays)
        self._parent.send(
            {
                "received": len(delays),
                "last_at": self._last,
                "p50_us": delays[len(delays) // 2] * 1e6 if delays else None,
                "p99_us": delays[len(delays) * 99 // 100] * 1e6 if delays else None,
            }
        )


def _dispatcher(kind: Kind, address: str, start: str) -> Any:
    if kind == "bluesky":
        from bluesky.callbacks.zmq import RemoteDispatcher as BlueskyDispatcher

        return BlueskyDispatcher(address)
    from tomolive.stream.dispatcher import RemoteDispatcher

    return RemoteDispatcher(address, start=start, on_error="stop")


def proxy(parent: Connection) -> None:
    """Run bluesky's own proxy; tell its addresses."""
    from bluesky.callbacks.zmq import Proxy

    middle = Proxy("127.0.0.1", "127.0.0.1")
    parent.send((str(middle.in_port), str(middle.out_port), os.getpid()))
    middle.start()


def read_all(address: str, documents: int, parent: Connection) -> None:
    """Read a hub's journal of at least so many documents; tell how many a second came."""
    from tomolive.stream.dispatcher import RemoteDispatcher

    times: list[float] = []
    dispatcher = RemoteDispatcher(address, start="all", on_error="stop")
    dispatcher.subscribe(lambda _name, _doc: times.append(time.perf_counter()))
    dispatcher.subscribe_idle(lambda: dispatcher.stop() if len(times) > documents else None)
    dispatcher.start()
    parent.send(len(times) / (times[-1] - times[0]))


def fill_journal(folder: Path, events: int) -> None:
    """Make the journal of a hub that has received one run."""
    from tomolive.stream import records
    from tomolive.stream.codec import encode
    from tomolive.stream.index import Batch
    from tomolive.stream.journal import Journal

    run, publisher = RunMaker("long"), b"a benchmark's id"
    journal = Journal(folder, fsync="never")
    batch = Batch(runs=[(0, run.uid)])
    opening = [("start", run.start()), ("descriptor", run.descriptor())]
    everything = chain(opening, (("event", run.event(n)) for n in range(events)), [("stop", run.stop())])
    for seq, (name, doc) in enumerate(everything, 1):
        flags = records.STARTS_RUN if name == "start" else 0
        batch.add(records.pack(publisher, seq, encode(name, doc), flags), 1, publisher, seq)
        if batch.count == _FILL_DOCUMENTS or name == "stop":
            journal.append(batch)
            batch = Batch()
    journal.close()


def peak_memory(pid: int) -> float:
    """Return the most memory that a process has had, in megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
