"""Documents to the writers of their runs; what Tiled already holds decides whether a run is written.

==============================================  ===========================================================
a run in Tiled                                  what is done with it
==============================================  ===========================================================
not there                                       written
has its stop document                           complete: left alone
no stop document, marked by an archive          cut off by a crash: emptied, and written anew
no stop document, marked as given up            it failed before, or fell silent: left alone, and said
no stop document, not marked, or by an import   someone else writes it: left alone, and said
==============================================  ===========================================================

A run whose RunEngine was killed never stops. What came of it stays in the catalog; when too many runs are
open and it was silent longest, it is given up: it neither stays in memory nor comes again each time.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tomolive.catalog.normalise import Normaliser
from tomolive.catalog.open import tiled_errors
from tomolive.catalog.writer import GIVEN_UP, MARK, RunWriter
from tomolive.errors import CatalogError

log = logging.getLogger(__name__)

Document = dict[str, Any]
MOST_OPEN = 16
"""Runs at once; far more than the RunEngines that share a hub."""


class OpenRuns:
    """The runs that are being written; used from one thread.

    Parameters
    ----------
    client : tiled container
        The catalog.
    mounts : mapping
        Path prefix in documents -> path prefix where the Tiled server runs.
    skip : set of str
        Uids of runs to leave alone.
    """

    def __init__(self, client: Any, mounts: Mapping[str, str], skip: frozenset[str] = frozenset()) -> None:
        self._client = client.include_data_sources()
        self._mounts = mounts
        self._skip = skip
        self._open: dict[str, _OpenRun] = {}
        self._run_of: dict[str, str] = {}
        self.writing = ""
        """Uid of the run that a request was made for last."""

    def take(self, name: str, doc: Document, mark: Document) -> None:
        """Pass a document to its run's writer; start and stop are in the catalog when this returns.

        ``mark`` says where in the journal the run begins; empty without a journal.

        Raises
        ------
        CatalogUnavailableError
            if Tiled does not answer.
        CatalogError
            if Tiled refuses the key.
        """
        try:
            uid = self._uid(name, doc)
        except (KeyError, TypeError) as error:
            log.error("a %s document is not archived: it has no valid %s", name, error)
            return
        if name == "start":
            self._guard(uid, name, lambda: self._start(uid, mark))
            self._bound()
        run = self._open.get(uid)
        if run is None:
            return
        self._open[uid] = self._open.pop(uid)  # in the order in which they were heard of last
        self._guard(uid, name, lambda: run.take(name, doc))
        if name == "stop":
            self._forget(uid)

    def flush(self) -> None:
        """Write what the writers have kept; raises as :meth:`take` does."""
        for uid, run in list(self._open.items()):
            self._guard(uid, "batch", run.writer.flush)

    def _start(self, uid: str, mark: Document) -> None:
        if uid in self._skip:
            self._give_up(uid, "Tiled failed at it several times")
            return
        node = None
        if uid in self._client:
            node = self._client[uid]
            if "stop" in node.metadata:
                log.info("run %s is complete in the catalog", uid)
                return
            theirs = node.metadata.get(MARK, {})
            if not mark or not theirs or ("epoch" in mark) != ("epoch" in theirs):
                log.error("run %s is being written to the catalog by someone else; it is left to them", uid)
                return
            if GIVEN_UP in theirs:
                log.warning("run %s was given up: %s", uid, theirs[GIVEN_UP])
                return
            log.warning("run %s was cut off; it is written anew", uid)
        self._open[uid] = _OpenRun(self._client, self._mounts, mark, node)

    def _bound(self) -> None:
        """Give the run up that was silent longest, if too many are open."""
        if len(self._open) <= MOST_OPEN:
            return
        uid, run = next(iter(self._open.items()))
        log.warning("run %s has no stop document, and is given up", uid)
        self._guard(uid, "last batch", run.writer.flush)
        self._guard(uid, "end", lambda: self._give_up(uid, f"silent longest of more than {MOST_OPEN} runs"))
        self._forget(uid)

    def _give_up(self, uid: str, reason: str) -> None:
        """Mark a run, so that it does not come again from its start; what was written of it stays."""
        try:
            if uid in self._client and MARK in (node := self._client[uid]).metadata:
                node.update_metadata({MARK: {GIVEN_UP: reason}}, drop_revision=True)
        except httpx.HTTPStatusError as error:
            log.warning("run %s cannot be marked as given up: %s", uid, error)

    def _uid(self, name: str, doc: Document) -> str:
        """Return the uid of the run that ``doc`` belongs to; empty if its start was not seen."""
        if name == "start":
            return doc["uid"]
        if "run_start" in doc:
            uid = doc["run_start"]
        elif name == "resource":
            uid = next(reversed(self._open), "")
        else:
            uid = self._run_of.get(doc.get("descriptor") or doc.get("resource") or "", "")
        if name in {"descriptor", "resource", "stream_resource"} and uid in self._open:
            self._run_of[doc["uid"]] = uid
        return uid

    def _guard(self, uid: str, what: str, action: Callable[[], object]) -> None:
        """Do ``action``; a run that cannot be written is set aside, and the others go on."""
        self.writing = uid
        try:
            with tiled_errors(self._client.uri):
                action()
        except CatalogError:
            raise
        except Exception as error:  # whatever is wrong with one run must not stop the others
            log.error(
                "run %s cannot be archived, and is set aside: its %s: %s", uid, what, error, exc_info=error
            )
            self._forget(uid)
            with tiled_errors(self._client.uri):
                self._give_up(uid, f"its {what}: {error}"[:500])

    def _forget(self, uid: str) -> None:
        self._open.pop(uid, None)
        self._run_of = {key: value for key, value in self._run_of.items() if value != uid}


class _OpenRun:
    def __init__(self, client: Any, mounts: Mapping[str, str], mark: Document, cut_off: Any) -> None:
        self.writer = RunWriter(client, mark, cut_off)
        self.take = Normaliser(self.writer, mounts)
