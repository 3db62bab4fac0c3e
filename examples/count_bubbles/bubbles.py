"""Counts and sizes bubbles in the XY slice while the scan runs.

Run in this folder, or with this folder in PYTHONPATH, one terminal each:

    tomolive hub --journal journal
    mkdir images; tomolive live --analysis bubbles:count_bubbles --root images --page 127.0.0.1:8000
    tomolive simulate --hub tcp://127.0.0.1:5569 --data images

The last one when the page says that it waits. The numbers are plots below the pictures, and in summary.json.
"""

import numpy as np
from scipy import ndimage

LEAST_PIXELS = 12


def count_bubbles(seen):
    """Bubbles are what is darker than half of the sample, and surrounded by it."""
    image = ndimage.gaussian_filter(seen.arrays["xy"], 1)
    y, x = np.indices(image.shape) - (image.shape[0] - 1) / 2
    image[np.hypot(x, y) > 0.48 * image.shape[0]] = 0

    bright = image[image > 0.5 * image.max()]
    sample = ndimage.binary_opening(image > 0.5 * np.median(bright), iterations=2)
    holes = ndimage.binary_fill_holes(sample) & ~sample
    labels, _ = ndimage.label(holes)
    pixels = np.bincount(labels.ravel())[1:]
    pixels = pixels[pixels >= LEAST_PIXELS]

    size = seen.pixel_size_um or 1
    diameters = 2 * np.sqrt(pixels / np.pi) * size
    return {
        "bubbles": len(pixels),
        "mean diameter": diameters.mean() if len(pixels) else 0,
        "part of the area": pixels.sum() / max(np.count_nonzero(sample) + pixels.sum(), 1),
    }


count_bubbles.on = "slices"
