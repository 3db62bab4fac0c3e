"""Child processes: ready when they say so, never left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tomolive.demo.processes import ServiceFailedError, Services


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def _wait_gone(pid: int, timeout: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not _alive(pid):
            return True
        time.sleep(0.05)
    return False


ANY = "127.0.0.1:0"
HUB = ["hub", "--native", ANY, "--in", ANY, "--out", ANY, "--http", ANY]


def test_a_service_is_ready_when_it_says_so_and_tells_where(tmp_path: Path) -> None:
    """A hub on port 0 tells the port that the system chose."""
    with Services(tmp_path) as services:
        hub = services.start("hub", [*HUB, "--journal", str(tmp_path / "journal")])
        assert hub.fields["native"].startswith("tcp://127.0.0.1:")
        assert not hub.fields["native"].endswith(":0")


def test_leaving_the_block_ends_every_child(tmp_path: Path) -> None:
    """No process survives the with block."""
    with Services(tmp_path) as services:
        hub = services.start("hub", [*HUB, "--journal", str(tmp_path / "journal")])
        pid = hub.process.pid
        assert _alive(pid)
    assert _wait_gone(pid)


def test_a_child_that_fails_to_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """The error names the service, its exit code and what it said."""
    with Services(tmp_path) as services, pytest.raises(ServiceFailedError, match=r"broken ended .* code 2"):
        services.start("broken", ["no-such-command"])


def test_a_service_that_dies_is_noticed_while_waiting_for_another(tmp_path: Path) -> None:
    """Waiting for one child raises when another, which should serve, has been killed."""
    with Services(tmp_path) as services:
        first = services.start("first", [*HUB, "--journal", str(tmp_path / "first")])
        second = services.start("second", [*HUB, "--journal", str(tmp_path / "second")])
        first.process.kill()
        with pytest.raises(ServiceFailedError, match="first ended"):
            services.wait(second)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the parent, which can clean up nothing, still ends the children."""
    code = (
        "import sys, time, pathlib\n"
        "from tomolive.demo.processes import Services\n"
        f"services = Services(pathlib.Path({str(tmp_path)!r}))\n"
        f"hub = services.start('hub', {[*HUB, '--journal', str(tmp_path / 'journal')]!r})\n"
        "print(hub.process.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _alive(child)
        parent.send_signal(signal.SIGKILL)
    assert _wait_gone(child)
