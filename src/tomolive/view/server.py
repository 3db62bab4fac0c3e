"""The page's server: static files, one WebSocket, a JSON API, health and metrics."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import prometheus_client
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from tomolive import __version__, service
from tomolive.errors import AddressError
from tomolive.live.controls import Controls
from tomolive.live.snapshot import SnapshotStore
from tomolive.view import requests
from tomolive.view.access import Access, KnownHosts, SecurityHeaders, same_origin
from tomolive.view.api import Api
from tomolive.view.catalog_runs import CatalogRuns
from tomolive.view.runs import FinishedRuns, RunList
from tomolive.view.viewers import Audience

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"


def create_app(
    store: SnapshotStore,
    controls: Controls,
    *,
    token: str | None = None,
    read_only: bool = False,
    source: str = "",
    filters: tuple[str, ...] | None = None,
    results: Path | None = None,
    catalog: str | None = None,
) -> Starlette:
    """Return the page as an ASGI application.

    Parameters
    ----------
    store, controls
        What the reconstruction thread publishes, and where wishes for it go.
    token
        Whoever knows it may control, from anywhere. Without one only browsers on this machine may.
    read_only
        Nobody may control.
    source
        Address that documents come from; told to those who wait for the first scan.
    filters
        Names that the reconstruction knows; all of `tomolive.recon.filters` by default.
    results
        Folder in which the reconstruction leaves finished scans; without it none are listed.
    catalog
        URI of a Tiled catalog whose scans are listed as well.
    """
    if filters is None:
        from tomolive.recon.filters import FILTERS as filters  # noqa: N811  a default, not a constant
    access = Access(token, read_only)
    catalog_runs = CatalogRuns(catalog)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.audience = Audience(
            store, controls, access, {"source": source, "release": __version__}, filters
        )
        following = asyncio.create_task(app.state.audience.follow())
        yield
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        catalog_runs.close()

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def watch(websocket: WebSocket) -> None:
        if not same_origin(websocket.headers):
            await websocket.close(1008, "other sites may not connect")
            return
        await websocket.app.state.audience.serve(websocket)

    async def health(request: Request) -> Response:
        status = store.latest.status
        return JSONResponse({
            "ok": True, "state": status.state, "viewers": len(request.app.state.audience),
            "age_s": time.time() - status.updated if status.updated else None,
            "lag_s": status.lag_s, "service": "live", **service.vital_signs(),
        })  # fmt: skip

    return Starlette(
        routes=[
            Route("/", page),
            WebSocketRoute("/live", watch),
            *Api(store, controls, access, filters).routes(),
            *RunList(store, FinishedRuns(results), catalog_runs).routes(),
            Route("/healthz", health),
            Route("/metrics", _metrics),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(SecurityHeaders), Middleware(KnownHosts, access=access)],
        lifespan=lifespan,
    )


async def _metrics(_: Request) -> Response:
    return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


class _Server(uvicorn.Server):
    """Leaves signals to the process, which stops its other threads as well."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


def serve(
    app: Starlette,
    host: str,
    port: int,
    stop: threading.Event,
    *,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve ``app`` until ``stop`` is set; blocks.

    ``ready`` is called once with the page's address, with the port that the system chose for port 0.

    Raises
    ------
    AddressError
        if the address cannot be bound.
    """
    listener = _bind(host, port)
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listener.getsockname()[1]}/"
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ws="websockets-sansio",
        ws_max_size=4 * requests.MAX_MESSAGE, ws_per_message_deflate=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = _Server(config)
    ended = threading.Event()

    def end_when_told() -> None:
        while not ended.is_set():
            if stop.wait(0.2):
                server.should_exit = True
                return

    async def run() -> None:
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        while not (server.started or serving.done()):
            await asyncio.sleep(0.01)
        if server.started and ready is not None:
            ready(url)
        await serving

    threading.Thread(target=end_when_told, name="page-stop", daemon=True).start()
    try:
        asyncio.run(run())
    finally:
        ended.set()
        listener.close()
    log.info("the page at %s is closed", url)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise AddressError(f"cannot serve the page on {host}:{port}: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise AddressError(
            f"cannot serve the page on {host}:{port}: {error.strerror}; is another tomolive running? "
            "Choose another port with --page HOST:PORT"
        ) from None
    return listener
