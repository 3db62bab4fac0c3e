"""Carries spools to the hub: the thread behind a Publisher, and ``tomolive spool drain``."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import zmq

from tomolive.errors import JournalError
from tomolive.metrics import PUBLISHER_REFUSED
from tomolive.stream import messages
from tomolive.stream.protocol import ProtocolError, PublisherSession
from tomolive.stream.sockets import Keys, connect
from tomolive.stream.spool import Spool, leftovers

log = logging.getLogger(__name__)

_BATCH_DOCUMENTS = 256
_BATCH_BYTES = 1 << 20
_PING_SECONDS = 0.3
_HELLO_SECONDS = 1.0
_BUSY_SECONDS = 1.0
_SILENT_SECONDS = 5.0
_ANSWER_MS = 50
_UNDER_WAY_SECONDS = 0.01
"""How soon to look for acknowledgements while no new documents come."""


class Courier(ABC):
    """Sends one spool after the other; what a spool is sent to is for the subclass to know."""

    def __init__(self) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()
        self.asleep = False
        """True while nothing is left to send and it waits for ``wake``."""

    def wake(self) -> None:
        """Say that there is something to send.

        Releasing a lock neither blocks nor gives up the interpreter, as writing to a socket would: the
        RunEngine goes on at once, and the courier's thread runs when the RunEngine waits for something.
        """
        self.asleep = False
        try:  # noqa: SIM105  # this is in the RunEngine's way, and suppress() costs as much as all the rest
            self._bell.release()
        except RuntimeError:  # it has been rung
            pass

    def sleep(self, seconds: float, unless: Callable[[], bool]) -> None:
        """Wait for ``wake``; not at all if ``unless()`` is true after ``asleep`` was set."""
        self.asleep = True
        if not unless():
            self._bell.acquire(timeout=seconds)
        self.asleep = False

    def send_leftovers(self, folder: Path, until: Callable[[], bool]) -> int:
        """Send what dead Publishers left in ``folder``; return the number of documents.

        A damaged spool is set aside under another name, so that it keeps nobody waiting.
        """
        sent = 0
        for path in leftovers(folder):
            try:
                spool = Spool.adopt(path)
            except JournalError as error:
                aside = path.with_name(f"damaged-{path.name}")
                path.rename(aside)
                log.error("%s; set aside as %s", error, aside)
                continue
            if spool is None:
                continue
            before = spool.waiting
            try:
                if before:
                    log.info("sending %d documents that an earlier Publisher left in %s", before, path)
                    self.send(spool, f"left in {path.name[:8]}", lambda s=spool: until() or s.waiting <= 0)
                sent += before - spool.waiting
            finally:
                spool.close()
        return sent

    @abstractmethod
    def send(self, spool: Spool, name: str, until: Callable[[], bool]) -> None:
        """Send ``spool`` and take the acknowledgements, until ``until()`` is true.

        Raises
        ------
        DeniedError
            if the other end refuses this Publisher for good.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connections."""


class HubCourier(Courier):
    """Sends to a hub."""

    def __init__(self, address: str, keys: Keys | None = None) -> None:
        super().__init__()
        self.address, self._keys = address, keys
        self._context = zmq.Context()

    def close(self) -> None:
        """Let go of the connections."""
        self._context.destroy(linger=0)

    def send(self, spool: Spool, name: str, until: Callable[[], bool]) -> None:
        """Send ``spool`` and take the acknowledgements, until ``until()`` is true."""
        while not until():  # again when a connection has gone silent
            with connect(self._context, zmq.DEALER, self.address, self._keys) as dealer:
                _Carriage(self, dealer, spool, name).run(until)


class _Carriage:
    """One spool on its way over one socket."""

    def __init__(self, courier: HubCourier, dealer: zmq.Socket, spool: Spool, name: str) -> None:
        self._courier, self._dealer, self._spool = courier, dealer, spool
        self._session = PublisherSession(spool.publisher, name)
        self._hello_due = self._ping_due = 0.0
        self._asked = 0.0
        """When the oldest message was sent that the hub has not answered; 0: it has answered all."""

    def run(self, until: Callable[[], bool]) -> None:
        """Send and wait until ``until()``, or the hub no longer answers."""
        while not until() and not self._is_silent():
            try:
                self._send()
                self._wait()
            except ProtocolError as error:
                log.warning("the hub at %s is not understood: %s", self._courier.address, error)
        self._tell(messages.encode(messages.Bye()))

    def _is_silent(self) -> bool:
        if not self._asked or time.monotonic() < self._asked + _SILENT_SECONDS:
            return False
        log.warning("the hub at %s does not answer: connecting again", self._courier.address)
        return True

    def _send(self) -> None:
        now = time.monotonic()
        session, spool = self._session, self._spool
        if not session.welcome:
            if now >= self._hello_due and self._tell(session.hello(spool.acknowledged + 1)):
                self._hello_due = now + _HELLO_SECONDS
            return
        while (room := session.room) > 0:
            batch = spool.read(session.next, min(room, _BATCH_DOCUMENTS), min(_BATCH_BYTES, session.largest))
            if not batch.count:
                break
            if len(batch.data) > session.largest:
                self._skip(batch.first, len(batch.data))
                return
            head = session.publish(batch.count, len(batch.data), spool.waiting)
            if not self._tell(head, batch.data):
                session.welcome = False  # the connection is gone; what was on its way may be lost
                self._hello_due = 0.0
                return
            self._ping_due = now + _PING_SECONDS
        if now >= self._ping_due and self._tell(messages.encode(messages.Ping(spool.waiting))):
            self._ping_due = now + _PING_SECONDS

    def _skip(self, seq: int, size: int) -> None:
        """Leave out a document that the hub can never take; all before it must have arrived."""
        if self._session.accepted == seq - 1:
            log.error("document %d of %d bytes is larger than the hub takes (%d): left out", seq, size,
                      self._session.largest)  # fmt: skip
            PUBLISHER_REFUSED.inc()
            self._spool.acknowledge(seq)
            self._session.welcome, self._hello_due = False, 0.0

    def _wait(self) -> None:
        """Take in what the hub says, then wait for whatever is needed next: its answer, or new documents."""
        session = self._session
        if not session.welcome or session.room <= 0:
            self._receive(_ANSWER_MS)
            return
        self._receive(0)
        if session.welcome and session.next > self._spool.last:
            wait = _UNDER_WAY_SECONDS if session.under_way else _PING_SECONDS
            self._courier.sleep(wait, lambda: session.next <= self._spool.last)

    def _receive(self, patience_ms: int) -> None:
        """Take in the messages that are there, or the first one that comes in time."""
        while self._dealer.poll(patience_ms):
            self._understand(self._session.receive(*self._dealer.recv_multipart()))
            self._asked = 0.0
            patience_ms = 0

    def _understand(self, message: messages.FromHub) -> None:
        match message:
            case messages.Welcome(expected):
                self._spool.acknowledge(min(expected - 1, self._spool.last))
            case messages.Accepted():
                self._spool.acknowledge(self._session.accepted)
            case messages.Refused(_, document, uid, reason):
                PUBLISHER_REFUSED.inc()
                log.error("the hub refused the %s document %s: %s", document, uid, reason)
            case messages.Busy(reason):
                log.warning("the hub takes no documents now, they stay in the spool: %s", reason)
                self._hello_due = time.monotonic() + _BUSY_SECONDS
            case messages.Unknown():
                self._hello_due = 0.0

    def _tell(self, *parts: bytes) -> bool:
        """Send if there is a connection.

        With a copy, always: sending without one needs a thread that the end of the process stops before the
        last documents have gone out.
        """
        try:
            self._dealer.send_multipart(parts, zmq.DONTWAIT)
        except zmq.Again:
            return False
        self._asked = self._asked or time.monotonic()
        return True
