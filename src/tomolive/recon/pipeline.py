"""One chain from counts to line integrals, the same while a scan runs and for the volume after it.

For projections, each by itself, so that they can be corrected as they come:

    counts -> bin -> dark, flat and -log -> zingers -> join tiles -> Paganin -> line integrals

and for sinograms, which need all angles:

    line integrals -> stripe removal -> ready for the filter

What is done is said by `tomolive.config.CorrectionSettings`. Rows and columns of the result are binned ones:
`tomolive.recon.binning` says where a centre lies among them, and how large their pixels are.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.errors import ReconstructionError
from tomolive.recon.binning import binned
from tomolive.recon.correct import line_integrals
from tomolive.recon.defects import remove_zingers_of_integrals
from tomolive.recon.flat_field import AnyField, averaged, flat_field, flat_series
from tomolive.recon.parallel import blocks, run
from tomolive.recon.phase import paganin
from tomolive.recon.rings import remove_stripes

Counts = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]

_FRAMES = 4
"""Projections that one thread takes at once."""


def references(
    flats: npt.ArrayLike | Sequence[npt.ArrayLike],
    darks: npt.ArrayLike | None = None,
    settings: CorrectionSettings | None = None,
    *,
    times: npt.ArrayLike | None = None,
) -> AnyField:
    """Average darks and flats, binned as the projections will be; dead and hot pixels are marked.

    Parameters
    ----------
    flats
        Counts, (frames, rows, columns) or one frame; with ``times``, one such for each of them.
    darks
        Counts without beam, likewise; none: zero.
    times
        When flats were taken, if several times during a scan, by any clock, such as frame numbers;
        projections are then corrected with flats interpolated linearly.

    Raises
    ------
    ReconstructionError
        if shapes do not fit together, or the flats are no brighter than the darks.
    """
    binning = settings.binning if settings else 1

    def mean(frames: npt.ArrayLike, name: str) -> Counts:
        return binned(averaged(frames, "mean", name)[np.newaxis], binning)

    dark = None if darks is None else mean(darks, "darks")
    if times is None:
        return flat_field(mean(np.asarray(flats), "flats"), dark)
    return flat_series([mean(one, "flats") for one in flats], dark, times=times)  # pyright: ignore[reportGeneralTypeIssues]


def correct_projections(
    counts: Counts,
    field: AnyField,
    settings: CorrectionSettings | None = None,
    *,
    times: npt.ArrayLike | None = None,
    join: Callable[[Floats], Floats] | None = None,
    threads: int | None = None,
    out: Floats | None = None,
) -> Floats:
    """Turn raw counts into line integrals, everything that can be done to a projection by itself.

    Parameters
    ----------
    counts
        (n, rows, columns), unbinned.
    field
        From `references`, with the same settings.
    times
        When the projections were taken, (n,), if the flats have times.
    join
        Makes one field of the line integrals of detectors side by side, see
        `tomolive.recon.stitching.Joining.join`.
    threads
        How many threads work; default: one for each core.
    out
        Where to write the result, if nothing is joined.

    Returns
    -------
    float32 (n, rows // binning, columns // binning). The result for a projection does not depend on which
    others it comes with.

    Raises
    ------
    ReconstructionError
        if shapes do not fit together.
    """
    settings = settings or CorrectionSettings()
    counts = np.asarray(counts)
    if counts.ndim != 3 or 0 in counts.shape[1:]:
        raise ReconstructionError(f"projections has shape {counts.shape}; expected (n, rows, columns)")
    when = None if times is None else np.asarray(times, np.float64)
    out = np.empty((len(counts), *field.gain.shape), np.float32) if out is None else out
    quantum = settings.binning**-2.0 if counts.dtype.kind in "ui" else 0.0

    def correct(block: tuple[int, int]) -> Floats:
        part = slice(*block)
        raw = binned(counts[part], settings.binning)
        line_integrals(raw, field, out[part], times=None if when is None else when[part], quantum=quantum)
        if settings.zingers:
            remove_zingers_of_integrals(out[part])
        done = out[part] if join is None else join(out[part])
        if settings.paganin is not None:
            done[:] = retrieve_phase(done, settings)
        return done

    done = run(correct, blocks(len(counts), _FRAMES), threads)
    return out if join is None else np.concatenate(done)


def retrieve_phase(integrals: Floats, settings: CorrectionSettings) -> Floats:
    """Return line integrals (n, rows, columns) filtered by Paganin's method, if it is set."""
    phase = settings.paganin
    if phase is None:
        return integrals
    return paganin(
        integrals,
        energy_kev=phase.energy_kev,
        distance_m=phase.distance_m,
        pixel_size_m=phase.pixel_size_um * 1e-6 * settings.binning,
        delta_beta=phase.delta_beta,
        generalised=phase.generalised,
    )


def context_rows(settings: CorrectionSettings) -> int | None:
    """Return how many (binned) rows above and below a row its corrected values depend on; None: all rows.

    Whoever corrects a detector in bands of rows cuts them at multiples of the binning and adds so many rows
    on both sides: the result is then the same as that of whole frames.
    """
    if settings.paganin is not None:
        return None
    return 1 if settings.zingers else 0


def correct_sinograms(
    sinograms: npt.ArrayLike,
    settings: CorrectionSettings | None = None,
    *,
    threads: int | None = None,
    out: Floats | None = None,
) -> Floats:
    """Do to line integrals what needs all angles of a row: stripe removal, if it is set.

    Parameters
    ----------
    sinograms
        (rows, angles, columns) or (angles, columns), in the order of the angles; rows are independent of each
        other.
    out
        Where to write if there is something to do; may be ``sinograms`` themselves.

    Returns
    -------
    float32, same shape; ``sinograms`` themselves if there is nothing to do.
    """
    values = np.asarray(sinograms, np.float32)
    if settings is None or settings.rings == "none":
        return values
    return remove_stripes(values, method=settings.rings, threads=threads, out=out)
