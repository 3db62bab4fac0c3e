"""What a process that reconstructs does before the first frame comes: once, so that no frame waits for it."""

import numpy as np
from numba.core import entrypoints

from tomolive.live.accumulate import SliceAccumulator


def without_extensions() -> None:
    """Leave numba's extensions where they are, in a process that compiles no functions but ours.

    Before it compiles or loads its first function, numba imports every installed package that extends it
    (awkward and sparse come with Tiled): half a second of each start, for types that no kernel of ours uses.
    numba has no setting for this; if its mark is renamed one day, they are imported again, and no more.
    """
    entrypoints._already_initialized = True  # pyright: ignore[reportPrivateUsage]


def warm_up(threads: int) -> None:
    """Have the kernels compiled, or read from their cache, before the first frame needs them."""
    without_extensions()
    slices = SliceAccumulator(8, 32, center=15.5, threads=threads)
    darks, flats = np.zeros((1, 8, 32), np.uint16), np.full((1, 8, 32), 1000, np.uint16)
    slices.set_references(darks, flats)
    slices.add(flats.repeat(4, axis=0), np.linspace(0, np.pi, 4), range(4))
    slices.finish()
    slices.slices()
