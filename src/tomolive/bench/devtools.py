"""A browser driven over its DevTools protocol, which costs it nothing but the answers to what it is asked.

Playwright, which drives the page in its tests, has the browser tell it of each WebSocket message with all its
bytes, encoded as text: with pictures that takes about as much processor time as the page.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tomolive.demo.processes import die_with_parent
from tomolive.errors import TomoliveError

_START_S = 60.0
_ANSWER_S = 120.0


class BrowserError(TomoliveError):
    """A browser did not start, or did not do what it was asked for."""


class DevTools:
    """The line to a browser; one thread at a time may use it."""

    def __init__(self, line: ClientConnection) -> None:
        self._line = line
        self._asked = 0

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Ask for something, of one tab if ``session`` names it, and return the answer.

        Raises
        ------
        BrowserError
            if the browser refuses.
        """
        self._asked += 1
        of = {"sessionId": session} if session else {}
        self._line.send(json.dumps({"id": self._asked, "method": method, "params": parameters, **of}))
        while (reply := json.loads(self._line.recv(_ANSWER_S))).get("id") != self._asked:
            pass
        if "error" in reply:
            raise BrowserError(f"the browser refuses {method}: {reply['error']['message']}")
        return reply["result"]


@contextmanager
def devtools(command: list[str]) -> Iterator[DevTools]:
    """Start a browser, which ends with the ``with`` block.

    Raises
    ------
    BrowserError
        if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="tomolive-browser-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        log = folder / "browser.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--remote-debugging-port=0", f"--user-data-dir={folder}"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=die_with_parent,
            )  # fmt: skip
        try:
            with connect(_address(process, folder, log), max_size=None) as line:
                browser = DevTools(line)
                yield browser
                browser.call("Browser.close")
            process.wait(_START_S)
        finally:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], folder: Path, log: Path) -> str:
    """Return where a browser that has just been started listens."""
    told = folder / "DevToolsActivePort"
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if told.exists() and len(lines := told.read_text().splitlines()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise BrowserError(f"the browser did not start: {log.read_text(errors='replace').strip()[-300:]}")
