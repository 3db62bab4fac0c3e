"""Pure reconstruction kernels: arrays in, arrays out."""

from tomolive.recon.center import find_center
from tomolive.recon.correct import normalize
from tomolive.recon.filters import FILTERS
from tomolive.recon.slices import reconstruct

__all__ = ["FILTERS", "find_center", "normalize", "reconstruct"]
