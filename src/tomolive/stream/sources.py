"""Where a RemoteDispatcher's documents come from: a hub, or bluesky's own proxy."""

import logging
import threading
import time
from collections.abc import Generator
from typing import Any, Protocol

import zmq

from tomolive.errors import AddressError, DocumentError, JournalError
from tomolive.metrics import DISPATCHER_DOCUMENTS, DISPATCHER_LOST
from tomolive.stream import messages, records, stock
from tomolive.stream.codec import decode
from tomolive.stream.messages import Position
from tomolive.stream.protocol import ConsumerSession, DeniedError, ProtocolError
from tomolive.stream.sockets import Keys, connect

log = logging.getLogger(__name__)

_PING_SECONDS = 0.3
_SUBSCRIBE_SECONDS = 1.0
_ACKNOWLEDGE_MS = 20
_POLL_MS = 20
_SILENT_SECONDS = 5.0
_LARGEST_STOCK = 256 << 20

Documents = Generator[tuple[str, dict[str, Any]] | None, None, None]
"""None: no document waits, after a pause of some 20 ms."""


class Source(Protocol):
    """Gives documents one by one; taking the next says that the callbacks of the one before are done."""

    ready: threading.Event
    """Set when documents that are published from now on will come."""
    position: Position | None
    """Of the document after the one that was given last."""

    @property
    def behind(self) -> int:
        """Documents that wait behind the one that was given last, as far as is known."""
        ...

    def documents(self, stopped: threading.Event) -> Documents:
        """Yield documents until ``stopped``."""
        ...


class HubSource:
    """Documents of a hub: acknowledged, resumed after every break, none missing."""

    def __init__(
        self, address: str, name: str, start: str, position: Position | None, keys: Keys | None
    ) -> None:
        self._address, self._keys = address, keys
        self._session = ConsumerSession(name, start, position)
        self.ready = threading.Event()
        self.position = position
        self._done = self._acknowledged = 0
        self._subscribe_due = self._ping_due = self._acknowledge_due = 0.0
        self._asked = 0.0
        """When the oldest question was sent that the hub has not answered; 0: it has answered all."""
        self._waited = 0.0
        """Seconds that were spent listening since anything came."""

    @property
    def behind(self) -> int:
        """Documents of the journal that wait behind the one that was given last."""
        return max(0, self._session.head - self.position.offset) if self.position else 0

    def documents(self, stopped: threading.Event) -> Documents:
        """Yield documents until ``stopped``; the hub may come and go meanwhile.

        Raises
        ------
        AddressError
            if the hub refuses this consumer.
        """
        context = zmq.Context()
        try:
            while not stopped.is_set():
                with connect(context, zmq.DEALER, self._address, self._keys) as dealer:
                    yield from self._talk(dealer, stopped)
        except DeniedError as error:
            raise AddressError(f"the hub at {self._address}: {error}") from None
        finally:
            context.term()

    def _talk(self, dealer: zmq.Socket, stopped: threading.Event) -> Documents:
        """Yield documents until ``stopped``, or the hub no longer answers on this connection."""
        self._asked = self._subscribe_due = 0.0
        self._session.subscribed = False
        try:
            while not stopped.is_set() and not self._is_silent():
                yield from self._turn(dealer, stopped)
        finally:
            self._acknowledge(dealer)
            _tell(dealer, messages.encode(messages.Bye()))

    def _is_silent(self) -> bool:
        if not self._asked or time.monotonic() < self._asked + _SILENT_SECONDS:
            return False
        log.warning("the hub at %s does not answer: connecting again", self._address)
        return True

    def _ask(self, dealer: zmq.Socket, question: bytes) -> bool:
        """Send what the hub answers; the answer is awaited from the first question on."""
        sent = _tell(dealer, question)
        if sent and not self._asked:
            self._asked = time.monotonic()
        return sent

    def _turn(self, dealer: zmq.Socket, stopped: threading.Event) -> Documents:
        now = time.monotonic()
        session = self._session
        if not session.subscribed and now >= self._subscribe_due:
            if self._ask(dealer, session.subscribe()):
                self._subscribe_due = now + _SUBSCRIBE_SECONDS
        elif (
            session.subscribed
            and now >= self._ping_due
            and self._ask(dealer, messages.encode(messages.Ping()))
        ):
            self._ping_due = now + _PING_SECONDS
        if self._done != self._acknowledged and now >= self._acknowledge_due:
            self._acknowledge(dealer)
        if dealer.poll(_POLL_MS):
            parts = dealer.recv_multipart()
            self._asked = self._waited = 0.0
            try:
                message = session.receive(*parts)
            except ProtocolError as error:
                log.warning("the hub at %s is not understood: %s", self._address, error)
                return
            if isinstance(message, messages.Deliver):
                yield from self._unpack(dealer, message, parts[1], stopped)
            else:
                self._understand(message)
        elif self._done == self._acknowledged:
            self._wait()
            yield None

    def _wait(self) -> None:
        """Say once that nobody is there."""
        before, self._waited = self._waited, self._waited + _POLL_MS / 1000
        if before < _SILENT_SECONDS <= self._waited:
            log.warning(
                "nothing comes from %s: is a hub running there? One that has keys answers only those whose "
                "key it knows (TOMOLIVE_KEYS names the folder of yours)",
                self._address,
            )

    def _unpack(
        self, dealer: zmq.Socket, message: messages.Deliver, blob: bytes, stopped: threading.Event
    ) -> Documents:
        if message.lost:
            self._report_lost(message.lost, message.offset)
        assert self._session.position is not None  # noqa: S101  # the session has accepted a delivery
        epoch = self._session.position.epoch
        offset = message.offset
        for record in records.walk(blob):
            offset += 1
            if record.flags & records.VOID:
                self._report_lost(1, offset)
                continue
            document = decode(records.frames(blob, record))
            self.position = Position(epoch, offset)
            yield document
            self._done = offset
            if stopped.is_set():
                return
            if time.monotonic() >= self._acknowledge_due:
                self._acknowledge(dealer)
        DISPATCHER_DOCUMENTS.inc(message.count)
        if offset != message.offset + message.count:
            raise JournalError(
                f"the hub at {self._address} announced {message.count} records and sent others"
            )

    def _acknowledge(self, dealer: zmq.Socket) -> None:
        """Tell how far the callbacks have come."""
        self._acknowledge_due = time.monotonic() + _ACKNOWLEDGE_MS / 1000
        wanted = self._session.subscribed and self._done != self._acknowledged
        if wanted and _tell(dealer, self._session.acknowledge(self._done)):
            self._acknowledged = self._done

    def _understand(self, message: messages.FromHub | None) -> None:
        match message:
            case messages.Subscribed(position, head, lost):
                if lost:
                    self._report_lost(lost, position.offset)
                log.debug(
                    "the hub at %s sends from document %d of %d on", self._address, position.offset, head
                )
                assert self._session.position is not None  # noqa: S101  # the session has just been told
                if self.position is None:
                    self.position = position
                self._done = self._acknowledged = self._session.position.offset
                self.ready.set()
            case messages.Unknown():
                self._subscribe_due = 0.0

    def _report_lost(self, lost: int, before: int) -> None:
        DISPATCHER_LOST.inc(lost)
        log.error(
            "the hub no longer has %d documents before number %d: they are lost to this consumer",
            lost,
            before,
        )


