"""Viewers without a browser: they read and acknowledge as a page does, or stall."""

import json
import threading
import time

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


class Viewer:
    """One connection to a page's server; with ``stalled`` it acknowledges nothing.

    ``pictures`` counts the snapshots that came with pictures.
    """

    def __init__(self, page: str, *, stalled: bool = False) -> None:
        self.pictures = 0
        self.began = time.monotonic()
        self._stalled = stalled
        self._line = connect(page.replace("http", "ws", 1) + "live", max_size=None, close_timeout=1)
        self._thread = threading.Thread(target=self._read, args=(self._line,), daemon=True)
        self._thread.start()

    def _read(self, line: ClientConnection) -> None:
        left, version = 0, 0
        try:
            for message in line:
                if isinstance(message, str):
                    state = json.loads(message)
                    if state.get("sending"):
                        left, version = len(state["sending"]), state["version"]
                    continue
                left -= 1
                if left == 0:
                    self.pictures += 1
                    if not self._stalled:
                        line.send(json.dumps({"type": "ack", "version": version}))
        except ConnectionClosed:
            return

    def close(self) -> float:
        """Go, and return how many pictures came a second."""
        rate = self.pictures / (time.monotonic() - self.began)
        self._line.close()
        self._thread.join(5)
        return rate
