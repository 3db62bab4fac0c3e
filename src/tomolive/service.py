"""What every long-running process shares: logs, a clean stop, and a word when it is ready.

Readiness is told the way systemd wants it (``sd_notify(3)``), so that the same call serves a unit with
``Type=notify`` and the demo, which waits for its children in the same way.
"""

import _thread
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from tomolive.version import __version__

log = logging.getLogger(__name__)


def setup_logging(verbose: bool = False, format: str = "text") -> None:  # noqa: A002  what the settings call it
    """Log to standard error: one line an event, or with ``format="json"`` one JSON object.

    Each event says to which run it belongs, if it does; see `note_run`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if format == "json" else logging.Formatter(_LINE))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler, _last_error])
    # It logs the address of every request, with the keys that are part of it.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def take_stdout() -> TextIO:
    """Return standard output for lines that another process reads; what else is printed goes to the log."""
    ours = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return ours


def note_run(uid: str) -> None:
    """Have every event that is logged in this thread from now on carry the run's uid."""
    _run.set(uid)


def vital_signs() -> dict[str, Any]:
    """Return what every process says of itself on ``/healthz``: version, age and its last error."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "up_s": round(time.monotonic() - _BEGAN, 1),
        "last_error": _last_error.text,
        "last_error_age_s": round(time.time() - _last_error.when, 1) if _last_error.text else None,
    }


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "run": _run.get(),
            "pid": record.process,
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps({key: value for key, value in event.items() if value != ""})


class _LastError(logging.Handler):
    """Remembers the last error that was logged, for who looks after the process."""

    text = ""
    when = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        self.text, self.when = record.getMessage(), record.created


_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_BEGAN = time.monotonic()
_run: ContextVar[str] = ContextVar("run", default="")
_last_error = _LastError(logging.ERROR)


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


def end_on_sigterm() -> None:
    """Have SIGTERM end a command that is still starting with exit code 0; click sees to Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(0))


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
