"""Volumes beside a live reconstruction: one after the other, each in a process of its own.

The live reconstruction starts one at a stop document, or when somebody at the page wishes it, and shows what
`VolumeRunner.poll` returns::

    runner = VolumeRunner()
    runner.start(VolumeRequest(run_uid, DocumentSource(hub=address), center=..., publish=address))
    status = replace(status, volume=runner.poll())
    runner.cancel()                                 # on wish
    runner.close()                                  # at the end; what is done stays for the next time
"""

import json
import logging
import subprocess
import sys
import threading
from collections import deque
from dataclasses import replace

from tomolive.live.snapshot import VolumeProgress
from tomolive.live.volume.request import VolumeRequest

log = logging.getLogger(__name__)

_STOP_S = 20.0


class VolumeRunner:
    """Makes volumes; no call waits for one of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[VolumeRequest] = deque()
        self._process: subprocess.Popen[str] | None = None
        self._progress: VolumeProgress | None = None
        self._stopping = False
        """Whether the volume that is being made was cancelled; its process may not have heard of that."""

    def start(self, request: VolumeRequest) -> None:
        """Make this volume, after those that were asked for before."""
        with self._lock:
            self._waiting.append(request)
            if self._progress is None or self._process is None:
                self._progress = VolumeProgress("waiting", request.run_uid)
        self._next()

    def poll(self) -> VolumeProgress | None:
        """Return how far the volume is that is being made, or how the last one ended; None: there is none."""
        self._next()
        with self._lock:
            return self._progress

    @property
    def is_busy(self) -> bool:
        """Whether a volume is being made, or waits for that."""
        with self._lock:
            return self._process is not None or bool(self._waiting)

    def cancel(self, run_uid: str = "") -> None:
        """Stop the volume of this run, or whichever is being made, and forget those of it that wait."""
        with self._lock:
            self._waiting = deque(r for r in self._waiting if run_uid and r.run_uid != run_uid)
            current = self._progress.run_uid if self._progress else ""
            if self._process is not None and run_uid in ("", current):
                self._stopping = True
                self._process.terminate()

    def close(self) -> None:
        """Stop what is being made, and wait until it has stopped."""
        with self._lock:
            self._waiting.clear()
            process, self._stopping = self._process, True
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _next(self) -> None:
        """Begin with the next request, if none is at work."""
        with self._lock:
            if self._process is not None or not self._waiting:
                return
            request = self._waiting.popleft()
            self._progress = VolumeProgress("running", request.run_uid, message="starting")
            self._stopping = False
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tomolive.live.volume.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            threading.Thread(
                target=self._follow, args=(self._process, request), name="volume", daemon=True
            ).start()

    def _follow(self, process: "subprocess.Popen[str]", request: VolumeRequest) -> None:
        """Take what a process says until it ends."""
        assert process.stdin is not None  # noqa: S101  it is a pipe
        assert process.stdout is not None  # noqa: S101  it is a pipe
        try:
            process.stdin.write(request.to_json() + "\n")
            process.stdin.flush()
        except OSError:
            log.warning("the process that should make a volume ended at once")
        for line in process.stdout:
            try:
                progress = VolumeProgress(**json.loads(line))
            except (ValueError, TypeError):
                log.info("the process that makes a volume prints: %s", line.rstrip())
                continue
            with self._lock:
                self._progress = progress
        code = process.wait()
        process.stdout.close()
        try:
            process.stdin.close()
        except OSError:
            log.debug("a pipe to a process that has ended", exc_info=True)
        with self._lock:
            self._process = None
            if self._progress is not None and self._progress.state in ("running", "waiting"):
                message = "" if self._stopping else f"the process that made it ended with exit code {code}"
                state = "cancelled" if self._stopping else "failed"
                self._progress = replace(self._progress, state=state, message=message)
            if self._progress is not None and self._progress.state == "failed":
                log.error("volume of run %s: %s", request.run_uid, self._progress.message)
