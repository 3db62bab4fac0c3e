"""An embedded Tiled server over SQLite and DuckDB in one folder; the same configuration serves a real one.

:func:`configuration` makes what ``tiled serve config`` reads. Three things in it are easy to miss, and
without them standard tools lose a part of what they can do:

* the root carries the spec ``CatalogOfBlueskyRuns``, or ``client[-1]`` and ``client[scan_id]`` do not work;
* the exporter ``application/json-seq``, or ``run.documents()`` does not work;
* the validator's router, or ``run.validate()`` needs the files on the client's machine.
"""

import atexit
import contextlib
import fcntl
import ipaddress
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote_plus

import uvicorn

from tomolive.errors import AddressError, CatalogError, SettingsError

API_KEY_VARIABLE = "TILED_SINGLE_USER_API_KEY"
_START_TIMEOUT_S = 120.0


def configuration(
    catalog: str, storage: Iterable[str], readable: Iterable[str | Path] = ()
) -> dict[str, Any]:
    """Return the configuration of a Tiled server for Bluesky runs.

    Parameters
    ----------
    catalog : str
        URI of the database of metadata: ``sqlite:////srv/catalog.db`` or ``postgresql://user@host/catalog``.
    storage : iterable of str
        Where tables and arrays that travel inside documents go: a folder, and ``duckdb:////srv/storage.duckdb``
        or ``postgresql://user@host/storage`` (a second database).
    readable : iterable of path
        Folders where detectors write; files elsewhere are never read, whatever a document says.
    """
    return {
        "trees": [
            {
                "path": "/",
                "tree": "catalog",
                "args": {
                    "specs": [{"name": "CatalogOfBlueskyRuns", "version": "3.0"}],
                    "uri": catalog,
                    "init_if_not_exists": True,
                    "writable_storage": list(storage),
                    "readable_storage": [str(Path(folder).absolute()) for folder in readable],
                },
            }
        ],
        "media_types": {
            "BlueskyRun": {"application/json-seq": "bluesky_tiled_plugins.exporters:json_seq_exporter"}
        },
        "routers": ["bluesky_tiled_plugins.routers.validator:router"],
    }


@dataclass(frozen=True)
class Databases:
    """URIs of two PostgreSQL databases, ``postgresql://user@host/name``."""

    catalog: str
    """Of metadata."""
    storage: str
    """Of tables."""


def configuration_in(
    directory: Path, readable: Iterable[str | Path] = (), databases: Databases | None = None
) -> dict[str, Any]:
    """Return the configuration for a catalog in ``directory``: on SQLite and DuckDB, or on ``databases``."""
    directory = directory.absolute()
    arrays = str(directory / "data")
    if databases is not None:
        return configuration(databases.catalog, [arrays, databases.storage], readable)
    return configuration(
        f"sqlite:///{directory / 'catalog.db'}",
        [arrays, f"duckdb:///{directory / 'storage.duckdb'}"],
        readable,
    )


