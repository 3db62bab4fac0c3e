"""Where the documents of a finished run are found: recorded as JSON lines, at a hub, or in a catalog."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomolive.errors import ScanError, SettingsError

Document = tuple[str, dict[str, Any]]
_PATIENCE_S = 10.0
_SILENCE_S = 30.0


@dataclass(frozen=True)
class DocumentSource:
    """One of three places; see `fetch`."""

    hub: str | None = None
    """Address of a hub."""
    catalog: str | None = None
    """URI of a Tiled catalog."""
    file: str | None = None
    """JSON lines, of one run or several."""

    def fetch(self, run_uid: str) -> list[Document]:
        """Return the documents of a run, from its start to its stop document.

        Raises
        ------
        ScanError
            if there is no such run, or it has not stopped.
        AddressError, CatalogError, SettingsError, DocumentError
            if the place cannot be read.
        """
        if self.file:
            return _from_file(Path(self.file), run_uid)
        if self.catalog:
            return _from_catalog(self.catalog, run_uid)
        if self.hub:
            return _from_hub(self.hub, run_uid)
        raise SettingsError("say where the documents of the run are: a hub, a catalog or a file")

    def find(self, beginning: str) -> str:
        """Return the uid of the run whose uid begins like this; of the newest run for an empty text.

        A hub finds whole uids only.
        """
        if self.file:
            starts = [doc["uid"] for name, doc in _recorded(Path(self.file)) if name == "start"]
            found = [uid for uid in starts if uid.startswith(beginning)]
            if not found:
                raise ScanError(f"{self.file} has no run {beginning!r}")
            return found[-1]
        if self.catalog:
            from tomolive.catalog.open import open_run

            run = open_run(self.catalog, beginning or -1)
            try:
                return run.metadata["start"]["uid"]
            finally:
                run.context.close()
        return beginning


def _recorded(path: Path) -> list[Document]:
    from tomolive.live.explain import read_documents

    return list(read_documents(path))


class _RunPicker:
    """Keeps the documents of one run."""

    def __init__(self, run_uid: str) -> None:
        self._uid = run_uid
        self._known = {run_uid}
        self.documents: list[Document] = []
        self.stopped = False

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        if self.stopped or not self._is_of_run(name, doc):
            return
        self.documents.append((name, doc))
        if name in ("descriptor", "resource"):
            self._known.add(doc["uid"])
        self.stopped = name == "stop"

    def _is_of_run(self, name: str, doc: dict[str, Any]) -> bool:
        if name == "start":
            return doc["uid"] == self._uid
        if not self.documents:
            return False
        owner = doc.get("run_start") or doc.get("descriptor") or doc.get("resource")
        return owner is None or owner in self._known

    def result(self, where: str) -> list[Document]:
        """Return the documents, if they are a whole run."""
        if not self.documents:
            raise ScanError(f"{where} has no run {self._uid}")
        if not self.stopped:
            raise ScanError(f"run {self._uid[:8]} has not stopped, as far as {where} knows")
        return self.documents


def _from_file(path: Path, run_uid: str) -> list[Document]:
    picker = _RunPicker(run_uid)
    for name, doc in _recorded(path):
        picker(name, doc)
    return picker.result(str(path))


def _from_catalog(uri: str, run_uid: str) -> list[Document]:
    from tomolive.catalog.open import open_run, tiled_errors
    from tomolive.catalog.run_documents import documents_of

    run = open_run(uri, run_uid)
    try:
        with tiled_errors(uri):
            picker = _RunPicker(run_uid)
            for name, doc in documents_of(run):
                picker(name, doc)
    finally:
        run.context.close()
    return picker.result(f"the catalog at {uri.partition('?')[0]}")


def _from_hub(address: str, run_uid: str) -> list[Document]:
    from tomolive.stream.dispatcher import RemoteDispatcher
    from tomolive.stream.sockets import require_listener

    require_listener(address)
    picker = _RunPicker(run_uid)
    dispatcher = RemoteDispatcher(address, start=run_uid, on_error="stop")
    watch = _Watch(dispatcher.stop, _SILENCE_S)

    def take(name: str, doc: dict[str, Any]) -> None:
        watch.feed()
        picker(name, doc)
        if picker.stopped:
            dispatcher.stop()

    dispatcher.subscribe(take)
    with watch:
        dispatcher.start()
    return picker.result(f"the hub at {address}")


class _Watch:
    """Calls a function once when nothing has been fed for so many seconds."""

    def __init__(self, end: Callable[[], object], seconds: float) -> None:
        self._end, self._seconds = end, seconds
        self._fed, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._wait, name="run-awaited", daemon=True)

    def feed(self) -> None:
        self._fed.set()

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._fed.set()
        self._thread.join()

    def _wait(self) -> None:
        while self._fed.wait(self._seconds):
            if self._over.is_set():
                return
            self._fed.clear()
        self._end()
