"""A connection to NATS JetStream: the stream of documents, and the cursors of consumers."""

import asyncio
import contextlib
import json
import logging
import os
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import nats.errors
import nkeys
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyNotFoundError,
    NoStreamResponseError,
    NotFoundError,
)
from nats.js.kv import KeyValue

from tomolive.errors import AddressError, SettingsError, TomoliveError
from tomolive.stream.engines import nats_wire, secrets
from tomolive.stream.engines.address import EngineAddress, shown
from tomolive.stream.engines.loop import LoopThread
from tomolive.stream.engines.nats_wire import Outgoing, Progress, Subjects
from tomolive.stream.messages import Position
from tomolive.stream.protocol import DeniedError

log = logging.getLogger(__name__)

OPTIONS = secrets.OPTIONS | {"creds", "nkey", "stream", "replicas", "wire"}
WIRES = ("tomolive", "bluesky-nats")
TIMEOUT = 5.0
_BUCKET = "tomolive-cursors"
_LARGEST = 512 << 10
"""Bytes of a message; more does not move more documents a second."""
_HEADERS = 1024
"""Bytes that a message's headers may take of the server's limit."""
_DUPLICATES_SECONDS = 120
_INACTIVE_SECONDS = 300.0
_PARTING_SECONDS = 0.2
_NOT_NOW = 503
"""Code of an answer while a cluster chooses its leader."""


class UnavailableError(TomoliveError):
    """The broker does not answer, or cannot do what was asked, now."""


