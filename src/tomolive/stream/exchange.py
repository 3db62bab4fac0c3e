"""The hub's side of the protocol, without sockets and clocks: messages in, answers out, the journal between.

Documents that arrive are checked and gathered; ``commit`` journals all of them at once, and only then does
``acknowledge`` tell their Publishers. Consumers read the journal, each at its own pace, as far as its credit
goes.
"""

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from tomolive.errors import DocumentError, JournalError
from tomolive.stream import messages, records
from tomolive.stream.codec import decode, encode
from tomolive.stream.cursors import Cursors
from tomolive.stream.index import Batch
from tomolive.stream.journal import Journal
from tomolive.stream.limits import TOGETHER_BYTES, check_head
from tomolive.stream.messages import ProtocolError
from tomolive.stream.peers import ConsumerPeer, Counts, Limits, PublisherPeer, Refusal, Reply, Rights
from tomolive.stream.protocol import WINDOW_BYTES
from tomolive.stream.sparing import SparingFilter
from tomolive.stream.validate import check

log = logging.getLogger(__name__)
log.addFilter(SparingFilter())

SILENT_SECONDS = 60.0
_CHUNK_DOCUMENTS = 512
_CHUNK_BYTES = 512 << 10
_LONGEST_REASON = 2000
_LONGEST_UID = 200


