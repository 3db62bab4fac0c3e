"""``tomolive bench fuzz``: broken and hostile messages on every port of a hub, while a good run passes."""

import json
import multiprocessing
import os
import pickle
import random
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import zmq

from tomolive.bench.fault_cast import together
from tomolive.bench.transport_roles import RunMaker, peak_memory
from tomolive.demo.processes import Service, Services
from tomolive.stream import messages, records, stock
from tomolive.stream.codec import encode
from tomolive.stream.dispatcher import RemoteDispatcher
from tomolive.stream.publisher import Publisher
from tomolive.stream.sockets import Address

PORTS = ("native", "in", "out", "http")
_ARRIVAL_SECONDS = 60.0
_GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\1NULL" + bytes(48) + b"\4\x19\5READY\x0bSocket-Type\0\0\0\6DEALER"


@dataclass
class Outcome:
    """What became of hub and documents."""

    mutated_messages: int = 0
    raw_connections: int = 0
    good_documents: int = 0
    unharmed: int = 0
    hubs_ended: int = 0
    times_code_was_run: int = 0
    peak_memory_mb: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether the hub lives, ran nothing, and every good document arrived as it was, in order."""
        return not (self.hubs_ended or self.times_code_was_run) and self.unharmed == self.good_documents


@click.command()
@click.option(
    "--messages", "count", default=100_000, show_default=True, help="Mutated messages on each port."
)
@click.option(
    "--jobs", default=1, show_default=True, help="Hubs that are attacked side by side; each has a share."
)
@click.option("--seed", type=int, help="Repeat an earlier run.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
def fuzz(count: int, jobs: int, seed: int | None, json_file: Path | None) -> None:
    """Send mutated messages to every port of a hub, and count the good documents that pass unharmed."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    click.echo(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="tomolive-fuzz-") as folder:
        outcome = run_jobs(Path(folder), count, seed, jobs)
    for name, value in asdict(outcome).items():
        click.echo(f"{name.replace('_', ' '):20} {value}")
    if json_file:
        json_file.write_text(json.dumps({"seed": seed, **asdict(outcome)}, indent=2))
    if not outcome.sound:
        sys.exit(1)


def run_jobs(folder: Path, count: int, seed: int, jobs: int) -> Outcome:
    """Share ``count`` messages for each port between so many processes, each with a hub of its own."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        shares = []
        for number in range(jobs):
            place = folder / f"job-{number}"
            place.mkdir()
            share = count // jobs + (number < count % jobs)
            shares.append(pool.submit(run, place, share, seed + number))
        outcomes = [share.result() for share in shares]
    peak = max(outcome.peak_memory_mb for outcome in outcomes)
    return replace(together(outcomes), peak_memory_mb=peak)


def run(folder: Path, count: int, seed: int) -> Outcome:
    """Attack every port of a new hub ``count`` times while good documents pass, and say what came of it."""
    dice = random.Random(seed)  # noqa: S311  # mutations to repeat, not secrets
    outcome = Outcome()
    trace = folder / "code-was-here"
    options = [word for port in PORTS for word in (f"--{port}", "127.0.0.1:0")]
    with Services(folder) as services:
        hub = services.start("hub", ["hub", "--journal", str(folder / "journal"), *options])
        with _GoodRun(hub.fields["native"], folder / "spool") as good:
            with ExitStack() as sockets:
                attacks = _attacks(hub, dice, trace, sockets)
                for turn in range(count):
                    for attack in attacks:
                        attack()
                    outcome.mutated_messages += len(attacks)
                    if turn % 20 == 0:
                        good.publish()
                    if turn % 50 == 0:
                        _talk_nonsense(hub.fields[dice.choice(PORTS)], dice)
                        outcome.raw_connections += 1
            good.finish()
        outcome.good_documents, outcome.unharmed = len(good.sent), good.unharmed()
        outcome.hubs_ended = int(hub.process.poll() is not None)
        outcome.times_code_was_run = int(trace.exists())
        outcome.peak_memory_mb = 0.0 if outcome.hubs_ended else peak_memory(hub.process.pid)
    return outcome


class _GoodRun:
    """A Publisher and a consumer that are no part of the attack."""

    def __init__(self, address: str, spool: Path) -> None:
        self._run = RunMaker(str(uuid.uuid4()))
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self._came: list[tuple[str, dict[str, Any]]] = []
        self._publisher = Publisher(address, spool=spool)
        self._dispatcher = RemoteDispatcher(address)
        self._dispatcher.subscribe(lambda name, doc: self._came.append((name, doc)))
        self._thread = threading.Thread(target=self._dispatcher.start, name="good consumer")

    def __enter__(self) -> "_GoodRun":
        self._thread.start()
        self._dispatcher.wait_ready(_ARRIVAL_SECONDS)
        self._send("start", self._run.start())
        self._send("descriptor", self._run.descriptor())
        return self

    def __exit__(self, *_: object) -> None:
        self._dispatcher.stop()
        self._thread.join()
        self._publisher.close()

    def _send(self, name: str, doc: dict[str, Any]) -> None:
        self._publisher(name, doc)
        self.sent.append((name, doc))

    def publish(self) -> None:
        """Publish one event."""
        self._send("event", self._run.event(len(self.sent)))

    def finish(self) -> None:
        """Publish the stop document, and wait until it has passed."""
        self._send("stop", self._run.stop())
        deadline = time.monotonic() + _ARRIVAL_SECONDS
        while self.sent[-1] not in self._came[-100:] and time.monotonic() < deadline:
            time.sleep(0.05)

    def unharmed(self) -> int:
        """Return how many documents arrived in their order as they were sent."""
        uids = {doc["uid"] for _, doc in self.sent}
        came = [(name, doc) for name, doc in self._came if doc.get("uid") in uids]
        return sum(here == there for here, there in zip(self.sent, came, strict=False))


class _Evil:
    """Something that runs a command where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self._trace}",)


