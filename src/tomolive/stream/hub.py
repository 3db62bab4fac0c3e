"""The hub: sockets around the exchange and the journal, in one thread."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from tomolive import metrics
from tomolive.errors import AddressError, DocumentError
from tomolive.stream import stock
from tomolive.stream.cursors import Cursors
from tomolive.stream.exchange import Exchange
from tomolive.stream.journal import Fsync, Journal
from tomolive.stream.keys import ZAP_ENDPOINT, Keyring
from tomolive.stream.peers import Counts, Limits, Refusal, Reply, Rights
from tomolive.stream.sidelog import SideLog
from tomolive.stream.sockets import Address, bind, notice_silence
from tomolive.stream.sparing import SparingFilter
from tomolive.stream.stock_feed import StockFeed

log = logging.getLogger(__name__)
sparing = logging.getLogger(f"{__name__}.peers")
sparing.addFilter(SparingFilter())

_MESSAGES_A_TURN = 64
_TURN_SECONDS = 0.1
_MESSAGES_A_PEER = 8
"""That wait to be taken in: each may have the size of the largest document."""
_IDLE_MS = 250
_STOCK_FULL_MS = 10
_STUCK_SECONDS = 10.0
_SAVE_SECONDS = 5.0
_CHORES_SECONDS = 1.0
_ALL = Rights()


@dataclass(frozen=True)
class HubSettings:
    """Where a hub listens and what it keeps."""

    journal: Path
    native: str = "127.0.0.1:5569"
    stock_in: str = "127.0.0.1:5567"
    stock_out: str = "127.0.0.1:5568"
    keys: Path | None = None
    """Folder of the hub's keys; with it every socket speaks CURVE and each client has rights."""
    insecure: bool = False
    """Listen beyond loopback without keys."""
    fsync: Fsync = "interval"
    keep_bytes: int | None = None
    keep_seconds: float | None = None
    cursor_seconds: float = 90 * 86400.0
    """A cursor that nobody has used for so long is forgotten."""
    limits: Limits = field(default_factory=Limits)


