"""Hubs and runs."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tomolive.stream.hub import Hub, HubSettings

ANY = "127.0.0.1:0"
TIMEOUT = 60.0


class RunMaker:
    """Makes the documents of a valid run."""

    def __call__(self, events: int, uid: str | None = None, **start) -> list[tuple[str, dict]]:
        """Make a run with so many events."""
        run, descriptor, now = uid or str(uuid.uuid4()), str(uuid.uuid4()), time.time()
        keys = {f"motor_{i}": {"source": "PV:m", "dtype": "number", "shape": []} for i in range(3)}
        return [
            ("start", {"uid": run, "time": now, "scan_id": 1, "plan_name": "count", **start}),
            (
                "descriptor",
                {"uid": descriptor, "run_start": run, "time": now, "name": "primary", "data_keys": keys},
            ),
            *(("event", self.event(descriptor, number + 1, keys)) for number in range(events)),
            ("stop", {"uid": str(uuid.uuid4()), "run_start": run, "time": now, "exit_status": "success"}),
        ]

    @staticmethod
    def event(descriptor: str, seq_num: int, keys) -> dict:
        """Make one event."""
        return {
            "uid": str(uuid.uuid4()),
            "descriptor": descriptor,
            "time": time.time(),
            "seq_num": seq_num,
            "data": dict.fromkeys(keys, 1.5 * seq_num),
            "timestamps": dict.fromkeys(keys, time.time()),
            "filled": {},
        }


class HubThread:
    """A hub in a thread of this process; ``stop`` and ``start`` keep its address and journal."""

    def __init__(self, folder: Path, **settings) -> None:
        self._settings = {"native": ANY, "stock_in": ANY, "stock_out": ANY, **settings, "journal": folder}
        self.start()

    def start(self) -> None:
        """Serve, at the same addresses as before."""
        self.hub = Hub(HubSettings(**self._settings))
        self.native, self.stock_in, self.stock_out = self.hub.native, self.hub.stock_in, self.hub.stock_out
        for key in ("native", "stock_in", "stock_out"):
            self._settings[key] = getattr(self.hub, key).removeprefix("tcp://")
        self._thread = threading.Thread(target=self._run, name="hub")
        self._thread.start()

    def _run(self) -> None:
        try:
            self.hub.run()
        finally:
            self.hub.close()

    def stop(self) -> None:
        """End the hub cleanly."""
        self.hub.stop()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


@pytest.fixture
def make_run() -> RunMaker:
    """Make the documents of a run: ``make_run(events, **start)``."""
    return RunMaker()


@pytest.fixture
def make_hub(tmp_path) -> Iterator[Callable[..., HubThread]]:
    """Start hubs; they are stopped at the end."""
    hubs: list[HubThread] = []

    def make(folder: Path | None = None, **settings) -> HubThread:
        hubs.append(HubThread(folder or tmp_path / "journal", **settings))
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.stop()


@pytest.fixture
def hub(make_hub) -> HubThread:
    """A hub with an empty journal."""
    return make_hub()


@pytest.fixture
def publishing(tmp_path):
    """A Publisher with a spool of the test's own, closed at the end of the block."""
    from tomolive.stream.publisher import Publisher

    @contextmanager
    def publish(address: str, **options) -> Iterator[Publisher]:
        publisher = Publisher(address, **{"spool": tmp_path / "spool", **options})
        try:
            yield publisher
        finally:
            publisher.close(0)

    return publish