class CatalogServer:
    """A Tiled server of its own, for one user with one key, over one folder.

    Either :meth:`run` it in this thread, or :meth:`start` it in another one beside a RunEngine. One process
    at a time can serve a folder.

    Parameters
    ----------
    directory : path
        Made if it is not there; holds everything but the detectors' files.
    readable : iterable of path
        Folders where detectors write.
    databases : Databases, optional
        Instead of SQLite and DuckDB; ``directory`` then holds arrays only.
    host, port
        Where to listen; port 0 lets the system choose.
    api_key : str, optional
        Default: ``TILED_SINGLE_USER_API_KEY`` of the environment, else the one kept in ``directory``.

    Raises
    ------
    CatalogError
        if the folder or its databases cannot be used.
    AddressError
        if the port is taken.
    """

    def __init__(
        self,
        directory: str | Path,
        readable: Iterable[str | Path] = (),
        databases: Databases | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.readable = tuple(readable)
        self._databases = databases
        try:
            (self.directory / "data").mkdir(parents=True, exist_ok=True)
            self.api_key = (
                api_key or os.environ.get(API_KEY_VARIABLE) or _kept_key(self.directory / "api_key")
            )
        except OSError as error:
            raise CatalogError(f"cannot use {self.directory} as a catalog: {error.strerror}") from None
        self._socket = _bind(host, port)
        try:
            self._lock = _lock(self.directory)
        except CatalogError:
            self._socket.close()
            raise
        host, port = self._socket.getsockname()[:2]
        self.address = f"http://{host}:{port}"
        self._server: uvicorn.Server | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None

    @property
    def uri(self) -> str:
        """What ``tiled.client.from_uri`` takes; holds the key."""
        return f"{self.address}/api/v1?api_key={quote_plus(self.api_key)}"

    def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until :meth:`stop`; call ``ready`` once requests are answered.

        Raises
        ------
        CatalogError
            if the databases cannot be opened.
        """
        server = self._server = _Server(
            uvicorn.Config(self._application(), log_config=None, access_log=False), ready
        )
        server.should_exit = self._stopped
        try:
            server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self._lock.close()
        if not server.started and not self._stopped:
            raise CatalogError(f"the catalog in {self.directory} did not start; the log says why")

    def start(self) -> "CatalogServer":
        """Serve in a thread until :meth:`stop` or the end of this process; return once it answers."""
        ready = threading.Event()
        failures: list[BaseException] = []

        def serve() -> None:
            try:
                self.run(ready.set)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                failures.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=serve, name="catalog-server", daemon=True)
        self._thread.start()
        answered = ready.wait(_START_TIMEOUT_S)
        if failures:
            raise failures[0]
        if not answered:
            raise CatalogError(f"the catalog in {self.directory} did not start in {_START_TIMEOUT_S:.0f} s")
        atexit.register(self.stop)
        return self

    def request_stop(self) -> None:
        """Have :meth:`run` return soon; may be called from a signal handler."""
        self._stopped = True
        if self._server is not None:
            self._server.should_exit = True

    def stop(self) -> None:
        """End the server; the databases are closed when this returns."""
        atexit.unregister(self.stop)
        self.request_stop()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()
        self._lock.close()

    def _application(self) -> Any:
        from tiled.server.app import build_app_from_config
        from tiled.server.settings import get_settings

        from tomolive.catalog.tables import make_tables

        configured = configuration_in(self.directory, self.readable, self._databases)
        configured["authentication"] = {"single_user_api_key": self.api_key}
        tree = configured["trees"][0]["args"]
        try:
            make_tables(tree["uri"])
        except CatalogError as error:
            raise CatalogError(f"cannot open the catalog in {self.directory}: {error}") from error.__cause__
        tree["init_if_not_exists"] = False
        application = build_app_from_config(configured)
        # Tiled keeps one object of settings for the whole process: the key of the newest server in it would
        # be that of all of them.
        own = application.dependency_overrides[get_settings]().model_copy(
            update={"single_user_api_key": self.api_key}, deep=True
        )
        application.dependency_overrides[get_settings] = lambda: own
        return application

    def __enter__(self) -> "CatalogServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers, and with a word when it serves."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs this."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_loopback(host: str) -> None:
    """Refuse to let other machines in with a single key over plain HTTP.

    Raises
    ------
    SettingsError
        if other machines could reach ``host``.
    """
    if not is_loopback(host):
        raise SettingsError(
            f"the embedded catalog listens on this machine only, not on {host}: write a configuration with "
            "`tomolive catalog --show-config` and serve it with `tiled serve config` behind TLS"
        )


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise AddressError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --listen"
        ) from None
    return listener


def _lock(directory: Path) -> IO[str]:
    """Keep other servers away; DuckDB would refuse them later, at the first table."""
    lock = (directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise CatalogError(
            f"another process serves the catalog in {directory}: open it at the address that it printed, "
            "or end it (a demo or a replay: Ctrl-C) and try again"
        ) from None
    return lock


def _kept_key(path: Path) -> str:
    """Return the key in ``path``; make one for the first start, so that the address survives a restart."""
    if path.exists() and (key := path.read_text().strip()):
        return key
    key = secrets.token_hex(16)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.touch(0o600)
    partial.write_text(key)
    partial.replace(path)  # so that a key that is there is whole, whenever this is killed
    return key