class Hub:
    """Receives documents, journals them, and gives them to everyone who asks.

    Raises
    ------
    AddressError
        if an address is taken, or is not loopback while there are no keys.
    JournalError
        if the journal cannot be opened.
    """

    def __init__(self, settings: HubSettings) -> None:
        _refuse_open_doors(settings)
        self._keys = Keyring.load(settings.keys) if settings.keys else None
        self.journal = Journal(
            settings.journal,
            fsync=settings.fsync,
            keep_bytes=settings.keep_bytes,
            keep_seconds=settings.keep_seconds,
        )
        self._cursor_seconds = settings.cursor_seconds
        self._stop = threading.Event()
        self._lags: dict[str, int] = {}
        self._context = zmq.Context()
        try:
            self._cursors = Cursors(settings.journal)
        except BaseException:
            self._context.term()
            self.journal.close()
            raise
        try:
            self.exchange = Exchange(
                self.journal,
                self._cursors,
                limits=settings.limits,
                on_refused=SideLog(settings.journal).write,
            )
            self._bind(settings)
        except BaseException:
            self._context.destroy(linger=0)
            self._cursors.close()
            self.journal.close()
            raise
        self._save_due = self._chores_due = 0.0
        self._turned = time.monotonic()
        self._counted = Counts()

    def _bind(self, settings: HubSettings) -> None:
        self._poller = zmq.Poller()
        if self._keys:
            self._zap = self._context.socket(zmq.REP)
            self._zap.bind(ZAP_ENDPOINT)
            self._poller.register(self._zap, zmq.POLLIN)
        self._native = self._context.socket(zmq.ROUTER)
        self._native.set(zmq.ROUTER_MANDATORY, 1)
        self._native.set(zmq.RCVHWM, _MESSAGES_A_PEER)
        self._native.set(zmq.SNDHWM, 1000)
        notice_silence(self._native, 15)
        self._stock_in = self._context.socket(zmq.SUB)
        self._stock_in.subscribe(b"")
        self._stock_in.set(zmq.RCVHWM, _MESSAGES_A_PEER)  # ZeroMQ counts messages, and one may be large
        self._stock_out = self._context.socket(zmq.XPUB)
        self._stock_feed = StockFeed(self._stock_out, self.journal)
        for socket in (self._native, self._stock_in):
            socket.set(zmq.MAXMSGSIZE, settings.limits.largest + (1 << 20))
        if self._keys:
            self._keys.apply(self._native, "any")
            self._keys.apply(self._stock_in, "publish")
            self._keys.apply(self._stock_out, "consume")
        self.native = bind(self._native, settings.native, "--native")
        self.stock_in = bind(self._stock_in, settings.stock_in, "--in")
        self.stock_out = bind(self._stock_out, settings.stock_out, "--out")
        for socket in (self._native, self._stock_in, self._stock_out):
            self._poller.register(socket, zmq.POLLIN)

    # ---- the loop

    def run(self) -> None:
        """Serve until ``stop``.

        Raises
        ------
        JournalError
            if a record in the journal turns out to be damaged.
        """
        more = False
        while not self._stop.is_set():
            idle = _STOCK_FULL_MS if self._stock_feed.waiting else _IDLE_MS
            ready = dict(self._poller.poll(0 if more else idle))
            more = self.step(ready)

    @property
    def stock_listeners(self) -> int:
        """Subscriptions of bluesky's own dispatchers."""
        return self._stock_feed.listeners

    def health(self) -> dict[str, Any]:
        """Return what /healthz says; any thread may ask."""
        age = time.monotonic() - self._turned
        return {
            "ok": not self.exchange.full and age < _STUCK_SECONDS,
            "journal_full": self.exchange.full,
            "seconds_since_turn": round(age, 3),
            "documents": self.journal.head,
            "publishers": len(self.exchange.publishers),
            "consumers": len(self.exchange.consumers),
            "cursors": self._describe_cursors(),
            "lag": dict(self._lags),
        }

    def _describe_cursors(self) -> dict[str, dict[str, float]]:
        ages = self._cursors.ages()
        return {
            name: {
                "behind": self.journal.head - position.offset,
                "unused_seconds": round(ages.get(name, 0.0)),
            }
            for name, position in self._cursors.items()
        }

    def stop(self) -> None:
        """End ``run`` soon; any thread or signal handler may call this."""
        self._stop.set()

    def step(self, ready: dict) -> bool:
        """Do one turn with the sockets that have something to say; True if there is more to do at once."""
        now = self._turned = time.monotonic()
        if self._keys and self._zap in ready:
            self._zap.send_multipart(self._keys.answer(self._zap.recv_multipart()))
        if self._native in ready:
            if self._keys:  # only uncopied frames tell whose key they came with
                self._drain(self._native, lambda parts: self._take_known(parts, now), copy=False)
            else:
                self._drain(self._native, lambda parts: self._take_native(parts, now, _ALL))
        if self._stock_in in ready:
            if self._keys:
                self._drain(self._stock_in, self._take_known_stock, copy=False)
            else:
                self._drain(self._stock_in, self._take_stock)
        if self._stock_out in ready:
            self._drain(self._stock_out, self._stock_feed.hear)
        self.exchange.commit()
        self._cursors.keep()
        more = self.exchange.deliver()
        self.exchange.acknowledge()  # behind the deliveries: someone waits for these
        self._send()
        more |= self._stock_feed.step(now)
        if now >= self._save_due:
            self._save_due = now + _SAVE_SECONDS
            self._cursors.save()
        if now >= self._chores_due:
            self._chores_due = now + _CHORES_SECONDS
            self.exchange.forget_silent(now)
            self.journal.retain()
            self._expire()
            self._measure()
        return more

    def _drain(self, socket: zmq.Socket, take: Callable[[list], None], *, copy: bool = True) -> None:
        until = time.monotonic() + _TURN_SECONDS  # what takes long must not hold up the others
        for _ in range(_MESSAGES_A_TURN):
            if self.exchange.sated or time.monotonic() > until:
                return
            try:
                parts = socket.recv_multipart(zmq.DONTWAIT, copy=copy)
            except zmq.Again:
                return
            take(parts)

    def _take_native(self, parts: list[bytes], now: float, rights: Rights) -> None:
        self.exchange.receive(parts[0], parts[1:], now, rights)

    def _take_known(self, frames: list[zmq.Frame], now: float) -> None:
        granted = self._granted(frames)
        rights = Rights(publish="publish" in granted, consume="consume" in granted)
        self._take_native([frame.bytes for frame in frames], now, rights)

    def _granted(self, frames: list[zmq.Frame]) -> frozenset[str]:
        """Return what the sender may do at this moment, which may be less than when it connected."""
        assert self._keys is not None  # noqa: S101  # called only with keys
        return self._keys.rights(str(frames[0].get("User-Id")))

    def _take_known_stock(self, frames: list[zmq.Frame]) -> None:
        if "publish" in self._granted(frames):
            self._take_stock([frame.bytes for frame in frames])
            return
        self.exchange.counts.denied += 1
        sparing.warning("a message of bluesky's own Publisher is dropped: its key may no longer publish")

    def _take_stock(self, parts: list[bytes]) -> None:
        try:
            name, doc = stock.decode_stock(parts[0] if len(parts) == 1 else b"")
        except DocumentError as error:
            self.exchange.refuse(Refusal("unknown", "", str(error), "stock"))
            return
        self.exchange.take_stock(name, doc)

    # ---- out

    def _send(self) -> None:
        replies, self.exchange.replies = self.exchange.replies, []
        for reply in replies:
            self._send_one(reply)

    def _send_one(self, reply: Reply) -> None:
        parts = (reply.peer, reply.head, reply.records) if reply.records else (reply.peer, reply.head)
        try:
            self._native.send_multipart(parts, zmq.DONTWAIT, copy=len(reply.records) < 65536)
        except zmq.Again:
            log.warning("a peer takes no messages and is cut off")
            self.exchange.forget(reply.peer)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.exchange.forget(reply.peer)  # it has gone

    # ---- chores

    def _expire(self) -> None:
        for name in self._cursors.expire(self._cursor_seconds, self.exchange.named_consumers):
            metrics.HUB_CURSORS_EXPIRED.inc()
            with contextlib.suppress(KeyError):
                metrics.HUB_LAG.remove(name)

    def _measure(self) -> None:
        counts, before = self.exchange.counts, self._counted
        metrics.HUB_IN.inc(counts.documents_in - before.documents_in)
        metrics.HUB_OUT.inc(counts.documents_out - before.documents_out)
        metrics.HUB_DUPLICATES.inc(counts.duplicates - before.duplicates)
        metrics.HUB_REFUSED.inc(counts.refused - before.refused)
        metrics.HUB_DENIED.inc(counts.denied - before.denied)
        self._counted = Counts(**vars(counts))
        metrics.HUB_JOURNAL_BYTES.set(self.journal.size)
        metrics.HUB_JOURNAL_DOCUMENTS.set(self.journal.head - self.journal.first)
        metrics.HUB_FULL.set(bool(self.exchange.full))
        self._lags = {name: self.journal.head - at.offset for name, at in self._cursors.items()}
        for name, behind in self._lags.items():
            metrics.HUB_LAG.labels(name).set(behind)
        metrics.HUB_SPOOLED.clear()
        for known in self.exchange.publishers.values():
            metrics.HUB_SPOOLED.labels(known.name or known.publisher.hex()).set(known.waiting)

    def close(self) -> None:
        """Let go of sockets and journal; safe to call twice."""
        if self._context.closed:
            return
        self._cursors.close()
        self._context.destroy(linger=200)
        self.journal.close()


def _refuse_open_doors(settings: HubSettings) -> None:
    if settings.insecure or settings.keys:
        return
    for option, text in (
        ("--native", settings.native),
        ("--in", settings.stock_in),
        ("--out", settings.stock_out),
    ):
        if not Address.parse(text).is_local:
            raise AddressError(
                f"{option} {text} is open to the network and there are no keys: anyone could read and write; "
                "give keys with --keys (`tomolive keys` makes them), or say --insecure"
            )
