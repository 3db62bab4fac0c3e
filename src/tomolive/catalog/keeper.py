"""Keep a catalog up to date with a hub, whatever of the two goes away and comes back.

There is one way to recover, from a killed archive as from a Tiled that was down: ask the catalog which runs
are not complete, and read the journal again from the start of the oldest.
"""

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tomolive.catalog.archive import Archive, oldest_unfinished
from tomolive.catalog.open import open_catalog
from tomolive.errors import CatalogUnavailableError
from tomolive.stream.dispatcher import RemoteDispatcher
from tomolive.stream.messages import Position

log = logging.getLogger(__name__)

_RETRY_S = 2.0
_ATTEMPTS = 5


class ArchiveKeeper:
    """Write every run of a hub to a Tiled catalog.

    Parameters
    ----------
    address : str
        Of the hub.
    uri : str
        Of the Tiled server.
    api_key : str, optional
        If it is not in ``uri``.
    mounts : mapping, optional
        Path prefix in documents -> path prefix where the Tiled server runs.
    name : str
        Of the cursor at the hub.
    """

    def __init__(
        self,
        address: str,
        uri: str,
        *,
        api_key: str | None = None,
        mounts: Mapping[str, str] | None = None,
        name: str = "archive",
    ) -> None:
        self._address, self._uri, self._api_key, self._mounts = address, uri, api_key, mounts
        self._name = name
        self._stopped = threading.Event()
        self._end: Callable[[], object] = lambda: None
        self._failed: Counter[str] = Counter()
        self._waiting = "the catalog has not answered yet"
        self._dispatcher: RemoteDispatcher | None = None

    def health(self) -> dict[str, Any]:
        """Return what ``/healthz`` says; any thread may ask."""
        behind = self._dispatcher.behind if self._dispatcher else None
        return {
            "ok": not self._waiting,
            "service": "archive",
            "waiting": self._waiting,
            "behind": behind,
            "skipped_runs": sum(times >= _ATTEMPTS for times in self._failed.values()),
        }

    def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Archive until :meth:`stop`; call ``ready`` once the catalog has answered.

        Raises
        ------
        AddressError
            if the hub refuses this consumer.
        CatalogError
            if Tiled refuses the key.
        """
        told = False
        while not self._stopped.is_set():
            try:
                client = open_catalog(self._uri, self._api_key)
                with contextlib.closing(client.context):
                    begin = oldest_unfinished(client)
                    self._waiting = ""
                    if not told:
                        ready()
                        told = True
                    self._archive(client, begin)
            except CatalogUnavailableError as error:
                self._waiting = str(error)
                log.warning("%s; trying again until it does", error)
                self._stopped.wait(_RETRY_S)

    def stop(self) -> None:
        """End :meth:`run` soon; what is half written comes again another time."""
        self._stopped.set()
        self._end()

    def _archive(self, client: Any, begin: Position | None) -> None:
        if begin is not None:
            log.info("the oldest run that is not complete begins at document %d of the journal", begin.offset)
        dispatcher = RemoteDispatcher(self._address, name=self._name, start=begin, on_error="stop")
        self._dispatcher = dispatcher
        skip = frozenset(uid for uid, times in self._failed.items() if times >= _ATTEMPTS)
        archive = Archive(client, mounts=self._mounts, on_failure=dispatcher.stop, skip=skip)

        def end() -> None:
            archive.abandon()
            dispatcher.stop()

        self._end = end
        if self._stopped.is_set():
            return

        def take(name: str, doc: dict[str, Any]) -> None:
            after = dispatcher.position
            archive(name, doc, Position(after.epoch, after.offset - 1) if after else None)

        dispatcher.subscribe(take)
        try:
            dispatcher.start()
            archive.close()
        except CatalogUnavailableError as error:
            if self._stopped.is_set():
                return
            if isinstance(error.__cause__, httpx.HTTPStatusError):
                # It is there, and cannot cope with this run: after some attempts the others must go on.
                self._failed[archive.writing] += 1
            raise
