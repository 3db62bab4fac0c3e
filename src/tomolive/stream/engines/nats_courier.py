"""Carries spools to NATS JetStream: one message at a time, so that no order can be lost."""

import logging
from collections.abc import Callable, Iterator

from tomolive.stream.courier import Courier
from tomolive.stream.engines import nats_wire, vetting
from tomolive.stream.engines.loop import LoopThread
from tomolive.stream.engines.nats_link import TIMEOUT, Link, Target, UnavailableError, run
from tomolive.stream.engines.nats_wire import BATCH_DOCUMENTS, Outgoing, Progress
from tomolive.stream.sparing import SparingFilter
from tomolive.stream.spool import Batch, Spool

log = logging.getLogger(__name__)
log.addFilter(SparingFilter())

_IDLE_SECONDS = 0.3
_AWAY_SECONDS = 0.5


class NatsCourier(Courier):
    """Sends to a stream of JetStream; only when a message is kept there goes the next one.

    Documents that wait meanwhile go together in the next message, so that a burst takes few round trips.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._target = Target.parse(address)
        self._loop: LoopThread | None = None
        self._link: Link | None = None

    def send(self, spool: Spool, name: str, until: Callable[[], bool]) -> None:
        """Send ``spool`` until ``until()``; a broker that is away is waited for."""
        while not until():
            try:
                self._carry(self._connected(name), spool, until)
            except UnavailableError as error:
                log.warning("documents stay in the spool: %s", error)
                self._disconnect()
                self.sleep(_AWAY_SECONDS, until)

    def close(self) -> None:
        """Let go of the connection."""
        self._disconnect()
        if self._loop is not None:
            self._loop.close()

    def _carry(self, link: Link, spool: Spool, until: Callable[[], bool]) -> None:
        publisher = spool.publisher.hex()
        progress = self._run(link.progress_of(publisher))
        spool.acknowledge(min(progress.seq, spool.last))
        while not until():
            batch = spool.read(spool.acknowledged + 1, BATCH_DOCUMENTS, link.limit)
            if not batch.count:
                self.sleep(_IDLE_SECONDS, lambda: spool.waiting > 0)
                if not link.is_open:
                    raise UnavailableError(f"{self._target} has gone")
                continue
            if not self._publish_all(link, spool, self._messages(link, batch, publisher, progress), progress):
                return  # look again what is there
            spool.acknowledge(batch.first + batch.count - 1)  # the last ones may have been refused

    def _publish_all(
        self, link: Link, spool: Spool, messages: Iterator[Outgoing], progress: Progress
    ) -> bool:
        """Publish one after the other; False if the broker had one that may hold other documents."""
        first = progress.first
        for message in messages:
            number, is_old = self._run(link.publish(message.behind(first)))
            if is_old and not self._is_theirs:  # it came over an earlier connection
                return False
            if message.part and not message.part.at:
                first = number
            if message.completes:
                spool.acknowledge(message.seq)
        return True

    @property
    def _is_theirs(self) -> bool:
        return self._target.wire == "bluesky-nats"

    def _messages(self, link: Link, batch: Batch, publisher: str, progress: Progress) -> Iterator[Outgoing]:
        documents, subjects = vetting.documents(batch.data), self._target.subjects
        if self._is_theirs:
            return nats_wire.compose_theirs(documents, subjects.prefix, publisher, link.largest)
        return nats_wire.compose(documents, subjects, publisher, link.limit, progress)

    def _connected(self, name: str) -> Link:
        if self._link is not None and self._link.is_open:
            return self._link
        self._disconnect()
        self._loop = self._loop or LoopThread("tomolive-nats-publisher")
        link = self._link = self._run(Link.open(self._target, f"tomolive publisher {name}"))
        return link

    def _disconnect(self) -> None:
        if self._link is not None and self._loop is not None:
            link, self._link = self._link, None
            try:
                self._loop.run(link.close(), TIMEOUT)
            except Exception as error:  # noqa: BLE001  # it is of no use any more, whatever the reason
                log.debug("closing: %s", error)

    def _run(self, work):
        assert self._loop is not None  # noqa: S101  # set before the first use
        return run(self._loop, work, self._target)
