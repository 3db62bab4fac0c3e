"""Who may look and who may control, and the headers that keep other sites out.

Without a token only someone on this machine controls, and what is served on the loopback is for this machine:
its Host header must name it, or a foreign page whose name was pointed at 127.0.0.1 (DNS rebinding) would read
and control. An SSH tunnel to localhost passes, whatever its port.
"""

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Access:
    """The rules of one page."""

    token: str | None = None
    read_only: bool = False

    def reachable_as(self, server: str, host: str) -> bool:
        """Return whether someone who called the address ``server`` may call it by this Host header.

        Browsers always send one, so that a request without it is none of theirs.
        """
        if self.token is not None or not host or not _is_loopback(server):
            return True
        name = _hostname(host)
        return _is_loopback(name) or name == socket.gethostname().lower()

    def refusal(self, client: str, host: str, token: str) -> str:
        """Return why this client may not control, or an empty string if it may."""
        if self.read_only:
            return "this page is read-only"
        if self.token is not None:
            if hmac.compare_digest(token.encode(), self.token.encode()):
                return ""
            return "control needs the token"
        if _is_loopback(client) and _is_loopback(_hostname(host)):
            return ""
        return "without a token only a browser on the machine that serves the page may control"


def same_origin(headers: Mapping[str, str]) -> bool:
    """Return whether a browser sent this from a page of ours; programs send no Origin and are no browser."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def bearer(headers: Mapping[str, str]) -> str:
    """Return the token of an ``Authorization: Bearer`` header, or an empty string."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class SecurityHeaders:
    """Add the headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on to the application."""

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, add_headers if scope["type"] == "http" else send)


class KnownHosts:
    """Refuse requests and WebSockets that call this machine by a foreign name."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on to the application, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        server, host = (scope.get("server") or ("",))[0], Headers(scope=scope).get("host", "")
        if self._access.reachable_as(server, host):
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": "foreign Host"})
        reason = f"this page is not served as {_hostname(host)[:80]!r}; open it as localhost, or use a token"
        return await JSONResponse({"error": reason}, 403)(scope, receive, send)


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
