"""How a recorded run would be understood, and why."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tomolive.errors import DocumentError, SettingsError
from tomolive.live.documents.explain import explain, read_documents
from tomolive.live.documents.rules import load_rules
from tomolive.stream.publisher import Publisher


def test_hex(beamlines, tmp_path):
    """Both runs are explained: rules and by what, streams, angles in a file, and the run that is named."""
    told = explain(beamlines.hex_runs(tmp_path))
    assert "rules: hex, because tomo_scanning_mode is 'tomo_flyscan'" in told
    assert "stream 'tomo': projections (by its name)" in told
    assert "angles: 'Angle' in a file, deg" in told
    assert "'kinetix-det1', 60 frames announced" in told
    assert "which the start document names" in told
    assert told.count("end: success") == 2
    assert "problem" not in told


def test_fxi(beamlines, tmp_path):
    """Stacks and angles of a monitor stream."""
    told = explain(beamlines.fxi_run(tmp_path))
    assert "60 frames announced, 60 to an event" in told
    assert "'zps_pi_r' of the stream 'zps_pi_r_monitor', interpolated at the times 'Andor_timestamps'" in told


def test_dls(beamlines, tmp_path):
    """Angles in events."""
    told = explain(beamlines.dls_run(tmp_path))
    assert "'theta' in each event, deg" in told
    assert "projections planned: 30" in told


def test_a_run_of_another_kind(scans):
    """A run that no rules match: what each would have wanted is listed."""
    told = explain([scans.Run(plan_name="count").start])
    assert "no tomography scan" in told
    assert "hex: tomo_scanning_mode = " in told


def test_what_is_wrong_with_a_run(scans):
    """Missing angles, flats and streams are told."""
    run = scans.Run(plan_name="tomo_plan")
    told = explain([run.start, run.descriptor("projections", det=scans.image)])
    assert "angles: none found" in told
    assert "problem: the angles of stream 'projections' are not in its documents" in told
    assert "flats: none" in told
    assert "end: no stop document" in told


@pytest.mark.parametrize("form", [list, lambda pair: {"name": pair[0], "doc": pair[1]}])
def test_recorded_files(beamlines, tmp_path, form):
    """JSON lines in both forms that are in use."""
    path = tmp_path / "run.jsonl"
    pairs = list(beamlines.dls_run(tmp_path / "data"))
    path.write_text("".join(json.dumps(form(pair)) + "\n" for pair in pairs))
    assert list(read_documents(path)) == pairs


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1: not JSON"),
        ('["start"]', "line 1: expected"),
        ('\n{"a": 1}', "line 2"),
        ("", "no start"),
    ],
)
def test_files_that_hold_no_documents(tmp_path, text, told):
    """The line and what is wrong with it."""
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(DocumentError, match=told):
        explain(read_documents(path))


def test_a_file_that_is_not_there(tmp_path):
    """A file that cannot be read is told."""
    with pytest.raises(SettingsError, match="No such file"):
        list(read_documents(tmp_path / "none.jsonl"))


def test_documents_that_lack_their_parts():
    """A document without a key that event-model requires is told."""
    with pytest.raises(DocumentError, match="uid"):
        explain([("start", {"time": 0})])


def test_the_command(beamlines, tmp_path):
    """`tomolive check run.jsonl`, with rules of one's own."""
    path, rules = tmp_path / "run.jsonl", tmp_path / "mine.yaml"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in beamlines.dls_run(tmp_path / "data")))
    rules.write_text("name: mine\nmatch: [{plan_name: tomography_scan}]\nstreams: {projection: primary}\n")

    def check(*more):
        command = [sys.executable, "-m", "tomolive", "check", str(path), *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    shipped = check()
    assert (shipped.returncode, shipped.stderr) == (0, "")
    assert "rules: dls-step" in shipped.stdout
    own = check("--rules", str(rules))
    assert "rules: mine, because plan_name is 'tomography_scan'" in own.stdout
    assert "angles: none found" in own.stdout
    path.write_text("nonsense")
    bad = check()
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1


def code_blocks(text, language):
    """The code blocks of a page in one language."""
    return [part.split("```")[0] for part in text.split(f"```{language}\n")[1:]]


def test_the_rules_in_the_documentation(tmp_path, scans):
    """The example of rules of one's own is right, and the words that YAML changes are told."""
    page = (Path(__file__).parents[2] / "docs/how-to/connect-a-beamline.md").read_text()
    (example,) = code_blocks(page, "yaml")
    path = tmp_path / "my-beamline.yaml"
    path.write_text(example)
    rules = [load_rules(path)]
    more = {"camera": "cam", "from": 0, "to": 180, "projections": 4, "pixel_nm": 650}
    run = scans.Run(beamline="B7", plan_name="tomo_fly", scan={**more, "dark_flat_run": "a-run"})
    documents = [run.start, run.descriptor("open_beam_1", cam=scans.image)]
    documents += [run.descriptor("fly", cam=scans.image, Angle=([1], "", True))]
    told = explain(documents, rules)
    assert "beamline is 'B7' and plan_name is 'tomo_fly'" in told
    assert "stream 'open_beam_1': flats" in told
    assert "angles: 'Angle' in a file, deg" in told
    assert "darks and flats also of run a-run" in told
    assert "projections planned: 4; pixel size: 0.65 um" in told


def test_the_output_in_the_documentation(beamlines, tmp_path):
    """What the page shows is what the command prints."""
    page = (Path(__file__).parents[2] / "docs/how-to/connect-a-beamline.md").read_text()
    (shown,) = code_blocks(page, "text")
    told = explain(beamlines.dls_run(tmp_path))
    assert shown.splitlines()[1:] == told.splitlines()[1:]


def test_recording_as_the_documentation_says(hub, tmp_path, scans, monkeypatch):
    """A dispatcher with bluesky's own writer records what `tomolive check` reads."""
    page = (Path(__file__).parents[2] / "docs/how-to/connect-a-beamline.md").read_text()
    (code,) = code_blocks(page, "python")
    monkeypatch.chdir(tmp_path)
    code = code.replace("tcp://127.0.0.1:5569", hub).replace('"new"', '"all"')
    names = {}
    exec(code.replace("dispatcher.start()", ""), names)  # noqa: S102
    run = scans.Run(plan_name="tomo_plan")
    documents = [run.start, run.descriptor("projections", det=scans.image), run.stop()]
    publisher = Publisher(hub, spool=tmp_path / "spool")
    for name, doc in documents:
        publisher(name, doc)
    publisher.close(60)
    names["dispatcher"].subscribe(lambda *_: names["dispatcher"].stop(), "stop")
    names["dispatcher"].start()
    assert list(read_documents(tmp_path / "run.jsonl")) == documents
