"""What a finished scan leaves on disk."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from tomolive.errors import SettingsError
from tomolive.live.results import files as output
from tomolive.live.results.figure import levels, scale_bar


@pytest.fixture
def summary():
    """The part of a summary that the files need."""
    return {
        "run_uid": "0f3c-1",
        "positions": {"xy": 8, "xz": 16, "yz": 16},
        "units": "1/cm",
        "pixel_size_um": 2.0,
        "center": 15.5,
        "filter": "ramp",
        "version": "1",
    }


@pytest.fixture
def slices():
    """Three small slices with a bright spot in each."""
    made = {"xy": np.zeros((32, 32), np.float32), "xz": np.zeros((16, 32), np.float32)}
    made["yz"] = made["xz"].copy()
    for pixels in made.values():
        pixels[8, 16] = 3.5
    return made


def test_files_of_a_scan(tmp_path, summary, slices):
    """The slices are float32 TIFF with the values given; the summary tells where everything is."""
    path = output.write_results(tmp_path, summary, slices, title="scan 7")
    assert path == tmp_path / "0f3c-1" / "summary.json"
    written = json.loads(path.read_text())
    assert written["center"] == 15.5
    for plane, pixels in slices.items():
        read = tifffile.imread(written["slices"][plane])
        assert read.dtype == np.float32
        assert np.array_equal(read, pixels)
    with tifffile.TiffFile(written["slices"]["xz"]) as file:
        assert json.loads(file.pages[0].description)["position"] == 16
    with Image.open(written["slices_png"]) as image:
        picture = np.asarray(image)
    assert picture.shape[1] > 3 * 320
    assert picture.max() == 255
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0f3c-1"]


def test_results_are_replaced_whole(tmp_path, summary, slices):
    """Results written again, made in the same way, replace the first; nothing of these stays behind."""
    output.write_results(tmp_path, summary, slices)
    path = output.write_results(tmp_path, summary | {"sample": "bean"}, {})
    written = json.loads(path.read_text())
    assert (written["sample"], written["slices"], written["slices_png"]) == ("bean", {}, None)
    assert [p.name for p in path.parent.iterdir()] == ["summary.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["0f3c-1"]


def test_results_made_in_another_way_are_kept(tmp_path, summary, slices):
    """The first results and the newest stay, each whole, in a folder of its own that the summary names."""
    for center in range(14):
        pixels = {plane: np.full_like(image, center) for plane, image in slices.items()}
        path = output.write_results(tmp_path, summary | {"center": float(center)}, pixels)
    written = json.loads(path.read_text())
    assert written["center"] == 13.0
    assert [told["center"] for told in written["earlier"]] == [0.0, *np.arange(4.0, 13.0)]
    for told in written["earlier"]:
        one = json.loads((tmp_path / told["folder"] / "summary.json").read_text())
        assert one["center"] == told["center"]
        assert tifffile.imread(one["slices"]["xy"]).max() == told["center"]
    assert len(list(tmp_path.glob("*/summary.json"))) == 1


def test_whoever_looks_for_summaries_finds_no_draft(tmp_path, summary, slices, monkeypatch):
    """While results are written, or replaced, no unfinished summary can be found in their folder."""
    found = []

    def look(*parts, **more):
        found.append([path.parent.name for path in tmp_path.glob("*/summary.json")])
        return put(*parts, **more)

    put = output._put_in_place
    monkeypatch.setattr(output, "_put_in_place", look)
    output.write_results(tmp_path, summary, slices)
    output.write_results(tmp_path, summary, slices)
    assert found == [[], ["0f3c-1"]]


def test_nothing_half_written_stays(tmp_path, summary, slices, monkeypatch):
    """When writing fails half way, the folder of results is as it was."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "draw", fail)
    with pytest.raises(OSError, match="No space"):
        output.write_results(tmp_path, summary, slices)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uid", ["../../escape", "/etc", "..", ".hidden", "a/b", "", "a" * 300, "published"])
