"""`tomolive status`: everything that runs, how far it is behind, its last error."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import event_model
import pytest
from click.testing import CliRunner

from tomolive import Publisher
from tomolive.cli.status import status
from tomolive.demo.processes import Services

HUB_PORTS = [part for name in ("native", "in", "out", "http") for part in (f"--{name}", "127.0.0.1:0")]
pytestmark = pytest.mark.timeout(300)


def test_what_runs_and_what_does_not(tmp_path: Path) -> None:
    """A hub, a catalog and an archive are well; a page that was not started does not answer."""
    with Services(tmp_path) as services:
        hub = services.start(
            "hub",
            ["hub", "--journal", str(tmp_path / "journal"), *HUB_PORTS],
        )
        catalog = services.start(
            "catalog", ["catalog", "--dir", str(tmp_path / "c"), "--listen", "127.0.0.1:0"]
        )
        archive = services.start(
            "archive",
            ["archive", "--hub", hub.fields["native"], "--catalog", catalog.fields["uri"],
             "--http", "127.0.0.1:0"],
        )  # fmt: skip
        config = tmp_path / "beamline.yml"
        config.write_text(
            f"""
hub: {{http: "{hub.fields["http"].removeprefix("http://")}"}}
catalog: {{uri: "{catalog.fields["uri"]}"}}
archive: {{http: "{archive.fields["http"].removeprefix("http://")}"}}
page: {{listen: "127.0.0.1:1"}}
"""
        )
        with closing(Publisher(hub.fields["native"], spool=tmp_path / "spool")) as publish:
            run = event_model.compose_run()
            publish("start", run.start_doc)
            publish("stop", run.compose_stop())
        found, code = _ask_until(config, lambda told: "archive" in told["hub"]["lag"])
        table = CliRunner().invoke(status, ["--config", str(config)])
    states = {name: service["state"] for name, service in found.items()}
    assert states == {"hub": "well", "archive": "well", "catalog": "well", "live": "no answer"}
    assert found["hub"]["version"] == found["archive"]["version"] != ""
    assert found["archive"]["up_s"] >= 0
    assert "refused" in found["live"]["last_error"]
    assert code == table.exit_code == 1
    assert "no answer" in table.output
    assert "live does not answer." in table.output
    assert "archive: " in table.output


def test_an_archive_whose_catalog_is_gone_says_so(tmp_path: Path) -> None:
    """It waits, is not well, and its reason is in the table."""
    with Services(tmp_path) as services:
        hub = services.start("hub", ["hub", "--journal", str(tmp_path / "journal"), *HUB_PORTS])
        config = tmp_path / "beamline.yml"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        config.write_text(
            f"""
hub: {{http: "127.0.0.1:1", address: "{hub.fields["native"]}"}}
archive: {{http: "127.0.0.1:{port}"}}
catalog: {{uri: "http://127.0.0.1:1/api/v1"}}
"""
        )
        command = [
            sys.executable,
            "-m",
            "tomolive",
            "archive",
            "--api-key",
            "secret",
            "--config",
            str(config),
        ]
        archive = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            told, _ = _ask_until(config, lambda told: "127.0.0.1:1" in told["archive"]["last_error"])
        finally:
            archive.terminate()
            archive.wait(30)
    assert told["archive"]["state"] == "not well"


def _ask_until(config: Path, right: Callable[[dict], bool]) -> tuple[dict[str, dict], int]:
    """Ask for the status until it is ``right``; return it, by service, and the exit code."""
    deadline = time.monotonic() + 60
    while True:
        result = CliRunner().invoke(status, ["--config", str(config), "--json"])
        told = {service["name"]: service for service in json.loads(result.output)}
        if right(told):
            return told, result.exit_code
        assert time.monotonic() < deadline, told
        time.sleep(0.2)
