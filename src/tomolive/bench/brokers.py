"""Brokers as processes that can be killed and started again: for the benchmark and the tests of engines."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

from tomolive.errors import TomoliveError

_START_SECONDS = 60.0


class AbsentError(TomoliveError):
    """The broker is not installed here."""


class Broker(ABC):
    """A broker with its data in a folder."""

    name: str
    keeps = True
    """Whether it still has its documents after SIGKILL."""
    is_quick = True
    """Whether its speed says something, and it takes as many documents as a disk."""
    takes_big = True
    """Whether documents of several megabytes get through."""
    required = True
    """Whether continuous integration has it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen | None = None
        self.start()

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    @abstractmethod
    def address(self) -> str:
        """Where documents come in and go out."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return what starts it."""

    def start(self) -> None:
        """Start it, again at the same address with what it kept, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.kill()
                raise TomoliveError(
                    f"{self.name} does not start: {(self.folder / 'log').read_text()[-1000:]}"
                )
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self._process.pid if self._process is not None else 0

    def pause(self, seconds: float) -> None:
        """Let it do nothing for a while, with its connections open."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            self._process.send_signal(signal.SIGCONT)


class HubBroker(Broker):
    """Our own hub."""

    name = "hub"

    @property
    def address(self) -> str:
        """Where documents come in and go out."""
        return f"tcp://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Return what starts it."""
        others = [word for option in ("--in", "--out", "--http") for word in (option, "127.0.0.1:0")]
        return [
            sys.executable, "-m", "tomolive", "hub", "--journal", str(self.folder / "journal"),
            "--native", f"127.0.0.1:{self.port}", *others,
        ]  # fmt: skip


class NatsBroker(Broker):
    """A NATS server with JetStream; ``settings`` are lines of its configuration file."""

    name = "nats"

    def __init__(self, folder: Path, settings: str = "", user: str = "", options: str = "") -> None:
        self._settings, self._user, self._options = settings, user, options
        super().__init__(folder)

    @property
    def address(self) -> str:
        """Where documents come in and go out."""
        return self.place("scans")

    def place(self, name: str) -> str:
        """Return the address of a stream of that name."""
        return f"nats://{self._user}127.0.0.1:{self.port}/{name}{self._options}"

    def command(self) -> list[str]:
        """Return what starts it, with a configuration file in its folder."""
        server = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
        if server is None:
            raise AbsentError("nats-server is not installed; Debian's package is nats-server")
        configuration = self.folder / "nats.conf"
        configuration.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.folder}" }}\n{self._settings}\n'
        )
        return [server, "-c", str(configuration)]


class KafkaBroker(Broker):
    """Whatever speaks Kafka's protocol."""

    takes_big = False
    _options = ""

    @property
    def address(self) -> str:
        """Where documents come in and go out."""
        return self.place("scans")

    def place(self, name: str) -> str:
        """Return the address of a topic of that name."""
        return f"kafka://127.0.0.1:{self.port}/{name}{self._options}"


class KafkaMock(KafkaBroker):
    """librdkafka's mock cluster, which comes with the client: the protocol, for little data."""

    name = "kafka-mock"
    keeps = False
    is_quick = False  # 5 MB of a partition are all that it holds
    _options = "?largest=1000000"  # it cannot be asked

    def command(self) -> list[str]:
        """Return what starts it; it chooses its port by itself."""
        return [sys.executable, "-m", "tomolive.bench.kafka_mock", str(self.folder / "port")]

    def answers(self) -> bool:
        """Whether it takes connections."""
        told = self.folder / "port"
        if told.exists():
            self.port = int(told.read_text())
        return told.exists() and super().answers()


class NoidaBroker(KafkaBroker):
    """noida-db, a Kafka broker in one binary, on PyPI; it keeps its data in memory until it ends."""

    name = "kafka"
    version = "0.2.3"
    keeps = False
    required = False

    def command(self) -> list[str]:
        """Return what starts it."""
        package = importlib.util.find_spec("noida_db")
        if package is None or package.origin is None:
            raise AbsentError(f"noida-db is not installed: pip install noida-db=={self.version}")
        server = Path(package.origin).with_name("noida-db")  # its command would not pass a signal on
        port, folder = str(self.port), str(self.folder)
        return [str(server), "start", "--only", "kafka", "--kafka-port", port, "--data-dir", folder]


ENGINES: dict[str, type[Broker]] = {
    "hub": HubBroker,
    "nats": NatsBroker,
    "kafka": NoidaBroker,
    "kafka-mock": KafkaMock,
}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_required() -> bool:
    """Whether a broker that is absent is a failure: in continuous integration all are installed."""
    return os.environ.get("CI") == "true"
