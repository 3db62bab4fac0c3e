"""The documents of a run, and of its results, out of a hub's journal."""

import threading
from collections.abc import Callable
from typing import Any

from tomolive.errors import AddressError
from tomolive.stream.recorded import Document, RunOf

_SILENCE_S = 30.0
"""A hub that has documents and sends none for so long is not waited for."""


def from_hub(address: str, run: str) -> dict[str, list[Document]]:
    """Return a run that the hub has in its journal by now, and its results: uid -> documents.

    Parameters
    ----------
    run : str
        A uid, its first characters, or "newest". A result stands for the run that it was made of.

    Raises
    ------
    AddressError
        if the hub does not answer or falls silent, or has no such run.
    """
    start = _start_of(address, run)
    picker = RunPicker(start.get("raw_run") or start["uid"], results=True)
    read_journal(address, picker.uid, picker)
    return picker.runs


def hub_has(address: str, uid: str) -> bool:
    """Whether the hub has a run in its journal.

    Raises
    ------
    AddressError
        if the hub does not answer.
    """
    try:
        return _start_of(address, uid)["uid"] == uid
    except AddressError as error:
        if "no run" not in str(error):
            raise
        return False


def read_journal(
    address: str, run: str, take: Callable[[str, dict[str, Any]], object], silence: float = _SILENCE_S
) -> None:
    """Give ``take`` what the hub has by now from the start of a run on, until it returns True.

    Raises
    ------
    AddressError
        if the hub does not answer, has no such run, or sends nothing for ``silence`` seconds though it has
        more.
    """
    from tomolive.stream.dispatcher import RemoteDispatcher
    from tomolive.stream.sockets import require_listener

    require_listener(address)
    dispatcher = RemoteDispatcher(address, start=run, on_error="stop")
    watch = _Watch(dispatcher.stop, silence)
    has_begun = was_behind = False

    def give(name: str, doc: dict[str, Any]) -> None:
        nonlocal has_begun, was_behind
        watch.feed()
        has_begun = True
        # Where documents flow all the time there is no idle moment: the end is where none waits.
        if take(name, doc) is True or (was_behind and not dispatcher.behind):
            dispatcher.stop()
        was_behind |= bool(dispatcher.behind)

    def end_of_journal() -> None:
        if has_begun and not dispatcher.behind:
            dispatcher.stop()

    dispatcher.subscribe(give)
    dispatcher.subscribe_idle(end_of_journal)
    with watch:
        dispatcher.start()
    if watch.has_ended:
        raise AddressError(f"the hub at {address} has sent nothing for {silence:.0f} s; is it still running?")


class RunPicker:
    """Keeps the documents of one run, and of its results if they are wanted too.

    Attributes
    ----------
    uid : str
        Of the run.
    runs : dict
        Uid -> documents; the run comes first.
    stopped : bool
        Whether the run's stop document has come.
    """

    def __init__(self, uid: str, *, results: bool = False) -> None:
        self.uid, self.stopped = uid, False
        self.runs: dict[str, list[Document]] = {}
        self._results, self._run_of = results, RunOf()

    def __call__(self, name: str, doc: dict[str, Any]) -> bool:
        """Take a document; return whether all has come that is wanted."""
        uid = self._run_of(name, doc)
        if name == "start" and (uid == self.uid or (self._results and doc.get("raw_run") == self.uid)):
            self.runs.setdefault(uid, [])
        if uid in self.runs and not (uid == self.uid and self.stopped):
            self.runs[uid].append((name, doc))
            self.stopped |= uid == self.uid and name == "stop"
        return self.stopped and not self._results


def _start_of(address: str, run: str) -> dict[str, Any]:
    found: list[Document] = []

    def first(name: str, doc: dict[str, Any]) -> bool:
        found.append((name, doc))
        return True

    read_journal(address, run, first)
    return found[0][1]


class _Watch:
    """Calls a function once when nothing has been fed for so many seconds."""

    def __init__(self, end: Callable[[], object], seconds: float) -> None:
        self.has_ended = False
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
        self.has_ended = True
        self._end()
