"""What a hub knows of those who talk to it: what they may do, how far they have come, what they are told."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from tomolive.stream.journal import Reader


@dataclass(frozen=True)
class Limits:
    """What one peer may ask of the hub."""

    largest: int = 64 << 20
    """Bytes of a record."""
    peers: int = 1000
    """Connections that may be open."""
    cursors: int = 1000
    """Names of consumers that are remembered."""
    credit_documents: int = 1 << 16
    credit_bytes: int = 256 << 20


@dataclass(frozen=True)
class Rights:
    """What a peer may do."""

    publish: bool = True
    consume: bool = True


class Reply(NamedTuple):
    """A message for one peer."""

    peer: bytes
    head: bytes
    records: bytes = b""


class Refusal(NamedTuple):
    """A document that was not accepted."""

    document: str
    uid: str
    reason: str
    source: str


@dataclass
class Counts:
    """What has happened since the hub started."""

    documents_in: int = 0
    documents_out: int = 0
    duplicates: int = 0
    refused: int = 0
    denied: int = 0


@dataclass
class PublisherPeer:
    """A connected Publisher."""

    publisher: bytes
    name: str
    accepted: int
    """Number of the last document that was taken, in the journal or gathered."""
    seen: float
    waiting: int = 0
    """Documents in its spool."""
    owed: bool = False
    """The next commit acknowledges ``accepted``."""
    unanswered: int = 0
    """Bytes that came since the last acknowledgements went out."""


@dataclass
class ConsumerPeer:
    """A connected consumer."""

    name: str
    reader: Reader
    documents: int
    size: int
    done: int
    """It has acknowledged the documents before this offset."""
    seen: float
    under_way: deque[tuple[int, int]] = field(default_factory=deque)
    """(offset after the last document, bytes) of each delivery."""
    bytes_under_way: int = 0

    def credit(self, waiting: int) -> tuple[int, int]:
        """Return the documents and bytes that may be sent now, of ``waiting`` documents.

        A slow consumer gives credit back in crumbs. To use each at once would cost everybody a message for
        a few documents; they are gathered to a quarter of the whole.
        """
        if not self.under_way:
            return self.documents, self.size
        free = self.documents - (self.reader.offset - self.done)
        if free < min(waiting, self.documents // 4):
            return 0, 0
        return free, self.size - self.bytes_under_way
