"""The hub, over real sockets."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import zmq
from bluesky.callbacks.zmq import Publisher as StockPublisher
from bluesky.callbacks.zmq import RemoteDispatcher as StockDispatcher
from prometheus_client import REGISTRY

from tomolive.errors import AddressError, JournalError
from tomolive.stream import health, messages, records
from tomolive.stream.codec import encode
from tomolive.stream.hub import Hub, HubSettings

TIMEOUT = 60
ANY = "127.0.0.1:0"


def test_a_run_arrives_whole_and_in_order(hub, publishing, listen, make_run, wait_for):
    """Everything published reaches a consumer, equal and in order."""
    run = make_run(500)
    listener = listen(hub.native)
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        assert publish.flush(TIMEOUT)
    wait_for(lambda: len(listener.documents) >= len(run))
    assert listener.documents == run


def test_a_late_consumer_gets_the_newest_run_from_its_start(hub, publishing, listen, make_run, wait_for):
    """A consumer that joins after the run began misses nothing of it, and sees nothing of earlier runs."""
    earlier, run = make_run(10), make_run(50)
    with publishing(hub.native) as publish:
        for name, doc in [*earlier, *run[:30]]:
            publish(name, doc)
        assert publish.flush(TIMEOUT)
        listener = listen(hub.native, start="newest")
        for name, doc in run[30:]:
            publish(name, doc)
        wait_for(lambda: len(listener.documents) >= len(run))
    assert listener.documents == run


@pytest.mark.parametrize("begin", ["all", "uid", "short uid", "new"])
def test_a_consumer_says_where_to_begin(begin, hub, publishing, listen, make_run, wait_for):
    """All documents, one run by its uid (or how it begins), or only new ones."""
    first, second, third = make_run(5), make_run(5), make_run(5)
    wanted = {"all": [*first, *second, *third], "new": third}.get(begin, [*second, *third])
    with publishing(hub.native) as publish:
        for name, doc in [*first, *second]:
            publish(name, doc)
        assert publish.flush(TIMEOUT)
        uid = second[0][1]["uid"]
        listener = listen(hub.native, start={"uid": uid, "short uid": uid[:8]}.get(begin, begin))
        for name, doc in third:
            publish(name, doc)
        wait_for(lambda: len(listener.documents) >= len(wanted))
    assert listener.documents == wanted


def test_an_unknown_run_is_refused_by_name(hub, listen):
    """Asking for a run that is not in the journal is an error, not an endless wait."""
    listener = listen(hub.native, start="no-such-run", wait=False)
    listener.join()
    assert isinstance(listener.error, AddressError)
    assert "no-such-run" in str(listener.error)


def test_a_hub_restart_is_invisible(hub, publishing, listen, make_run, wait_for):
    """Publisher and consumer go on by themselves; nothing is lost or doubled."""
    run = make_run(300)
    listener = listen(hub.native)
    with publishing(hub.native) as publish:
        for number, (name, doc) in enumerate(run):
            publish(name, doc)
            if number in {50, 150}:
                hub.stop()
                hub.start()
        assert publish.flush(TIMEOUT)
    wait_for(lambda: len(listener.documents) >= len(run))
    assert listener.documents == run


def test_a_name_alone_brings_no_document_twice(hub, publishing, listen, make_run, wait_for, tmp_path):
    """A hub that was killed before it saved a cursor hears from the consumer how far it had come."""
    run, later = make_run(20), make_run(5)
    before = listen(hub.native, name="archive", start="all")
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        wait_for(lambda: len(before.documents) == len(run))
        wait_for(lambda: hub.hub.exchange.cursors.get("archive") is not None)
        hub.stop()
        kept = tmp_path / "journal" / "cursors.json"
        ((epoch, *_),) = json.loads(kept.read_text()).values()
        kept.write_text(json.dumps({"archive": [epoch, 3]}))
        hub.start()
        wait_for(lambda: bool(hub.hub.exchange.consumers))
        before.stop()
        after = listen(hub.native, name="archive")
        for name, doc in later:
            publish(name, doc)
        wait_for(lambda: later[-1] in after.documents)
    assert after.documents == later


def test_stock_publisher_and_dispatcher(hub, listen, make_run, wait_for):
    """Unmodified bluesky classes with their defaults talk to the hub, and to ours through it."""
    run = make_run(20)
    ours = listen(hub.native)
    heard = []
    stock = StockDispatcher(hub.stock_out.removeprefix("tcp://"))
    stock.subscribe(lambda name, doc: heard.append((name, doc)))
    theirs = StockPublisher(hub.stock_in.removeprefix("tcp://"))
    thread = threading.Thread(target=_run_stock, args=(stock,))
    thread.start()
    wait_for(lambda: hub.hub.stock_listeners > 0)
    first = make_run(1)
    wait_for(
        lambda: theirs("start", first[0][1]) or ours.documents
    )  # a PUB socket drops until it is connected
    skipped = [document for document in ours.documents if document == first[0]]
    for name, doc in run:
        theirs(name, doc)
    wait_for(lambda: run[-1] in ours.documents and run[-1] in heard)
    stock.loop.call_soon_threadsafe(stock._task.cancel)
    thread.join(TIMEOUT)
    theirs.close()
    assert skipped
    assert [document for document in ours.documents if document != first[0]] == run
    assert [document for document in heard if document != first[0]] == run


@pytest.fixture
def stock_sub(hub, wait_for):
    """Make sockets that listen as bluesky's RemoteDispatcher does."""
    context = zmq.Context()
    made: list[zmq.Socket] = []

    def make(**options: int) -> zmq.Socket:
        known = hub.hub.stock_listeners
        sub = context.socket(zmq.SUB)
        made.append(sub)
        for option, value in options.items():
            sub.set(getattr(zmq, option), value)
        sub.connect(hub.stock_out)
        sub.subscribe(b"")
        wait_for(lambda: hub.hub.stock_listeners > known)
        return sub

    yield make
    for sub in made:
        sub.close(linger=0)
    context.term()


