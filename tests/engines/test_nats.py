"""What is particular to NATS JetStream: limits, what a stream loses, and bluesky-nats at the other end."""

import asyncio
import threading
import uuid

import msgspec
import nats
import numpy as np
import pytest

from tomolive.bench.brokers import NatsBroker
from tomolive.errors import AddressError
from tomolive.stream import records
from tomolive.stream.codec import encode
from tomolive.stream.engines import nats_wire
from tomolive.stream.engines.nats_courier import NatsCourier
from tomolive.stream.engines.nats_wire import Progress, Subjects
from tomolive.stream.engines.vetting import Document
from tomolive.stream.publisher import Publisher
from tomolive.stream.spool import Spool


@pytest.fixture(scope="module")
def server(start_broker, tmp_path_factory):
    """A NATS server that asks for no credentials."""
    with start_broker(NatsBroker, tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
def ask():
    """Run a coroutine with an ordinary client of the server."""

    def run(server, work):
        async def inside():
            client = await nats.connect(f"nats://127.0.0.1:{server.port}")
            try:
                return await work(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(inside())

    return run


# ---- addresses


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nats://127.0.0.1:4222/a b", "prefix"),
        ("nats://127.0.0.1:4222/scans?wire=pigeon", "wire"),
        ("nats://127.0.0.1:4222/scans?replicas=9", "replicas"),
        ("nats://127.0.0.1:4222/scans?colour=red", "colour"),
        ("nats://:4222", "HOST"),
        ("pulsar://127.0.0.1:6650/scans", "known are"),
    ],
)
def test_an_address_that_makes_no_sense_says_what_is_wrong(address, reason, tmp_path):
    """Mistakes in an address are found at once, by name."""
    with pytest.raises(AddressError, match=reason):
        Publisher(address, spool=tmp_path)


# ---- what the stream loses


def test_what_the_stream_let_go_of_is_reported(server, publish, listen, make_run, wait_for, caplog, ask):
    """A consumer whose documents retention has taken is told how many messages, and goes on."""
    address = server.place(f"let-go-{uuid.uuid4().hex[:8]}")
    stream = address.rpartition("/")[2]
    first = make_run(1)
    publish(address, first)
    reader = listen(address, name="late")
    wait_for(lambda: reader.documents == first)
    reader.stop()
    lost, kept = make_run(1), make_run(1)
    publish(address, lost)
    ask(server, lambda js: js.purge_stream(stream))
    publish(address, kept)
    again = listen(address, name="late")
    wait_for(lambda: again.documents == kept)
    assert "no longer has" in caplog.text


def test_what_waits_for_a_slow_consumer_stays_at_the_broker(server, publish, listen, make_run, wait_for):
    """A consumer asks for a few megabytes at a time, however much there is."""
    address = server.place(f"slow-{uuid.uuid4().hex[:8]}")
    run = make_run(60, data={"image": np.zeros(400_000, "u1")})
    publish(address, run)
    go_on, seen = threading.Event(), []
    listener = listen(address, lambda _name, doc: (go_on.wait(60), seen.append(doc["uid"])), start="all")
    wait_for(lambda: listener.dispatcher.behind > 0)
    assert listener.dispatcher.behind > 30
    go_on.set()
    wait_for(lambda: len(seen) >= len(run))
    assert seen == [doc["uid"] for _, doc in run]


def test_a_message_that_is_no_document_is_reported_and_passed_over(
    server, publish, listen, make_run, wait_for, caplog, ask
):
    """Garbage, damaged records, and documents of nobody's schema reach no callback and stop nobody."""
    address = server.place(f"garbage-{uuid.uuid4().hex[:8]}")
    prefix = address.rpartition("/")[2]
    run = make_run(2)
    publish(address, run[:2])

    async def send(js):
        for subject, payload in [
            ("start", b"\xc1"), ("event", msgspec.msgpack.encode({"uid": 5})), ("x.docs", b"TLR1 nonsense"),
            ("nonsense", b"{}"), ("event", msgspec.msgpack.encode([1, 2])),
        ]:  # fmt: skip
            await js.publish(f"{prefix}.{subject}", payload)
        await js.publish(f"{prefix}.x.docs", b"abc", headers={nats_wire.PART: "3/1/x"})

    ask(server, send)
    publish(address, run[2:])
    listener = listen(address, start="all")
    wait_for(lambda: len(listener.documents) >= len(run))
    assert listener.documents == run
    assert caplog.text.count("what is no document") == 6


