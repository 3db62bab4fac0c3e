"""Publisher: a RunEngine callback that gives documents to the hub, and never gives the scan trouble."""

import atexit
import logging
import os
import socket
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import zmq

from tomolive.errors import TomoliveError
from tomolive.metrics import PUBLISHER_LOST, PUBLISHER_WAITING
from tomolive.stream import records, stock
from tomolive.stream.codec import encode
from tomolive.stream.engines import registry
from tomolive.stream.engines.address import shown
from tomolive.stream.keys import ClientKeys
from tomolive.stream.protocol import DeniedError
from tomolive.stream.sockets import Address, Keys, connect
from tomolive.stream.spool import Spool, default_folder

log = logging.getLogger(__name__)

_AFTER_FAILURE_SECONDS = 10.0


class Publisher:
    """Publish documents: ``RE.subscribe(Publisher("tcp://hub:5569"))``.

    A call encodes the document, appends it to a spool on local disk and returns; a thread sends, and sends
    again until the hub has acknowledged. With the hub away the scan goes on and the spool grows. Nothing is
    ever raised into the RunEngine: what cannot be encoded or written is logged and counted.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` of a hub; ``nats://HOST:PORT/PREFIX`` or ``kafka://HOST:PORT/TOPIC`` of a broker;
        ``stock://HOST:PORT`` of bluesky's own 0MQ proxy, which promises nothing.
    spool : Path, optional
        Folder for spools; default: one for each address in the folder that the environment variable
        TOMOLIVE_SPOOL names, or else in the user's state folder.
    name : str, optional
        Shown in the hub's logs and metrics; default: the process id and the host.
    keys : Keys, optional
        CURVE keys of this client; default: of the folder that TOMOLIVE_KEYS names, if it does.
    linger : float
        Seconds that ``close``, or the end of the process, waits for the rest to be sent.

    Raises
    ------
    AddressError
        if the address cannot be understood.
    JournalError
        if the spool's folder cannot be written.
    """

    def __init__(
        self,
        address: str,
        *,
        spool: Path | None = None,
        name: str | None = None,
        keys: Keys | None = None,
        linger: float = 5.0,
    ) -> None:
        self.address = address
        self._linger = linger
        self._way: _HubWay | _StockWay
        if registry.find(address) is None and Address.parse(address).scheme == "stock":
            self._way = _StockWay(address)
        else:
            folder = Path(spool) if spool is not None else default_folder(address)
            keys = keys or ClientKeys.from_environment()
            self._way = _HubWay(address, folder, name or f"{socket.gethostname()}:{os.getpid()}", keys)
        self._put = self._way.put
        atexit.register(self.close)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take one document; fast, and without exceptions."""
        try:
            self._put(name, doc)
        except Exception as error:  # an exception here would abort the scan
            PUBLISHER_LOST.inc()
            expected = isinstance(error, TomoliveError)
            uid = doc.get("uid", "?") if isinstance(doc, dict) else "?"
            log.critical("the %s document %s is not published: %s", name, uid, error, exc_info=not expected)

    @property
    def waiting(self) -> int:
        """Documents that have not been acknowledged."""
        return self._way.waiting

    @property
    def spooled(self) -> tuple[Path, int] | None:
        """Its spool, and how many documents have been written to it; None: it has no spool."""
        return self._way.spooled

    def flush(self, timeout: float) -> bool:
        """Wait until the hub has everything; False if it has not after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while self.waiting and time.monotonic() < deadline:
            time.sleep(0.005)
        return not self.waiting

    def close(self, timeout: float | None = None) -> None:
        """Wait a moment for the rest to be sent; what was not stays in the spool for the next Publisher."""
        atexit.unregister(self.close)
        self._way.close(self._linger if timeout is None else timeout)


class _HubWay:
    """By way of a spool to the hub."""

    def __init__(self, address: str, folder: Path, name: str, keys: Keys | None) -> None:
        self._target, self._keys, self._name, self._folder = address, keys, name, folder
        self._address = shown(address)
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._open()
        forked = weakref.WeakMethod(self._note_fork)
        os.register_at_fork(after_in_child=lambda: (note := forked()) and note())

    def _open(self) -> None:
        self._forked = False
        self._closing = threading.Event()
        self._spool = Spool.create(self._folder, self._address, self._name)
        self._courier = registry.courier_for(self._target, self._keys)
        way = weakref.ref(self)
        PUBLISHER_WAITING.set_function(lambda: here.waiting if (here := way()) else 0)
        self._thread = threading.Thread(target=self._send, name="tomolive-publisher", daemon=True)
        self._thread.start()

    def put(self, name: str, doc: dict[str, Any]) -> None:
        """Encode and spool."""
        frames = encode(name, doc)
        with self._lock:
            if self._forked:
                self._begin_anew()
            self._spool.append(frames, records.STARTS_RUN if name == "start" else 0)
        if self._courier.asleep:
            self._courier.wake()

    @property
    def waiting(self) -> int:
        return self._spool.waiting

    @property
    def spooled(self) -> tuple[Path, int]:
        return self._spool.path, self._spool.last

    def close(self, timeout: float) -> None:
        if self._deadline is not None or self._forked:
            return
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._courier.wake()
        self._thread.join()
        if self._spool.waiting:
            log.warning(
                "%d documents have not reached %s; they wait in %s for the next Publisher or "
                "`tomolive spool drain`", self._spool.waiting, self._address, self._spool.path,
            )  # fmt: skip
        self._spool.close()
        self._courier.close()

    def _send(self) -> None:
        while True:
            try:
                self._courier.send_leftovers(self._folder, self._is_over)
                self._courier.send(self._spool, self._name, self._is_over)
            except DeniedError as error:
                log.critical(
                    "%s refuses this Publisher, documents stay in the spool: %s",
                    self._address,
                    error,
                )
            except Exception:
                log.critical("sending failed, documents stay in the spool", exc_info=True)
            else:
                return
            if self._closing.wait(_AFTER_FAILURE_SECONDS):
                return

    def _is_over(self) -> bool:
        if self._deadline is None:
            return False
        return not self._spool.waiting or time.monotonic() >= self._deadline

    def _note_fork(self) -> None:
        self._forked, self._lock = True, threading.Lock()  # the parent may have held the old one

    def _begin_anew(self) -> None:
        """Begin a spool of our own after ``fork``: thread, connection and spool belong to the parent."""
        self._spool.abandon()
        self._open()


class _StockWay:
    """To bluesky's own proxy, in its own format, with its own promises: none."""

    waiting = 0
    spooled = None

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = connect(self._context, zmq.PUB, address, None)
        self._lock = threading.Lock()

    def put(self, name: str, doc: dict[str, Any]) -> None:
        with self._lock:
            self._socket.send(stock.encode_stock(name, doc))

    def close(self, timeout: float) -> None:
        if not self._socket.closed:
            self._socket.close(linger=int(timeout * 1000))
            self._context.term()
