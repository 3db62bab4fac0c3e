"""ASTRA's filtered backprojection on the processor, as the benchmarks use it."""

# pyright: reportMissingImports=false
# The peers to compare with are optional: where one is not installed, its row says so.

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

Floats = npt.NDArray[Any]


def astra_fbp(size: int, radians: Floats, filter_name: str = "ram-lak") -> Callable[[Floats], Floats]:
    """Return what makes a slice (size, size) of a sinogram (angles, size), about its middle column."""
    import astra

    grid = astra.create_vol_geom(size, size)
    geometry = astra.create_proj_geom("parallel", 1.0, size, radians)
    projector = astra.create_projector("linear", geometry, grid)

    def fbp(sinogram: Floats) -> Floats:
        data = astra.data2d.create("-sino", geometry, sinogram)
        picture = astra.data2d.create("-vol", grid)
        settings = astra.astra_dict("FBP") | {
            "ProjectorId": projector, "ProjectionDataId": data, "ReconstructionDataId": picture,
            "option": {"FilterType": filter_name},
        }  # fmt: skip
        algorithm = astra.algorithm.create(settings)
        astra.algorithm.run(algorithm)
        result = astra.data2d.get(picture)
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([data, picture])
        return result

    return fbp
