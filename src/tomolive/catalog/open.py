"""Open a run with the standard tools, and say in one line what is wrong if that fails."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx

from tomolive.errors import CatalogError, CatalogUnavailableError

_PATIENCE_S = 5.0


def open_catalog(uri: str, api_key: str | None = None) -> Any:
    """Return the Tiled client of the catalog at ``uri``.

    Parameters
    ----------
    uri : str
        As ``tomolive catalog`` prints it, with or without ``?api_key=``.
    api_key : str, optional
        One in ``uri`` wins. Default: the environment's ``TILED_API_KEY``.

    Raises
    ------
    CatalogUnavailableError
        if nobody answers there.
    CatalogError
        if the key is refused or left out, or it is no address of a catalog.
    """
    from tiled.client import from_uri

    with tiled_errors(uri):
        # Tiled's client tries for most of a minute before it says that nobody is there.
        httpx.get(uri, timeout=_PATIENCE_S, follow_redirects=True)
        try:
            return from_uri(uri, api_key=None if "api_key=" in uri.partition("?")[2] else api_key)
        except RuntimeError as error:
            if "requires API key" not in str(error):
                raise
            where = f"the catalog at {_without_key(uri)}"
            raise CatalogError(f"{where} wants a key; give it as ?api_key= or TILED_API_KEY") from error


def open_run(uri: str, uid: str | int = -1) -> Any:
    """Return the client of one run: ``open_run(uri)["primary"]["camera"].read()``.

    Parameters
    ----------
    uri : str
        The catalog.
    uid : str or int
        A run's uid or its first characters, its scan_id, or -1 for the newest.

    Raises
    ------
    CatalogError
        if the catalog does not answer, or has no such run.
    """
    client = open_catalog(uri)
    try:
        return client[uid]
    except (KeyError, IndexError, ValueError):
        client.context.close()
        raise CatalogError(f"the catalog at {_without_key(uri)} has no run {uid!r}") from None


@contextlib.contextmanager
def tiled_errors(uri: str) -> Iterator[None]:
    """Turn what Tiled's client raises into errors that say what to do.

    A refusal of what was asked (HTTP 4xx, but for the key) goes through as it is.
    """
    where = f"the catalog at {_without_key(uri)}"
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise CatalogError(f"{where}: {error}; expected http://HOST:PORT") from error
    except httpx.TransportError as error:
        raise CatalogUnavailableError(f"{where} does not answer ({error}); is it running?") from error
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise CatalogError(f"{where} refuses the key; give it as ?api_key= or TILED_API_KEY") from error
        if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise CatalogUnavailableError(f"{where} answers with HTTP {status}") from error
        raise


def _without_key(uri: str) -> str:
    return uri.partition("?")[0]
