"""Slices by the non-uniform FFT of finufft, an independent check of the gridding here.

The same sum over the lines through the transform of a slice as `tomolive.recon.gridding`, computed by the
library (Barnett, Magland and af Klinteberg, SIAM J. Sci. Comput. 41, C479 (2019)) to a chosen precision.
finufft is optional: ``pip install 'tomolive[finufft]'``.
"""

import numpy as np
import numpy.typing as npt

from tomolive.errors import ReconstructionError
from tomolive.recon.filters import filter_rows
from tomolive.recon.fourier import fast_length, rfft

Floats = npt.NDArray[np.float32]

_PRECISION = 1e-5
_PADDING = 1.5


def nufft_slices(
    rows: Floats,
    angles: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    center: float,
    filter_name: str,
    *,
    padding: str,
    threads: int,
) -> Floats:
    """Reconstruct slices; the arguments are those of `tomolive.recon.reconstruct`, checked.

    Parameters
    ----------
    rows
        Line integrals, float32 (rows, angles, columns).
    weights
        What each projection weighs, (angles,).

    Raises
    ------
    ReconstructionError
        if finufft is not installed.
    """
    try:
        import finufft
    except ImportError:
        raise ReconstructionError(
            "method='finufft' needs finufft; install it with: pip install 'tomolive[finufft]'"
        ) from None
    columns = rows.shape[2]
    length = fast_length(int(np.ceil(_PADDING * columns)))
    # the highest frequency is left out: it has no partner of opposite sign
    frequency = 2 * np.pi * np.fft.rfftfreq(length)[: (length + 1) // 2]
    along_x, along_y = (np.outer(f(angles), frequency).astype(np.float32).ravel() for f in (np.cos, np.sin))
    # pixels are whole numbers for the FFT; with an even number of columns the axis lies between two
    between = 0.5 * (columns % 2 == 0)
    shift = center + between * (np.cos(angles) + np.sin(angles))
    # a real slice: frequencies above zero count for their partners too
    factor = np.exp(1j * np.outer(shift, frequency)) * weights[:, np.newaxis] / length
    factor[:, 1:] *= 2
    out = np.empty((len(rows), columns, columns), np.float32)
    for row, image in zip(rows, out, strict=True):
        spectrum = rfft(filter_rows(row, filter_name, padding=padding), length)[:, : len(frequency)]
        strengths = (spectrum * factor).astype(np.complex64).ravel()
        shape = (columns, columns)
        slice_ = finufft.nufft2d1(
            along_y, along_x, strengths, shape, isign=1, eps=_PRECISION, nthreads=threads
        )
        image[:] = np.real(slice_)
    return out
