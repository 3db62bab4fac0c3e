"""Which engine an address stands for.

Packages add their own under the entry point group ``tomolive.engines``: the entry's name is the scheme, its
value an object with the two methods of `Engine`.
"""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol, cast

from tomolive.errors import AddressError
from tomolive.stream.courier import Courier, HubCourier
from tomolive.stream.engines.address import shown
from tomolive.stream.messages import Position
from tomolive.stream.sockets import Keys
from tomolive.stream.sources import Source

GROUP = "tomolive.engines"
_OWN = {"nats": "tomolive.stream.engines.nats", "kafka": "tomolive.stream.engines.kafka"}


class Engine(Protocol):
    """A broker that keeps the hub's promises."""

    def courier(self, address: str) -> Courier:
        """Return what takes spooled records to the broker.

        Raises
        ------
        AddressError
            if the address cannot be understood.
        """
        ...

    def source(self, address: str, name: str, start: str, position: Position | None) -> Source:
        """Return what gives documents from the cursor ``name`` (empty: none), ``start`` or ``position``.

        Raises
        ------
        AddressError
            if the address cannot be understood.
        """
        ...


def find(address: str) -> Engine | None:
    """Return the engine for an address; None for a hub's and for bluesky's own proxy's.

    Raises
    ------
    AddressError
        if no engine has this scheme.
    """
    scheme, separator, _ = address.partition("://")
    if not separator or scheme in {"tcp", "stock"}:
        return None
    if scheme in _OWN:
        return _own(scheme)
    for entry in entry_points(group=GROUP, name=scheme):
        return entry.load()
    known = ["tcp", "stock", *_OWN, *sorted(entry_points(group=GROUP).names)]
    raise AddressError(
        f"address {shown(address)!r}: no engine called {scheme!r}; known are {', '.join(known)}"
    )


def _own(scheme: str) -> Engine:
    try:
        return cast("Engine", import_module(_OWN[scheme]))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tomolive"):
            raise
        raise AddressError(
            f"{scheme}:// needs the package {error.name}: pip install 'tomolive[{scheme}]'"
        ) from None


def courier_for(address: str, keys: Keys | None) -> Courier:
    """Return what takes spooled records to ``address``; ``keys`` are for a hub."""
    engine = find(address)
    return HubCourier(address, keys) if engine is None else engine.courier(address)
