"""Addresses of brokers: several hosts, a path, options, and secrets that are never shown."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from tomolive.errors import AddressError

_PORTS = {"tcp": 5569, "stock": 5568, "nats": 4222, "kafka": 9092, "postgresql": 5432}
_SECRET = "***"  # noqa: S105  # what is shown in place of one


@dataclass(frozen=True)
class EngineAddress:
    """``scheme://USER:PASSWORD@HOST:PORT,HOST:PORT/PATH?OPTION=VALUE``."""

    scheme: str
    endpoints: tuple[tuple[str, int], ...]
    """Host and port of each broker that is named; the others make themselves known."""
    path: str = ""
    options: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str, options: frozenset[str] | None = None) -> "EngineAddress":
        """Understand the address of a broker; ``options`` are those that its engine knows.

        Raises
        ------
        AddressError
            if it is no such address, or an option is unknown; the text shows no password.
        """
        try:
            parts = urlsplit(text)
            secrets, _, hosts = parts.netloc.rpartition("@")
            user, _, password = secrets.partition(":")
            endpoints = tuple(_endpoint(parts.scheme, host) for host in hosts.split(","))
            given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError as error:
            reason = f"address {shown(text)!r}: {error}; expected {_expected(text)}"
            raise AddressError(reason) from None
        if options is not None and (unknown := given.keys() - options):
            raise AddressError(
                f"address {shown(text)!r}: unknown option {', '.join(sorted(unknown))}; "
                f"known are {', '.join(sorted(options))}"
            )
        return cls(
            parts.scheme, endpoints, unquote(parts.path.strip("/")), given,
            unquote(user) or None, unquote(password) or None,
        )  # fmt: skip

    @property
    def hosts(self) -> str:
        """``HOST:PORT,HOST:PORT``."""
        return ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.endpoints
        )


def shown(address: str) -> str:
    """Return an address without its password, for logs and folders.

    >>> shown("nats://alice:secret@broker:4222/scans")
    'nats://alice:***@broker:4222/scans'
    """
    scheme, separator, rest = address.partition("://")
    netloc, slash, path = rest.partition("/")
    secrets, at, hosts = netloc.rpartition("@")
    if not at:
        return address
    user, colon, _ = secrets.partition(":")
    hidden = f"{user}:{_SECRET}" if colon else _SECRET  # a token stands alone
    return f"{scheme}{separator}{hidden}@{hosts}{slash}{path}"


def _endpoint(scheme: str, text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    port = parts.port if parts.port is not None else _PORTS.get(scheme)
    if not parts.hostname or not port:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return parts.hostname, port


def _expected(text: str) -> str:
    scheme = text.partition("://")[0]
    return {"nats": "nats://HOST:PORT/PREFIX", "kafka": "kafka://HOST:PORT/TOPIC"}.get(
        scheme, f"{scheme}://HOST:PORT"
    )
