"""Viewers without a browser: they read and acknowledge as a page does, or stall."""

import json
import threading
import time
from collections.abc import Mapping

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


class Viewer:
    """One connection to a page's server; with ``stalled`` it acknowledges nothing.

    ``looks`` are the pictures that it looks at, with the pixels of their longer side, as a page says it.
    ``pictures`` counts the snapshots that came with pictures since `reset`.
    """

    def __init__(self, page: str, looks: Mapping[str, int], *, stalled: bool = False) -> None:
        self.reset()
        self._stalled = stalled
        self._line = connect(page.replace("http", "ws", 1) + "live", max_size=None, close_timeout=1)
        self._line.send(json.dumps({"type": "view", "pictures": dict(looks)}))
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

    def reset(self) -> None:
        """Begin to count."""
        self.pictures, self._began = 0, time.monotonic()

    @property
    def rate(self) -> float:
        """Pictures a second since `reset`."""
        return self.pictures / (time.monotonic() - self._began)

    def close(self) -> None:
        """Go."""
        self._line.close()
        self._thread.join(5)
