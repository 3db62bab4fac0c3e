"""The two ends that talk to a hub, without sockets: what to say next, and what an answer means.

The hub's end is ``exchange``. The protocol is described in docs/reference/protocol.md.
"""

from collections import deque

from tomolive.errors import PermissionDeniedError
from tomolive.stream import messages
from tomolive.stream.messages import Position, ProtocolError

WINDOW_DOCUMENTS = 2048
WINDOW_BYTES = 16 << 20


class DeniedError(PermissionDeniedError):
    """The hub refuses this peer for good."""


class PublisherSession:
    """A Publisher's talk with the hub: a window of unacknowledged documents, sent again after every break."""

    def __init__(self, publisher: bytes, name: str) -> None:
        self._publisher, self._name = publisher, name
        self.welcome = False
        self.next = 0
        """Number of the next document to send; valid while ``welcome``."""
        self.accepted = 0
        """Number of the last document that the hub has."""
        self.largest = 0
        """Bytes of the largest record that the hub takes."""
        self._under_way: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def hello(self, first: int) -> bytes:
        """Return the greeting; ``first`` is the oldest document that the spool holds."""
        return messages.encode(messages.Hello(messages.VERSION, self._publisher, self._name, first))

    @property
    def room(self) -> int:
        """Documents that may be sent now."""
        if not self.welcome or self._bytes >= WINDOW_BYTES:
            return 0
        return WINDOW_DOCUMENTS - self.under_way

    @property
    def under_way(self) -> int:
        """Documents that were sent and not yet accepted."""
        return self.next - 1 - self.accepted

    def publish(self, count: int, size: int, waiting: int) -> bytes:
        """Return the head for ``count`` records from ``next`` on."""
        self.next += count
        self._under_way.append((self.next - 1, size))
        self._bytes += size
        return messages.encode(messages.Publish(count, waiting))

    def receive(self, *parts: bytes) -> messages.FromHub:
        """Take an answer in; return it for what the caller wants to log or count.

        Raises
        ------
        DeniedError
            if the hub will not talk to this Publisher.
        ProtocolError
            if the answer makes no sense.
        """
        message = messages.from_hub(*parts)
        match message:
            case messages.Welcome(expected, largest):
                self._restart(expected)
                self.welcome, self.largest = True, largest
            case messages.Accepted(seq):
                self._settle(seq)
            case messages.Busy() | messages.Unknown():
                self.welcome = False
            case messages.Denied(reason):
                raise DeniedError(reason)
        return message

    def _restart(self, expected: int) -> None:
        self.next, self.accepted = expected, expected - 1
        self._under_way.clear()
        self._bytes = 0

    def _settle(self, seq: int) -> None:
        if not self.accepted < seq < self.next:
            return  # an answer to an earlier connection
        self.accepted = seq
        while self._under_way and self._under_way[0][0] <= seq:
            self._bytes -= self._under_way.popleft()[1]


class ConsumerSession:
    """A consumer's talk with the hub: where it is, and that what comes follows on without a gap."""

    def __init__(
        self, name: str, start: str, position: Position | None, *, documents: int = 2048, size: int = 8 << 20
    ) -> None:
        self._name, self._start = name, start
        self._documents, self._size = documents, size
        self.position = position
        """Of the next document to receive; None until the hub has said where it begins."""
        self.subscribed = False
        self.head = 0
        """One past the newest document that the hub has told of."""

    def subscribe(self) -> bytes:
        """Return the request for documents from here on."""
        return messages.encode(
            messages.Subscribe(
                messages.VERSION, self._name, self._start, self.position, self._documents, self._size
            )
        )

    def acknowledge(self, offset: int) -> bytes:
        """Return the word that the documents before ``offset`` are done, which also gives new credit."""
        return messages.encode(messages.Acknowledge(offset))

    def receive(self, *parts: bytes) -> messages.FromHub | None:
        """Take an answer in; None if it was given before, or belongs to an earlier connection.

        Raises
        ------
        DeniedError
            if the hub will not talk to this consumer.
        ProtocolError
            if the answer makes no sense.
        """
        message = messages.from_hub(*parts)
        match message:
            case messages.Subscribed(position, newest, lost):
                self.head = newest
                if self._begin(position, lost):
                    return None
            case messages.Deliver(offset, count, newest, lost):
                if not self.subscribed or self.position is None:
                    return None
                if offset - lost != self.position.offset:
                    self.subscribed = False  # ask again from where we are
                    return None
                self.position = Position(self.position.epoch, offset + count)
                self.head = newest
            case messages.Pong(newest):
                self.head = newest
            case messages.Unknown():
                self.subscribed = False
            case messages.Denied(reason):
                raise DeniedError(reason)
        return message

    def _begin(self, position: Position, lost: int) -> bool:
        """Go on where the hub says; True if it has said so before.

        A hub that was away may find the same question twice, and answers it twice: the second answer must
        not lead back to what has been received meanwhile, nor on over what has not.
        """
        mine = self.position
        known = mine is not None and mine.epoch == position.epoch
        repeated = known and self.subscribed
        if not known or (lost and not repeated):
            self.position = position
        self.subscribed = True
        return repeated


__all__ = ["ConsumerSession", "DeniedError", "Position", "ProtocolError", "PublisherSession"]
