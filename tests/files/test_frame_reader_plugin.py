"""The worked example of the documentation, installed like a package."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tomolive.files.readers import registry

PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-frame-reader.md"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install what the page shows: the module, and a distribution with its entry point."""
    code = dict(re.findall(r"```(python|toml)\n(.*?)```", PAGE.read_text(), re.DOTALL))
    site = tmp_path / "site"
    distribution = site / "rawframes-1.0.dist-info"
    distribution.mkdir(parents=True)
    (site / "rawframes.py").write_text(code["python"])
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: rawframes\nVersion: 1.0\n")
    group, target = re.search(r'"([\w.]+)"\]\nraw = "([\w:]+)"', code["toml"]).groups()
    broken = "broken = no_such_module:Reader"
    (distribution / "entry_points.txt").write_text(f"[{group}]\nraw = {target}\n{broken}\n")
    monkeypatch.syspath_prepend(site)
    registry.installed.cache_clear()
    yield
    registry.installed.cache_clear()
    sys.modules.pop("rawframes", None)


def test_the_example_of_the_page_reads_a_growing_file(installed, beamlines, mounted, seen, tmp_path, caplog):
    """As written in the documentation; a package that cannot be imported is logged and does not matter."""
    truth = beamlines.frames("projection", 6)
    path = tmp_path / "files/x.raw"
    run = beamlines.Run()

    def scan():
        yield run.start()
        yield run.descriptor("tomo", det=beamlines.image_key((1, *beamlines.SHAPE)))
        yield run.stream_resource(
            "det",
            "application/x-raw-frames",
            "file://localhost/detector/x.raw",
            chunk_shape=[1, *beamlines.SHAPE],
            dtype="<u2",
        )
        path.write_bytes(truth[:4].tobytes() + b"half a frame")
        yield run.stream_datum("tomo", "det", (0, 6), 1)
        path.write_bytes(truth.tobytes())
        yield run.stop()

    seen.run(mounted(patience=0.2), scan())

    np.testing.assert_array_equal(seen.stack("tomo", "det"), truth)
    assert [(m.first, m.last, m.final) for m in seen.missing] == [(4, 6, False)]
    assert "frame reader broken" in caplog.text
