"""What can be said of settings without looking beyond them: values that cannot be, or not together."""

import ipaddress
from collections.abc import Iterator
from pathlib import PurePosixPath

from tomolive.config import Settings, parse_size
from tomolive.errors import TomoliveError
from tomolive.operations.finding import Check, Finding, mistake, warning
from tomolive.stream.sockets import Address

_SCHEMES = ("tcp", "stock", "nats", "kafka")


def listeners(settings: Settings) -> dict[str, str]:
    """Return key and HOST:PORT of everything that is listened on."""
    hub = settings.hub
    named = {
        "hub.native": hub.native,
        "hub.stock_in": hub.stock_in,
        "hub.stock_out": hub.stock_out,
        "hub.http": hub.http,
        "page.listen": settings.page.listen,
        "archive.http": settings.archive.http,
        "catalog.listen": settings.catalog.listen if settings.catalog.directory else None,
    }
    return {key: text for key, text in named.items() if text is not None}


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _addresses(settings: Settings) -> Iterator[Finding]:
    for key, text in listeners(settings).items():
        try:
            Address.parse(text)
        except TomoliveError:
            yield mistake(key, f"{text!r}: expected HOST:PORT, such as 127.0.0.1:8000")
    address = settings.hub.address
    if address is not None and "://" in address and address.partition("://")[0] not in _SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        yield mistake("hub.address", f"{address} begins with none of {known}")


def _ports(settings: Settings) -> Iterator[Finding]:
    """Find two services on one port."""
    taken: dict[str, str] = {}
    for key, text in listeners(settings).items():
        port = text.rpartition(":")[2]
        if port == "0":
            continue
        if port in taken:
            yield mistake(key, f"port {port} is that of {taken[port]} already; choose another")
        taken.setdefault(port, key)


def _safety(settings: Settings) -> Iterator[Finding]:
    """Require that what is reachable from elsewhere says who may come."""
    hub, page = settings.hub, settings.page
    for key in ("native", "stock_in", "stock_out"):
        host = getattr(hub, key).rpartition(":")[0]
        if host and not is_loopback(host) and not hub.keys and not hub.insecure:
            yield mistake(
                f"hub.{key}",
                f"{host} is reachable from other machines, and there are no keys: the hub will not start. "
                "Make keys with `tomolive keys server DIR` and name the folder as hub.keys",
            )
    if hub.insecure and not hub.keys:
        yield warning("hub.insecure", "whoever reaches the hub may publish and read; keys would say who may")
    is_open = page.listen is not None and not is_loopback(page.listen.rpartition(":")[0])
    if is_open and not page.token_file and not page.read_only:
        yield warning(
            "page.listen",
            "reachable from other machines without a token: all may watch, only this machine controls; "
            "name a file with a token as page.token_file, or say page.read_only: true",
        )
    if page.read_only and page.token_file:
        yield warning("page.token_file", "has no effect: page.read_only forbids control to everyone")


def _sizes(settings: Settings) -> Iterator[Finding]:
    if settings.hub.keep_size is not None:
        try:
            parse_size(settings.hub.keep_size)
        except TomoliveError as error:
            yield mistake("hub.keep_size", str(error))


def _paths(settings: Settings) -> Iterator[Finding]:
    """Require absolute paths; others mean something else in each process."""
    for section in ("files", "archive"):
        for there, here in getattr(settings, section).mounts.items():
            for path in (there, here):
                if not PurePosixPath(path).is_absolute():
                    yield mistake(f"{section}.mounts", f"{path!r} is not an absolute path such as /detector")
    for root in settings.files.roots:
        if not PurePosixPath(root).is_absolute():
            yield mistake("files.roots", f"{root!r} is not an absolute path")
        elif PurePosixPath(root) == PurePosixPath("/"):
            yield warning("files.roots", "with / a document may name every file of this machine")
    if not settings.files.mounts and not settings.files.roots:
        yield warning("files.roots", "no folder may be read: name those that detectors write to")


def _reconstruction(settings: Settings) -> Iterator[Finding]:
    from tomolive.recon.filters import FILTERS

    live = settings.live
    if live.filter not in FILTERS:
        yield mistake("live.filter", f"{live.filter!r} is not known; known are {', '.join(FILTERS)}")
    if live.center is not None and live.center < 0:
        yield mistake("live.center", f"{live.center:g} lies outside the detector; columns count from 0")


def _databases(settings: Settings) -> Iterator[Finding]:
    catalog = settings.catalog
    if (catalog.database is None) != (catalog.storage is None):
        missing = "storage" if catalog.storage is None else "database"
        yield mistake(f"catalog.{missing}", "database and storage go together: two databases of one server")
    for key in ("database", "storage"):
        uri = getattr(catalog, key)
        if uri is not None and not uri.startswith("postgresql://"):
            yield mistake(f"catalog.{key}", "expected postgresql://USER@HOST/NAME")
    if catalog.database is not None and catalog.database == catalog.storage:
        yield mistake("catalog.storage", "is the database of the metadata; tables need one of their own")
    if catalog.uri is not None and not catalog.uri.startswith(("http://", "https://")):
        yield mistake("catalog.uri", f"{catalog.uri!r} is not an http:// or https:// address")


CONSISTENCY: tuple[Check, ...] = (
    _addresses, _ports, _safety, _sizes, _paths, _reconstruction, _databases,
)  # fmt: skip
