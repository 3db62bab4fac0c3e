"""Documents from other processes, and what a Filler makes of them."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tomolive.files.filler import Filler
from tomolive.files.frames import Frames, MissingFrames
from tomolive.files.locate import Locator
from tomolive.stream.hub import Hub, HubSettings

TESTS = Path(__file__).parents[1]


@pytest.fixture
def from_process() -> Callable[..., contextlib.AbstractContextManager]:
    """Run a script; as a context manager, gives the documents that it prints, as they come."""

    @contextlib.contextmanager
    def documents(script: str, *arguments: object) -> Iterator[Iterator[tuple[str, dict]]]:
        command = [sys.executable, str(TESTS / script), *map(str, arguments)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield (tuple(json.loads(line)) for line in process.stdout)
                assert process.wait(30) == 0
            finally:
                process.kill()

    return documents


class Seen:
    """What came out of a Filler."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, dict]] = []
        self.frames: list[Frames] = []
        self.missing: list[MissingFrames] = []

    def run(self, filler: Filler, pairs: Iterable[tuple[str, dict]]) -> "Seen":
        """Send documents through a filler and keep what it yields."""
        keep = {"frames": self.frames, "missing": self.missing}
        for name, doc in pairs:
            for kind, *content in filler.process(name, doc):
                if kind == "document":
                    self.documents.append(tuple(content))
                else:
                    keep[kind].append(content[0])
        return self

    def numbers(self, stream: str, data_key: str) -> list[int]:
        """The frame numbers that came, in the order in which they came."""
        mine = [f for f in self.frames if (f.stream, f.data_key) == (stream, data_key)]
        return [number for f in mine for number in range(f.first, f.last)]

    def stack(self, stream: str, data_key: str) -> np.ndarray:
        """All frames by number; each must have come once."""
        mine = [f for f in self.frames if (f.stream, f.data_key) == (stream, data_key)]
        assert sorted(self.numbers(stream, data_key)) == list(range(sum(len(f.array) for f in mine)))
        return np.concatenate([f.array for f in sorted(mine, key=lambda f: f.first)])

    def events(self, stream: str) -> list[dict]:
        """The events of a stream."""
        uids = {doc["uid"] for name, doc in self.documents if name == "descriptor" and doc["name"] == stream}
        return [doc for name, doc in self.documents if name == "event" and doc["descriptor"] in uids]


@pytest.fixture
def seen() -> Seen:
    """Collects what comes out of a Filler."""
    return Seen()


@pytest.fixture
def mounted(tmp_path) -> Callable[..., Filler]:
    """Make a Filler on a machine that sees the announced folder elsewhere, through a symbolic link."""
    files, mount = tmp_path / "files", tmp_path / "mount"
    files.mkdir()
    mount.symlink_to(files)

    def make(announced: str = "/detector", **settings) -> Filler:
        return Filler(Locator({announced: str(mount)}), **{"patience": 20.0, **settings})

    return make


@pytest.fixture
def hub(tmp_path):
    """A hub in a thread."""
    any_port = "127.0.0.1:0"
    settings = HubSettings(
        native=any_port, stock_in=any_port, stock_out=any_port, journal=tmp_path / "journal"
    )
    hub = Hub(settings)
    thread = threading.Thread(target=hub.run)
    thread.start()
    yield hub
    hub.stop()
    thread.join(60)
    hub.close()
