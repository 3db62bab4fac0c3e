"""Volumes made by the command and beside a live reconstruction, as processes."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from tomolive import __version__
from tomolive.catalog.export import export
from tomolive.config import FilesSettings, VolumeSettings
from tomolive.errors import SettingsError
from tomolive.files.locate import Locator
from tomolive.live.volume.documents import DocumentSource
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.runner import VolumeRunner
from tomolive.stream.recorded import read_documents

LONG = 120


def reconstruct(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``tomolive reconstruct``."""
    command = [sys.executable, "-m", "tomolive", "reconstruct", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG)


def values(path: Path) -> np.ndarray:
    """The full volume."""
    return zarr.open_array(path / "0", mode="r")[:]


def test_command_makes_a_volume_and_repeats_it(recorded_scan, tmp_path):
    """With options; --like gives the same numbers from the uid of the result alone, also from an export."""
    scan = recorded_scan(rows=20)
    where = ["--documents", scan.jsonl, "--root", scan.folder, "--processes", 1]
    options = ["--center", scan.center, "--rings", "sorting", "--zingers", "--filter", "hann"]
    done = reconstruct(scan.uid[:8], *where, *options, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.splitlines()[0])
    told = json.loads(path.with_name(path.name + ".json").read_text())
    assert told["parameters"]["filter"] == "hann"
    assert told["parameters"]["corrections"]["rings"] == "sorting"
    assert f"centre {scan.center:.2f} (given)" in done.stdout
    again = reconstruct("--like", told["result_uid"], *where, "--out", tmp_path / "out")
    assert again.returncode == 0, again.stderr
    assert Path(again.stdout.splitlines()[0]) == path, "the same parameters name the same volume"
    result = path.with_name(path.name + ".jsonl")
    result.write_text(result.read_text().replace(f'"tomolive": "{__version__}"', '"tomolive": "0.0.1"', 1))
    runs = {
        uid: list(read_documents(file))
        for uid, file in ((scan.uid, scan.jsonl), (told["result_uid"], result))
    }
    export(runs, tmp_path / "home", Locator({}, [scan.folder]))
    scan.file.unlink()
    home = ["--documents", tmp_path / "home", "--processes", 1, "--out", tmp_path / "elsewhere"]
    elsewhere = reconstruct("--like", told["result_uid"][:8], *home)
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert f"(that of result {told['result_uid'][:8]}, made by tomolive 0.0.1)" in elsewhere.stdout
    np.testing.assert_array_equal(values(Path(elsewhere.stdout.splitlines()[0])), values(path))


def test_centre_of_the_live_results_is_taken(recorded_scan, tmp_path):
    """Without --center the command takes what the live reconstruction ended with, if that is at hand."""
    scan = recorded_scan(rows=20)
    folder = tmp_path / "results" / scan.uid
    folder.mkdir(parents=True)
    summary = {"center": 44.25, "center_source": "set by Ada"}
    (folder / "summary.json").write_text(json.dumps(summary))
    done = reconstruct(
        scan.uid, "--documents", scan.jsonl, "--root", scan.folder, "--processes", 1,
        "--out", tmp_path / "out", "--results", tmp_path / "results",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "centre 44.25 (live: set by Ada)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody", "--root", "/tmp"], "has no run"),
        ([], "--root or --mount"),
        (["--root", "/tmp", "--center", "4000"], "not on the detector"),
        (["--root", "/tmp", "--filter", "sharp"], "sharp"),
    ],
    ids=["no such run", "no folder", "centre off the detector", "no such filter"],
)
def test_mistakes_are_one_line(recorded_scan, tmp_path, arguments, words):
    """Exit code 2 and one line that says what is wrong."""
    scan = recorded_scan(rows=4)
    done = reconstruct(*arguments, "--documents", scan.jsonl, "--out", tmp_path / "out", "--processes", 1)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def request_of(scan, out: Path) -> VolumeRequest:
    """A volume of a scan on disk."""
    return VolumeRequest(
        scan.uid,
        DocumentSource(file=str(scan.jsonl)),
        center=scan.center,
        volume=VolumeSettings(folder=str(out), processes=1),
        files=FilesSettings(roots=(str(scan.folder),)),
    )


def wait_for(runner: VolumeRunner, *states: str):
    """The progress, once it is in one of these states."""
    deadline = time.monotonic() + LONG
    while True:
        progress = runner.poll()
        if progress is not None and progress.state in states:
            return progress
        assert time.monotonic() < deadline, progress
        time.sleep(0.05)


def test_runner_makes_one_volume_after_the_other(recorded_scan, tmp_path, monkeypatch):
    """One process at a time; the progress names run and volume, whatever a library prints beside it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("print('a library is loaded', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    scan = recorded_scan(rows=20)
    runner = VolumeRunner()
    assert runner.poll() is None
    first, second = request_of(scan, tmp_path / "one"), request_of(scan, tmp_path / "two")
    runner.start(first)
    runner.start(second)
    deadline = time.monotonic() + LONG
    while not second.path.exists() or runner.is_busy:
        assert time.monotonic() < deadline, runner.poll()
        runner.poll()
        time.sleep(0.05)
    progress = wait_for(runner, "finished")
    assert (progress.run_uid, progress.done, progress.total) == (scan.uid, 20, 20)
    assert Path(progress.path) == second.path
    assert first.path.exists()
    runner.close()


def test_runner_cancels_and_tells_failures(recorded_scan, tmp_path):
    """A cancelled volume says so and goes on when it is asked for again; a wrong one says why it failed."""
    scan = recorded_scan(rows=20)
    pipe = tmp_path / "documents"
    os.mkfifo(pipe)
    runner = VolumeRunner()
    request = request_of(scan, tmp_path / "out")
    runner.start(replace(request, source=DocumentSource(file=str(pipe))))
    with pipe.open("w") as documents:  # which waits until they are read
        runner.cancel(scan.uid)
        documents.write(scan.jsonl.read_text())
    assert wait_for(runner, "cancelled", "finished", "failed").state == "cancelled"
    assert not request.path.exists()
    runner.start(request)
    assert wait_for(runner, "finished", "failed").state == "finished"
    runner.start(replace(request, center=-5.0))
    assert "not on the detector" in wait_for(runner, "failed").message
    runner.close()


@pytest.mark.parametrize(
    "told", [{"format": "../x"}, {"dtype": "O"}, {"value_range": [0]}, {"center": "left"}]
)
def test_a_result_that_makes_no_sense_is_not_repeated(tmp_path, told):
    """What a start document says of a result is checked before a volume is made of it."""
    start = {"tomolive": {"raw_run": "a", "parameters": {"center": 3, "filter": "ramp", "corrections": {}}}}
    request = VolumeRequest("a", DocumentSource(file=str(tmp_path / "none.jsonl")))
    assert request.repeated("result-uid", start).center == 3
    start["tomolive"]["parameters"] |= told
    with pytest.raises(SettingsError, match="not a result that can be repeated"):
        request.repeated("result-uid", start)
