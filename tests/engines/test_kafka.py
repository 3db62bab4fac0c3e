"""What is particular to Kafka: bluesky-kafka at the other end, its format, credentials, and refusals."""

import logging
import pickle
import uuid
import warnings

import msgpack
import msgspec
import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from tomolive.bench.brokers import KafkaMock
from tomolive.errors import AddressError, CodecError, SettingsError
from tomolive.stream.engines import kafka_courier, msgpack_numpy
from tomolive.stream.engines.kafka_link import Target
from tomolive.stream.engines.vetting import Sequence
from tomolive.stream.publisher import Publisher

ARRAYS = {
    "big_endian": np.array([1, 2, 70000], ">u4"),
    "zero_d": np.array(2.5, "<f8"),
    "structured": np.array([(1, 2.5), (3, 4.5)], [("n", "<i4"), ("x", ">f4")]),
    "not_contiguous": np.arange(24, dtype="<u2").reshape(4, 6)[::2, 1::2],
    "flags": np.array([True, False]),
    "number": 1.5,
}


@pytest.fixture(scope="module")
def server(start_broker, tmp_path_factory):
    """A broker that speaks Kafka's protocol."""
    with start_broker(KafkaMock, tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="module")
def bluesky_kafka():
    """bluesky-kafka as it is; importing it makes msgpack read and write numpy arrays its way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old packages that it imports
        return pytest.importorskip("bluesky_kafka")


def _same(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(
        np.asarray(ours[key]).dtype == np.asarray(theirs[key]).dtype
        and np.asarray(ours[key]).tobytes() == np.asarray(theirs[key]).tobytes()
        for key in ours
    )


# ---- bluesky-kafka


def test_what_bluesky_kafka_publishes_is_understood(server, bluesky_kafka, listen, make_run, wait_for):
    """An unmodified bluesky-kafka Publisher's documents arrive, arrays and all."""
    topic = f"theirs-{uuid.uuid4().hex[:8]}"
    run = make_run(5, data=ARRAYS)
    listener = listen(server.place(topic), start="all")
    publisher = bluesky_kafka.Publisher(topic, f"127.0.0.1:{server.port}", key="beamline")
    for name, doc in run:
        publisher(name, doc)
    publisher.flush()
    wait_for(lambda: len(listener.documents) >= len(run))
    assert [(name, doc["uid"]) for name, doc in listener.documents] == [(n, d["uid"]) for n, d in run]
    assert _same(listener.documents[2][1]["data"], ARRAYS)
    newest = listen(server.place(topic), start="newest")
    wait_for(lambda: len(newest.documents) >= len(run))


def test_bluesky_kafka_understands_what_we_publish(server, bluesky_kafka, publish, make_run):
    """An unmodified bluesky-kafka RemoteDispatcher gets every document of ours, in order, arrays and all."""
    topic = f"ours-{uuid.uuid4().hex[:8]}"
    run = make_run(30, data=ARRAYS)
    publish(server.place(topic), run)
    heard: list[tuple[str, dict]] = []
    dispatcher = bluesky_kafka.RemoteDispatcher(
        [topic], f"127.0.0.1:{server.port}", f"group-{topic}", {"auto.offset.reset": "earliest"}
    )
    dispatcher.subscribe(lambda name, doc: heard.append((name, doc)))
    dispatcher.start(continue_polling=lambda: len(heard) < len(run))
    assert [(name, doc["uid"]) for name, doc in heard] == [(name, doc["uid"]) for name, doc in run]
    assert _same(heard[2][1]["data"], ARRAYS)


def test_the_format_is_what_msgpack_numpy_reads_and_writes(make_run):
    """Both ways, to the bit, without a broker between."""
    theirs = pytest.importorskip("msgpack_numpy")
    for name, doc in make_run(1, data=ARRAYS):
        back_name, back = msgpack.unpackb(msgpack_numpy.encode(name, doc), object_hook=theirs.decode)
        again_name, again = msgpack_numpy.decode(msgpack.packb([name, doc], default=theirs.encode))
        assert back_name == again_name == name
        if name == "event":
            assert _same(back["data"], ARRAYS)
            assert _same(again["data"], ARRAYS)
            back["data"] = again["data"] = doc["data"] = {}
        assert back == again == doc


# ---- nothing is run, nothing is believed


def _poisoned(array: dict) -> bytes:
    return msgspec.msgpack.encode(["event", {"uid": "x", "data": {"image": array}}])


@pytest.mark.parametrize(
    "body",
    [
        _poisoned({b"nd": True, b"kind": b"O", b"type": "|O", b"shape": [1], b"data": pickle.dumps([1])}),
        _poisoned({b"nd": True, b"kind": b"", b"type": "|O", b"shape": [1], b"data": bytes(8)}),
        _poisoned({b"nd": True, b"kind": b"", b"type": "<f8", b"shape": [10**12], b"data": bytes(8)}),
        _poisoned({b"nd": True, b"kind": b"", b"type": "<f8", b"shape": [-1], b"data": bytes(8)}),
        _poisoned({b"nd": True, b"kind": b"", b"type": "<f8", b"shape": [1]}),
        _poisoned({b"complex": True, b"data": "__import__('os')"}),
        _poisoned({5: 6}),
        msgspec.msgpack.encode(["nobody", {}]),
        msgspec.msgpack.encode({"start": 1}),
        b"\xc1",
        b"",
        b"\x91" * 500_000,
        msgspec.msgpack.encode(["event", msgspec.msgpack.Ext(5, b"x")]),
    ],
)
def test_a_message_that_is_no_document_is_refused(body):
    """Pickles, lies about sizes, unknown names and garbage are CodecErrors, nothing else."""
    with pytest.raises(CodecError):
        msgpack_numpy.decode(body)


