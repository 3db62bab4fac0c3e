"""``tomolive catalog`` and ``tomolive archive`` told something that cannot be."""

import socket
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tomolive.catalog.server import CatalogServer
from tomolive.cli.catalog import archive, catalog
from tomolive.errors import AddressError, CatalogError, SettingsError, TomoliveError


def refuse(*options: str | Path) -> TomoliveError:
    """Return the error that ``tomolive catalog`` ends with."""
    result = CliRunner().invoke(catalog, [str(option) for option in options])
    assert isinstance(result.exception, TomoliveError), result.output
    return result.exception


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The address is named, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        error = refuse("--dir", tmp_path, "--listen", place)
    assert isinstance(error, AddressError)
    assert place in str(error)
    assert "choose another" in str(error)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way of the folder is said, and left as it is."""
    (tmp_path / "file").write_text("mine")
    error = refuse("--dir", tmp_path / "file" / "catalog", "--listen", "127.0.0.1:0")
    assert isinstance(error, CatalogError)
    assert str(tmp_path / "file") in str(error)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_another_server_has(tmp_path: Path) -> None:
    """Two servers never share a folder: DuckDB would refuse the second one at its first table."""
    first = CatalogServer(tmp_path)
    error = refuse("--dir", tmp_path, "--listen", "127.0.0.1:0")
    first.stop()
    assert "another process" in str(error)


def test_other_machines_are_not_let_in_with_one_key(tmp_path: Path) -> None:
    """Beyond loopback the way to a real server is shown."""
    error = refuse("--dir", tmp_path, "--listen", "0.0.0.0:0")
    assert isinstance(error, SettingsError)
    assert "--show-config" in str(error)


@pytest.mark.parametrize("listen", ["8010", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_that_is_none(listen: str, tmp_path: Path) -> None:
    """What was expected is said with an example."""
    assert "expected HOST:PORT" in str(refuse("--dir", tmp_path, "--listen", listen))


def test_one_database_without_the_other(tmp_path: Path) -> None:
    """PostgreSQL needs two databases."""
    error = refuse("--dir", tmp_path, "--database", "postgresql://me@here/catalog")
    assert "--storage" in str(error)


def test_a_mount_that_is_no_pair_of_paths() -> None:
    """--mount wants two absolute paths."""
    result = CliRunner().invoke(archive, ["--catalog", "http://127.0.0.1:1", "--mount", "here"])
    assert isinstance(result.exception, SettingsError)
    assert "/there=/here" in str(result.exception)


def test_the_configuration_for_a_real_server(tmp_path: Path) -> None:
    """--show-config prints what `tiled serve config` takes: both databases, and what standard tools need."""
    databases = ["--database", "postgresql://me@here/catalog", "--storage", "postgresql://me@here/storage"]
    options = ["--dir", str(tmp_path), "--readable", "/data", *databases, "--show-config"]
    config = yaml.safe_load(CliRunner().invoke(catalog, options).output)
    (tree,) = config["trees"]
    assert tree["args"]["uri"] == databases[1]
    assert databases[3] in tree["args"]["writable_storage"]
    assert tree["args"]["readable_storage"] == ["/data"]
    assert tree["args"]["specs"] == [{"name": "CatalogOfBlueskyRuns", "version": "3.0"}]
    assert "BlueskyRun" in config["media_types"]
    assert config["routers"]


def test_the_key_survives_a_restart(tmp_path: Path) -> None:
    """Kept in the folder, readable by its owner only, so that the address stays the same."""
    first = CatalogServer(tmp_path)
    first.stop()
    second = CatalogServer(tmp_path)
    second.stop()
    assert first.api_key == second.api_key
    assert (tmp_path / "api_key").stat().st_mode & 0o077 == 0
