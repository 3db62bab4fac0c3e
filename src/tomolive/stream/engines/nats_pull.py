"""Messages of a JetStream consumer, a few at a time: what is not asked for stays at the broker."""

import contextlib
from typing import Any, NamedTuple

import nats.errors
from nats.js.errors import APIError

from tomolive.stream.engines.nats_link import Link, UnavailableError

_EXPIRES_SECONDS = 2.0
_SILENT_SECONDS = 3.0
"""How long the broker may take beyond what we asked it to wait."""
_MOST_MESSAGES = 256
_MOST_BYTES = 8 << 20
_AT_ONCE = 64


class Pulled(NamedTuple):
    """A message of the stream."""

    seq: int
    subject: str
    headers: dict[str, str] | None
    data: bytes
    waiting: int
    """Messages that the broker has behind it."""


class Pull:
    """Asks for messages, again when all of them have come; none may be missing between two."""

    def __init__(self, link: Link, consumer: str, seq: int) -> None:
        self._link, self._consumer, self._next = link, consumer, seq
        self._delivered = 0
        self._inbox = ""
        self._subscription: Any = None
        self._open = 0
        """Messages that were asked for and have not come."""
        self._size = float(link.largest)
        """Of a message, lately; before the first one, the worst."""

    async def messages(self) -> list[Pulled]:
        """Wait for messages.

        Raises
        ------
        UnavailableError
            if the broker has gone, or one is missing; begin again behind the last one then.
        """
        found: list[Pulled] = []
        try:
            while not found:
                await self._ask()
                self._take(await self._subscription.next_msg(_EXPIRES_SECONDS + _SILENT_SECONDS), found)
                with contextlib.suppress(TimeoutError):
                    while self._subscription.pending_msgs and len(found) < _AT_ONCE:
                        self._take(await self._subscription.next_msg(0.001), found)
        except (nats.errors.Error, APIError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"{self._link.target} sends nothing: {reason}") from None
        return found

    async def _ask(self) -> None:
        if self._open > 0:
            return
        if not self._link.is_open:
            raise UnavailableError(f"{self._link.target} has gone")
        if self._subscription is None:
            self._inbox, self._subscription = await self._link.inbox()
        self._open = max(1, min(int(_MOST_BYTES / self._size), _MOST_MESSAGES))
        await self._link.pull(self._consumer, self._inbox, self._open, _EXPIRES_SECONDS)

    def _take(self, message: Any, found: list[Pulled]) -> None:
        if message.subject == self._inbox:  # a word of the broker, not a message of the stream
            status = (message.headers or {}).get("Status", "")
            if status not in {"100", "404", "408"}:
                what = (message.headers or {}).get("Description", status)
                raise UnavailableError(f"{self._link.target} ended the delivery: {what}")
            if status != "100":
                self._open = 0
            return
        at = message.metadata
        self._delivered += 1
        if at.sequence.consumer != self._delivered:
            raise UnavailableError(f"{self._link.target}: a message went astray on the way")
        self._open -= 1
        self._size = max(len(message.data), 0.9 * self._size, 1.0)
        found.append(
            Pulled(at.sequence.stream, message.subject, message.headers, message.data, at.num_pending)
        )
