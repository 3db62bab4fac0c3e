"""The command line as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from tomolive.cli import COMMANDS


def _tomolive(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "tomolive"]
    return subprocess.run([sys.executable, *start, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str) -> None:
    """``tomolive COMMAND --help`` says what the command does."""
    done = _tomolive(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: tomolive" in done.stdout


def test_a_missing_extra_is_named_in_one_line(tmp_path: Path) -> None:
    """Without bluesky, ``tomolive simulate`` says what to install, without a traceback."""
    hide = "import sys; sys.modules['bluesky'] = None; from tomolive.cli import main; main()"
    done = _tomolive("simulate", "--data", str(tmp_path), code=hide)
    assert done.returncode == 2
    assert done.stderr == "tomolive: this command needs bluesky: pip install 'tomolive[acquire]'\n"


def test_the_publisher_loads_nothing_heavy() -> None:
    """A scan that publishes pays for neither HDF5, numba, Tiled nor the web."""
    code = (
        "import sys; from tomolive import Publisher;"
        "print(sorted({'h5py', 'numba', 'scipy', 'tiled', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    assert _tomolive(code=code).stdout.strip() == "[]"
