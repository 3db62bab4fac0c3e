"""CURVE keys as files, and who may connect with which rights.

A hub's folder, and the folder that one client holds::

    KEYS/server.key_secret       CLIENT/client.key_secret
    KEYS/server.key              CLIENT/client.key
    KEYS/clients/publish/*.key   CLIENT/server.key
    KEYS/clients/consume/*.key
    KEYS/clients/both/*.key

The files are certificates as ``zmq.auth`` and bluesky's ``ClientCurve`` read them. Who may connect, and what
for, is what ``ls`` shows; the hub looks again when a file comes or goes or changes.
"""

import logging
import math
import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from tomolive.errors import SettingsError

log = logging.getLogger(__name__)

RIGHTS = {
    "publish": frozenset({"publish"}),
    "consume": frozenset({"consume"}),
    "both": frozenset({"publish", "consume"}),
}
ENVIRONMENT = "TOMOLIVE_KEYS"
_NOBODY: frozenset[str] = frozenset()
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class ClientKeys:
    """The keys of one client, and the hub's, that it insists on: ``Publisher(address, keys=...)``."""

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes

    @classmethod
    def load(cls, folder: str | Path) -> "ClientKeys":
        """Read ``client.key_secret`` and ``server.key`` of a client's folder.

        Raises
        ------
        SettingsError
            if one is missing, damaged, or the secret one is open to others.
        """
        public, secret = _load_secret(Path(folder) / "client.key_secret")
        return cls(public, secret, _load_public(Path(folder) / "server.key"))

    @classmethod
    def from_environment(cls) -> "ClientKeys | None":
        """Read the folder that the environment variable TOMOLIVE_KEYS names, if it does."""
        folder = os.environ.get(ENVIRONMENT)
        return cls.load(folder) if folder else None

    def apply(self, socket: zmq.Socket) -> None:
        """Make a socket that is about to connect speak CURVE."""
        socket.set(zmq.CURVE_PUBLICKEY, self.public)
        socket.set(zmq.CURVE_SECRETKEY, self.secret)
        socket.set(zmq.CURVE_SERVERKEY, self.server)


class Keyring:
    """A hub's keys: its own, and those of who may connect."""

    def __init__(self, folder: Path, secret: bytes) -> None:
        self._folder, self._secret = folder, secret
        self._looked = -math.inf
        self._seen: tuple[tuple, ...] = ()
        self._rights: dict[str, frozenset[str]] = {}

    @classmethod
    def load(cls, folder: str | Path) -> "Keyring":
        """Read a hub's folder.

        Raises
        ------
        SettingsError
            if there is no such folder, or a file in it is damaged or open to others.
        """
        _, secret = _load_secret(Path(folder) / "server.key_secret")
        for file, _ in clients(Path(folder)):
            _load_public(file)
        return cls(Path(folder), secret)

    def rights(self, public_key: str) -> frozenset[str]:
        """Return what the client of a public key of 40 letters may do: publish, consume, both or nothing."""
        if time.monotonic() - self._looked > _LOOK_AGAIN_SECONDS:
            self._look()
        return self._rights.get(public_key, _NOBODY)

    def _look(self) -> None:
        self._looked = time.monotonic()
        files = _client_files(self._folder)
        seen = tuple(_stamp(file) for file, _ in files)
        if seen == self._seen:
            return
        rights: dict[str, frozenset[str]] = {}
        for file, right in files:
            try:
                key = _load_public(file).decode()
            except SettingsError as error:  # someone's slip while the hub runs shuts out that client only
                log.error("%s", error)
            else:
                rights[key] = rights.get(key, _NOBODY) | RIGHTS[right]
        self._seen, self._rights = seen, rights

    def apply(self, socket: zmq.Socket, needed: str) -> None:
        """Make a socket that is about to bind admit only clients with the right ``needed``, or any if "any".

        Whether one has it is asked of :meth:`answer`, over a socket that the hub binds to ``ZAP_ENDPOINT``
        in the same context before any client comes.
        """
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self._secret)
        socket.set(zmq.ZAP_DOMAIN, needed.encode())
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def answer(self, request: Sequence[bytes]) -> list[bytes]:
        """Answer ZeroMQ's question (ZAP, RFC 27) whether a client may connect.

        A client that may is known from then on by its public key: the ``User-Id`` of each of its messages.
        """
        if len(request) != 7 or request[0] != b"1.0":
            return [b"1.0", request[1] if len(request) > 1 else b"", b"500", b"not understood", b"", b""]
        _, number, needed, _, _, mechanism, key = request
        user = z85.encode(key) if mechanism == b"CURVE" and len(key) == 32 else b""
        rights = self.rights(user.decode())
        if rights and (needed == b"any" or needed.decode() in rights):
            return [b"1.0", number, b"200", b"", user, b""]
        return [b"1.0", number, b"400", b"this key may not do that", b"", b""]


