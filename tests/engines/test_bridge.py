"""From one address to another: nothing lost, nothing twice, whoever dies."""

import random
import subprocess
import sys
import threading
import time
from itertools import count

import pytest
from bluesky.callbacks.zmq import Proxy
from bluesky.callbacks.zmq import Publisher as BlueskyPublisher

from tomolive.bench.brokers import HubBroker, KafkaMock, NatsBroker
from tomolive.errors import SettingsError
from tomolive.stream.engines.bridge import Bridge, State, StateFile
from tomolive.stream.messages import Position


class BridgeProcess:
    """``tomolive bridge`` as a process that can be killed."""

    def __init__(self, source: str, target: str, state) -> None:
        self.command = [
            sys.executable, "-m", "tomolive", "bridge", source, target, "--state", str(state),
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it, again with the same state."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)

    def wait_ready(self) -> None:
        """Wait until it has said that it passes documents on."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("from ")

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        """End it cleanly; return its exit code."""
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def bridge():
    """Start bridges; whatever lives at the end is killed."""
    bridges = []

    def start(source: str, target: str, state) -> BridgeProcess:
        bridges.append(BridgeProcess(source, target, state))
        return bridges[-1]

    yield start
    for one in bridges:
        one.kill()


@pytest.fixture
def broker_of(start_broker, tmp_path):
    """Start brokers, each in a folder of its own; all are killed at the end."""
    running = []

    def start(kind):
        running.append(start_broker(kind, tmp_path / f"broker-{len(running)}"))
        return running[-1]

    yield start
    for one in running:
        one.kill()


def test_documents_of_a_stock_proxy_reach_a_hub(broker_of, bridge, tmp_path, listen, make_run, wait_for):
    """An unmodified bluesky Publisher and Proxy feed a hub; the bridge ends cleanly on SIGTERM."""
    proxy = Proxy("127.0.0.1", "127.0.0.1")
    thread = threading.Thread(target=proxy.start, daemon=True)
    thread.start()
    hub = broker_of(HubBroker)
    host_in, host_out = (str(port).removeprefix("tcp://") for port in (proxy.in_port, proxy.out_port))
    passing = bridge(f"stock://{host_out}", hub.address, tmp_path / "state")
    passing.wait_ready()
    listener = listen(hub.address, start="new")
    publisher = BlueskyPublisher(host_in)
    run, probe = make_run(20), make_run(0)[0]
    wait_for(lambda: (publisher(*probe), time.sleep(0.05), bool(listener.documents))[-1])
    for name, doc in run:
        publisher(name, doc)
    wait_for(lambda: len(listener.of_run(run)) >= len(run))
    assert listener.of_run(run) == run
    publisher.close()
    assert passing.stop() == 0


@pytest.mark.parametrize("middle", [NatsBroker, KafkaMock])
def test_a_chain_of_bridges_keeps_every_document_once(
    middle, broker_of, bridge, tmp_path, publish, listen, make_run, wait_for
):
    """Hub to broker to another hub, with both bridges killed at random moments: all, once, in order."""
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    first, between, last = broker_of(HubBroker), broker_of(middle), broker_of(HubBroker)
    bridges = [
        bridge(first.address, between.address, tmp_path / "one"),
        bridge(between.address, last.address, tmp_path / "two"),
    ]
    for one in bridges:
        one.wait_ready()
    listener = listen(last.address, start="all")
    run = make_run(600)
    publisher = publish(first.address, run[:300])
    for victim in (*dice.sample(bridges, 2), dice.choice(bridges)):
        time.sleep(dice.uniform(0, 0.3))
        victim.kill()
        victim.start()
        victim.wait_ready()
    for name, doc in run[300:]:
        publisher(name, doc)
    wait_for(lambda: len(listener.documents) >= len(run))
    time.sleep(0.3)
    assert listener.documents == run, f"seed {seed}"


def test_a_document_that_was_spooled_and_not_noted_is_not_taken_again(
    broker_of, tmp_path, publish, listen, make_run, wait_for
):
    """The moment between spooling and noting may be the last one of a process."""
    source, target = broker_of(HubBroker), broker_of(HubBroker)
    run = make_run(5)
    publish(source.address, run)
    listener = listen(target.address, start="all")

    def pass_on(documents: int) -> None:
        bridge = Bridge(source.address, target.address, name="b", state=tmp_path / "state")
        idle = count()
        bridge.dispatcher.subscribe_idle(
            lambda: bridge.dispatcher.wait_ready(0) and next(idle) == 10 and bridge.stop()
        )
        bridge.run()
        assert bridge.passed == documents

    pass_on(len(run))
    wait_for(lambda: len(listener.documents) >= len(run))
    file = StateFile(tmp_path / "state")
    noted = file.read()
    assert noted is not None
    spool = tmp_path / "state" / "spool" / noted.spool
    _leave_a_spool(spool, run)
    file.write(State(Position(noted.position.epoch, noted.position.offset - 1), noted.spool, noted.count - 1))
    file.close()
    pass_on(0)
    assert listener.documents == run


def _leave_a_spool(path, run) -> None:
    """Put a spool there that holds a run of which everything has been sent."""
    from tomolive.stream import records
    from tomolive.stream.codec import encode
    from tomolive.stream.spool import Spool

    made = Spool.create(path.parent, "tcp://127.0.0.1:1", "test")
    for name, doc in run:
        made.append(encode(name, doc), records.STARTS_RUN if name == "start" else 0)
    made.acknowledge(made.last)
    made.abandon()
    made.path.rename(path)


def test_two_bridges_do_not_share_a_state(broker_of, tmp_path):
    """A second bridge of the same name says so instead of doing half of the work."""
    hub = broker_of(HubBroker)
    first = StateFile(tmp_path / "state")
    with pytest.raises(SettingsError, match="another bridge"):
        Bridge(hub.address, hub.address, state=tmp_path / "state")
    first.close()


def test_a_state_that_makes_no_sense_is_named(tmp_path):
    """A torn state file ends the bridge with its path, not with documents twice."""
    (tmp_path / "state.json").write_text("{nonsense")
    file = StateFile(tmp_path)
    with pytest.raises(SettingsError, match=r"state\.json"):
        file.read()
    file.close()
