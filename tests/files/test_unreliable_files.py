"""Every kind of trouble that files give, by a camera in another process; frames are compared to the truth."""

import random

import numpy as np
import pytest

from tomolive.files.readers.hdf5 import CLOSE_FIRST

FRAMES = 12


@pytest.fixture
def camera(from_process, tmp_path):
    """Start the unreliable camera in a mode."""
    seed = random.randrange(1 << 30)
    print("seed", seed)  # noqa: T201
    return lambda mode: from_process("files/unreliable_camera.py", mode, tmp_path / "files", seed)


@pytest.fixture(autouse=True)
def told(seen, tmp_path):
    """The camera waits for this file where it must not go on before frames were found missing."""

    class Told(list):
        def append(self, word):
            super().append(word)
            (tmp_path / "files/told").touch()

    seen.missing = Told()


@pytest.mark.parametrize(
    "mode",
    [
        "slow_hdf5", "late_hdf5", "truncated_hdf5", "preallocated_hdf5", "slow_tiff", "reordered_tiff",
        "truncated_tiff",
    ],
)  # fmt: skip
def test_everything_comes_in_order(camera, mounted, seen, beamlines, mode):
    """Files that are slow, late, cut off, in any order or made too long: all frames, in order, no word."""
    with camera(mode) as pairs:
        seen.run(mounted(), pairs)

    assert seen.numbers("tomo", "det") == list(range(FRAMES))
    np.testing.assert_array_equal(seen.stack("tomo", "det"), beamlines.frames("projection", FRAMES))
    assert seen.missing == []
    assert [name for name, _ in seen.documents][-1] == "stop"


@pytest.mark.parametrize("mode", ["locked_hdf5", "locked_old_hdf5"])
def test_a_file_without_swmr_is_read_when_it_closes(camera, mounted, seen, beamlines, mode):
    """Said once, in plain words, and all frames come before the stop document."""
    with camera(mode) as pairs:
        seen.run(mounted(), pairs)

    np.testing.assert_array_equal(seen.stack("tomo", "det"), beamlines.frames("projection", FRAMES))
    (missing,) = seen.missing
    assert (missing.first, missing.last, missing.final) == (0, FRAMES, False)
    assert CLOSE_FIRST in missing.reason


@pytest.mark.parametrize(("mode", "lost"), [("missing_hdf5", [(9, 12)]), ("missing_tiff", [(4, 5), (7, 8)])])
def test_missing_frames_are_named_and_the_rest_comes(camera, mounted, seen, beamlines, mode, lost):
    """What never comes is reported by number, for now and then for good; all the rest is right."""
    with camera(mode) as pairs:
        seen.run(mounted(patience=1.0), pairs)

    gone = {number for first, last in lost for number in range(first, last)}
    assert seen.numbers("tomo", "det") == [number for number in range(FRAMES) if number not in gone]
    for frames in seen.frames:
        truth = beamlines.frames("projection", FRAMES)[frames.first : frames.last]
        np.testing.assert_array_equal(frames.array, truth)
    assert [(m.first, m.last) for m in seen.missing if m.final] == lost
    assert [(m.first, m.last) for m in seen.missing if not m.final] == lost


@pytest.mark.parametrize("frames", [False, True])
def test_an_event_waits_for_its_file_to_close(camera, mounted, seen, beamlines, frames):
    """As long as the file shows signs of life, however long it is locked: events cannot be amended."""
    with camera("locked_event_hdf5") as pairs:
        seen.run(mounted(fill_events=True, frames=frames), pairs)

    truth = beamlines.frames("projection", FRAMES)
    (event,) = seen.events("tomo")
    np.testing.assert_array_equal(event["data"]["det"], truth)
    assert event["filled"] == {"det": True}
    if frames:
        np.testing.assert_array_equal(seen.stack("tomo", "det"), truth)
    (missing,) = seen.missing
    assert CLOSE_FIRST in missing.reason
    assert not missing.final
