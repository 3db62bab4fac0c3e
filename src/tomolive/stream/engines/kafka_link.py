"""What a Kafka address says, and how a topic is looked at: its partitions, limits, and last messages."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from tomolive.errors import AddressError, SettingsError, TomoliveError
from tomolive.stream.engines import secrets
from tomolive.stream.engines.address import EngineAddress, shown
from tomolive.stream.protocol import DeniedError

log = logging.getLogger(__name__)

OPTIONS = secrets.OPTIONS | {"mechanism", "config", "partitions", "replicas", "largest"}
PUBLISHER, SEQ = "tomolive-publisher", "tomolive-seq"
TIMEOUT = 5.0
_DEFAULT_LIMIT = 1_000_000
_ROOM = 2048
"""Bytes of a batch beside the document: keys, headers, and what the protocol adds."""
_AUTHENTICATION = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}
)


class UnavailableError(TomoliveError):
    """The broker does not answer, or cannot do what was asked, now."""


@dataclass(frozen=True)
class Target:
    """What an address ``kafka://HOST:PORT/TOPIC`` says."""

    address: EngineAddress
    topic: str
    partitions: int
    replicas: int
    largest: int | None
    """Bytes of a message that the topic takes, for those who may not ask the broker."""

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Understand an address.

        Raises
        ------
        AddressError
            if it cannot be understood.
        """
        address = EngineAddress.parse(text, OPTIONS)
        topic = address.path or "tomolive"
        if not topic.replace(".", "").replace("-", "").replace("_", "").isalnum() or not topic.isascii():
            raise AddressError(f"address {shown(text)!r}: {topic!r} is no name of a Kafka topic")
        numbers = {name: address.options.get(name, "1") for name in ("partitions", "replicas", "largest")}
        if not all(number.isdecimal() and int(number) > 0 for number in numbers.values()):
            raise AddressError(f"address {shown(text)!r}: {', '.join(numbers)} are numbers from 1 on")
        partitions, replicas, largest = map(int, numbers.values())
        return cls(address, topic, partitions, replicas, largest if "largest" in address.options else None)

    def __str__(self) -> str:
        return f"kafka://{self.address.hosts}/{self.topic}"

    def settings(self, note: Callable[[KafkaError], None]) -> dict[str, Any]:
        """Return the client's settings; ``note`` is called with errors that belong to no message.

        Raises
        ------
        SettingsError
            if a file that the address names cannot be used.
        """
        who = secrets.Credentials.of(self.address)
        given: dict[str, Any] = {
            "bootstrap.servers": self.address.hosts, "error_cb": note, "log_level": 2,
            "socket.keepalive.enable": True, "reconnect.backoff.max.ms": 1000,
        }  # fmt: skip
        if who.tls or who.password:
            given["security.protocol"] = ("SASL_" if who.password else "") + (
                "SSL" if who.tls else "PLAINTEXT"
            )
        if who.password:
            mechanism = self.address.options.get("mechanism", "SCRAM-SHA-512")
            given |= {"sasl.mechanism": mechanism, "sasl.username": who.user, "sasl.password": who.password}
        files = {
            "ssl.ca.location": who.ca, "ssl.certificate.location": who.cert, "ssl.key.location": who.key,
        }  # fmt: skip
        given |= {key: file for key, file in files.items() if file}
        if named := self.address.options.get("config"):
            given |= _settings_in(named)
        return given


def _settings_in(file: str) -> dict[str, Any]:
    """Return librdkafka's settings from a YAML file."""
    try:
        found = yaml.safe_load(Path(file).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"Kafka settings {file}: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"Kafka settings {file}: expected 'name: value' lines")
    return found


class Trouble:
    """Remembers what the client says in its own time, for the thread that uses it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._denied = ""

    def __call__(self, error: KafkaError) -> None:
        """Take an error in."""
        log.debug("%s: %s", self._target, error)
        if error.code() in _AUTHENTICATION:
            self._denied = error.str()

    def look(self) -> None:
        """Raise DeniedError if the broker refuses us."""
        if self._denied:
            raise DeniedError(f"{self._target}: {self._denied}")


class Topic:
    """A topic, seen through a consumer that belongs to no group."""

    def __init__(self, target: Target, trouble: Trouble, group: str = "tomolive") -> None:
        self.target, self._trouble = target, trouble
        self._group = group

    def consumer(self, **more: Any) -> Consumer:
        """Return a consumer that begins nowhere yet."""
        return client_of(
            Consumer,
            self.target.settings(self._trouble)
            | {
                "group.id": self._group, "enable.auto.commit": False, "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50, "queued.max.messages.kbytes": 16384,
                "enable.partition.eof": True, "isolation.level": "read_committed", **more,
            },
        )  # fmt: skip

    def partitions(self, consumer: Consumer) -> list[int]:
        """Return the numbers of the partitions; a topic that is not there is made.

        Raises
        ------
        UnavailableError
            if the broker does not answer.
        DeniedError
            if it refuses us.
        """
        with answers(self.target, self._trouble):
            known = consumer.list_topics(self.target.topic, timeout=TIMEOUT).topics[self.target.topic]
        if known.error is None and known.partitions:
            return sorted(known.partitions)
        self._make()
        raise UnavailableError(f"{self.target}: the topic is being made")

    def _make(self) -> None:
        """Have the topic made: by the broker itself, with its own defaults, unless the address says more."""
        wanted = self.target.address.options.keys() & {"partitions", "replicas"}
        if not wanted:
            asker = client_of(Producer, self.target.settings(self._trouble))
            with answers(self.target, self._trouble):
                known = asker.list_topics(self.target.topic, timeout=TIMEOUT).topics[self.target.topic]
            if known.error is None or known.error.code() == KafkaError.LEADER_NOT_AVAILABLE:
                return
        admin = client_of(AdminClient, self.target.settings(self._trouble))
        topic = NewTopic(self.target.topic, self.target.partitions, self.target.replicas)
        try:
            admin.create_topics([topic], request_timeout=TIMEOUT)[self.target.topic].result(TIMEOUT)
        except (KafkaException, TimeoutError) as error:
            raise UnavailableError(
                f"{self.target}: there is no such topic, and none can be made: {error}"
            ) from None

    def limit(self) -> int:
        """Return the bytes that a document may have; Kafka's own default where the broker does not tell."""
        if self.target.largest is not None:
            return self.target.largest - _ROOM
        admin = client_of(AdminClient, self.target.settings(self._trouble))
        wanted = ConfigResource(ResourceType.TOPIC, self.target.topic)
        try:
            found = admin.describe_configs([wanted], request_timeout=TIMEOUT)[wanted].result(TIMEOUT)
            return int(found["max.message.bytes"].value) - _ROOM
        except (KafkaException, TimeoutError, KeyError, TypeError, ValueError) as error:
            log.debug("%s: the limit of a message is not known: %s", self.target, error)
        return _DEFAULT_LIMIT - _ROOM

    def bounds(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        """Return the offsets of the oldest message and of the one that comes next."""
        place = TopicPartition(self.target.topic, partition)
        with answers(self.target, self._trouble):
            return consumer.get_watermark_offsets(place, timeout=TIMEOUT)

    def backwards(self, consumer: Consumer, partition: int) -> Iterator[list[Message]]:
        """Yield the messages of a partition in windows that grow, the newest window first."""
        oldest, end = self.bounds(consumer, partition)
        size = 256
        while end > oldest:
            begin = max(oldest, end - size)
            yield self._window(consumer, partition, begin, end)
            end, size = begin, 4 * size

    def _window(self, consumer: Consumer, partition: int, begin: int, end: int) -> list[Message]:
        consumer.assign([TopicPartition(self.target.topic, partition, begin)])
        found: list[Message] = []
        silent = 0
        try:
            while silent < 100:  # of 50 ms
                got = consumer.consume(500, 0.05)
                self._trouble.look()
                found += [m for m in got if m.error() is None and (m.offset() or 0) < end]
                over = (m.error() is not None or (m.offset() or 0) >= end - 1 for m in got)
                if any(over):
                    return found
                silent = 0 if got else silent + 1
        finally:
            consumer.unassign()
        raise UnavailableError(f"{self.target}: partition {partition} cannot be read")


def partition_of(publisher: str, partitions: list[int]) -> int:
    """Return where a Publisher's documents go: all to one partition, which keeps their order."""
    number = int.from_bytes(hashlib.blake2s(publisher.encode(), digest_size=4).digest(), "big")
    return partitions[number % len(partitions)]


def identity(message: Message) -> tuple[bytes, int] | None:
    """Return the Publisher and the number of a document of ours; None: it is someone else's."""
    headers: dict[str, Any] = dict(message.headers() or ())
    try:
        return bytes.fromhex(headers[PUBLISHER].decode()), int(headers[SEQ])
    except (KeyError, ValueError, AttributeError):
        return None


class answers:  # noqa: N801  # reads as a word in `with answers(...)`
    """Turns the client's errors into ours."""

    def __init__(self, target: Target, trouble: Trouble) -> None:
        self._target, self._trouble = target, trouble

    def __enter__(self) -> None:
        self._trouble.look()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._trouble.look()
        if isinstance(error, KafkaException):
            raise UnavailableError(f"{self._target}: {error.args[0].str()}") from None


def client_of(kind: type, settings: dict[str, Any]) -> Any:
    """Make a client.

    Raises
    ------
    SettingsError
        if librdkafka does not take a setting; no value is shown.
    """
    try:
        return kind(settings)
    except KafkaException as error:
        raise SettingsError(f"Kafka client: {error.args[0].str()}") from None
