"""``/healthz`` and ``/metrics`` of a process, over HTTP, in a thread of its own."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tomolive import service
from tomolive.errors import AddressError
from tomolive.stream.sockets import Address


@contextmanager
def serve(listen: str, health: Callable[[], dict]) -> Iterator[str]:
    """Serve on ``listen`` (HOST:PORT) while the block runs; yield the address.

    ``health`` returns what ``/healthz`` shows beside `tomolive.service.vital_signs`; its ``"ok"`` decides
    between the codes 200 and 503.

    Raises
    ------
    AddressError
        if the address is taken.
    """
    import uvicorn
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def healthz(_request) -> Response:
        state = {**health(), **service.vital_signs()}
        return JSONResponse(state, 200 if state["ok"] else 503)

    def metrics(_request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    listener = _listen(listen)
    app = Starlette(routes=[Route("/healthz", healthz), Route("/metrics", metrics)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
    thread.start()
    host, port = listener.getsockname()[:2]
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=5)
        listener.close()


def _listen(text: str) -> socket.socket:
    address = Address.parse(text)
    try:
        return socket.create_server(
            (address.host.strip("[]"), address.port),
            family=socket.AF_INET6 if address.host.startswith("[") else socket.AF_INET,
        )
    except OSError as error:
        raise AddressError(
            f"cannot listen on {text}: {error.strerror}; choose another with --http HOST:PORT"
        ) from None
