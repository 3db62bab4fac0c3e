"""The keys of servers that are embedded in one process, and the file that one is kept in."""

from pathlib import Path

import httpx
import pytest

from tomolive.catalog.server import CatalogServer


def status(server: CatalogServer, key: str) -> int:
    """Return what the server answers to ``key``."""
    return httpx.get(f"{server.address}/api/v1/metadata/", params={"api_key": key}, timeout=60).status_code


def test_each_server_of_a_process_has_its_own_key(server: CatalogServer, tmp_path: Path) -> None:
    """A second server changes nothing for the first one, neither while it runs nor when it has stopped."""
    with CatalogServer(tmp_path) as second:
        assert second.api_key != server.api_key
        assert status(server, server.api_key) == status(second, second.api_key) == 200
        assert status(server, second.api_key) == status(second, server.api_key) == 401
    assert status(server, server.api_key) == 200


@pytest.mark.parametrize("left", ["api_key", "api_key.partial"])
def test_a_key_that_was_cut_off_is_made_anew(left: str, tmp_path: Path) -> None:
    """A server that was killed while it made its key leaves nothing that the next one stumbles over."""
    (tmp_path / left).touch()
    server = CatalogServer(tmp_path)
    server.stop()
    assert len(server.api_key) == 32
    assert (tmp_path / "api_key").read_text() == server.api_key
    assert (tmp_path / "api_key").stat().st_mode & 0o077 == 0
    assert not (tmp_path / "api_key.partial").exists()