def test_a_uid_cannot_lead_out_of_the_folder(tmp_path, summary, slices, uid):
    """A uid from the network that is no plain name becomes one."""
    path = output.write_results(tmp_path / ".", summary | {"run_uid": uid}, slices)
    assert path.parent.parent == tmp_path
    assert path.parent.name.startswith("run-")
    assert json.loads(path.read_text())["run_uid"] == uid


def test_a_folder_that_cannot_be_written(tmp_path):
    """Said before the scan, with the way out."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="--results"):
        output.prepare_results(tmp_path / "file" / "results")
    assert output.prepare_results(tmp_path / "a" / "b").is_dir()


def test_levels_look_inside_the_circle_only(slices):
    """A pixel outside the circle, or one that is no number, does not change the contrast."""
    slices["xy"][:] = np.linspace(0, 1, 32)[None, :]
    before = levels({"xy": slices["xy"]}, {"xy": 8})
    slices["xy"][0, 0] = 1e9
    slices["xy"][16, 16] = np.nan
    assert levels({"xy": slices["xy"]}, {"xy": 8}) == pytest.approx(before, rel=0.01)
    assert levels({"xy": np.full((4, 4), np.nan, np.float32)}, {"xy": 0}) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("across", "size", "label"),
    [
        (512, 1.0, "100 um"),
        (2048, 6.5, "2 mm"),
        (512, 0.65, "100 um"),
        (512, None, "100 px"),
        (64, 0.01, "0.2 um"),
    ],
)
def test_scale_bars_are_round(across, size, label):
    """Lengths of 1, 2 or 5; in pixels if the size of a pixel is not known."""
    length, text = scale_bar(across, size)
    assert text == label
    assert across / 10 < length <= across / 3


def test_figure_shrinks_large_slices(tmp_path, summary):
    """Slices of 1,500 columns become a picture that fits on a screen."""
    large = {"xy": np.random.default_rng(1).random((1500, 1500), np.float32)}
    large |= dict.fromkeys(("xz", "yz"), large["xy"][:100])
    path = output.write_results(tmp_path, summary, large)
    with Image.open(json.loads(path.read_text())["slices_png"]) as picture:
        assert 2500 < picture.width < 3200


def test_drafts_of_a_killed_process(tmp_path):
    """What was left half-written long ago is removed at the next start; what may be at work stays."""
    for name, age in (("old", 7200), ("young", 1)):
        (tmp_path / ".writing" / name).mkdir(parents=True)
        (tmp_path / ".writing" / name / "xy.tif").write_bytes(b"half")
        then = time.time() - age
        os.utime(tmp_path / ".writing" / name, (then, then))
    output.prepare_results(tmp_path)
    assert [path.name for path in (tmp_path / ".writing").iterdir()] == ["young"]


_KILLED_BETWEEN_RENAMES = """
import json, os, pathlib, sys
from tomolive.live.results.files import write_results
rename = pathlib.Path.rename
def once(path, target):
    rename(path, target)
    os._exit(9)
pathlib.Path.rename = once
write_results(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]) | {"center": 12.0}, {})
"""


def test_results_survive_a_kill_while_they_are_replaced(tmp_path, summary, slices):
    """A process that is killed between the two renames leaves no gap: the next start puts them back."""
    output.write_results(tmp_path, summary, slices)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_BETWEEN_RENAMES, tmp_path, json.dumps(summary)],
        timeout=120,
        check=False,
    )
    assert killed.returncode == 9
    assert not (tmp_path / "0f3c-1").exists()
    output.prepare_results(tmp_path)
    assert json.loads((tmp_path / "0f3c-1" / "summary.json").read_text())["center"] == 15.5
    assert np.array_equal(tifffile.imread(tmp_path / "0f3c-1" / "xy.tif"), slices["xy"])
