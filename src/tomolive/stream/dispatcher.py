"""RemoteDispatcher: run callbacks on another machine, in the call shape of bluesky's own."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tomolive import service
from tomolive.errors import SettingsError
from tomolive.metrics import DISPATCHER_ERRORS
from tomolive.stream.engines import registry
from tomolive.stream.keys import ClientKeys
from tomolive.stream.messages import Position
from tomolive.stream.sockets import Address, Keys
from tomolive.stream.sources import HubSource, Source, StockSource

if TYPE_CHECKING:
    from tomolive.files.filler import Filler
    from tomolive.files.frames import Frames, MissingFrames

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0

About = tuple[str, dict] | None
"""The document at hand; None: none is."""


class RemoteDispatcher:
    """Call functions with the documents of a hub, in order, once, none missing.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` of a hub, ``nats://HOST:PORT/PREFIX`` or ``kafka://HOST:PORT/TOPIC`` of a broker,
        or ``stock://HOST:PORT`` of bluesky's own 0MQ proxy.
    name : str, optional
        Name of a cursor: the hub remembers how far this consumer has come.
    start : str or Position, optional
        Where to begin: ``"cursor"`` (where this name has come to; at the oldest document if it never was
        here), ``"newest"`` (the newest run from its start; results of others do not count), ``"all"``,
        ``"new"``, a run's uid, or a Position that was saved with a result. Default: ``"cursor"`` with a
        name, else ``"new"``.
    fill : bool
        Add the images to the events, read from their files.
    mounts : mapping, optional
        Path prefix in documents -> path prefix on this machine.
    roots : iterable of path, optional
        Folders that may be read; default: the local sides of ``mounts``.
    on_error : {"continue", "stop"}
        What a callback that raises does: it is logged and the others go on, or ``start`` raises.
    patience : float
        Seconds that a file may show no sign of life before frames count as missing.
    memory : int
        Bytes of frames in flight.
    threads : int
        Threads that decompress the frames of one block; 1 leaves that to HDF5.
    keys : Keys, optional
        CURVE keys of this client; default: of the folder that TOMOLIVE_KEYS names, if it does.

    Raises
    ------
    AddressError
        if the address cannot be understood.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str | None = None,
        start: str | Position | None = None,
        fill: bool = False,
        mounts: Mapping[str, str] | None = None,
        roots: Iterable[str | Path] | None = None,
        on_error: Literal["continue", "stop"] = "continue",
        patience: float = PATIENCE_SECONDS,
        memory: int = 512_000_000,
        threads: int = 2,
        keys: Keys | None = None,
    ) -> None:
        if on_error not in {"continue", "stop"}:
            raise SettingsError(f"on_error={on_error!r}: expected 'continue' or 'stop'")
        if start == "cursor" and not name:
            raise SettingsError("start='cursor' needs name=, the name of the cursor")
        self.address = address
        self._fill, self._mounts, self._patience = fill, dict(mounts or {}), patience
        self._roots = None if roots is None else tuple(roots)
        self._memory, self._threads = memory, threads
        self._on_error = on_error
        self._source = _source(address, name, start, keys)
        self._callbacks: dict[int, tuple[str, Callable[[str, dict], Any]]] = {}
        self._frame_callbacks: dict[int, Callable[[Frames], Any]] = {}
        self._missing_callbacks: dict[int, Callable[[MissingFrames], Any]] = {}
        self._idle_callbacks: dict[int, Callable[[], Any]] = {}
        self._tokens = count(1)
        self._stopped = threading.Event()
        self._filling: Filler | None = None
        self._run = ""
        """Uid of the run of the document at hand."""
        self._run_of: dict[str, str] = {}
        """Descriptor -> run, of runs that have not ended."""
        self._without_frames = False
        """Whether ``start`` runs, and nobody wanted frames when it began."""

    # ---- who listens

    def subscribe(self, func: Callable[[str, dict], Any], name: str = "all") -> int:
        """Have ``func(name, document)`` called for documents called ``name``; return a token.

        ``name`` is ``"all"`` or a document's name, as text or as an event-model ``DocumentNames``.
        """
        token = next(self._tokens)
        self._callbacks[token] = (str(getattr(name, "name", name)), func)
        return token

    def subscribe_frames(
        self,
        callback: Callable[["Frames"], Any],
        missing: Callable[["MissingFrames"], Any] | None = None,
    ) -> int:
        """Have ``callback`` called with blocks of frames, ``missing`` with those that no file holds.

        Without ``missing`` the log warns of them: of each image of a run once when it is late, and once when
        it is given up.

        Raises
        ------
        SettingsError
            if `start` runs without frames: what was announced before cannot be made up for.
        """
        if self._without_frames:
            raise SettingsError("subscribe_frames comes too late: call it before start(), which runs already")
        token = next(self._tokens)
        self._frame_callbacks[token] = callback
        self._missing_callbacks[token] = missing or _MissingLog()
        return token

    def subscribe_idle(self, callback: Callable[[], Any]) -> int:
        """Have ``start`` call ``callback`` in its thread, 20 to 50 times a second while no document waits."""
        token = next(self._tokens)
        self._idle_callbacks[token] = callback
        return token

    def unsubscribe(self, token: int) -> None:
        """Forget what was subscribed under ``token``; an unknown token is ignored."""
        of_all_kinds = (
            self._callbacks, self._frame_callbacks, self._missing_callbacks, self._idle_callbacks,
        )  # fmt: skip
        for callbacks in of_all_kinds:
            callbacks.pop(token, None)

    # ---- run

    @property
    def position(self) -> Position | None:
        """The place after the document that is being, or was last, given to the callbacks.

        Saved together with a result, and given as ``start`` later, it makes a consumer see each document once
        even if it is killed.
        """
        return self._source.position

    @property
    def behind(self) -> int:
        """How many documents wait at the hub behind the one at hand, as far as it has told."""
        return self._source.behind

    def start(self) -> None:
        """Call the callbacks, in this thread, until ``stop``.

        A dispatcher runs once: after ``stop`` this returns at once, and another dispatcher (with the same
        ``name``, to go on where this one was) is needed.

        Raises
        ------
        AddressError
            if the hub refuses this consumer.
        Exception
            what a callback raised, with ``on_error="stop"``.
        """
        with self._filler() as filler, contextlib.closing(self._source.documents(self._stopped)) as documents:
            for document in documents:
                if document is None:
                    self._be_idle(filler)
                    continue
                self._note_run(*document)
                if filler is None:
                    self._give_document(*document, document)
                else:
                    self._give_all(filler.process(*document), document)
                    if filler.interrupted:
                        return  # not asking for the next one leaves this one unacknowledged

    def stop(self) -> None:
        """End ``start`` after the document at hand, for good; any thread may call this, at any time.

        A wait for a file ends at once; the document that announced it then counts as not done.
        """
        self._stopped.set()
        if self._filling is not None:
            self._filling.stop()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until the hub has confirmed that documents will come from now on; False when time is up."""
        return self._source.ready.wait(timeout)

    @contextlib.contextmanager
    def _filler(self) -> Iterator["Filler | None"]:
        """Provide what reads images, if anyone wants them."""
        self._without_frames = not self._frame_callbacks
        if not (self._fill or self._frame_callbacks):
            yield None
            return
        from tomolive.files.filler import Filler
        from tomolive.files.locate import Locator

        roots = self._mounts.values() if self._roots is None else self._roots
        filler = Filler(
            Locator(self._mounts, roots),
            patience=self._patience,
            fill_events=self._fill,
            frames=bool(self._frame_callbacks),
            memory=self._memory,
            threads=self._threads,
        )
        self._filling = filler
        try:
            yield filler
        finally:
            self._filling = None
            filler.close()

    def _note_run(self, name: str, doc: dict) -> None:
        """Have what is logged from here on say to which run it belongs."""
        run = doc["uid"] if name == "start" else doc.get("run_start")
        if run is None:
            run = self._run_of.get(doc.get("descriptor", ""), self._run)
        elif name == "descriptor":
            self._run_of[doc["uid"]] = run
        elif name == "stop":
            self._run_of = {uid: other for uid, other in self._run_of.items() if other != run}
        if run != self._run:
            self._run = run
            service.note_run(run)

    def _be_idle(self, filler: "Filler | None") -> None:
        if filler is not None:
            self._give_all(filler.poll(), None)
        for callback in list(self._idle_callbacks.values()):
            self._call(callback, (), None)

    def _give_all(self, items: Iterable[tuple], about: About) -> None:
        given = False
        try:
            for kind, *content in items:
                given |= kind == "document"
                self._give(kind, content, about)
        except Exception:
            if self._on_error == "stop":
                raise
            DISPATCHER_ERRORS.inc()
            log.exception("the images of %s could not be read", _describe(about))
            if about is not None and not given:
                self._give_document(*about, about)

    def _give(self, kind: str, content: list[Any], about: About) -> None:
        if kind == "document":
            name, doc = content
            self._give_document(name, doc, about)
            return
        callbacks = self._frame_callbacks if kind == "frames" else self._missing_callbacks
        for func in list(callbacks.values()):
            self._call(func, content, about)

    def _give_document(self, name: str, doc: dict, about: About) -> None:
        for wanted, func in list(self._callbacks.values()):
            if wanted in {"all", name}:
                self._call(func, (name, doc), about)

    def _call(self, func: Callable[..., Any], content: Iterable[Any], about: About) -> None:
        try:
            func(*content)
        except Exception:
            DISPATCHER_ERRORS.inc()
            if self._on_error == "stop":
                raise
            log.exception("callback %r raised at %s", func, _describe(about))


class _MissingLog:
    """Warns of frames that no file holds: of each image of a run once, or a step scan would fill the log."""

    def __init__(self) -> None:
        self._run_uid = ""
        self._told: set[tuple[str, str, bool]] = set()

    def __call__(self, missing: "MissingFrames") -> None:
        if missing.run_uid != self._run_uid:
            self._run_uid = missing.run_uid
            self._told.clear()
        which = missing.stream, missing.data_key, missing.final
        if which not in self._told:
            self._told.add(which)
            log.warning(
                "frames of %s (stream %s, run %s) %s, from %d on: %s",
                missing.data_key,
                missing.stream,
                missing.run_uid[:8],
                "cannot be read" if missing.final else "cannot be read yet",
                missing.first,
                missing.reason,
            )


def _describe(about: About) -> str:
    if about is None:
        return "an idle moment"
    name, doc = about
    return f"the {name} document {doc.get('uid', '?')}"


def _source(address: str, name: str | None, start: str | Position | None, keys: Keys | None) -> Source:
    engine = registry.find(address)
    if engine is None and Address.parse(address).scheme == "stock":
        if isinstance(start, Position) or start not in {None, "new"}:
            raise SettingsError(f"start={start!r}: bluesky's own proxy has only new documents")
        return StockSource(address)
    position = start if isinstance(start, Position) else None
    where = "all" if position else start if isinstance(start, str) else "cursor" if name else "new"
    if engine is not None:
        return engine.source(address, name or "", where, position)
    return HubSource(address, name or "", where, position, keys or ClientKeys.from_environment())
