"""Carries spools to Kafka: an idempotent producer, all replicas, and the last number looked up first."""

import logging
from collections.abc import Callable

from confluent_kafka import KafkaError, Message, Producer

from tomolive.errors import CodecError
from tomolive.stream.courier import Courier
from tomolive.stream.engines import msgpack_numpy, vetting
from tomolive.stream.engines.kafka_link import (
    PUBLISHER,
    SEQ,
    Target,
    Topic,
    Trouble,
    UnavailableError,
    answers,
    client_of,
    identity,
    partition_of,
)
from tomolive.stream.sparing import SparingFilter
from tomolive.stream.spool import Spool

log = logging.getLogger(__name__)
log.addFilter(SparingFilter())

_BATCH_DOCUMENTS = 256
_BATCH_BYTES = 1 << 20
_WINDOW_DOCUMENTS = 2048
_WINDOW_BYTES = 16 << 20
_IDLE_SECONDS = 0.05
_AWAY_SECONDS = 0.5
_SLACK_SECONDS = 60.0


class KafkaCourier(Courier):
    """Sends one message for each document, in bluesky-kafka's format, to one partition for each Publisher.

    The producer keeps their order and writes each once; a new one, after a break, begins behind the last
    number of this Publisher in the partition.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._target = Target.parse(address)
        self.singly = False
        """Send each document in a batch of its own."""

    def send(self, spool: Spool, name: str, until: Callable[[], bool]) -> None:
        """Send ``spool`` until ``until()``; a broker that is away is waited for."""
        while not until():
            session = _Session(self, self._target, spool)
            try:
                session.run(name, until)
            except UnavailableError as error:
                log.warning("documents stay in the spool: %s", error)
                self.sleep(_AWAY_SECONDS, until)
            finally:
                session.close()

    def close(self) -> None:
        """Nothing is kept between spools."""


class _Session:
    """One producer, from where the topic ends."""

    def __init__(self, courier: KafkaCourier, target: Target, spool: Spool) -> None:
        self._courier, self._target, self._spool = courier, target, spool
        self._trouble = Trouble(target)
        self._producer: Producer | None = None
        self._failed: KafkaError | None = None
        self._bytes = self._count = 0
        """Of messages under way."""
        self._done_to = 0
        """All documents up to this number have been given to the producer, or were refused."""

    def run(self, name: str, until: Callable[[], bool]) -> None:
        """Send until ``until()``.

        Raises
        ------
        UnavailableError
            if a message was not kept; all that follow it must be sent again.
        """
        spool, publisher = self._spool, self._spool.publisher.hex()
        topic = Topic(self._target, self._trouble)
        partition, last = self._look(topic, publisher)
        spool.acknowledge(min(last, spool.last))
        limit = topic.limit()
        producer = self._producer = self._make_producer(name, limit)
        following = spool.acknowledged + 1
        while not until():
            self._settle(producer)
            room = _WINDOW_DOCUMENTS - self._count
            if room <= 0 or self._bytes >= _WINDOW_BYTES:
                producer.poll(_IDLE_SECONDS)
                continue
            batch = spool.read(following, min(room, _BATCH_DOCUMENTS), _BATCH_BYTES)
            if batch.count:
                # After a broker has forgotten what it had, an idempotent producer takes no more.
                with answers(self._target, self._trouble):
                    for document in vetting.documents(batch.data):
                        self._produce(producer, partition, publisher, document, limit)
                following = self._done_to = batch.first + batch.count
            elif self._count:
                producer.poll(_IDLE_SECONDS)
            else:
                self._courier.sleep(_IDLE_SECONDS, lambda first=following: spool.last >= first)

    def close(self) -> None:
        """Forget what is under way; it is looked up before it is sent again."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.poll(0)

    def _look(self, topic: Topic, publisher: str) -> tuple[int, int]:
        """Return the partition, and the number of this Publisher's last document in it."""
        consumer = topic.consumer()
        made = (self._spool.path / "publisher.json").stat().st_mtime - _SLACK_SECONDS
        try:
            partition = partition_of(publisher, topic.partitions(consumer))
            for window in topic.backwards(consumer, partition):
                ours = [
                    found for found in map(identity, window) if found and found[0] == self._spool.publisher
                ]
                if ours:
                    return partition, max(seq for _, seq in ours)
                if window and window[0].timestamp()[1] / 1000 < made:
                    break  # older than this Publisher
            return partition, 0
        finally:
            consumer.close()

    def _make_producer(self, name: str, limit: int) -> Producer:
        return client_of(
            Producer,
            self._target.settings(self._trouble)
            | {
                "client.id": f"tomolive {name}", "enable.idempotence": True, "acks": "all", "linger.ms": 0,
                "message.timeout.ms": 0,
                "message.max.bytes": max(limit, 1000), "batch.size": max(limit, 1000),
                "batch.num.messages": 1 if self._courier.singly else 10_000,
            },
        )  # fmt: skip

    def _produce(
        self, producer: Producer, partition: int, publisher: str, document: vetting.Document, limit: int
    ) -> None:
        try:
            body = msgpack_numpy.encode(document.name, document.doc)
        except CodecError as error:
            vetting.refuse(document.name, document.doc, str(error))
            return
        if len(body) > limit:
            vetting.refuse(
                document.name, document.doc,
                f"{len(body)} bytes; {self._target} takes {limit} (max.message.bytes of the topic)",
            )  # fmt: skip
            return

        def note(error: KafkaError | None, _message: Message) -> None:
            self._count -= 1
            self._bytes -= len(body)
            if error is not None:
                self._failed = self._failed or error
            elif self._failed is None:
                self._spool.acknowledge(document.seq)

        def note_size(error: KafkaError | None, message: Message) -> None:
            """Refuse what the broker finds too large; it refuses a batch as a whole, so go singly first."""
            if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                if self._courier.singly:
                    vetting.refuse(document.name, document.doc, f"{len(body)} bytes: {error.str()}")
                    error = None
                self._courier.singly = True
            note(error, message)

        self._count += 1
        self._bytes += len(body)
        headers: list = [(PUBLISHER, publisher.encode()), (SEQ, str(document.seq).encode())]
        producer.produce(self._target.topic, body, publisher.encode(), partition, note_size, headers=headers)

    def _settle(self, producer: Producer) -> None:
        """Take acknowledgements in."""
        producer.poll(0)
        self._trouble.look()
        if self._failed is not None:
            raise UnavailableError(f"{self._target} did not keep a message: {self._failed.str()}")
        if not self._count and self._done_to:
            self._spool.acknowledge(self._done_to - 1)  # the last ones may have been refused
