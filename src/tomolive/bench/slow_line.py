"""A slow line between a browser and a server of this machine.

A browser can pretend that its line is slow, but that keeps it busy: it hands the bytes on in hundreds of
little pieces a second, from process to process. A line costs a browser nothing, so it is a relay here.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

BYTES_PER_S = 250_000
"""Down, to the browser; a picture of the page takes seconds."""
DELAY_S = 0.2
"""Of what the browser says, acknowledgements among it."""
_STEP_S = 0.02
_HELD = 65536
"""Bytes on their way to the relay: the server is to notice that the line is slow."""


@contextlib.contextmanager
def slow_line(address: str) -> Iterator[str]:
    """Give another address of the page at ``address``, at the end of a slow line."""
    end = urlsplit(address)
    there = (end.hostname, end.port)

    class Line(BaseRequestHandler):
        """One connection."""

        def handle(self) -> None:
            with socket.socket() as server:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _HELD)
                server.connect(there)
                up = threading.Thread(target=_pass_on, args=(self.request, server, 0.0, DELAY_S), daemon=True)
                up.start()
                _pass_on(server, self.request, 1 / BYTES_PER_S)

    class Relay(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Relay(("127.0.0.1", 0), Line) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{relay.server_address[1]}/"
        finally:
            relay.shutdown()


def _pass_on(source: socket.socket, sink: socket.socket, s_per_byte: float, delay: float = 0.0) -> None:
    """Pass on what comes until one end is closed, and close both."""
    with contextlib.suppress(OSError):
        while data := source.recv(int(BYTES_PER_S * _STEP_S)):
            time.sleep(delay + s_per_byte * len(data))
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
