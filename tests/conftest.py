"""What every test may use."""

import importlib.util
import os
import socket
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(scope="session")
def beamlines() -> ModuleType:
    """Generators of runs in the shapes of real beamlines, with their files: ``tests/beamlines.py``."""
    path = Path(__file__).parent / "beamlines.py"
    spec = importlib.util.spec_from_file_location("beamlines", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