def test_garbage_in_a_topic_stops_nobody(server, publish, listen, make_run, wait_for, caplog):
    """Documents around a poisoned message arrive; the message is reported with its place."""
    topic = f"garbage-{uuid.uuid4().hex[:8]}"
    run = make_run(2)
    publish(server.place(topic), run[:2])
    poison = Producer({"bootstrap.servers": f"127.0.0.1:{server.port}"})
    poison.produce(topic, _poisoned({b"nd": True, b"kind": b"O", b"data": pickle.dumps([1])}))
    poison.produce(topic, msgspec.msgpack.encode(["event", {"uid": "no-such-event"}]))
    poison.flush()
    publish(server.place(topic), run[2:])
    listener = listen(server.place(topic), start="all")
    wait_for(lambda: len(listener.documents) >= len(run))
    wait_for(lambda: caplog.text.count("what is no document") == 2)
    assert listener.of_run(run) == [d for d in listener.documents if d[1]["uid"] != "no-such-event"]
    assert len(listener.documents) == len(run)


# ---- brokers that forget


def test_a_producer_that_has_given_up_is_replaced(server, publish, listen, make_run, wait_for, monkeypatch):
    """A broker that forgot what it had ends an idempotent producer; a new one goes on, nothing is doubled."""
    made: list[object] = []

    class GivesUp:
        """The client's producer; the first one made gives up at its third document."""

        def __init__(self, settings) -> None:
            self._inner, self._first, self._given = Producer(settings), not made, 0
            made.append(self)

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def produce(self, *arguments, **more) -> None:
            self._given += 1
            if self._first and self._given == 3:
                raise KafkaException(KafkaError(KafkaError._FATAL, "on purpose", fatal=True))
            self._inner.produce(*arguments, **more)

    monkeypatch.setattr(kafka_courier, "Producer", GivesUp)
    topic, run = f"gives-up-{uuid.uuid4().hex[:8]}", make_run(20)
    publish(server.place(topic), run)
    listener = listen(server.place(topic), start="all")
    wait_for(lambda: len(listener.documents) >= len(run))
    assert listener.documents == run
    assert len(made) == 2


# ---- addresses and credentials


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("kafka://127.0.0.1:9092/two words", "topic"),
        ("kafka://127.0.0.1:9092/t?partitions=0", "partitions"),
        ("kafka://127.0.0.1:9092/t?colour=red", "colour"),
        ("kafka:///t", "HOST"),
    ],
)
def test_an_address_that_makes_no_sense_says_what_is_wrong(address, reason, tmp_path):
    """Mistakes in an address are found at once, by name."""
    with pytest.raises(AddressError, match=reason):
        Publisher(address, spool=tmp_path)


def test_credentials_become_the_settings_of_the_client(monkeypatch, tmp_path):
    """User, password, TLS and a site's own settings file arrive at librdkafka under its names."""
    monkeypatch.setenv("TOMOLIVE_KAFKA_PASSWORD", "s3cret")
    more = tmp_path / "kafka.yml"
    more.write_text("client.rack: beamline\n")
    target = Target.parse(f"kafka://alice@one:9093,two:9094/scans?ca=/ca.pem&mechanism=PLAIN&config={more}")
    settings = target.settings(lambda _error: None)
    assert settings["bootstrap.servers"] == "one:9093,two:9094"
    assert settings["security.protocol"] == "SASL_SSL"
    assert (settings["sasl.username"], settings["sasl.password"]) == ("alice", "s3cret")
    assert (settings["sasl.mechanism"], settings["ssl.ca.location"]) == ("PLAIN", "/ca.pem")
    assert settings["client.rack"] == "beamline"
    assert "s3cret" not in f"{target} {target!r}"


def test_a_password_is_not_shown_by_a_publisher_that_cannot_connect(tmp_path, make_run, caplog, free_port):
    """Neither log nor spool holds it; without a broker the documents wait."""
    caplog.set_level(logging.DEBUG)
    publisher = Publisher(f"kafka://alice:s3cret-word@127.0.0.1:{free_port}/t", spool=tmp_path / "spool")
    for name, doc in make_run(1):
        publisher(name, doc)
    assert not publisher.flush(1.0)
    publisher.close(0)
    left = [file.read_bytes() for file in (tmp_path / "spool").rglob("*") if file.is_file()]
    assert left
    assert not any(b"s3cret-word" in text for text in (*left, caplog.text.encode()))


def test_a_settings_file_that_is_none_is_named(tmp_path):
    """What cannot be read as settings is an error with the file's path."""
    (tmp_path / "kafka.yml").write_text("- a list\n")
    target = Target.parse(f"kafka://one:9093/scans?config={tmp_path}/kafka.yml")
    with pytest.raises(SettingsError, match=r"kafka\.yml"):
        target.settings(lambda _error: None)


def test_a_document_that_came_again_is_told_from_a_new_one():
    """Numbers of a Publisher only grow; the Publishers that were silent longest are forgotten."""
    seen = Sequence(most=2)
    told = [seen.is_new(b"a", 1), seen.is_new(b"a", 1), seen.is_new(b"b", 1), seen.is_new(b"a", 3)]
    assert told == [True, False, True, True]
    assert not seen.is_new(b"a", 2)
    seen.is_new(b"c", 1)
    assert seen.is_new(b"b", 1)
