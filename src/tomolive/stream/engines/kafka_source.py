"""Documents of a Kafka topic: in order for each run, resumed after every break."""

import logging
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tomolive.errors import AddressError, DocumentError
from tomolive.metrics import DISPATCHER_DOCUMENTS, DISPATCHER_LOST
from tomolive.stream.derived import is_result
from tomolive.stream.engines import msgpack_numpy
from tomolive.stream.engines.kafka_link import TIMEOUT, Target, Topic, Trouble, UnavailableError, identity
from tomolive.stream.engines.kafka_position import position_of, vector_of
from tomolive.stream.engines.vetting import Sequence
from tomolive.stream.messages import Position
from tomolive.stream.protocol import DeniedError
from tomolive.stream.sources import Documents
from tomolive.stream.sparing import SparingFilter
from tomolive.stream.validate import check

log = logging.getLogger(__name__)
log.addFilter(SparingFilter())

_POLL_SECONDS = 0.05
_AWAY_SECONDS = 0.5
_COMMIT_SECONDS = 0.05
_PARTING_SECONDS = 2.0
_AT_ONCE = 256
_START = b"\x92\xa5start"


class KafkaSource:
    """Gives the documents of a topic; implements ``sources.Source``.

    The partitions are taken by hand: a group that shares them out moves them about, and takes seconds to.
    The cursor is the offsets that the broker keeps for the group of its name.
    """

    def __init__(self, address: str, name: str, start: str, position: Position | None) -> None:
        self._target = Target.parse(address)
        self._name, self._start = name, start
        self.ready = threading.Event()
        self.position = position
        self.behind = 0
        self._wanted = position
        self._trouble = Trouble(self._target)
        self._topic = Topic(self._target, self._trouble, f"tomolive-{name}" if name else "tomolive")
        self._next: dict[int, int] = {}
        """Partition -> offset behind the document that was given last."""
        self._done: dict[int, int] = {}
        """The same of the documents whose callbacks have returned."""
        self._committed: dict[int, int] = {}
        self._commit_due = 0.0
        self._sequence = Sequence()

    def documents(self, stopped: threading.Event) -> Documents:
        """Yield documents until ``stopped``; the broker may come and go meanwhile.

        Raises
        ------
        AddressError
            if the broker refuses this consumer, or there is no such run.
        """
        try:
            while not stopped.is_set():
                consumer = self._topic.consumer()
                try:
                    self._begin(consumer)
                    self.ready.set()
                    yield from self._talk(consumer, stopped)
                except UnavailableError as error:
                    log.warning("%s", error)
                    until = time.monotonic() + _AWAY_SECONDS
                    while time.monotonic() < until and not stopped.wait(_POLL_SECONDS):
                        yield None
                finally:
                    self._part(consumer)
        except DeniedError as error:
            raise AddressError(str(error)) from None

    def _talk(self, consumer: Consumer, stopped: threading.Event) -> Documents:
        while not stopped.is_set():
            first = consumer.poll(_POLL_SECONDS)  # consume() would wait until there are many
            messages = [first, *consumer.consume(_AT_ONCE, 0)] if first is not None else []
            self._trouble.look()
            self._commit(consumer)
            given = False
            for message in messages:
                if message.error() is not None:
                    self._note_error(message.error())
                    continue
                given = True
                yield from self._unpack(consumer, message)
                if stopped.is_set():
                    return
                self._commit(consumer)
            if not given:
                yield None

    # ---- where to begin

    def _begin(self, consumer: Consumer) -> None:
        """Find where each partition begins, and take them all."""
        partitions = self._topic.partitions(consumer)
        bounds = {number: self._topic.bounds(consumer, number) for number in partitions}
        wanted = self._done or self._first(consumer, bounds)
        for number, (oldest, newest) in bounds.items():
            begin = wanted.get(number, oldest)
            if begin < oldest:
                self._report_lost(oldest - begin, number, oldest)
            elif begin > newest:
                log.error("%s, partition %d ends at %d, this consumer was at %d: from its start",
                          self._target, number, newest, begin)  # fmt: skip
            wanted[number] = begin if oldest <= begin <= newest else oldest
        self._next, self._done, self._committed = dict(wanted), dict(wanted), dict(wanted)
        if self.position is None:
            self.position = position_of(self._next, partitions[0])
        consumer.assign([TopicPartition(self._target.topic, *place) for place in wanted.items()])

    def _first(self, consumer: Consumer, bounds: dict[int, tuple[int, int]]) -> dict[int, int]:
        if self._wanted is not None:
            return vector_of(self._wanted, list(bounds))
        if self._start == "cursor":
            return self._kept(consumer, list(bounds))
        if self._start in {"all", "new"}:
            return {number: ends[self._start == "new"] for number, ends in bounds.items()}
        found = self._find_run(consumer, list(bounds))
        if found is None and self._start != "newest":
            raise DeniedError(f"{self._target}: no run {self._start!r} in the topic")
        newest = {number: ends[1] for number, ends in bounds.items()}
        return newest if found is None else self._since(consumer, found, newest)

    def _kept(self, consumer: Consumer, partitions: list[int]) -> dict[int, int]:
        places = [TopicPartition(self._target.topic, number) for number in partitions]
        try:
            kept = consumer.committed(places, timeout=2 * TIMEOUT)
        except KafkaException as error:
            raise UnavailableError(f"{self._target}: no cursor: {error.args[0].str()}") from None
        return {place.partition: place.offset for place in kept if place.offset >= 0}

    def _find_run(self, consumer: Consumer, partitions: list[int]) -> Message | None:
        """Return the start document that is wanted; the newest one, or the one with the uid."""
        found = [self._find_in(consumer, number) for number in partitions]
        return max((m for m in found if m is not None), key=lambda m: m.timestamp()[1], default=None)

    def _find_in(self, consumer: Consumer, partition: int) -> Message | None:
        for window in self._topic.backwards(consumer, partition):
            for message in reversed(window):
                if self._is_wanted(message.value() or b""):
                    return message
        return None

    def _is_wanted(self, body: bytes) -> bool:
        if not body.startswith(_START):
            return False
        try:
            start = msgpack_numpy.decode(body)[1]
        except DocumentError:
            return False
        return not is_result(start) if self._start == "newest" else start.get("uid") == self._start

    def _since(self, consumer: Consumer, begin: Message, newest: dict[int, int]) -> dict[int, int]:
        """Return offsets of what was published from ``begin`` on."""
        moment = begin.timestamp()[1]
        places = [TopicPartition(self._target.topic, number, moment) for number in newest]
        try:
            found = {p.partition: p.offset for p in consumer.offsets_for_times(places, timeout=TIMEOUT)}
        except KafkaException as error:
            raise UnavailableError(f"{self._target}: {error.args[0].str()}") from None
        since = {n: found[n] if found.get(n, -1) >= 0 else end for n, end in newest.items()}
        return since | {begin.partition() or 0: begin.offset() or 0}

    # ---- what came

    def _unpack(self, consumer: Consumer, message: Message) -> Documents:
        partition, offset = message.partition() or 0, message.offset() or 0
        if offset < self._next.get(partition, 0):
            return
        self._next[partition] = offset + 1
        us = identity(message)
        try:
            if us is None or self._sequence.is_new(*us):
                name, doc = msgpack_numpy.decode(message.value() or b"")
                check(name, doc)
                self.position = position_of(self._next, partition)
                self.behind = self._count_behind(consumer)
                DISPATCHER_DOCUMENTS.inc()
                yield name, doc
        except DocumentError as error:
            log.error("from %s came what is no document, partition %d, offset %d: %s",
                      self._target, partition, offset, error)  # fmt: skip
        self._done[partition] = offset + 1

    def _count_behind(self, consumer: Consumer) -> int:
        count = 0
        for number, offset in self._next.items():
            place = TopicPartition(self._target.topic, number)
            _, newest = consumer.get_watermark_offsets(place, cached=True)
            count += max(0, newest - offset)
        return count

    def _note_error(self, error: KafkaError | None) -> None:
        if error is None or error.code() == KafkaError._PARTITION_EOF:  # the client's own name
            return
        if error.fatal():
            raise UnavailableError(f"{self._target}: {error.str()}")
        log.debug("%s: %s", self._target, error.str())

    # ---- the cursor

    def _commit(self, consumer: Consumer, *, now: bool = False) -> None:
        """Tell the broker how far the callbacks have come."""
        if not self._name or self._done == self._committed:
            return
        if time.monotonic() < self._commit_due and not now:
            return
        self._commit_due = time.monotonic() + _COMMIT_SECONDS
        places = [TopicPartition(self._target.topic, *place) for place in self._done.items()]
        consumer.commit(offsets=places, asynchronous=True)
        self._committed = dict(self._done)

    def _part(self, consumer: Consumer) -> None:
        """Commit what has been done, if the broker is there, and let go."""
        kept = {}
        if self._name and self._done:
            wanted = dict(self._done)
            deadline = time.monotonic() + _PARTING_SECONDS
            while kept != wanted and time.monotonic() < deadline:
                try:
                    self._commit(consumer, now=True)
                    kept = self._kept_now(consumer, list(wanted))
                except KafkaException as error:
                    log.debug("committing: %s", error)
        consumer.close()

    def _kept_now(self, consumer: Consumer, partitions: list[int]) -> dict[int, int]:
        places = [TopicPartition(self._target.topic, number) for number in partitions]
        found = {p.partition: p.offset for p in consumer.committed(places, timeout=_PARTING_SECONDS)}
        self._committed = {} if found != self._done else self._committed
        return found

    def _report_lost(self, lost: int, partition: int, before: int) -> None:
        DISPATCHER_LOST.inc(lost)
        log.error(
            "%s no longer has %d documents before offset %d of partition %d: they are lost to this consumer",
            self._target, lost, before, partition,
        )  # fmt: skip
