"""Unmodified bluesky classes at their defaults, in processes of their own, on either side of us."""

import json
import os
import pickle
import subprocess
import sys
import threading

import pytest
import zmq

from tomolive.demo.processes import Services

PUBLISH = """
import json, sys
import numpy as np
from {module} import Publisher

publisher = Publisher(sys.argv[1], {options})
for line in sys.stdin:
    name, doc = json.loads(line)
    if "image" in doc.get("data", {{}}):
        doc["data"]["image"] = np.array(doc["data"]["image"], ">u2")
    publisher(name, doc)
publisher.close()
"""
CONSUME = """
import json, sys
from {module} import RemoteDispatcher

def show(name, doc):
    if "image" in doc.get("data", {{}}):
        assert doc["data"]["image"].dtype.str[1:] == "u2"  # unpickling turns bytes into this machine's order
    print(json.dumps([name, doc], default=lambda array: array.tolist()), flush=True)

dispatcher = RemoteDispatcher(sys.argv[1])
dispatcher.subscribe(show)
dispatcher.start()
"""
PROXY = """
from bluesky.callbacks.zmq import Proxy

proxy = Proxy("127.0.0.1", "127.0.0.1")
print(proxy.in_port, proxy.out_port, flush=True)
proxy.start()
"""
BLUESKY, OURS = "bluesky.callbacks.zmq", "tomolive"


class Peer:
    """A Python process that is talked to by lines."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.said: list = []

    def listen(self) -> "Peer":
        """Gather what the process says, from now on."""
        self._thread = threading.Thread(target=lambda: self.said.extend(map(json.loads, self.process.stdout)))
        self._thread.start()
        return self

    def send(self, name: str, doc: dict) -> None:
        """Have the process publish a document."""
        self.process.stdin.write(json.dumps([name, doc]) + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        if hasattr(self, "_thread"):
            self._thread.join()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def start():
    """Start processes that end with the test."""
    peers = []

    def begin(code, *arguments):
        peers.append(Peer(code, *arguments))
        return peers[-1]

    yield begin
    for peer in reversed(peers):
        peer.end()


@pytest.fixture
def publisher(start, tmp_path):
    """Start a process with a Publisher."""

    def begin(module, address):
        options = f"spool={str(tmp_path / 'spool')!r}" if module == OURS else ""
        return start(PUBLISH.format(module=module, options=options), address)

    return begin


@pytest.fixture
def consumer(start):
    """Start a process with a RemoteDispatcher."""
    return lambda module, address: start(CONSUME.format(module=module), address).listen()


@pytest.fixture
def hub_process(tmp_path):
    """A hub in a process of its own; its addresses by name."""
    ports = [word for option in ("--native", "--in", "--out", "--http") for word in (option, "127.0.0.1:0")]
    with Services(tmp_path) as services:
        yield services.start("hub", ["hub", "--journal", str(tmp_path / "journal"), *ports]).fields


@pytest.fixture
def proxy_process(start):
    """Bluesky's own proxy in a process of its own; its addresses by name."""
    peer = start(PROXY)
    in_address, out_address = peer.process.stdout.readline().split()
    return {"in": in_address, "out": out_address}


@pytest.fixture
def run_with_image(make_run):
    """The documents of a run with an array in each event."""
    run = make_run(20)
    for name, doc in run:
        if name == "event":
            doc["data"]["image"] = [[1, 2, 65535], [doc["seq_num"], 0, 0]]
    return [list(document) for document in run]


PROBE = ["start", {"uid": "probe", "time": 1.0}]


def flows(sender, receiver, documents, wait_for):
    """Send probes until one is through, as PUB sockets drop until then; return what came after it."""
    wait_for(lambda: sender.send(*PROBE) or PROBE in receiver.said)
    for name, doc in documents:
        sender.send(name, doc)
    wait_for(lambda: documents[-1] in receiver.said)
    return [document for document in receiver.said if document != PROBE]


@pytest.mark.parametrize(
    ("sends", "port_in", "port_out", "receives"),
    [(BLUESKY, "in", "out", BLUESKY), (BLUESKY, "in", "native", OURS), (OURS, "native", "out", BLUESKY)],
)
def test_bluesky_classes_talk_through_the_hub(
    hub_process, publisher, consumer, run_with_image, wait_for, sends, port_in, port_out, receives
):
    """Through the hub's ports for them bluesky's classes reach each other, and ours."""
    receiver = consumer(receives, hub_process[port_out])
    sender = publisher(sends, hub_process[port_in])
    assert flows(sender, receiver, run_with_image, wait_for) == run_with_image


@pytest.mark.parametrize(("sends", "receives"), [(OURS, BLUESKY), (BLUESKY, OURS), (OURS, OURS)])
def test_our_classes_talk_through_bluesky_proxy(
    proxy_process, publisher, consumer, run_with_image, wait_for, sends, receives
):
    """With a stock:// address our classes reach bluesky's, and each other, through its own proxy."""

    def address(module, port):
        return proxy_process[port].replace("tcp://", "stock://") if module == OURS else proxy_process[port]

    receiver = consumer(receives, address(receives, "out"))
    sender = publisher(sends, address(sends, "in"))
    assert flows(sender, receiver, run_with_image, wait_for) == run_with_image


class Evil:
    """Something that runs a command where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_hostile_packets_end_at_the_hub(hub_process, publisher, consumer, run_with_image, wait_for, tmp_path):
    """What kills or takes over bluesky's dispatchers behind a proxy does not get past the hub."""
    receiver = consumer(BLUESKY, hub_process["out"])
    sender = publisher(BLUESKY, hub_process["in"])
    wait_for(lambda: sender.send(*PROBE) or PROBE in receiver.said)
    with zmq.Context() as context, context.socket(zmq.PUB) as attacker:
        attacker.linger = 1000
        with context.socket(zmq.PAIR) as watch:
            attacker.monitor("inproc://watch", zmq.EVENT_HANDSHAKE_SUCCEEDED)
            watch.connect("inproc://watch")
            attacker.connect(hub_process["in"])
            assert watch.poll(30_000)
            attacker.disable_monitor()
        trace = tmp_path / "was-here"
        event = next(doc for name, doc in run_with_image if name == "event")

        def attack():
            attacker.send(b" foo " + pickle.dumps({"uid": "x"}))
            attacker.send(b" event " + pickle.dumps({**event, "data": {"x": Evil(trace)}}))
            attacker.send(b" event " + pickle.dumps(5))
            attacker.send(b"\xff" * 1000)
            attacker.send_multipart([b"", b"event", pickle.dumps(event)])
            attacker.send(b" start " + pickle.dumps({"uid": "last attack", "time": 1.0}))
            return ["start", {"uid": "last attack", "time": 1.0}] in receiver.said

        wait_for(attack)
    assert not trace.exists()
    heard = flows(sender, receiver, run_with_image, wait_for)
    assert [document for document in heard if document[1]["uid"] != "last attack"] == run_with_image