@dataclass(frozen=True)
class Target:
    """What an address ``nats://HOST:PORT/PREFIX`` says."""

    address: EngineAddress
    subjects: Subjects
    wire: str
    replicas: int

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Understand an address.

        Raises
        ------
        AddressError
            if it cannot be understood.
        """
        address = EngineAddress.parse(text, OPTIONS)
        prefix = address.path.replace("/", ".") or "tomolive"
        wire = address.options.get("wire", WIRES[0])
        replicas = address.options.get("replicas", "1")
        if not all(part and nats_wire.token(part) == part for part in prefix.split(".")):
            raise AddressError(f"address {shown(text)!r}: {prefix!r} is no prefix of NATS subjects")
        if wire not in WIRES:
            raise AddressError(f"address {shown(text)!r}: wire={wire}: known are {', '.join(WIRES)}")
        if replicas not in {"1", "2", "3", "4", "5"}:
            raise AddressError(f"address {shown(text)!r}: replicas={replicas}: 1 to 5")
        return cls(address, Subjects(prefix), wire, int(replicas))

    def __str__(self) -> str:
        return f"{self.address.scheme}://{self.address.hosts}/{self.subjects.prefix}"


class Link:
    """An open connection.

    The client's own reconnecting is off: it would go on behind what was lost with the connection.
    """

    def __init__(self, target: Target, client: Client, stream: StreamInfo, js: JetStreamContext) -> None:
        self.target, self._client, self.js = target, client, js
        self.stream: str = stream.config.name or ""
        made = stream.created.isoformat() if stream.created else ""
        self.epoch = f"{self.stream}@{made}"
        allowed = stream.config.max_msg_size or -1
        self.largest = min(client.max_payload, allowed if allowed > 0 else client.max_payload) - _HEADERS
        """Bytes that the broker takes in a message."""
        self.limit = min(_LARGEST, self.largest)
        """Bytes of a message of ours."""
        self._bucket: KeyValue | None = None

    @classmethod
    async def open(cls, target: Target, name: str) -> "Link":
        """Connect, and make the stream if there is none.

        Raises
        ------
        DeniedError
            if the broker refuses us, or the stream.
        UnavailableError
            if it is not there now.
        """
        client = await _connect(target, name)
        try:
            js = client.jetstream(timeout=TIMEOUT)
            return cls(target, client, await _stream(js, target), js)
        except BaseException:
            await client.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether the broker is connected."""
        return self._client.is_connected

    async def close(self) -> None:
        """Let go of it."""
        await self._client.close()

    # ---- publishing

    async def progress_of(self, publisher: str) -> Progress:
        """Return how far a Publisher's documents are in the stream."""
        subjects = self.target.subjects
        of = f"{subjects.prefix}.*" if self.target.wire == "bluesky-nats" else subjects.of(publisher)
        message = await self.last(of)
        if message is None:
            return Progress()
        return nats_wire.progress_of(publisher, message.headers or {}, message.data or b"", message.seq or 0)

    async def publish(self, message: Outgoing) -> tuple[int, bool]:
        """Return the message's number in the stream, and whether the broker had it already."""
        try:
            kept = await self.js.publish(
                message.subject, message.payload, TIMEOUT, self.stream, dict(message.headers)
            )
        except (APIError, nats.errors.Error, TimeoutError, NoStreamResponseError) as error:
            raise UnavailableError(f"{self.target} did not keep a message: {_reason(error)}") from None
        return kept.seq, bool(kept.duplicate)

    # ---- looking up

    async def last(self, subject: str) -> Any | None:
        """Return the last message whose subject matches."""
        return await self._get(subject=subject)

    async def next(self, seq: int, subject: str) -> Any | None:
        """Return the first message from number ``seq`` on whose subject matches."""
        return await self._get(seq=max(1, seq), subject=subject, next=True)

    async def _get(self, **which: Any) -> Any | None:
        try:
            return await self.js.get_msg(self.stream, **which)
        except NotFoundError:
            return None
        except (APIError, nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"{self.target}: {_reason(error)}") from None

    async def bounds(self) -> tuple[int, int]:
        """Return the numbers of the oldest message and of the one that comes next."""
        state = (await self.js.stream_info(self.stream)).state
        return state.first_seq, state.last_seq + 1

    # ---- consuming

    async def consume(self, seq: int) -> str:
        """Make a consumer that gives the messages from number ``seq`` on; return its name.

        It keeps no account of what was acknowledged: an account of single messages gives those that were not
        acknowledged again behind newer ones, out of order.
        """
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=max(1, seq),
            ack_policy="none", filter_subject=self.target.subjects.all,  # type: ignore[arg-type]
            inactive_threshold=_INACTIVE_SECONDS, mem_storage=True, num_replicas=1,
        )  # fmt: skip
        return (await self.js.add_consumer(self.stream, config)).name

    async def pull(self, consumer: str, inbox: str, count: int, expires: float) -> None:
        """Ask for up to ``count`` messages, to come to ``inbox`` while ``expires`` seconds last."""
        wish = {"batch": count, "expires": int(expires * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{consumer}"
        await self._client.publish(subject, json.dumps(wish).encode(), inbox)

    async def inbox(self) -> tuple[str, Any]:
        """Return a subject of our own and the subscription to it."""
        subject = self._client.new_inbox()
        return subject, await self._client.subscribe(subject)

    # ---- cursors

    async def cursor(self, name: str) -> Position | None:
        """Return how far a named consumer has come; None: it never was here."""
        try:
            entry = await (await self._cursors()).get(self._key(name))
            epoch, offset = json.loads(entry.value or b"")
            return Position(str(epoch), int(offset))
        except KeyNotFoundError:
            return None
        except (ValueError, TypeError):
            raise SettingsError(f"{self.target}: the cursor {name!r} cannot be understood") from None

    async def set_cursor(self, name: str, position: Position) -> None:
        """Remember how far a named consumer has come."""
        value = json.dumps([position.epoch, position.offset]).encode()
        await (await self._cursors()).put(self._key(name), value)

    def _key(self, name: str) -> str:
        return f"{nats_wire.token(self.stream)}.{nats_wire.token(name)}"

    async def _cursors(self) -> KeyValue:
        if self._bucket is None:
            try:
                self._bucket = await self.js.key_value(_BUCKET)
            except (BucketNotFoundError, NotFoundError):
                self._bucket = await self.js.create_key_value(
                    bucket=_BUCKET, history=1, replicas=self.target.replicas
                )
        return self._bucket


def run(loop: LoopThread, work: Coroutine[Any, Any, Any], target: Target) -> Any:
    """Return the result of ``work``, which asks the broker for something.

    Raises
    ------
    UnavailableError
        if it does not answer, or does not grant it.
    """
    try:
        return loop.run(work, 3 * TIMEOUT)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise UnavailableError(f"{target}: {_reason(error)}") from None


async def _connect(target: Target, name: str) -> Client:
    who = secrets.Credentials.of(target.address)
    options: dict[str, Any] = {"tls": who.context(), **_identity(target, who)}
    scheme = "tls" if options["tls"] else "nats"
    failed: list[Exception] = []

    async def note(error: Exception) -> None:
        failed.append(error)

    client = Client()
    try:
        await client.connect(
            [f"{scheme}://{endpoint}" for endpoint in target.address.hosts.split(",")],
            name=name, error_cb=note, allow_reconnect=False, connect_timeout=3, max_reconnect_attempts=1,
            **options,
        )  # fmt: skip
    except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
        with contextlib.suppress(TimeoutError):  # behind a handshake that failed it would wait for ever
            await asyncio.wait_for(client.close(), _PARTING_SECONDS)
        reason = _reason(failed[0] if failed else error)
        if "authoriz" in reason.lower() or isinstance(error, (ssl.SSLError, ValueError)):
            raise DeniedError(f"{target}: {reason}") from None
        raise UnavailableError(f"{target} cannot be reached: {reason}") from None
    return client


def _identity(target: Target, who: secrets.Credentials) -> dict[str, str | None]:
    """Return what tells the broker who we are: a file of credentials or of a key, a password, or a token.

    Raises
    ------
    SettingsError
        if a file cannot be read, or holds no key.
    """
    for option, argument in (("creds", "user_credentials"), ("nkey", "nkeys_seed")):
        file = target.address.options.get(option) or os.environ.get(f"TOMOLIVE_NATS_{option.upper()}")
        if file:
            text = secrets.content(file, f"NATS {option}")
            seed = text if option == "nkey" else text.partition("SEED-----")[2].partition("---")[0]
            try:
                nkeys.from_seed(bytearray(seed.strip().encode()))
            except nkeys.NkeysError:
                raise SettingsError(f"NATS {option} {file}: no seed of a key is in it") from None
            return {argument: file}
    if who.password:
        return {"user": who.user, "password": who.password}
    token = who.user or os.environ.get("TOMOLIVE_NATS_TOKEN")
    return {"token": token} if token else {}


async def _stream(js: JetStreamContext, target: Target) -> StreamInfo:
    subjects = target.subjects
    try:
        name = target.address.options.get("stream")
        if name is None:
            name = await js.find_stream_name_by_subject(subjects.all)
        return await js.stream_info(name)
    except NotFoundError:
        pass
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError(f"{target}: JetStream does not answer ({_reason(error)}); is it on?") from None
    config = StreamConfig(
        name=target.address.options.get("stream") or subjects.prefix.replace(".", "-"),
        subjects=[subjects.all], storage=StorageType.FILE, num_replicas=target.replicas,
        duplicate_window=_DUPLICATES_SECONDS,
    )  # fmt: skip
    try:
        return await js.add_stream(config)
    except APIError as error:
        reason = f"{target}: no stream {config.name!r} can be made: {_reason(error)}"
        if error.code == _NOT_NOW:
            raise UnavailableError(reason) from None
        raise DeniedError(reason) from None
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError(f"{target}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "no answer in time"
    if isinstance(error, APIError):
        return f"{error.description} ({error.err_code})"
    return str(error) or type(error).__name__
