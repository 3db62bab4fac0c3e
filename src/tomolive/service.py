"""What every long-running process shares: logs, a clean stop, and a word when it is ready.

Readiness is told the way systemd wants it (``sd_notify(3)``), so that the same call serves a unit with
``Type=notify`` and the demo, which waits for its children in the same way.
"""

import _thread
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable

log = logging.getLogger(__name__)


def setup_logging(verbose: bool = False) -> None:
    """Log to standard error, one line an event, with time, level and logger."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # It logs the address of every request, with the keys that are part of it.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def notify_ready(**fields: str) -> None:
    """Tell whoever started this process that it serves now.

    ``fields`` travel along as ``X_NAME=value``; an address that the system chose (port 0) is told this way.
    Without ``NOTIFY_SOCKET`` in the environment this does nothing, as ``sd_notify`` does.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    lines = ["READY=1", *(f"X_{name.upper()}={value}" for name, value in fields.items())]
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect(address)
        notifier.send("\n".join(lines).encode())


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call ``stop`` once on SIGTERM or SIGINT; a second signal ends the process at once.

    It is called in a thread of its own: the signal may have met the main thread while that holds a lock, in
    ``Event.wait`` or in the middle of a log line, and ``stop`` would wait for it for ever.
    """
    called: list[int] = []

    def announce_and_stop() -> None:
        log.info("%s: stopping", signal.Signals(called[0]).name)
        stop()

    def handle(signum: int, _frame: object) -> None:
        if called:
            os._exit(128 + signum)
        called.append(signum)
        _thread.start_new_thread(announce_and_stop, ())  # Thread.start would take locks here

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