# ---- no document twice


def _documents(sizes: list[int]) -> list[Document]:
    names = ["start", *["event"] * (len(sizes) - 1)]
    return [
        Document(number, name, {"uid": f"u{number}"}, bytes([65 + number]) * size)
        for number, (name, size) in enumerate(zip(names, sizes, strict=True), 1)
    ]


def test_documents_are_packed_into_messages_and_large_ones_cut_into_parts():
    """No message is beyond the limit, none mixes runs, and the parts of a record make the record."""
    documents = [*_documents([10, 30, 95, 20]), *_documents([10, 10])]
    sent = list(nats_wire.compose(documents, Subjects("p"), "me", 40, Progress()))
    assert max(len(message.payload) for message in sent) <= 40
    assert [message.subject for message in sent] == [
        "p.me.run.u1", "p.me.docs", "p.me.docs", "p.me.docs", "p.me.docs", "p.me.run.u1",
    ]  # fmt: skip
    assert b"".join(m.payload for m in sent) == b"".join(d.record for d in documents)
    assert [message.completes for message in sent] == [True, False, False, True, True, True]


def test_a_publisher_goes_on_in_the_middle_of_a_large_document():
    """After a break between two parts only the bytes that are not there are sent."""
    documents = _documents([10, 95])
    _, first, *_ = nats_wire.compose(documents, Subjects("p"), "me", 40, Progress())
    there = nats_wire.progress_of("me", first.behind(0).headers, first.payload, 7)
    assert there == Progress(1, 40, 7)
    rest = list(nats_wire.compose(documents[1:], Subjects("p"), "me", 40, there))
    assert first.payload + b"".join(message.payload for message in rest) == documents[1].record
    assert rest[0].behind(7).headers[nats_wire.PART] == "40/95/7"


def test_a_spool_that_was_sent_and_not_acknowledged_is_not_sent_again(
    server, listen, make_run, wait_for, tmp_path
):
    """A Publisher that died before it took the acknowledgement in leaves no document twice."""
    address = server.place(f"again-{uuid.uuid4().hex[:8]}")
    run = make_run(300)
    spool = Spool.create(tmp_path, address, "test")
    for name, doc in run:
        spool.append(encode(name, doc), records.STARTS_RUN if name == "start" else 0)
    courier = NatsCourier(address)
    courier.send(spool, "test", lambda: not spool.waiting)
    (spool.path / "acknowledged").write_bytes((5).to_bytes(8, "little"))  # as if it had died long before
    spool.abandon()
    heir = Spool.adopt(spool.path)
    assert heir is not None
    assert heir.waiting == len(run) - 5
    courier.send(heir, "test", lambda: not heir.waiting)
    more = make_run(1)
    for name, doc in more:
        heir.append(encode(name, doc), records.STARTS_RUN if name == "start" else 0)
    courier.send(heir, "test", lambda: not heir.waiting)
    heir.close()
    courier.close()
    listener = listen(address, start="all")
    wait_for(lambda: len(listener.documents) >= len(run) + len(more))
    assert listener.documents == run + more


# ---- bluesky-nats


THEIR_ARRAY = np.array([[1, 2], [3, 400]], "<u2")


@pytest.fixture
def their_stream(server, ask):
    """A stream such as a site with bluesky-nats has made by hand; return its subject."""
    subject = f"events-{uuid.uuid4().hex[:8]}.volatile"
    ask(server, lambda js: js.add_stream(name=subject.partition(".")[0], subjects=[f"{subject}.*"]))
    return subject


