"""Darks and flats of many runs in bounded memory."""

import tracemalloc

import numpy as np

from tomolive.live.references import RUNS_KEPT, References
from tomolive.live.run import Batch
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
    """Those that come before enough projections have come belong together; later ones are told by when."""
    references = References()
    for at, level in ((0, 100.0), (3, 200.0), (50, 400.0)):
        references.add(Batch("flat", "a", 0, np.full((2, 4, 5), level), None), at, apart=10)
    flats, times = references.flats(["a"])
    assert times == [0.0, 50.0]
    assert [float(frame.mean()) for frame in flats] == [150.0, 400.0]


def test_runs_long_past_are_forgotten():
    """Those in use are kept."""
    references, frames = References(), np.ones((1, 2, 2))
    for number in range(RUNS_KEPT + 1):
        references.add(Batch("dark", str(number), 0, frames, None))
        references.touch("0")
    assert "0" in references
    assert "1" not in references