class StockSource:
    """Documents of bluesky's own proxy, which promises nothing."""

    behind = 0
    """Nothing is known of it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.ready = threading.Event()
        self.position: Position | None = None

    def documents(self, stopped: threading.Event) -> Documents:
        """Yield documents until ``stopped``; a message that is no document is reported and skipped."""
        context = zmq.Context()
        try:
            with (
                context.socket(zmq.PAIR) as watch,
                connect(context, zmq.SUB, self._address, None, lambda sub: self._prepare(sub, watch)) as sub,
            ):
                while not stopped.is_set():
                    if not self.ready.is_set() and watch.poll(0):
                        self._note_connection(watch)
                    if sub.poll(_POLL_MS):
                        yield from self._decode(sub.recv_multipart())
                    else:
                        yield None
                sub.disable_monitor()
        finally:
            context.term()

    def _prepare(self, sub: zmq.Socket, watch: zmq.Socket) -> None:
        sub.set(zmq.RCVHWM, 0)
        sub.set(zmq.MAXMSGSIZE, _LARGEST_STOCK)
        watch.connect(_monitor(sub))
        sub.subscribe(b"")

    def _note_connection(self, watch: zmq.Socket) -> None:
        from zmq.utils.monitor import recv_monitor_message

        if recv_monitor_message(watch)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.ready.set()

    def _decode(self, parts: list[bytes]) -> Documents:
        try:
            document = stock.decode_stock(parts[0] if len(parts) == 1 else b"")
        except DocumentError as error:
            log.error("from %s came what is no document: %s", self._address, error)
            return
        DISPATCHER_DOCUMENTS.inc()
        yield document


def _monitor(socket: zmq.Socket) -> str:
    endpoint = f"inproc://tomolive-monitor-{id(socket)}"
    socket.monitor(endpoint, zmq.EVENT_HANDSHAKE_SUCCEEDED)
    return endpoint


def _tell(socket: zmq.Socket, *parts: bytes) -> bool:
    """Send if there is a connection."""
    try:
        socket.send_multipart(parts, zmq.DONTWAIT)
    except zmq.Again:
        return False
    return True
