"""Darks and flats of many runs in bounded memory."""

import time
import tracemalloc
from functools import partial

import numpy as np

from tomolive.config import CorrectionSettings
from tomolive.live.documents import references
from tomolive.live.documents.references import RUNS_KEPT, EarlierRuns, References
from tomolive.live.documents.run import Batch, Note
from tomolive.recon.correct import flat_field


def test_the_mean_is_kept_not_the_frames():
    """The correction is that of all frames, pixels that are no number left out; the memory that of a few."""
    references, seed = References(), 5
    frames = np.random.default_rng(seed).normal(1000, 30, (200, 64, 64)).astype(np.float32)
    frames[3, 4, 5] = np.nan
    frames[:, 6, 7] = np.inf
    tracemalloc.start()
    for first in range(0, 200, 10):
        references.add(Batch("flat", "a", first, frames[first : first + 10].copy(), None))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < frames.nbytes / 10
    (found,), times = references.flats(["none", "a"])
    assert times == [0.0]
    np.testing.assert_allclose(flat_field(found).gain, flat_field(frames).gain, rtol=1e-6)
    assert references.dark(["a"]) is None


def test_flats_taken_later_are_kept_apart():
    """Those that few projections part belong together; in whichever order they come, times increase."""
    references = References()
    for after, level in ((50, 400.0), (0, 100.0), (3, 200.0)):
        references.add(Batch("flat", "a", 0, np.full((2, 4, 5), level), None, after))
    flats, times = references.flats(["a"])
    assert times == [0.0, 50.0]
    assert [float(frame.mean()) for frame in flats] == [150.0, 400.0]


def test_flats_of_another_run_are_averaged():
    """When they were taken counts the projections of that run, which says nothing of this one."""
    references = References()
    for after, level in ((0, 100.0), (50, 400.0)):
        references.add(Batch("flat", "other", 0, np.full((2, 4, 5), level), None, after))
    flats, times = references.flats(["this", "other"])
    assert times == [0.0]
    assert [float(frame.mean()) for frame in flats] == [250.0]


def test_runs_long_past_are_forgotten():
    """Those in use are kept, however many came after them."""
    references, frames = References(), np.ones((1, 2, 2))
    for number in range(RUNS_KEPT + 2):
        references.add(Batch("dark", str(number), 0, frames, None))
        references.forget_past({"0"})
    kept = [number for number in range(RUNS_KEPT + 2) if str(number) in references]
    assert kept == [0, *range(2, RUNS_KEPT + 2)]


def fetched(earlier, uid):
    """Ask for an earlier run; wait until it is said what came of it."""
    earlier.ask(uid)
    out, deadline = [], time.monotonic() + 60
    while not any(isinstance(found, Note) for found in out) and time.monotonic() < deadline:
        out += earlier.take()
        time.sleep(0.01)
    return out


def earlier_run(scans, scan_of, *ending):
    """An earlier scan that has its darks and flats; ``ending`` goes on with its dispatcher."""
    run = scans.Run(**scans.tomolive_start())
    items = [run.start, run.resource("camera")]
    for name in ("darks", "flats"):
        items += [run.descriptor(name, camera=scans.image)]
        for first in range(0, 6, 2):
            items += [run.datum(name, "camera", first, first + 2)]
            items += [run.images(name, "camera", first, first + 2)]
    feeder = scan_of.Feeder(items)
    feeder.items += [partial(end, feeder) for end in ending] or [run.stop()]
    return run, feeder


def test_darks_and_flats_of_an_earlier_run_take_little_memory(scans, scan_of, monkeypatch):
    """Beyond a limit they lie in a file; each kind comes whole, and nothing else of that run."""
    monkeypatch.setattr(references, "_MEMORY", 100)
    run, feeder = earlier_run(scans, scan_of)
    *found, note = fetched(EarlierRuns(lambda _uid: feeder), run.uid)
    assert [(batch.kind, batch.array[:, 0, 0].tolist()) for batch in found] == [
        ("dark", [0, 1, 2, 3, 4, 5]), ("flat", [0, 1, 2, 3, 4, 5])
    ]  # fmt: skip
    base = found[0].array
    while not isinstance(base, np.memmap):
        base = base.base
    assert "6 darks and 6 flats" in note.text


def test_an_earlier_run_that_goes_silent_gives_what_came(scans, scan_of, monkeypatch):
    """Patience counts from the last document or frame; nothing waits for a run that never stops."""
    monkeypatch.setattr(references, "_GIVE_UP_S", 0.2)

    def go_silent(feeder):
        while not feeder.stopped:
            feeder.be_idle()
            time.sleep(0.01)

    run, feeder = earlier_run(scans, scan_of, go_silent)
    *found, note = fetched(EarlierRuns(lambda _uid: feeder), run.uid)
    assert [len(batch.array) for batch in found] == [6, 6]
    assert not note.problem


def test_an_earlier_run_that_is_not_there_is_told(scans, scan_of):
    """Once, with its uid; the scan goes on without."""
    (note,) = fetched(EarlierRuns(lambda _uid: scan_of.Feeder([])), "0123456789")
    assert "01234567 were not found at the hub" in note.text


def test_the_beam_is_told_by_pixels_that_say_something():
    """Without flats a pixel of the first projection that is no number does not spoil what is made of it."""
    frame = np.full((8, 9), 700.0, np.float32)
    frame[2, 3], frame[4, 5] = np.nan, np.inf
    field, (_, told) = references.averaged(None, [], None, CorrectionSettings(), frame)
    assert "700 counts" in told
    assert field is not None
    np.testing.assert_allclose(field.gain, 1 / 700, rtol=1e-6)
