"""What a facility installs: units, dashboard, alerts and settings that fit the program of today."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from tomolive import metrics
from tomolive.cli import COMMANDS, group
from tomolive.config import Settings
from tomolive.operations.settings_check import check_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def _metrics_of_today() -> set[str]:
    """Return the names under which Prometheus sees what `tomolive.metrics` declares."""
    names = set()
    for metric in vars(metrics).values():
        for family in metric.describe() if isinstance(metric, MetricWrapperBase) else ():
            names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return names


def _metrics_in(text: str) -> set[str]:
    return set(re.findall(r"tomolive_[a-z_]+", text))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists(unit: Path) -> None:
    """The command and each of its options are those of today's command line."""
    _, name, *options = re.search(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)[1].split()  # type: ignore[index]
    command = group.get_command(click.Context(group), name)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known
    assert "--config" in known  # what TOMOLIVE_CONFIG in the unit is for


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_understood_by_systemd(unit: Path, tmp_path: Path) -> None:
    """systemd-analyze finds nothing to complain of, once the program lies where the unit expects it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed on this machine")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/tomolive/bin/tomolive", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not complaints


def test_there_is_a_unit_for_each_service() -> None:
    """Hub, archive, catalog and live; the page is part of live."""
    assert {unit.stem for unit in UNITS} == {f"tomolive-{n}" for n in ("hub", "archive", "catalog", "live")}
    assert {unit.stem.removeprefix("tomolive-") for unit in UNITS} <= set(COMMANDS)


@pytest.mark.parametrize("name", ["grafana/tomolive.json", "prometheus/alerts.yml"])
def test_dashboard_and_alerts_name_metrics_that_exist(name: str) -> None:
    """A metric that is renamed must be renamed there, too."""
    used = _metrics_in((DEPLOY / name).read_text())
    assert used
    assert used <= _metrics_of_today()


def test_the_dashboard_shows_every_stop_of_the_flow() -> None:
    """Stream, files, live and page each have a panel, and the file is JSON that Grafana takes."""
    board = json.loads((DEPLOY / "grafana" / "tomolive.json").read_text())
    used = _metrics_in(json.dumps(board["panels"]))
    assert {name.split("_")[1] for name in used} >= {"hub", "files", "live", "page"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_example_settings_are_right() -> None:
    """The shipped beamline.yml is valid, and consistent; its addresses are those that Prometheus asks."""
    found = list(check_settings(DEPLOY / "beamline.yml", {}, look=False))
    assert [f for f in found if f.level == "mistake"] == []
    settings = Settings.load(DEPLOY / "beamline.yml", {})
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = {t for job in scraped["scrape_configs"] for s in job["static_configs"] for t in s["targets"]}
    assert targets == {settings.hub.http, settings.archive.http, settings.page.listen}


def _compose() -> dict:
    return yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())


def test_the_container_examples_start_commands_that_exist() -> None:
    """They are not run here, but they can be read."""
    assert {service["command"][0] for service in _compose()["services"].values()} <= set(COMMANDS)
    assert "tomolive[" not in (DEPLOY / "container" / "Containerfile").read_text()  # it installs this source


@pytest.mark.parametrize("service", list(_compose()["services"]))
def test_the_settings_of_a_container_fit_together(service: str) -> None:
    """What the compose file says of a service goes with the example settings: keys, addresses, ports."""
    said = {
        key: str(value) for key, value in (_compose()["services"][service].get("environment") or {}).items()
    }
    found = list(check_settings(DEPLOY / "beamline.yml", said, look=False))
    assert [f for f in found if f.level == "mistake"] == []


def _tool(name: str) -> str:
    """Return a program that is optional, from this environment or the system."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))
    if found is None:
        pytest.skip(f"{name} is not installed here; .ci/run has the package of PyPI that holds it")
    return found


def test_the_container_file_is_understood_by_hadolint() -> None:
    """It finds nothing to complain of."""
    done = subprocess.run(
        [_tool("hadolint"), "--no-color", str(DEPLOY / "container" / "Containerfile")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_is_understood_by_docker_compose() -> None:
    """Its own reader takes it, and asks for the secret that it needs."""
    command = [
        _tool("docker-compose"),
        "-f",
        str(DEPLOY / "container" / "compose.yaml"),
        "config",
        "--format",
        "json",
    ]
    without = {key: value for key, value in os.environ.items() if key != "TILED_SINGLE_USER_API_KEY"}
    refused = subprocess.run(command, capture_output=True, text=True, env=without, check=False)
    assert refused.returncode
    assert "TILED_SINGLE_USER_API_KEY" in refused.stderr
    with_it = without | {"TILED_SINGLE_USER_API_KEY": "a-secret-of-some-length"}
    done = subprocess.run(command, capture_output=True, text=True, env=with_it, check=False)
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == {"hub", "live", "catalog", "archive"}
    build = services["live"]["build"]
    assert (Path(build["context"]) / build["dockerfile"]).is_file()
