"""Gives what was journaled to bluesky's own dispatchers, which acknowledge nothing."""

import logging
from collections import deque

import zmq

from tomolive import metrics
from tomolive.stream import records, stock
from tomolive.stream.codec import decode
from tomolive.stream.journal import Journal
from tomolive.stream.sparing import SparingFilter

log = logging.getLogger(__name__)
log.addFilter(SparingFilter())

PATIENCE_SECONDS = 5.0
"""How long all wait for one that takes nothing, before it loses documents."""
_DOCUMENTS = 256
_BYTES = 1 << 20


class StockFeed:
    """An XPUB socket that reads the journal; the journal is what keeps documents while a listener is slow."""

    def __init__(self, socket: zmq.Socket, journal: Journal) -> None:
        socket.set(zmq.XPUB_VERBOSER, 1)
        socket.set(zmq.XPUB_NODROP, 1)
        self._socket, self._journal = socket, journal
        self._reader = journal.reader(journal.head)
        self._messages: deque[bytes] = deque()
        """Read, and not yet sent."""
        self._stuck_since: float | None = None
        self.listeners = 0
        """Subscriptions of bluesky's own dispatchers."""
        self.waiting = False
        """Some listener takes nothing now: nothing tells when it does again, so it must be tried."""

    def hear(self, parts: list[bytes]) -> None:
        """Note that a listener has come or gone."""
        told = parts[0][:1]
        self.listeners = max(0, self.listeners + {b"\1": 1, b"\0": -1}.get(told, 0))

    def step(self, now: float) -> bool:
        """Send what can be sent without waiting; True if there is more to do at once."""
        if not self.listeners:
            self._messages.clear()
            self._reader.seek(self._journal.head)
        elif not self._messages:
            self._read()
        while self._messages and self._send(self._messages[0], now):
            self._messages.popleft()
        self.waiting = bool(self._messages)
        return not self.waiting and self._reader.offset < self._journal.head

    def _read(self) -> None:
        wanted = self._reader.offset
        chunk = self._reader.read(_DOCUMENTS, _BYTES)
        if chunk.offset > wanted:
            self._lose(chunk.offset - wanted, "the journal no longer has them")
        for record in records.walk(chunk.data, verify=False):
            if not record.flags & records.VOID:
                name, doc = decode(records.frames(chunk.data, record))
                self._messages.append(stock.encode_stock(name, doc))

    def _send(self, message: bytes, now: float) -> bool:
        try:
            self._socket.send(message, zmq.DONTWAIT)
        except zmq.Again:
            return self._send_to_others(message, now)
        self._stuck_since = None
        return True

    def _send_to_others(self, message: bytes, now: float) -> bool:
        """Send to all but those that take nothing, if these had their time; ZeroMQ leaves them out then."""
        self._stuck_since = self._stuck_since or now
        if now - self._stuck_since < PATIENCE_SECONDS:
            return False
        self._socket.set(zmq.XPUB_NODROP, 0)
        self._socket.send(message, zmq.DONTWAIT)
        self._socket.set(zmq.XPUB_NODROP, 1)
        self._stuck_since = None
        self._lose(1, f"it took nothing for {PATIENCE_SECONDS:g} s, and loses all until it does again")
        return True

    def _lose(self, documents: int, why: str) -> None:
        metrics.HUB_STOCK_LOST.inc(documents)
        log.error("one of bluesky's own RemoteDispatchers lost %d documents or more: %s", documents, why)
