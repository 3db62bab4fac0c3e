"""Child processes that say when they serve, and that all end when their parent does."""

import ctypes
import math
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tomolive.errors import TomoliveError

START_TIMEOUT_S = 120.0
"""The first start compiles kernels and creates databases."""
STOP_TIMEOUT_S = 15.0
_PR_SET_PDEATHSIG = 1


class ServiceFailedError(TomoliveError):
    """A child process ended, or did not become ready."""


@dataclass
class Service:
    """A running child process and what it said when it became ready."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    listener: socket.socket | None = None
    """Where its readiness message comes in."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """The ``X_`` fields of its readiness message, by lower-case name."""

    def last_words(self) -> str:
        """Return the newest line of the log that says something."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it printed nothing"


class Services:
    """Start ``tomolive`` commands as child processes; leaving the ``with`` block ends them all.

    Children run in sessions of their own, so that Ctrl-C reaches the parent alone, which then ends them in
    the reverse order of their start: producers before what they feed.

    Parameters
    ----------
    logs : Path
        Folder for one log file for each service.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._sockets = tempfile.TemporaryDirectory(prefix="tomolive-")
        self._running: list[Service] = []

    def __enter__(self) -> "Services":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, arguments: Sequence[str], timeout: float = START_TIMEOUT_S) -> Service:
        """Start ``tomolive ARGUMENTS`` and wait until it says that it serves; see ``wait_ready``."""
        return self.wait_ready(self.begin(name, arguments), timeout)

    def begin(self, name: str, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> Service:
        """Start ``tomolive ARGUMENTS``, which will say when it serves, and return at once."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = str(Path(self._sockets.name) / name)
        listener.bind(address)
        service = self.spawn(name, arguments, {**(environ or {}), "NOTIFY_SOCKET": address})
        service.listener = listener
        return service

    def wait_ready(self, service: Service, timeout: float = START_TIMEOUT_S) -> Service:
        """Wait until ``service`` says that it serves.

        Raises
        ------
        ServiceFailedError
            if it ends first, or says nothing within ``timeout`` seconds; with its last words.
        """
        if service.listener is None:
            raise ServiceFailedError(f"{service.name} was not started to say when it serves")
        deadline = time.monotonic() + timeout
        with service.listener as listener:
            while time.monotonic() < deadline:
                if select.select([listener], [], [], 0.05)[0]:
                    lines = listener.recv(65536).decode().splitlines()
                    pairs = (line.partition("=")[::2] for line in lines)
                    service.fields = {key[2:].lower(): value for key, value in pairs if key.startswith("X_")}
                    return service
                if service.process.poll() is not None:
                    raise ServiceFailedError(_failure(service))
        raise ServiceFailedError(f"{service.name} did not become ready in {timeout:.0f} s: {service.log}")

    def spawn(self, name: str, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> Service:
        """Start ``tomolive ARGUMENTS`` and return at once."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tomolive", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        service = Service(name, process, log)
        self._running.append(service)
        return service

    def wait(self, service: Service, timeout: float = math.inf) -> int:
        """Wait for ``service`` to end while all the others must live on; return its exit code.

        Raises
        ------
        ServiceFailedError
            if another service ends meanwhile, or the time (seconds) is up.
        """
        deadline = time.monotonic() + timeout
        while (code := service.process.poll()) is None:
            self.check(may_end=service)
            if time.monotonic() > deadline:
                raise ServiceFailedError(f"{service.name} did not end within {timeout:.0f} s: {service.log}")
            time.sleep(0.05)
        self._running.remove(service)
        return code

    def check(self, may_end: Service | None = None) -> None:
        """Raise ServiceFailedError if a service has ended, other than ``may_end``."""
        for service in self._running:
            if service is not may_end and service.process.poll() is not None:
                raise ServiceFailedError(_failure(service))

    def stop(self) -> None:
        """End every service, newest first; one that does not listen is killed."""
        while self._running:
            process = self._running.pop().process
            if process.poll() is not None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._sockets.cleanup()


def _failure(service: Service) -> str:
    words = service.last_words().removeprefix("tomolive: ")
    return f"{service.name} ended with exit code {service.process.returncode}: {words} (log: {service.log})"


def die_with_parent() -> None:
    """Have Linux end this child when its parent is killed and can no longer do it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
