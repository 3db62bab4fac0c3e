"""Where a sampled curve has its minimum, between the samples."""

import numpy as np


def vertex(before: float, least: float, after: float) -> float:
    """Return where the parabola through three values has its minimum, in steps from the middle one."""
    bend = before - 2 * least + after
    if not np.isfinite(bend) or bend <= 0:
        return 0.0
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))
