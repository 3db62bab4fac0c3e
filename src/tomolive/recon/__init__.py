"""Pure reconstruction kernels: arrays in, arrays out."""

from tomolive.recon.axis import find_axis, straighten
from tomolive.recon.candidates import candidates
from tomolive.recon.center import find_center
from tomolive.recon.correct import normalize
from tomolive.recon.filters import FILTERS
from tomolive.recon.half_acquisition import widen
from tomolive.recon.oblique import reconstruct_plane
from tomolive.recon.phase import paganin
from tomolive.recon.rings import remove_stripes
from tomolive.recon.slices import reconstruct

__all__ = [
    "FILTERS",
    "candidates",
    "find_axis",
    "find_center",
    "normalize",
    "paganin",
    "reconstruct",
    "reconstruct_plane",
    "remove_stripes",
    "straighten",
    "widen",
]
