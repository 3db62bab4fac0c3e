"""Sample, pixel size and energy of a scan file, as far as it has them."""

from typing import Any

import h5py
import numpy as np

from tomolive.acquire.h5tree import Tree

_SAMPLE = ("measurement/sample/name", "sample/name", "measurement/sample/file_name")
_PIXEL_SIZE = (
    "measurement/instrument/detection_system/objective/resolution",
    "measurement/instrument/detector/pixel_size",
    "instrument/detector/x_pixel_size",
    "measurement/instrument/detector/x_pixel_size",
    "measurement/instrument/detector/pixel_size_x",
)
_ENERGY = (
    "measurement/instrument/monochromator/energy",
    "instrument/beam/incident_energy",
    "beam/incident_energy",
    "instrument/monochromator/energy",
    "sample/incident_energy",
)

_MICROMETRES = {"m": 1e6, "mm": 1e3, "um": 1.0, "µm": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3}
_KILOELECTRONVOLTS = {"kev": 1.0, "ev": 1e-3, "mev": 1e3, "j": 1 / 1.602176634e-16}


def read_details(tree: Tree, data: str) -> dict[str, Any]:
    """Return ``sample``, ``pixel_size`` (um) and ``energy`` (keV) with their units, those that are there.

    A number without a unit, or with one that is not known, is left out: a wrong scale bar is worse than none.

    Parameters
    ----------
    tree
        the file.
    data
        path of the frames; things in the same entry come first.
    """
    details: dict[str, Any] = {}
    sample = _find(tree, data, _SAMPLE)
    if sample is not None and (name := _text(sample)):
        details["sample"] = name
    for key, places, factors, unit in (
        ("pixel_size", _PIXEL_SIZE, _MICROMETRES, "um"),
        ("energy", _ENERGY, _KILOELECTRONVOLTS, "keV"),
    ):
        dataset = _find(tree, data, places)
        value = None if dataset is None else _number(dataset, factors)
        if value is not None:
            details |= {key: value, f"{key}_units": unit}
    return details


def _find(tree: Tree, data: str, places: tuple[str, ...]) -> h5py.Dataset | None:
    """Return the first of ``places`` under a group that ``data`` lies in, the innermost group first."""
    groups = data.split("/")
    for place in places:
        for depth in range(len(groups) - 1, 0, -1):
            path = "/".join([*groups[:depth], place])
            if path in tree.datasets:
                return tree.datasets[path]
    return None


def _text(dataset: h5py.Dataset) -> str:
    value = np.ravel(dataset[()])
    first = value[0] if value.size else ""
    return first.decode(errors="replace").strip() if isinstance(first, bytes) else str(first).strip()


def _number(dataset: h5py.Dataset, factors: dict[str, float]) -> float | None:
    units = dataset.attrs.get("units", "")
    units = units.decode(errors="replace") if isinstance(units, bytes) else str(units)
    factor = factors.get(units.strip().lower())
    if factor is None or dataset.dtype.kind not in "uif" or not dataset.size:
        return None
    value = float(np.ravel(dataset[()])[0]) * factor
    return value if np.isfinite(value) and value > 0 else None
