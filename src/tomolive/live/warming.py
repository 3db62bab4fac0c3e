"""What a process that reconstructs does before the first frame comes: once, so that no frame waits for it."""

import numpy as np

from tomolive.live.slices.accumulate import SliceAccumulator
from tomolive.recon.startup import without_extensions


def warm_up(threads: int) -> None:
    """Have the kernels compiled, or read from their cache, before the first frame needs them."""
    without_extensions()
    slices = SliceAccumulator(8, 32, center=15.5, threads=threads)
    darks, flats = np.zeros((1, 8, 32), np.uint16), np.full((1, 8, 32), 1000, np.uint16)
    slices.set_references(darks, flats)
    slices.add(flats.repeat(4, axis=0), np.linspace(0, np.pi, 4), range(4))
    slices.finish()
    slices.slices()
    # the plain ramp and the smoother filters are compiled apart
    slices.restart(filter="hann")
