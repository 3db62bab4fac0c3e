"""Runs of three beamlines, written live by another process and seen under another mount."""

import numpy as np
import pytest

from tomolive.files.readers.hdf5 import CLOSE_FIRST


@pytest.fixture
def live(from_process, tmp_path):
    """Start a generator of ``beamlines`` in a process of its own."""
    return lambda generator, pause=0.0: from_process("beamlines.py", generator, tmp_path / "files", pause)


def test_hex_frames_and_angles_come(live, mounted, seen, beamlines):
    """Two runs, no events; images come when each file closes, angles of the PandA at once; all are right."""
    with live("hex_runs", 0.4) as pairs:
        seen.run(mounted("/nsls2/data/hex"), pairs)

    for stream, kind, count in (("dark", "dark", 4), ("flat", "flat", 4), ("tomo", "projection", 60)):
        np.testing.assert_array_equal(seen.stack(stream, "kinetix-det1"), beamlines.frames(kind, count))
    angles = seen.stack("tomo", "Angle")
    assert angles.shape == (60,)
    np.testing.assert_array_equal(angles, beamlines.hex_angles())
    assert not [m for m in seen.missing if m.final]
    assert [m.reason.endswith(CLOSE_FIRST) for m in seen.missing if m.stream == "tomo"] == [True]


@pytest.mark.parametrize("frames", [False, True])
def test_fxi_events_hold_whole_stacks(live, mounted, seen, beamlines, frames):
    """One event a stream: the stack and its times, in the event and as frames."""
    with live("fxi_run") as pairs:
        seen.run(mounted("/nsls2/data/fxi-new", fill_events=True, frames=frames), pairs)

    for stream, kind, count in (("dark", "dark", 4), ("primary", "projection", 60), ("flat", "flat", 4)):
        (event,) = seen.events(stream)
        np.testing.assert_array_equal(event["data"]["Andor_image"], beamlines.frames(kind, count))
        times = event["data"]["Andor_timestamps"] + beamlines.EPICS_EPOCH
        np.testing.assert_allclose(times, beamlines.fxi_times(count), atol=1e-6, rtol=0)
        if frames:
            np.testing.assert_array_equal(seen.stack(stream, "Andor_image"), beamlines.frames(kind, count))
    assert len(seen.events("zps_pi_r_monitor")) == len(beamlines.fxi_monitor()[0])
    assert bool(seen.frames) == frames
    assert seen.missing == []


@pytest.mark.parametrize("fill_events", [False, True])
def test_dls_streams_share_a_file(live, mounted, seen, beamlines, fill_events):
    """A step scan: each frame comes with its own stream, and in its own event if that is wanted."""
    with live("dls_run") as pairs:
        seen.run(mounted("/dls/p46/data", fill_events=fill_events), pairs)

    for stream, kind, count in (("flats", "flat", 3), ("darks", "dark", 3), ("primary", "projection", 30)):
        truth = beamlines.frames(kind, count)
        np.testing.assert_array_equal(seen.stack(stream, "det"), truth)
        if fill_events:
            images = np.stack([event["data"]["det"] for event in seen.events(stream)])
            np.testing.assert_array_equal(images, truth)
        else:
            assert all("det" not in event["data"] for event in seen.events(stream))
    assert seen.missing == []
