"""An existing scan as a live run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tomolive.acquire.replay import run_replay
from tomolive.acquire.session import Session
from tomolive.errors import FileAccessError, ScanError

Write = Callable[..., Path]


def replay(file: Path, recorded: Any, data: Path, **options: Any) -> list[str]:
    """Replay a file fast; return what was said."""
    said: list[str] = []
    with Session(None, callbacks=[recorded]) as session:
        outcome = run_replay(file, session, data, options.pop("rate", 500), say=said.append, **options)
    assert outcome.exit_status == "success"
    assert outcome.run_uid == recorded.start["uid"]
    return said


@pytest.mark.parametrize("style", ["async", "classic"])
@pytest.mark.parametrize("dtype", ["u2", "f4", ">u2", "i4"])
def test_frames_and_angles_are_those_of_the_file(
    data_exchange: Write, frames: Write, recorded: Any, tmp_path: Path, style: str, dtype: str
) -> None:
    """What the documents announce is the file's content, to the bit, in its dtype."""
    kinds = {
        "data": frames(9, 0, dtype),
        "data_white": frames(3, 50, dtype),
        "data_dark": frames(2, 70, dtype),
    }
    replay(data_exchange(**kinds), recorded, tmp_path / "data", style=style)
    keys = recorded.start["tomography"]
    streams = recorded.streams()
    for stream, kind in (("projections", "data"), ("flats", "data_white"), ("darks", "data_dark")):
        found = streams[stream][keys["image_key"]]
        assert found.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(found, kinds[kind])
    np.testing.assert_array_equal(streams["projections"][keys["angle_key"]], np.linspace(0, 180, 9))


def test_start_document_names_the_sample_and_where_it_comes_from(
    nxtomo: Write, recorded: Any, tmp_path: Path
) -> None:
    """Sample, pixel size, energy and planned numbers are the file's; nothing pretends to be simulated."""
    said = replay(nxtomo(), recorded, tmp_path / "data")
    assert recorded.start["sample"] == {"name": "Ammonite"}
    tomography = recorded.start["tomography"]
    assert (tomography["num_darks"], tomography["num_flats"], tomography["num_projections"]) == (2, 4, 9)
    assert (tomography["angle_start"], tomography["angle_stop"]) == (0, 180)
    assert (tomography["pixel_size"], tomography["pixel_size_units"]) == (pytest.approx(6.5), "um")
    assert tomography["replay"]["file"] == "scan.nxs"
    assert "simulation" not in tomography
    assert any("NXtomo" in line for line in said)


def test_replay_without_references(data_exchange: Write, recorded: Any, tmp_path: Path) -> None:
    """Without flats and darks the run has projections only, and that is said."""
    said = replay(data_exchange(data_white=None, data_dark=None), recorded, tmp_path / "data")
    assert set(recorded.streams()) == {"projections"}
    assert any("no flats" in line for line in said)


def test_flats_of_another_dtype(data_exchange: Write, frames: Write, recorded: Any, tmp_path: Path) -> None:
    """Averaged flats in float32 beside counts in uint16: all frames become float32, no value changes."""
    mean = frames(3, 100).mean(axis=0).astype("f4") + np.float32(0.25)
    replay(data_exchange(data_white=mean), recorded, tmp_path / "data")
    streams = recorded.streams()
    np.testing.assert_array_equal(streams["flats"]["camera"], mean[None])
    np.testing.assert_array_equal(streams["projections"]["camera"], frames(9))


def test_nothing_is_written_when_the_file_cannot_be_used(
    data_exchange: Write, recorded: Any, tmp_path: Path
) -> None:
    """A scan that does not fit together makes no run and no folder."""
    with Session(None, callbacks=[recorded]) as session, pytest.raises(ScanError):
        run_replay(data_exchange(theta=np.zeros(4)), session, tmp_path / "data")
    with Session(None, callbacks=[recorded]) as session, pytest.raises(ScanError, match="rate"):
        run_replay(data_exchange(), session, tmp_path / "data", rate=0)
    assert not recorded.documents
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("style", ["async", "classic"])
def test_a_damaged_frame_fails_the_run_and_is_named(
    data_exchange: Write,
    frames: Write,
    recorded: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    style: str,
) -> None:
    """Frames before it are taken; the run ends as failed at once, and the frame is in the error."""
    monkeypatch.setattr("tomolive.acquire.scanfile.AHEAD", 1)
    path = data_exchange(data=None)
    with h5py.File(path, "r+") as file:
        data = file.create_dataset("exchange/data", data=frames(9), chunks=(1, 4, 24), fletcher32=True)
        damaged = data.id.get_chunk_info(6).byte_offset
    with path.open("r+b") as raw:
        raw.seek(damaged)
        raw.write(b"\xff" * 8)
    with (
        Session(None, callbacks=[recorded]) as session,
        pytest.raises(FileAccessError, match="frame 6 of /exch"),
    ):
        run_replay(path, session, tmp_path / "data", 100, style=style)
    assert recorded.stop["exit_status"] == "fail"


def test_the_real_scan(tooth: Path, recorded: Any, tmp_path: Path) -> None:
    """All of a beamline's scan arrives."""
    replay(tooth, recorded, tmp_path / "data")
    with h5py.File(tooth) as file:
        streams = recorded.streams()
        np.testing.assert_array_equal(streams["projections"]["camera"], file["exchange/data"])
        np.testing.assert_array_equal(streams["projections"]["Angle"], file["exchange/theta"])
        np.testing.assert_array_equal(streams["flats"]["camera"], file["exchange/data_white"])