class Exchange:
    """All peers of a hub."""

    def __init__(
        self,
        journal: Journal,
        cursors: Cursors,
        *,
        limits: Limits | None = None,
        on_refused: Callable[[Refusal], None] = lambda _refusal: None,
    ) -> None:
        self.journal, self.cursors = journal, cursors
        self.limits = limits or Limits()
        self.counts = Counts()
        self.publishers: dict[bytes, PublisherPeer] = {}
        self.consumers: dict[bytes, ConsumerPeer] = {}
        self.replies: list[Reply] = []
        """To be sent by whoever holds the socket, in this order."""
        self.full = ""
        """Why the journal takes no documents now; empty if it does."""
        self._on_refused = on_refused
        self._batch = Batch()
        self._stock_id, self._stock_seq = uuid.uuid4().bytes, 0

    @property
    def sated(self) -> bool:
        """Whether so much is gathered that it should be journaled before more is taken in."""
        return self._batch.size >= WINDOW_BYTES

    # ---- messages in

    def receive(self, peer: bytes, parts: Sequence[records.Buffer], now: float, rights: Rights) -> None:
        """Take one message in; ``rights`` are what its sender may do at this moment."""
        if not rights.publish and peer in self.publishers:
            self.deny(peer, "this key may no longer publish")
            return
        if not rights.consume and peer in self.consumers:
            self.deny(peer, "this key may no longer consume")
            return
        try:
            message = messages.from_peer(parts)
            self._handle(peer, message, parts[-1], now, rights)
        except (ProtocolError, records.DamagedRecordError) as error:
            self.deny(peer, str(error))

    def _handle(
        self, peer: bytes, message: messages.FromPeer, blob: records.Buffer, now: float, rights: Rights
    ) -> None:
        match message:
            case messages.Publish():
                self._publish(peer, message, blob, now)
            case messages.Acknowledge(offset):
                self._acknowledge(peer, offset, now)
            case messages.Ping(waiting):
                self._ping(peer, waiting, now)
            case messages.Hello():
                self._hello(peer, message, now, rights)
            case messages.Subscribe():
                self._subscribe(peer, message, now, rights)
            case messages.Bye():
                self.forget(peer)

    def _hello(self, peer: bytes, message: messages.Hello, now: float, rights: Rights) -> None:
        if not self._admit(peer, message.version, rights.publish, "publish"):
            return
        if self._batch.count:
            self.commit()  # so that the journal knows all that this Publisher has sent before
        for other in [p for p, known in self.publishers.items() if known.publisher == message.publisher]:
            del self.publishers[other]
        known = self.journal.publishers.get(message.publisher, 0)
        if message.first > known + 1 and known:
            log.warning(
                "publisher %s: documents %d to %d were acknowledged before and are not in this journal",
                message.name or message.publisher.hex(), known + 1, message.first - 1,
            )  # fmt: skip
        accepted = max(known, message.first - 1)
        self.publishers[peer] = PublisherPeer(message.publisher, message.name, accepted, now)
        self._reply(peer, messages.Welcome(accepted + 1, self.limits.largest))

    def _publish(self, peer: bytes, message: messages.Publish, blob: records.Buffer, now: float) -> None:
        known = self.publishers.get(peer)
        if known is None:
            self._reply(peer, messages.Unknown())
            return
        known.seen, known.waiting = now, message.waiting
        known.unanswered += len(blob)
        if known.unanswered > 2 * WINDOW_BYTES + self.limits.largest:
            raise ProtocolError(f"{known.unanswered} bytes without waiting for an acknowledgement")
        together = begin = end = count = 0  # what is being gathered: blob[begin:end]
        try:
            for record in records.walk(blob):
                if record.publisher != known.publisher:
                    raise ProtocolError("a record of another publisher")
                if 0 < together < record.end and record.end > TOGETHER_BYTES:
                    raise ProtocolError(f"several documents in a message of more than {TOGETHER_BYTES} bytes")
                together = record.end
                if record.seq > known.accepted + 1:
                    self._reply(peer, messages.Unknown())  # something went astray: greet and send again
                    break
                fresh = record.seq == known.accepted + 1
                self.counts.duplicates += not fresh
                if fresh and self._accept(peer, known, blob, record, self._batch.count + count):
                    count, end = count + 1, record.end
                    continue
                self._gather(known.publisher, record.seq - 1, blob, begin, end, count)
                begin, end, count = record.end, record.end, 0
        finally:  # what came before a fault is good
            self._gather(known.publisher, known.accepted, blob, begin, end, count)

    def _gather(
        self, publisher: bytes, last: int, blob: records.Buffer, begin: int, end: int, count: int
    ) -> None:
        if count:
            self._batch.add(memoryview(blob)[begin:end], count, publisher, last)

    def _accept(
        self, peer: bytes, known: PublisherPeer, blob: records.Buffer, record: records.Record, at: int
    ) -> bool:
        """Check a document; a run that it begins stands at position ``at`` of the batch."""
        known.accepted, known.owed = record.seq, True
        name, uid = "unknown", ""
        try:
            frames = records.frames(blob, record)
            check_head(frames[0])
            name, doc = decode(frames)
            uid = str(doc.get("uid", ""))[:_LONGEST_UID]
            self._check(name, doc, starts_run=bool(record.flags & records.STARTS_RUN))
        except (DocumentError, JournalError) as error:
            reason = str(error)[:_LONGEST_REASON]
        except Exception as error:  # whatever hostile bytes provoke must not end the hub
            log.exception("a document could not be checked")
            reason = f"could not be checked: {type(error).__name__}: {error}"
        else:
            if name == "start":
                self._batch.runs.append((at, str(doc["uid"])))
            return True
        self.refuse(Refusal(name, uid, reason, known.name or known.publisher.hex()))
        self._reply(peer, messages.Refused(record.seq, name[:200], uid, reason))
        return False

    @staticmethod
    def _check(name: str, doc: dict[str, Any], *, starts_run: bool) -> None:
        check(name, doc)
        if starts_run != (name == "start"):
            raise DocumentError(f"the record's flags do not belong to a {name} document")

    def take_stock(self, name: str, doc: dict[str, Any]) -> None:
        """Take a document of bluesky's own Publisher; one that is not valid is refused."""
        try:
            check(name, doc)
            frames = encode(name, doc)
        except DocumentError as error:
            reason = str(error)[:_LONGEST_REASON]
            self.refuse(Refusal(name, str(doc.get("uid", ""))[:_LONGEST_UID], reason, "stock"))
            return
        self._stock_seq += 1
        flags = records.STARTS_RUN if name == "start" else 0
        if name == "start":
            self._batch.runs.append((self._batch.count, str(doc["uid"])))
        record = records.pack(self._stock_id, self._stock_seq, frames, flags)
        self._batch.add(record, 1, self._stock_id, self._stock_seq)

    def refuse(self, refusal: Refusal) -> None:
        """Report a document that goes nowhere."""
        self.counts.refused += 1
        log.error("refused the %s document %s of %s: %s", *refusal[:2], refusal.source, refusal.reason)
        self._on_refused(refusal)

    def _ping(self, peer: bytes, waiting: int, now: float) -> None:
        known = self.publishers.get(peer) or self.consumers.get(peer)
        if known is None:
            self._reply(peer, messages.Unknown())
            return
        known.seen = now
        if isinstance(known, PublisherPeer):
            known.waiting = waiting
        self._reply(peer, messages.Pong(self.journal.head))

    # ---- the journal

    def commit(self) -> None:
        """Journal what has been gathered; only then may it be delivered and acknowledged."""
        if self._batch.count:
            batch, self._batch = self._batch, Batch()
            try:
                self.journal.append(batch)
            except JournalError as error:
                self._put_back(batch, str(error))
                return
            self.counts.documents_in += batch.count
            if self.full:
                log.warning("the journal takes documents again")
                self.full = ""

    def acknowledge(self) -> None:
        """Tell Publishers what is in the journal."""
        if self._batch.count:
            self.commit()
        for peer, known in self.publishers.items():
            known.unanswered = 0
            if known.owed:
                known.owed = False
                self._reply(peer, messages.Accepted(known.accepted))

    def _put_back(self, batch: Batch, reason: str) -> None:
        """Nothing of this batch is in the journal: its Publishers keep it and send it again later."""
        if not self.full:
            log.error("the journal takes no documents, Publishers keep them: %s", reason)
        self.full = reason
        if unsafe := batch.publishers.get(self._stock_id):
            log.error("documents of bluesky's own Publishers are lost, up to number %d", unsafe)
        for peer in [p for p, known in self.publishers.items() if known.owed]:
            del self.publishers[peer]  # it greets again
            self._reply(peer, messages.Busy(reason))

    # ---- consumers

    def _subscribe(self, peer: bytes, message: messages.Subscribe, now: float, rights: Rights) -> None:
        if not self._admit(peer, message.version, rights.consume, "consume"):
            return
        self.forget(peer)
        if message.name:
            if self.cursors.get(message.name) is None and len(self.cursors.items()) >= self.limits.cursors:
                raise ProtocolError(f"{self.limits.cursors} consumers have names here, that is the limit")
            for other in [p for p, known in self.consumers.items() if known.name == message.name]:
                self.deny(other, f"another consumer took over the cursor {message.name!r}")
        offset, lost = self._begin(message)
        self.consumers[peer] = ConsumerPeer(
            message.name,
            self.journal.reader(offset),
            min(message.documents, self.limits.credit_documents),
            min(message.size, self.limits.credit_bytes),
            offset,
            now,
        )
        place = messages.Position(self.journal.epochs.current, offset)
        if message.name and message.position is not None:  # it may be further than what has reached the hub
            self.cursors.set(message.name, place)
        self._reply(peer, messages.Subscribed(place, self.journal.head, lost))

    def _begin(self, message: messages.Subscribe) -> tuple[int, int]:
        """Return where a consumer begins, and how many documents it has lost."""
        journal = self.journal
        if message.position is not None:
            return journal.resume(message.position)
        if message.start == "cursor":
            if not message.name:
                raise ProtocolError("start 'cursor' needs a name")
            kept = self.cursors.get(message.name)
            return journal.resume(kept) if kept else (journal.first, 0)
        if message.start == "all":
            return journal.first, 0
        if message.start == "new":
            return journal.head, 0
        offset = journal.newest_run() if message.start == "newest" else journal.find_run(message.start)
        if offset is None and message.start != "newest":
            raise ProtocolError(f"no run {message.start!r} in the journal (or more than one begins so)")
        return (journal.head if offset is None else offset), 0

    def _acknowledge(self, peer: bytes, offset: int, now: float) -> None:
        known = self.consumers.get(peer)
        if known is None:
            self._reply(peer, messages.Unknown())
            return
        known.seen = now
        known.done = min(max(offset, known.done), known.reader.offset)
        while known.under_way and known.under_way[0][0] <= known.done:
            known.bytes_under_way -= known.under_way.popleft()[1]
        if known.name:
            self.cursors.set(known.name, messages.Position(self.journal.epochs.current, known.done))

    def deliver(self) -> bool:
        """Give each consumer its next records as far as its credit goes; True if some could take more."""
        more = False
        for peer, known in list(self.consumers.items()):
            waiting = self.journal.head - known.reader.offset
            documents, size = known.credit(waiting)
            if documents <= 0 or size <= 0 or waiting <= 0:
                continue
            wanted = known.reader.offset
            chunk = known.reader.read(min(documents, _CHUNK_DOCUMENTS), min(size, _CHUNK_BYTES))
            head = messages.Deliver(chunk.offset, chunk.count, self.journal.head, chunk.offset - wanted)
            known.under_way.append((chunk.offset + chunk.count, len(chunk.data)))
            known.bytes_under_way += len(chunk.data)
            self.counts.documents_out += chunk.count
            self.replies.append(Reply(peer, messages.encode(head), chunk.data))
            more |= known.reader.offset < self.journal.head
        return more

    # ---- who is there

    def _admit(self, peer: bytes, version: int, allowed: bool, what: str) -> bool:
        if version != messages.VERSION:
            self.deny(peer, f"protocol version {version}, this hub speaks {messages.VERSION}")
        elif not allowed:
            self.deny(peer, f"this key may not {what}")
        elif peer not in self.publishers and peer not in self.consumers and self._crowded():
            self.deny(peer, f"{self.limits.peers} peers are connected, that is the limit")
        else:
            return True
        return False

    def _crowded(self) -> bool:
        return len(self.publishers) + len(self.consumers) >= self.limits.peers

    def deny(self, peer: bytes, reason: str) -> None:
        """Refuse a peer for good."""
        self.counts.denied += 1
        log.warning("a peer is refused: %s", reason)
        self.forget(peer)
        self._reply(peer, messages.Denied(reason))

    def forget(self, peer: bytes) -> None:
        """Drop what is known of a peer; it has gone, or has to say again who it is."""
        self.publishers.pop(peer, None)
        if known := self.consumers.pop(peer, None):
            known.reader.close()

    @property
    def named_consumers(self) -> set[str]:
        """The names of those that are connected."""
        return {known.name for known in self.consumers.values() if known.name}

    def forget_silent(self, now: float) -> None:
        """Drop the peers that have said nothing for long."""
        known = [*self.publishers.items(), *self.consumers.items()]
        for peer in [p for p, k in known if now - k.seen > SILENT_SECONDS]:
            self.forget(peer)

    def _reply(self, peer: bytes, message: messages.FromHub) -> None:
        self.replies.append(Reply(peer, messages.encode(message)))
