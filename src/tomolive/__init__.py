"""The data of a Bluesky run, live on another machine; a tomography scan, reconstructed while it runs."""

from typing import TYPE_CHECKING, Any

from tomolive.version import __version__

if TYPE_CHECKING:
    from tomolive.stream.dispatcher import RemoteDispatcher
    from tomolive.stream.publisher import Publisher

__all__ = ["Publisher", "RemoteDispatcher", "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used, so that a scan pays only for the Publisher."""
    if name == "Publisher":
        from tomolive.stream.publisher import Publisher

        return Publisher
    if name == "RemoteDispatcher":
        from tomolive.stream.dispatcher import RemoteDispatcher

        return RemoteDispatcher
    raise AttributeError(f"module 'tomolive' has no attribute {name!r}")