ZAP_ENDPOINT = "inproc://zeromq.zap.01"


def make_server(folder: Path) -> Path:
    """Make a hub's folder with its keys; return the public one, which every client needs.

    Raises
    ------
    SettingsError
        if there are keys already, or the folder cannot be written.
    """
    for right in RIGHTS:
        _make_folder(folder / "clients" / right)
    return _make_pair(folder / "server")


def make_client(folder: Path, server_key: Path | None = None) -> Path:
    """Make a client's folder with its keys, and the hub's if at hand; return its public key's file.

    Raises
    ------
    SettingsError
        if there are keys already, or the folder cannot be written.
    """
    _make_folder(folder)
    public = _make_pair(folder / "client")
    if server_key is not None:
        _write(folder / "server.key", _certificate(_load_public(server_key)), 0o644)
    return public


def allow(folder: Path, name: str, right: str, public_file: Path) -> Path:
    """Let the client of ``public_file`` connect to the hub of ``folder``; return the file that says so.

    Raises
    ------
    SettingsError
        if the name is taken or no name, the file holds no key, or ``folder`` is no hub's.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is not a client's name: letters, digits, dots, dashes and underscores")
    taken = [file for file, _ in clients(folder) if file.stem == name]
    if taken:
        raise SettingsError(f"there is a client {name!r} already: {taken[0]}; revoke it first")
    target = folder / "clients" / right / f"{name}.key"
    _write(target, _certificate(_load_public(public_file)), 0o644)
    return target


def revoke(folder: Path, name: str) -> None:
    """Let the client ``name`` no longer connect; the hub denies it within seconds.

    Raises
    ------
    SettingsError
        if there is no such client.
    """
    files = [file for file, _ in clients(folder) if file.stem == name]
    if not files:
        known = ", ".join(sorted(file.stem for file, _ in clients(folder))) or "nobody"
        raise SettingsError(f"no client {name!r} in {folder}; there is {known}")
    for file in files:
        file.unlink()


def clients(folder: Path) -> list[tuple[Path, str]]:
    """Return the file and the right of each client that may connect.

    Raises
    ------
    SettingsError
        if ``folder`` is not a hub's.
    """
    if not (folder / "server.key").is_file():
        raise SettingsError(f"{folder} holds no hub's keys; make them with `tomolive keys server {folder}`")
    return _client_files(folder)


def _client_files(folder: Path) -> list[tuple[Path, str]]:
    return sorted((file, right) for right in RIGHTS for file in (folder / "clients" / right).glob("*.key"))


def _stamp(file: Path) -> tuple:
    """Return what changes when a file is replaced or written over."""
    try:
        known = file.stat()
    except OSError:  # it has just been removed; the next look does without it
        return (file,)
    return file, known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns


def _make_pair(stem: Path) -> Path:
    public, secret = zmq.curve_keypair()
    _write(stem.with_suffix(".key_secret"), _certificate(public, secret), 0o600)
    _write(stem.with_suffix(".key"), _certificate(public), 0o644)
    return stem.with_suffix(".key")


def _certificate(public: bytes, secret: bytes | None = None) -> str:
    lines = ["metadata", "curve", f'    public-key = "{public.decode()}"']
    if secret is not None:
        lines = ["# Secret: keep it where it is.", *lines, f'    secret-key = "{secret.decode()}"']
    return "\n".join(lines) + "\n"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot make the folder {folder}: {error.strerror}") from None


def _write(path: Path, text: str, mode: int) -> None:
    """Write a new file that nobody else could read for even a moment, and never over another."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
    except FileExistsError:
        raise SettingsError(f"{path} exists already; keys are never written over") from None
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from None


def _load_public(path: Path) -> bytes:
    return _load(path)[0]


def _load_secret(path: Path) -> tuple[bytes, bytes]:
    public, secret = _load(path)
    if secret is None:
        raise SettingsError(f"{path} holds no secret key")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SettingsError(f"{path} can be read by others; make it yours alone with `chmod 600 {path}`")
    return public, secret


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
        for key in (public, secret):
            if key is not None and (len(key) != 40 or len(z85.decode(key)) != 32):
                raise ValueError("not a key of 40 letters")  # noqa: TRY301 - one message for all that is no key
    except OSError as error:
        reason = error.strerror or "there is no such file"
        raise SettingsError(f"cannot read the key {path}: {reason}") from None
    except (ValueError, KeyError, ArithmeticError) as error:
        raise SettingsError(f"{path} is no CURVE certificate: {error}") from None
    return public, secret