def long_run(make_run) -> list[tuple[str, dict]]:
    """Make a run that no queue of sockets holds."""
    run = make_run(5000)
    for _, doc in run[2:-1]:
        doc["data"] = {**doc["data"], "motor_0": "x" * 4000}
    return run


def test_a_stock_listener_that_is_busy_for_a_moment_loses_nothing(
    hub, publishing, make_run, stock_sub, wait_for
):
    """More documents than fit into its queues wait in the journal until it listens again."""
    run = long_run(make_run)
    sub = stock_sub(RCVBUF=1 << 16)
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        assert publish.flush(TIMEOUT)
    wait_for(lambda: hub.hub._stock_feed.waiting)
    heard = 0
    while heard < len(run) and sub.poll(TIMEOUT * 1000):
        sub.recv()
        heard += 1
    assert heard == len(run)


def test_a_stock_listener_that_is_stuck_holds_nobody_up(
    hub, publishing, make_run, stock_sub, monkeypatch, caplog
):
    """It loses documents after a while, which is counted and said; the others get everything."""
    monkeypatch.setattr("tomolive.stream.stock_feed.PATIENCE_SECONDS", 0.5)
    lost = REGISTRY.get_sample_value("tomolive_hub_stock_lost_total") or 0.0
    stock_sub(RCVHWM=1, RCVBUF=1 << 16)
    good = stock_sub(RCVHWM=0)
    run = long_run(make_run)
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        heard = 0
        while heard < len(run) and good.poll(TIMEOUT * 1000):
            good.recv()
            heard += 1
    assert heard == len(run)
    assert (REGISTRY.get_sample_value("tomolive_hub_stock_lost_total") or 0.0) > lost
    assert "took nothing" in caplog.text


def _run_stock(dispatcher: StockDispatcher) -> None:
    with pytest.raises(asyncio.CancelledError):
        dispatcher.start()


def test_an_invalid_document_is_refused_and_the_rest_goes_on(
    hub, publishing, listen, make_run, wait_for, caplog, tmp_path
):
    """The Publisher hears its name and why, the side log keeps it, no consumer sees it, the others flow."""
    run = make_run(3)
    bad = ("event", {**run[2][1], "seq_num": "three"})
    listener = listen(hub.native)
    with publishing(hub.native) as publish, caplog.at_level(logging.ERROR):
        for name, doc in [*run[:3], bad, *run[3:]]:
            publish(name, doc)
        wait_for(lambda: len(listener.documents) >= len(run))
        wait_for(lambda: "the hub refused the event document" in caplog.text)
    assert listener.documents == run
    kept = [json.loads(line) for line in (tmp_path / "journal" / "refused.jsonl").read_text().splitlines()]
    assert [(entry["document"], entry["uid"]) for entry in kept] == [("event", bad[1]["uid"])]
    assert "seq_num" in kept[0]["reason"]


def test_a_slow_consumer_slows_nobody(hub, publishing, listen, make_run, wait_for):
    """One that is stuck in a callback gets everything later; the other has it all by then."""
    run = make_run(5000)
    go_on = threading.Event()
    slow = listen(hub.native)
    slow.dispatcher.subscribe(lambda _name, _doc: go_on.wait(TIMEOUT), name="start")
    quick = listen(hub.native)
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        wait_for(lambda: len(quick.documents) == len(run))
        assert len(slow.documents) <= 1
        go_on.set()
        wait_for(lambda: len(slow.documents) == len(run))
    assert slow.documents == quick.documents == run


