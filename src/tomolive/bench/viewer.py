"""Viewers without a browser: they read and acknowledge as a page does, or stall."""

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

LOOKS = {"xy": 489, "xz": 136, "yz": 136, "oblique@35,30,0": 223, "projection": 136}
"""Pictures that a page of 1280 x 720 looks at, and the pixels of their longer side."""


class Viewer:
    """One connection to a page's server; with ``stalled`` it acknowledges nothing.

    Parameters
    ----------
    page
        Address.

    Attributes
    ----------
    received : int
        Projections, by the newest state.
    is_final : bool
        The scan is over, and its slices will not change by themselves.
    """

    def __init__(self, page: str, *, stalled: bool = False) -> None:
        self.received = 0
        self.is_final = False
        self._stalled = stalled
        self._center: float | None = None
        self.forget()
        self._line = connect(page.replace("http", "ws", 1) + "live", max_size=None, close_timeout=1)
        self._line.send(json.dumps({"type": "view", "pictures": LOOKS}))
        self._thread = threading.Thread(target=self._read, args=(self._line,), daemon=True)
        self._thread.start()

    def _read(self, line: ClientConnection) -> None:
        left, state = 0, {}
        try:
            for message in line:
                if isinstance(message, str):
                    told = json.loads(message)
                    if told["type"] == "state":
                        status = told["status"]
                        self.received = status["frames_received"]
                        over = status["state"] == "finished"
                        self.is_final = over and status["seconds_last_frame_to_final"] is not None
                    if told.get("sending"):
                        left, state = len(told["sending"]), told
                    continue
                left -= 1
                if left == 0:
                    self._note(state)
                    if not self._stalled:
                        line.send(json.dumps({"type": "ack", "version": state["version"]}))
        except ConnectionClosed:
            return

    def _note(self, state: Mapping[str, Any]) -> None:
        now, status = 1000 * time.time(), state["status"]
        pictures = state["pictures"]
        self._center = pictures[state["sending"][0]]["of"]["center"]
        self._drawn.append({
            "at": now, "drawing": now - 1000 * status["updated"], "lag_s": status["lag_s"],
            "center": self._center, "planes": [pictures[key]["plane"] for key in state["sending"]],
        })  # fmt: skip

    def loaded(self) -> None:
        """Nothing is painted here."""

    def forget(self) -> None:
        """Begin to count."""
        self._drawn: list[dict[str, Any]] = []
        self._began = time.monotonic()

    def drawn(self) -> list[dict[str, Any]]:
        """Return when (``at``, Unix ms) pictures came since `forget`, and what was told of them."""
        return list(self._drawn)

    @property
    def rate(self) -> float:
        """Pictures a second since `forget`."""
        return len(self._drawn) / (time.monotonic() - self._began)

    @property
    def processor_s(self) -> None:
        """Nothing is drawn here."""

    def change_center(self, by: float) -> tuple[float, float]:
        """Move the rotation centre; return when (Unix ms), and where it is to be."""
        wanted = round((self._center or 0.0) + by, 2)
        began = 1000 * time.time()
        self._line.send(json.dumps({"type": "center", "center": wanted}))
        return began, wanted

    def close(self) -> None:
        """Go."""
        self._line.close()
        self._thread.join(5)
