"""The Python in the guide to simulated beamlines runs as it is written."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomolive.acquire.session import Session
from tomolive.acquire.simulate import Simulation, run_simulation

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "simulate.md"


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    """The blocks of Python, in their order: the truth, a RunEngine of one's own."""
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def run(code: str, names: dict[str, Any]) -> None:
    """Run a part of the guide."""
    exec(code, names)  # noqa: S102  (our own documentation)


def test_truth_from_a_start_document(blocks: list[str], recorded: Any, tmp_path: Path) -> None:
    """The block makes a slice of a simulated run's truth."""
    with Session(None, callbacks=[recorded]) as session:
        small = Simulation(rows=110, columns=32, projections=3, darks=1, flats=1, rate=100)
        run_simulation(small, session, tmp_path)
    names: dict[str, Any] = {"start": recorded.start}
    run(blocks[0], names)
    assert names["truth"].shape == (32, 32)
    assert 0 < np.count_nonzero(names["truth"]) < 32 * 32


def test_devices_in_a_run_engine_of_ones_own(
    blocks: list[str], hub: str, recorded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block takes a scan; its Publisher is pointed at a hub that exists."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    code = blocks[1].replace("tcp://127.0.0.1:5569", hub)
    assert hub in code
    scan = code.rindex("RE(")
    names: dict[str, Any] = {}
    run(code[:scan], names)
    names["RE"].subscribe(recorded)
    run(code[scan:], names)
    assert recorded.streams()["projections"]["camera"].shape == (181, 128, 256)
