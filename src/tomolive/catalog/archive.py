"""The archive: documents in, runs in Tiled out, to be seen while they grow.

A thread of its own writes, every half second, what has come. The calls with a start and with a stop document
return when these are in the catalog; the others return at once. A run that is in the catalog without its stop
document is not complete, and must come again from its start: its metadata say where in the hub's journal that
is. :func:`oldest_unfinished` asks for it. Nothing else has to be remembered (docs/decisions).
"""

import copy
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tomolive.catalog.open import tiled_errors
from tomolive.catalog.runs import OpenRuns
from tomolive.catalog.writer import GIVEN_UP, MARK
from tomolive.errors import CatalogError, CatalogUnavailableError
from tomolive.stream.messages import Position

log = logging.getLogger(__name__)

Document = dict[str, Any]
_CAPACITY = 10_000
"""Documents that may wait for the writing thread; then callers wait."""


class Archive:
    """Callable ``archive(name, doc)`` that writes runs to Tiled.

    Parameters
    ----------
    client : tiled container
        The catalog, as ``tiled.client.from_uri`` returns it.
    mounts : mapping, optional
        Path prefix in documents -> path prefix where the Tiled server runs.
    interval : float
        Seconds between writes; more if a write takes long.
    on_failure : callable, optional
        Called from the writing thread when it must end, so that a source that is silent can be stopped.
    skip : set of str
        Uids of runs to leave alone.
    mark : mapping, optional
        What runs whose documents have no position are marked with: such a run that was cut off is written
        anew by whoever comes with the same mark.
    """

    def __init__(
        self,
        client: Any,
        *,
        mounts: Mapping[str, str] | None = None,
        interval: float = 0.5,
        on_failure: Callable[[], object] = lambda: None,
        skip: frozenset[str] = frozenset(),
        mark: Mapping[str, Any] | None = None,
    ) -> None:
        self._runs = OpenRuns(client, dict(mounts or {}), skip)
        self._interval = self._pause = interval
        self._on_failure = on_failure
        self._mark = dict(mark or {})
        self._queue: queue.Queue[_Item | None] = queue.Queue(_CAPACITY)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="archive", daemon=True)
        self._thread.start()

    @property
    def writing(self) -> str:
        """Uid of the run that a request was made for last."""
        return self._runs.writing

    def __call__(self, name: str, doc: Document, position: Position | None = None) -> None:
        """Take a document; with a start or stop document, return when it is in the catalog.

        Parameters
        ----------
        position : Position, optional
            Of the document in the hub's journal.

        Raises
        ------
        CatalogUnavailableError
            if Tiled was lost: every run whose stop document this has not returned from must come again from
            its start.
        CatalogError
            if Tiled refuses the key.
        """
        mark = {"epoch": position.epoch, "offset": position.offset} if position else self._mark
        item = _Item(name, copy.deepcopy(doc), mark)
        self._patiently(lambda: self._queue.put(item, timeout=1.0), queue.Full)
        if name in {"start", "stop"}:
            self._patiently(lambda: item.written.result(timeout=1.0), TimeoutError)

    def close(self) -> None:
        """Write what has come, and end; raises as a call does."""
        if self._thread.is_alive():
            self._patiently(lambda: self._queue.put(None, timeout=1.0), queue.Full)
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def abandon(self) -> None:
        """Have every call raise from now on; what was not written comes again another time."""
        self._failure = CatalogUnavailableError("the archive was stopped")

    def _patiently(self, action: Callable[[], object], not_yet: type[Exception]) -> None:
        """Repeat ``action`` while it raises ``not_yet`` and the thread writes."""
        while True:
            if self._failure is not None:
                raise self._failure
            try:
                action()
            except not_yet:
                continue
            return

    def _work(self) -> None:
        try:
            while self._take_and_write():
                pass
        except CatalogError as error:
            log.warning("%s", error)
            self._fail(error)
        except Exception as error:
            log.exception("the archive must end")
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Have every call raise from now on, and the source end."""
        self._failure = error
        self._on_failure()

    def _take_and_write(self) -> bool:
        """Take what comes for a while after the first document, then write it; False at the end."""
        item = self._queue.get()
        deadline = time.monotonic() + self._pause
        while item is not None:
            self._runs.take(item.name, item.doc, item.mark)
            item.written.set_result(None)
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                item = self._queue.get(timeout=left)
            except queue.Empty:
                break
        began = time.monotonic()
        self._runs.flush()
        # Writes that take long come less often, so that documents are taken most of the time.
        self._pause = max(self._interval, 2 * (time.monotonic() - began))
        return item is not None


@dataclass(frozen=True, eq=False)
class _Item:
    name: str
    doc: Document
    mark: Document
    written: "Future[None]" = field(default_factory=Future)


def oldest_unfinished(client: Any) -> Position | None:
    """Return where in the journal the oldest run begins that is in the catalog without its stop document."""
    return min(unfinished(client).values(), key=lambda position: position.offset, default=None)


def unfinished(client: Any) -> dict[str, Position]:
    """Return the runs in the catalog that wait for their stop documents, by uid: where each begins.

    Those that were given up are not among them.
    """
    from tiled.client.container import Container
    from tiled.queries import KeyPresent

    with tiled_errors(client.uri):
        # A catalog of runs looks into start documents only; the container that it is looks everywhere.
        marked = Container.search(client, KeyPresent(MARK))
        cut_off = Container.search(marked, KeyPresent("stop", exists=False))
        marks = {uid: node.metadata[MARK] for uid, node in cut_off.items()}
    return {
        uid: Position(mark["epoch"], mark["offset"])
        for uid, mark in marks.items()
        if GIVEN_UP not in mark and "epoch" in mark
    }
