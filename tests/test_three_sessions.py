"""The three-sessions example as a person types it in three terminals, and its data opened afterwards.

Four rounds, each with two analysts at once, make the eight combinations: the hub or bluesky's own proxy,
classic ophyd or ophyd-async, the detector's folder under the same path or under another one.
"""

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "three_sessions"
LINE = "sum of image data is 25.0"
TIMEOUT_S = 150.0


class Terminal:
    """A process in a terminal of its own: what it prints is read, what it is told is typed."""

    def __init__(self, *command: str | Path, cwd: Path, environ: dict[str, str] | None = None) -> None:
        self.printed: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def type(self, text: str) -> None:
        """Type a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def expect(self, text: str) -> str:
        """Wait for a line that holds ``text``; return it."""
        deadline = time.monotonic() + TIMEOUT_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            self.printed.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} did not come; printed were:\n" + "\n".join(self.printed))

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        self.process.send_signal(signal.SIGINT)
        self.wait()

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def wait(self) -> None:
        """Wait for the end, and read what is left."""
        self.process.wait(TIMEOUT_S)
        while (line := self._lines.get(timeout=TIMEOUT_S)) is not None:
            self.printed.append(line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all rounds happen: one detector's folder, one catalog."""
    folder = tmp_path_factory.mktemp("sessions")
    for name in ("acquisition", "acquisition/data", "analysis", "analysis/mnt"):
        (folder / name).mkdir()
    return folder


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals to close at the end, whatever happens."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def start_transport(transport: str, folder: Path, terminals: list[Terminal]) -> tuple[str, str]:
    """Open the first terminal; return the addresses to publish to and to listen to."""
    if transport == "hub":
        options = [
            part for option in ("--native", "--in", "--out", "--http") for part in (option, "127.0.0.1:0")
        ]
        terminals.append(
            Terminal(sys.executable, "-m", "tomolive", "hub", "--journal", "journal", *options, cwd=folder)
        )
        address = terminals[-1].expect("hub at").split("hub at ")[1].split(",")[0].split()[0]
        return address, address
    terminals.append(Terminal(sys.executable, EXAMPLE / "stock_proxy.py", "0", "0", cwd=folder))
    ports = [place.rpartition(":")[2] for place in terminals[-1].expect("proxy at").split()[-2:]]
    return f"stock://127.0.0.1:{ports[0]}", f"stock://127.0.0.1:{ports[1]}"


def mounted_elsewhere(data: Path, elsewhere: Path, command: list[str | Path]) -> list[str]:
    """Return ``command`` for a machine with the folder ``data`` at ``elsewhere``, and nothing at ``data``.

    Where the system does not allow a mount to an ordinary user, a symbolic link stands in for it; the folder
    can then still be seen at ``data``.
    """
    as_root = ["unshare", "--user", "--map-root-user", "--mount"]
    words = shlex.join(str(part) for part in command)
    hidden = f"mount --bind {data} {elsewhere} && mount -t tmpfs none {data} && exec {words}"
    try:
        allowed = subprocess.run([*as_root, "mount", "-t", "tmpfs", "none", str(elsewhere)], check=False)
    except FileNotFoundError:
        allowed = None
    if allowed is not None and allowed.returncode == 0:
        return [*as_root, "sh", "-c", hidden]
    elsewhere.rmdir()
    elsewhere.symlink_to(data)
    return [str(part) for part in command]


@pytest.mark.parametrize("style", ["classic", "async"])
@pytest.mark.parametrize("transport", ["hub", "proxy"])
def test_each_scan_prints_its_sum(
    transport: str, style: str, folder: Path, terminals: list[Terminal], tmp_path: Path
) -> None:
    """RE(count([det])) prints the sum once, in front of the same folder and of another mount."""
    data, elsewhere = folder / "acquisition" / "data", folder / "analysis" / "mnt"
    publish_to, listen_to = start_transport(transport, tmp_path, terminals)
    analyze = [sys.executable, EXAMPLE / "analyze.py", listen_to, "--mount"]
    at_home = Terminal(*analyze, f"{data}={data}", cwd=tmp_path)
    away = Terminal(
        *mounted_elsewhere(data, elsewhere, [*analyze, f"{data}={elsewhere}"]), cwd=folder / "analysis"
    )
    terminals += [at_home, away]
    for analyst in (at_home, away):
        analyst.expect("listening to")

    collect = Terminal(
        sys.executable, "-i", EXAMPLE / "collect.py", publish_to, "--style", style, "--data", data,
        "--catalog", folder / "catalog", cwd=tmp_path, environ={"TOMOLIVE_SPOOL": str(tmp_path / "spool")},
    )  # fmt: skip
    terminals.append(collect)
    collect.type("RE(count([det]))")
    for analyst in (at_home, away):
        assert analyst.expect("sum") == LINE
    collect.type("RE(count([det]))")
    for analyst in (at_home, away):
        assert analyst.expect("sum") == LINE
    collect.type("exit()")
    collect.wait()
    assert collect.process.returncode == 0, "\n".join(collect.printed)
    for analyst in (at_home, away):
        analyst.interrupt()
        assert analyst.printed.count(LINE) == 2, "\n".join(analyst.printed)


READ_WITH_DATABROKER = """
import sys, warnings
warnings.simplefilter("ignore")
from databroker.v1 import Broker
from tiled.client import from_uri
db = Broker(from_uri(sys.argv[1]))
for uid in sys.argv[2:]:
    table = db[uid].table(fill=True)
    images = [column for column in table if column in ("det", "det_image")]
    print("databroker", uid, len(table), float(table[images[0]].iloc[0].sum()))
"""


def test_the_runs_open_with_standard_tools(
    folder: Path, terminals: list[Terminal], request: pytest.FixtureRequest
) -> None:
    """Afterwards the tiled client and databroker open each run of the catalog, with its image."""
    from tiled.client import from_uri

    data = folder / "acquisition" / "data"
    options = ["--dir", folder / "catalog", "--readable", data, "--listen", "127.0.0.1:0"]
    terminals.append(Terminal(sys.executable, "-m", "tomolive", "catalog", *options, cwd=folder))
    uri = terminals[0].expect("catalog at ").removeprefix("catalog at ")
    catalog = from_uri(uri)
    request.addfinalizer(catalog.context.close)
    uids = list(catalog)
    assert len(uids) == 8
    for uid in uids:
        (image,) = (node for key, node in catalog[uid]["primary"].base.items() if key.startswith("det"))
        np.testing.assert_array_equal(image.read(), np.ones((1, 5, 5), "u2"))
        assert catalog[uid].stop["exit_status"] == "success"

    reader = Terminal(sys.executable, "-c", READ_WITH_DATABROKER, uri, *uids, cwd=folder)
    terminals.append(reader)
    reader.wait()
    for uid in uids:
        assert f"databroker {uid} 1 25.0" in reader.printed, "\n".join(reader.printed)
