"""Documents of NATS JetStream: in order, resumed after every break."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from tomolive.errors import AddressError, DocumentError, JournalError
from tomolive.metrics import DISPATCHER_DOCUMENTS, DISPATCHER_LOST
from tomolive.stream import records
from tomolive.stream.codec import decode
from tomolive.stream.engines import nats_wire
from tomolive.stream.engines.loop import LoopThread
from tomolive.stream.engines.nats_link import TIMEOUT, Link, Target, UnavailableError, run
from tomolive.stream.engines.nats_pull import Pull, Pulled
from tomolive.stream.engines.nats_wire import INDEX_BITS
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
_CURSOR_SECONDS = 0.05

Document = tuple[str, dict[str, Any]]


class NatsSource:
    """Gives the documents of a stream of JetStream; implements ``sources.Source``."""

    def __init__(self, address: str, name: str, start: str, position: Position | None) -> None:
        self._target = Target.parse(address)
        self._name, self._start = name, start
        self.ready = threading.Event()
        self.position = position
        self.behind = 0
        self._sequence = Sequence()
        self._parts: dict[str, bytearray] = {}
        """Subject -> what has come of a record that travels in parts."""
        self._done = self._saved = position
        """The callbacks have come so far; the broker knows that they have come so far."""
        self._saving: Future[Any] | None = None
        self._save_due = 0.0
        self._pulling: Future[Any] | None = None

    def documents(self, stopped: threading.Event) -> Documents:
        """Yield documents until ``stopped``; the broker may come and go meanwhile.

        Raises
        ------
        AddressError
            if the broker refuses this consumer, or there is no such run.
        """
        loop = LoopThread("tomolive-nats-consumer")
        try:
            while not stopped.is_set():
                try:
                    yield from self._read(loop, stopped)
                except UnavailableError as error:
                    log.warning("%s", error)
                    until = time.monotonic() + _AWAY_SECONDS
                    while time.monotonic() < until and not stopped.wait(_POLL_SECONDS):
                        yield None
        except DeniedError as error:
            raise AddressError(str(error)) from None
        finally:
            loop.close()

    def _read(self, loop: LoopThread, stopped: threading.Event) -> Documents:
        link = run(loop, Link.open(self._target, f"tomolive consumer {self._name}"), self._target)
        try:
            pull = run(loop, self._begin(link), self._target)
            self.ready.set()
            yield from self._talk(loop, link, pull, stopped)
        finally:
            try:
                self._save(loop, link, wait=True)
                loop.run(link.close(), TIMEOUT)
                if self._pulling is not None:
                    self._pulling.exception(TIMEOUT)  # the client ends it with the connection
            except Exception as error:  # noqa: BLE001  # it comes again after the next start
                log.debug("closing: %s", error)

    def _talk(self, loop: LoopThread, link: Link, pull: Pull, stopped: threading.Event) -> Documents:
        while not stopped.is_set():
            pulling = self._pulling = loop.submit(pull.messages())
            while not _is_done(pulling):
                self._save(loop, link)
                yield None
                if stopped.is_set():
                    return
            for message in pulling.result():
                yield from self._unpack(loop, link, message, stopped)
                if stopped.is_set():
                    return
                self._save(loop, link)

    # ---- where to begin

    async def _begin(self, link: Link) -> Pull:
        """Find the first message, and ask for all from there on."""
        oldest, newest = await link.bounds()
        seq = await self._first(link, oldest, newest)
        if seq < oldest and self.position is not None:
            self._report_lost(oldest - seq, oldest)
            seq = oldest
        if self.position is None:
            self.position = Position(link.epoch, seq << INDEX_BITS)
        self._done, self._saved = self.position, None
        self._parts.clear()
        return Pull(link, await link.consume(seq), seq)

    async def _first(self, link: Link, oldest: int, newest: int) -> int:
        if self.position is None and self._start == "cursor":
            self.position = await link.cursor(self._name)
        if self.position is not None:
            if self.position.epoch == link.epoch:
                return self.position.offset >> INDEX_BITS
            log.error("the stream at %s is not the one that this consumer knew: from its start", self._target)
            self.position = None
        if self._start == "new":
            return newest
        if self._start in {"all", "cursor"}:
            return oldest
        return await self._find_run(link, oldest, newest)

    async def _find_run(self, link: Link, oldest: int, newest: int) -> int:
        subjects = self._target.subjects
        if self._start == "newest":
            found = [await link.last(subjects.runs), await link.last(subjects.their_starts)]
            return max((_beginning(message) for message in found if message), default=newest)
        message = await link.next(oldest, subjects.run(self._start))
        while message is None:  # bluesky-nats has no uid in its subjects
            theirs = await link.next(oldest, subjects.their_starts)
            if theirs is None:
                raise DeniedError(f"{self._target}: no run {self._start!r} in the stream")
            oldest = theirs.seq + 1
            if nats_wire.decode_theirs(theirs.subject, theirs.data)[1].get("uid") == self._start:
                message = theirs
        return _beginning(message)

    # ---- what came

    def _unpack(self, loop: LoopThread, link: Link, message: Pulled, stopped: threading.Event) -> Documents:
        """Yield the documents of a message that have not been given before."""
        done = 0
        if self.position is not None and self.position.offset >> INDEX_BITS == message.seq:
            done = self.position.offset & ((1 << INDEX_BITS) - 1)
        index = 0
        try:
            for document in self._documents(loop, link, message):
                index += 1
                if index <= done or document is None:
                    continue
                self.position = Position(link.epoch, (message.seq << INDEX_BITS) + index)
                self.behind = message.waiting
                DISPATCHER_DOCUMENTS.inc()
                yield document
                self._done = self.position
                if stopped.is_set():
                    return
        except (DocumentError, JournalError) as error:
            log.error("from %s came what is no document, message %d: %s", self._target, message.seq, error)
        self.position = self._done = Position(link.epoch, (message.seq + 1) << INDEX_BITS)

    def _documents(self, loop: LoopThread, link: Link, message: Pulled) -> Iterator[Document | None]:
        """Yield the documents of a message; None: one that came before."""
        if part := nats_wire.part_of(message.headers):
            payload = self._put_together(loop, link, message, part)
            if payload is None:
                return
        elif not nats_wire.is_ours(message.data):
            name, doc = nats_wire.decode_theirs(message.subject, message.data)
            check(name, doc)
            yield name, doc
            return
        else:
            payload = message.data
        end = 0
        for record in records.walk(payload):
            end = record.end
            if not self._sequence.is_new(record.publisher, record.seq):
                yield None
                continue
            document = decode(records.frames(payload, record))
            check(*document)
            yield document
        if end < len(payload):
            raise JournalError(f"{len(payload) - end} bytes that are no whole record")

    def _put_together(
        self, loop: LoopThread, link: Link, message: Pulled, part: nats_wire.Part
    ) -> bytes | None:
        """Return a record that has come in parts; None: not all of it is here."""
        if not part.at:
            self._parts[message.subject] = bytearray()
        elif message.subject not in self._parts:  # we began between two parts
            earlier = run(loop, _earlier(link, message, part), self._target)
            self._parts[message.subject] = bytearray(earlier)
        so_far = self._parts[message.subject]
        if len(so_far) != part.at:
            del self._parts[message.subject]
            raise JournalError(f"a part at byte {part.at}, {len(so_far)} bytes are here")
        so_far += message.data
        if len(so_far) < part.total:
            return None
        return bytes(self._parts.pop(message.subject))

    # ---- the cursor

    def _save(self, loop: LoopThread, link: Link, *, wait: bool = False) -> None:
        """Remember at the broker how far the callbacks have come."""
        if self._saving is not None and self._saving.done() and self._saving.exception() is not None:
            self._saving = self._saved = None  # once more
        if not self._name or self._done is None or self._done == self._saved:
            return
        if self._saving is not None and not self._saving.done() and not wait:
            return
        if time.monotonic() < self._save_due and not wait:
            return
        self._save_due = time.monotonic() + _CURSOR_SECONDS
        self._saving = loop.submit(link.set_cursor(self._name, self._done))
        self._saved = self._done
        if wait:
            self._saving.result(TIMEOUT)

    def _report_lost(self, lost: int, before: int) -> None:
        DISPATCHER_LOST.inc(lost)
        log.error(
            "%s no longer has %d messages before number %d: they are lost to this consumer",
            self._target, lost, before,
        )  # fmt: skip


def _beginning(message: Any) -> int:
    part = nats_wire.part_of(message.headers)
    return part.first if part and part.at else message.seq


async def _earlier(link: Link, message: Pulled, part: nats_wire.Part) -> bytes:
    """Return the bytes before a part."""
    found, seq = b"", part.first
    while len(found) < part.at:
        earlier = await link.next(seq, message.subject)
        if earlier is None or earlier.seq >= message.seq:
            raise JournalError(f"the first parts of message {message.seq} are no longer in the stream")
        found += earlier.data
        seq = earlier.seq + 1
    return found


def _is_done(future: Future[Any]) -> bool:
    try:
        future.exception(_POLL_SECONDS)
    except TimeoutError:
        return False
    return True
