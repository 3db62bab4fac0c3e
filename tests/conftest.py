"""What every test may use."""

import importlib.util
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tomolive.stream.dispatcher import RemoteDispatcher

TIMEOUT = 60.0
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
LONGEST = (
    "test_pages_run.py",
    "test_demo.py",
    "test_volume.py",
    "test_page_browser.py",
    "test_export.py",
    "test_three_sessions.py",
    "test_live_processes.py",
    "test_archive.py",
    "test_archive_faults.py",
    "test_faults.py",
    "test_result_documents.py",
    "test_demo_volume.py",
    "test_crew.py",
    "test_accumulate.py",
    "test_live_page.py",
    "test_page_accessibility.py",
    "test_standard_tools.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no worker has one of them left at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def tooth() -> Path:
    """A real micro-tomography scan, where the shared data are at hand."""
    path = Path(os.environ.get("TOMOLIVE_TEST_TOOTH", SHARED_DATA / "tooth.h5"))
    if not path.exists():
        pytest.skip(f"the real scan {path.name} is not at hand; TOMOLIVE_TEST_TOOTH can name it")
    return path


@pytest.fixture(scope="session")
def beamlines() -> ModuleType:
    """Generators of runs in the shapes of real beamlines, with their files: ``tests/beamlines.py``."""
    path = Path(__file__).parent / "beamlines.py"
    spec = importlib.util.spec_from_file_location("beamlines", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Listener:
    """A RemoteDispatcher in a thread, and what it has heard."""

    def __init__(self, address: str, callback: Callable | None = None, **options) -> None:
        self.documents: list[tuple[str, dict]] = []
        self.error: BaseException | None = None
        self.dispatcher = RemoteDispatcher(address, **options)
        self.dispatcher.subscribe(callback or (lambda name, doc: self.documents.append((name, doc))))
        self._thread = threading.Thread(target=self._run, name="listener")
        self._thread.start()

    def _run(self) -> None:
        try:
            self.dispatcher.start()
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            self.error = error

    def join(self) -> None:
        """Wait until the dispatcher has ended by itself."""
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        """End the dispatcher."""
        self.dispatcher.stop()
        self.join()

    def of_run(self, run: list[tuple[str, dict]]) -> list[tuple[str, dict]]:
        """Return what came of a run."""
        uids = {doc["uid"] for _, doc in run}
        return [(name, doc) for name, doc in self.documents if doc.get("uid") in uids]


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """Start a RemoteDispatcher that collects; ready when this returns, if it starts at ``new``."""
    listeners: list[Listener] = []

    def start(address: str, callback: Callable | None = None, *, wait: bool = True, **options) -> Listener:
        listeners.append(Listener(address, callback, **options))
        assert not wait or listeners[-1].dispatcher.wait_ready(TIMEOUT)
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.stop()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition holds."""

    def wait(condition: Callable[[], bool], timeout: float = TIMEOUT) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.005)

    return wait