def _attacks(hub: Service, dice: random.Random, trace: Path, sockets: ExitStack) -> list[Callable[[], None]]:
    """Return functions that send one mutated message each: to the native port, to the stock ones."""
    context = sockets.enter_context(zmq.Context())

    def connect(kind: int, port: str) -> zmq.Socket:
        attacker = sockets.enter_context(context.socket(kind))
        attacker.linger = 0
        attacker.set(zmq.SNDTIMEO, 1000)
        attacker.connect(hub.fields[port])
        return attacker

    native, publisher, listener = (
        connect(zmq.DEALER, "native"),
        connect(zmq.PUB, "in"),
        connect(zmq.XSUB, "out"),
    )

    def to_native() -> None:
        _send(native, mutated(dice, dice.choice(_NATIVE)))
        while native.poll(0):
            native.recv_multipart()

    def to_listener() -> None:
        _send(listener, mutated(dice, [dice.choice([b"\1", b"\0", b"\1event", b""])]))
        while listener.poll(0):
            listener.recv_multipart()

    stock_messages = _stock_messages(trace)
    return [to_native, lambda: _send(publisher, mutated(dice, dice.choice(stock_messages))), to_listener]


def _send(attacker: zmq.Socket, parts: list[bytes]) -> None:
    try:
        attacker.send_multipart(parts)
    except zmq.Again:  # cut off, which is what an attacker has to expect
        return


def _native_messages() -> list[list[bytes]]:
    run, publisher = RunMaker("attack"), b"an attacker's id"
    frames = [
        encode("start", run.start()), encode("event", {**run.event(0), "data": {"image": np.arange(100)}}),
    ]  # fmt: skip
    packed = [records.pack(publisher, number, doc, number == 1) for number, doc in enumerate(frames, 1)]
    position = messages.Position("0" * 32, 5)
    return [
        [messages.encode(messages.Hello(messages.VERSION, publisher, "attacker", 1))],
        [messages.encode(messages.Publish(1, 0)), packed[0]],
        [messages.encode(messages.Publish(2, 0)), b"".join(packed)],
        [messages.encode(messages.Subscribe(messages.VERSION, "attacker", "all", None, 10, 10_000))],
        [messages.encode(messages.Subscribe(messages.VERSION, "", "cursor", position, 1 << 20, 1 << 40))],
        [messages.encode(messages.Acknowledge(3))],
        [messages.encode(messages.Ping(7))],
        [messages.encode(messages.Bye())],
    ]


def _stock_messages(trace: Path) -> list[list[bytes]]:
    run = RunMaker("attack")
    image = {**run.event(0), "data": {"image": np.arange(100), "t": (1, 2), "s": {1}}}
    evil = {**run.event(0), "data": {"x": _Evil(trace)}}
    return [
        [stock.encode_stock("start", run.start())],
        [stock.encode_stock("descriptor", run.descriptor())],
        [stock.encode_stock("event", image)],
        [b" event " + pickle.dumps(image, 5)],
        [b" event " + pickle.dumps(image, 2)],
        [b" event " + pickle.dumps(evil)],
        [b" foo " + pickle.dumps(run.event(0))],
        [b" event " + json.dumps(run.event(0)).encode()],
    ]


_NATIVE = _native_messages()


def mutated(dice: random.Random, parts: list[bytes]) -> list[bytes]:
    """Return a message with one to four random changes, or now and then as it is."""
    parts = list(parts)
    for _ in range(dice.randrange(5)):
        at = dice.randrange(len(parts))
        part = bytearray(parts[at])
        place = dice.randrange(len(part) + 1)
        match dice.randrange(8):
            case 0 if place < len(part):
                part[place] ^= 1 << dice.randrange(8)
            case 1:
                del part[place:]
            case 2:
                del part[place : place + dice.randrange(1, 9)]
            case 3:
                part[place:place] = dice.randbytes(dice.randrange(1, 40))
            case 4:
                part[place : place + 4] = dice.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0"])
            case 5:
                part[place:place] = part[: dice.randrange(len(part) + 1)]
            case 6:
                parts.insert(at, dice.randbytes(dice.randrange(60)))
            case _:
                dice.shuffle(parts)
                continue
        parts[at] = bytes(part)
    return parts


def _talk_nonsense(address: str, dice: random.Random) -> None:
    """Connect without ZeroMQ, say something that is no greeting or a broken one, and hang up."""
    at = Address.parse(address.replace("http://", "tcp://"))
    opening = dice.choice([_GREETING, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", dice.randbytes(200)])
    with socket.create_connection((at.host, at.port), timeout=10) as connection:
        try:
            connection.sendall(mutated(dice, [opening])[0])
        except OSError:  # it has hung up first
            return