def test_what_bluesky_nats_publishes_is_understood(server, their_stream, listen, make_run, wait_for):
    """An unmodified bluesky-nats publisher's documents arrive, its arrays as the lists it makes of them."""
    theirs = pytest.importorskip(
        "bluesky_nats.nats_publisher", reason="bluesky-nats (GPL-3.0) is not installed"
    )
    from bluesky_nats.nats_runtime import NatsRuntime
    from bluesky_nats.outbox import Delivery, Outbox

    run = make_run(3, data={"image": THEIR_ARRAY})
    runtime = NatsRuntime("theirs")
    try:
        client = runtime.connect(nats.connect(f"nats://127.0.0.1:{server.port}"))
        outbox = Outbox(runtime, client, delivery=Delivery.CRITICAL)
        publisher = theirs.NATSPublisher(outbox, js=client.jetstream(), subject_factory=their_stream)
        for name, doc in run:
            publisher(name, doc)
    finally:
        runtime.close()
    listener = listen(server.place(their_stream.replace(".", "/")), start=run[0][1]["uid"])
    wait_for(lambda: len(listener.documents) >= len(run))
    assert [(name, doc["uid"]) for name, doc in listener.documents] == [(n, d["uid"]) for n, d in run]
    assert listener.documents[2][1]["data"]["image"] == THEIR_ARRAY.tolist()
    newest = listen(server.place(their_stream.replace(".", "/")), start="newest")
    wait_for(lambda: len(newest.documents) >= len(run))


def test_bluesky_nats_understands_what_we_publish_for_it(server, their_stream, publish, make_run, wait_for):
    """With wire=bluesky-nats an unmodified NATSDispatcher gets every document, in order."""
    theirs = pytest.importorskip(
        "bluesky_nats.nats_dispatcher", reason="bluesky-nats (GPL-3.0) is not installed"
    )
    run = make_run(20, data={"image": THEIR_ARRAY, "value": 1.5})
    publish(server.place(their_stream.replace(".", "/")) + "?wire=bluesky-nats", run)
    heard: list[tuple[str, dict]] = []

    async def consume() -> None:
        dispatcher = theirs.NATSDispatcher(
            f"{their_stream}.*", f"nats://127.0.0.1:{server.port}", their_stream.partition(".")[0],
            asyncio.get_running_loop(),
        )  # fmt: skip
        dispatcher.subscribe(lambda name, doc: heard.append((name, doc)))
        async with dispatcher:
            while len(heard) < len(run):
                await asyncio.sleep(0.01)
            dispatcher.loop = _NoStop()  # its stop() would end the test's own loop

    thread = threading.Thread(target=lambda: asyncio.run(asyncio.wait_for(consume(), 60)))
    thread.start()
    thread.join()
    assert [doc["uid"] for _, doc in heard] == [doc["uid"] for _, doc in run]
    assert heard[2][1]["data"] == {"image": THEIR_ARRAY.tolist(), "value": 1.5}


class _NoStop:
    @staticmethod
    def is_running() -> bool:
        return False


def test_messages_in_their_format_are_what_their_publisher_makes(make_run):
    """Subject, header and body as bluesky-nats 2.0.1 writes them; what it has no way to write is refused."""
    ormsgpack = pytest.importorskip("ormsgpack")
    run = make_run(2, data={"image": THEIR_ARRAY, "value": np.float64(2.5)})
    documents = [Document(number, name, doc, b"") for number, (name, doc) in enumerate(run, 1)]
    documents.append(Document(9, "event", {"uid": "x", "data": {"z": np.array([1j])}}, b""))
    sent = list(nats_wire.compose_theirs(documents, "events.volatile", "me", 1 << 20))
    assert [message.subject for message in sent] == [f"events.volatile.{name}" for name, _ in run]
    assert {message.headers["run_id"] for message in sent} == {run[0][1]["uid"]}
    options = ormsgpack.OPT_NAIVE_UTC | ormsgpack.OPT_SERIALIZE_NUMPY
    expected = [ormsgpack.unpackb(ormsgpack.packb(doc, option=options)) for _, doc in run]
    assert [ormsgpack.unpackb(message.payload) for message in sent] == expected
    assert [nats_wire.decode_theirs(m.subject, m.payload)[1] for m in sent] == expected
