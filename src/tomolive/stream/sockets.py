"""How sockets are made: addresses, limits, timeouts and keys, in one place."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import zmq

from tomolive.errors import AddressError
from tomolive.stream.engines.address import EngineAddress, shown

LOOPBACK = ("127.", "[::1]", "localhost")


class Keys(Protocol):
    """What makes a client socket speak CURVE."""

    def apply(self, socket: zmq.Socket) -> None:
        """Set the keys on a socket that is about to connect."""
        ...


@dataclass(frozen=True)
class Address:
    """``scheme://host:port``."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Understand ``tcp://host:5569``, ``stock://host:5568``, or ``host:5569``.

        Raises
        ------
        AddressError
            if it is none of these.
        """
        try:
            parts = urlsplit(text if "://" in text else f"tcp://{text}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise AddressError(f"address {text!r}: {error}") from None
        if not host or port is None or parts.path or parts.scheme not in {"tcp", "stock"}:
            raise AddressError(f"address {text!r}: expected tcp://HOST:PORT or stock://HOST:PORT")
        return cls(parts.scheme, f"[{host}]" if ":" in host else host, port)

    @property
    def endpoint(self) -> str:
        """The address as ZeroMQ wants it."""
        return f"tcp://{self.host}:{self.port}"

    @property
    def endpoints(self) -> tuple[tuple[str, int], ...]:
        """Host and port, as an address of several brokers gives them."""
        return ((self.host, self.port),)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host.startswith(LOOPBACK)


def require_listener(address: str, timeout: float = 3.0) -> None:
    """Check that something listens at ``address``: for commands, whose user waits for a word.

    A Publisher or RemoteDispatcher in a program waits for its hub instead, for as long as it takes.

    Raises
    ------
    AddressError
        if nothing does.
    """
    is_broker = "://" in address and address.partition("://")[0] not in {"tcp", "stock"}
    at = EngineAddress.parse(address) if is_broker else Address.parse(address)
    reasons = []
    for host, port in at.endpoints:
        try:
            socket.create_connection((host.strip("[]"), port), timeout).close()
        except OSError as error:
            reasons.append(error.strerror or str(error))
        else:
            return
    what = "name the right broker" if is_broker else "start a hub with `tomolive hub`, or name the right one"
    raise AddressError(f"nothing listens at {shown(address)} ({', '.join(reasons)}); {what}")


def connect(
    context: zmq.Context,
    kind: int,
    address: str,
    keys: Keys | None,
    prepare: Callable[[zmq.Socket], object] = lambda _: None,
) -> zmq.Socket:
    """Return a client socket for the hub at ``address`` that reconnects by itself.

    ``prepare`` is called before it connects: most options, and a monitor, are too late afterwards.

    With IMMEDIATE nothing is queued for a connection that is not there: what cannot be sent now stays where
    it can be read again.
    """
    endpoint = Address.parse(address)
    socket = context.socket(kind)
    socket.set(zmq.LINGER, 200)
    socket.set(zmq.IMMEDIATE, 1)
    socket.set(zmq.IPV6, int(endpoint.host.startswith("[")))
    socket.set(zmq.RECONNECT_IVL, 50)
    socket.set(zmq.RECONNECT_IVL_MAX, 1000)
    socket.set(zmq.CONNECT_TIMEOUT, 3000)
    notice_silence(socket, 5)
    if keys is not None:
        keys.apply(socket)
    prepare(socket)
    socket.connect(endpoint.endpoint)
    return socket


def notice_silence(socket: zmq.Socket, seconds: int) -> None:
    """Have the system end connections whose other end has not answered for so long.

    ZeroMQ's own heartbeats would do so too, but libzmq 4.3.5 aborts the process when one is due on a
    connection that has failed while its input waits (its issues 4364 and 4767).
    """
    socket.set(zmq.TCP_KEEPALIVE, 1)
    socket.set(zmq.TCP_KEEPALIVE_IDLE, seconds)
    socket.set(zmq.TCP_KEEPALIVE_INTVL, 1)
    socket.set(zmq.TCP_KEEPALIVE_CNT, seconds)
    socket.set(zmq.TCP_MAXRT, 1000 * seconds)


def bind(socket: zmq.Socket, text: str, option: str) -> str:
    """Bind to HOST:PORT, where port 0 is chosen by the system; return what others connect to.

    Raises
    ------
    AddressError
        if the address is taken or is not one of this machine.
    """
    address = Address.parse(text)
    host = {"localhost": "127.0.0.1"}.get(address.host, address.host)
    socket.set(zmq.IPV6, int(host.startswith("[")))
    try:
        socket.bind(f"tcp://{host}:{address.port or '*'}")
    except zmq.ZMQError as error:
        reason = "another program listens there" if error.errno == zmq.EADDRINUSE else str(error)
        raise AddressError(
            f"cannot listen on {text}: {reason}; choose another with {option} HOST:PORT"
        ) from None
    return socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