def test_a_greedy_publisher_does_not_fill_the_memory(tmp_path):
    """What one peer sends without waiting stays, all but a few documents, on its own side."""
    anywhere = [f"--{port}={ANY}" for port in ("native", "in", "out", "http")]
    command = [sys.executable, "-m", "tomolive", "hub", "--journal", tmp_path, "--fsync=never", *anywhere]
    publisher, largest = b"greedy publisher", 16 << 20
    hello = messages.encode(messages.Hello(1, publisher, "greedy", 1))
    head = messages.encode(messages.Publish(1, 0))
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hub,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as greedy,
    ):
        try:
            assert hub.stdout is not None
            greedy.set(zmq.LINGER, 0)
            greedy.set(zmq.RCVTIMEO, TIMEOUT * 1000)
            greedy.connect(hub.stdout.readline().split()[2].rstrip(","))
            greedy.send(hello)
            assert isinstance(messages.from_hub(*greedy.recv_multipart()), messages.Welcome)
            blob = records.pack(publisher, 1, encode("event", {"x": np.zeros(largest, np.uint8)}))
            for _ in range(60):
                greedy.send_multipart([head, blob], copy=False)
            greedy.send(hello)
            while not isinstance(messages.from_hub(*greedy.recv_multipart()), messages.Welcome):
                pass
            status = Path(f"/proc/{hub.pid}/status").read_text()
        finally:
            hub.terminate()
    (peak,) = [int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")]
    assert peak < 40 * largest


def test_a_taken_port_is_one_plain_error(hub, tmp_path):
    """A second hub on the same port says which port, and how to choose another."""
    taken = hub.native.removeprefix("tcp://")
    with pytest.raises(AddressError, match=rf"{taken}.*--native HOST:PORT"):
        Hub(HubSettings(journal=tmp_path / "other", native=taken, stock_in="127.0.0.1:0"))


def test_a_hub_that_cannot_start_lets_go_of_the_journal(tmp_path):
    """Where cursors.json cannot be read, the error says so, and the next hub can have the journal."""
    settings = HubSettings(tmp_path / "journal", native=ANY, stock_in=ANY, stock_out=ANY)
    in_the_way = tmp_path / "journal" / "cursors.json"
    in_the_way.mkdir(parents=True)
    with pytest.raises(JournalError, match=r"cursors\.json: Is a directory"):
        Hub(settings)
    in_the_way.rmdir()
    Hub(settings).close()


def test_a_full_disk_makes_publishers_wait(make_hub, publishing, make_run, wait_for, monkeypatch):
    """A disk that takes nothing is a reason to wait, with --fsync always as well: no document is lost."""
    hub = make_hub(fsync="always")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with publishing(hub.native) as publish:
        with monkeypatch.context() as patch:
            patch.setattr("tomolive.stream.segments.os.fdatasync", full)
            for name, doc in make_run(3):
                publish(name, doc)
            wait_for(lambda: "No space left" in hub.hub.exchange.full)
        assert publish.flush(TIMEOUT)
    assert hub.hub.journal.head == 6


def test_a_journal_has_one_hub(hub, tmp_path):
    """A second hub on the same journal is refused, so that no two write to it."""
    any_port = "127.0.0.1:0"
    with pytest.raises(JournalError, match="in use by another hub"):
        Hub(HubSettings(tmp_path / "journal", native=any_port, stock_in=any_port, stock_out=any_port))


def test_the_network_needs_keys_or_a_word(tmp_path):
    """Without keys the hub listens on loopback only, unless told to."""
    with pytest.raises(AddressError, match="--insecure"):
        Hub(HubSettings(journal=tmp_path, native="0.0.0.0:0"))


def test_a_stranger_is_cut_off_alone(hub, publishing, listen, make_run, wait_for):
    """Messages that make no sense get an answer and do no harm."""
    run = make_run(50)
    listener = listen(hub.native)
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.set(zmq.LINGER, 0)
    stranger.connect(hub.native)
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
            stranger.send_multipart([b"\xc1garbage", b"more", b"and more"])
        assert stranger.poll(TIMEOUT * 1000)
        with socket.create_connection(("127.0.0.1", int(hub.native.rpartition(":")[2]))) as raw:
            raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        wait_for(lambda: len(listener.documents) >= len(run))
    context.destroy(linger=0)
    assert listener.documents == run


def test_health_and_metrics(hub, publishing, make_run, wait_for):
    """/healthz says ok, /metrics counts the documents."""
    with publishing(hub.native) as publish:
        for name, doc in make_run(7):
            publish(name, doc)
        assert publish.flush(TIMEOUT)
    with health.serve("127.0.0.1:0", hub.hub.health) as page:
        with urllib.request.urlopen(f"{page}/healthz") as answer:  # noqa: S310
            assert json.load(answer)["ok"]

        def counted() -> bool:
            with urllib.request.urlopen(f"{page}/metrics") as answer:  # noqa: S310
                return "tomolive_hub_journal_documents 10.0" in answer.read().decode()

        wait_for(counted)
