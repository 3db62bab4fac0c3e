"""What every test may use."""

import os
import socket
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


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
