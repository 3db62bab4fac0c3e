"""A service whose loop dies ends its process with a code that is not 0: it will be started again."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import event_model
import pytest

from tomolive import Publisher
from tomolive.demo.processes import Service, Services

pytestmark = pytest.mark.timeout(300)
ANY = "127.0.0.1:0"
HUB_PORTS = [part for name in ("native", "in", "out", "http") for part in (f"--{name}", ANY)]

# Python imports this at its start: the loops of every service raise once a file is there.
DEADLY = """
import os
from pathlib import Path

from tomolive.stream.dispatcher import RemoteDispatcher
from tomolive.stream.journal import Journal


def dies(function):
    def inside(*arguments, **more):
        if Path(os.environ["TOMOLIVE_TEST_DEATH"]).exists():
            raise RuntimeError("on purpose")
        return function(*arguments, **more)

    return inside


RemoteDispatcher._be_idle = dies(RemoteDispatcher._be_idle)
Journal.append = dies(Journal.append)
"""


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[dict[str, Service]]:
    """Services whose loops die when ``tmp_path / "death"`` is there."""
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    environ = {"PYTHONPATH": str(tmp_path), "TOMOLIVE_TEST_DEATH": str(tmp_path / "death")}
    (tmp_path / "images").mkdir()
    with Services(tmp_path) as services:
        safe = services.begin("hub", ["hub", "--journal", str(tmp_path / "journal"), *HUB_PORTS])
        folder = str(tmp_path / "c")
        catalog = services.begin("catalog", ["catalog", "--dir", folder, "--listen", ANY])
        other = ["hub", "--journal", str(tmp_path / "other"), *HUB_PORTS]
        found = {"mortal-hub": services.begin("mortal-hub", other, environ)}
        source = services.wait_ready(safe).fields["native"]
        target = services.wait_ready(found["mortal-hub"]).fields["native"]
        uri = services.wait_ready(catalog).fields["uri"]
        commands = {
            "watch": [source, "--lines"],
            "bridge": [source, target, "--state", str(tmp_path / "state")],
            "archive": ["--hub", source, "--catalog", uri],
            "live": ["--hub", source, "--root", str(tmp_path / "images"), "--results", str(tmp_path / "r")],
        }
        for name, arguments in commands.items():
            found[name] = services.begin(name, [name, *arguments], environ)
        for name in commands:
            services.wait_ready(found[name])
        yield found


def test_a_loop_that_dies_ends_its_process_with_a_reason(mortal: dict[str, Service], tmp_path: Path) -> None:
    """Hub, watch, bridge, archive and live; what the hub has not kept is still in the spool."""
    (tmp_path / "death").touch()
    address = mortal["mortal-hub"].fields["native"]
    with closing(Publisher(address, spool=tmp_path / "spool", linger=0)) as publisher:
        publisher("start", event_model.compose_run().start_doc)
        codes = {name: service.process.wait(120) for name, service in mortal.items()}
        assert publisher.waiting == 1
    assert {name: code for name, code in codes.items() if code <= 0} == {}
    silent = [name for name, service in mortal.items() if "on purpose" not in service.log.read_text()]
    assert silent == []
