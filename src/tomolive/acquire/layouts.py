"""Which dataset of a file is what: Data Exchange, NXtomo, or what the user says."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import takewhile

import h5py

from tomolive.acquire.h5tree import Tree
from tomolive.errors import ScanError

PROJECTION, FLAT, DARK, INVALID = 0, 1, 2, 3
"""Values of NXtomo's ``image_key``."""

_FLATS = ("data_white", "flats", "flat", "white", "flat_field", "flat_fields")
_DARKS = ("data_dark", "darks", "dark", "dark_field", "dark_fields")
_ANGLES = ("rotation_angle", "theta", "angles", "angle", "Angle", "omega")


@dataclass(frozen=True)
class Paths:
    """Paths of datasets in a file; None where it is to be found, or is not there."""

    data: str | None = None
    angles: str | None = None
    """Or START:STOP in degrees, where the file holds no angles."""
    image_key: str | None = None
    flats: str | None = None
    darks: str | None = None

    def absolute(self) -> "Paths":
        """Return the same paths from the root group on."""
        pairs = ((option.name, getattr(self, option.name)) for option in fields(self))
        return Paths(**{n: p if p is None or _is_range(p) else "/" + p.lstrip("/") for n, p in pairs})

    def given(self) -> list[str]:
        """Return those that are given."""
        return [path for option in fields(self) if (path := getattr(self, option.name)) is not None]


def _is_range(text: str) -> bool:
    return ":" in text and not text.startswith("/")


@dataclass(frozen=True)
class Layout:
    """What a file was recognised as, and where its parts are."""

    name: str
    data: str
    angles: str | None
    image_key: str | None = None
    flats: str | None = None
    darks: str | None = None


def find_layout(tree: Tree, given: Paths) -> Layout:
    """Return where the parts of a scan are; what is ``given`` wins over what is found.

    Raises
    ------
    ScanError
        if there is no scan, or a given path does not exist: says what there is and what to pass.
    """
    for option in fields(given):
        path = getattr(given, option.name)
        if path is not None and not (option.name == "angles" and _is_range(path)):
            _require(tree, path, "--" + option.name.replace("_", "-"))
    found = _data_exchange(tree, given) or _image_keys(tree, given) or _data_with_angles(tree, given)
    if found is None:
        raise ScanError(_not_a_scan(tree))
    return found


def _data_exchange(tree: Tree, given: Paths) -> Layout | None:
    if given.data is not None or given.image_key is not None:
        return None
    if "/exchange/data" not in tree.datasets:
        if "/exchange/data" in tree.broken:
            raise ScanError(f"/exchange/data leads to {tree.broken['/exchange/data']}, which is not there")
        return None
    return Layout(
        "Data Exchange",
        "/exchange/data",
        given.angles or _if_there(tree, "/exchange/theta"),
        None,
        given.flats or _if_there(tree, "/exchange/data_white"),
        given.darks or _if_there(tree, "/exchange/data_dark"),
    )


def _image_keys(tree: Tree, given: Paths) -> Layout | None:
    """Return the layout of NXtomo, where an ``image_key`` says what each frame is."""
    if given.flats is not None or given.darks is not None:
        return None
    if given.image_key is not None:
        keys = [given.image_key]
    else:
        keys = _named(tree, ("image_key",), lambda d: d.ndim == 1 and d.dtype.kind in "iu")
    for key in keys:
        length = len(tree.datasets[key])
        stacks = [given.data] if given.data else _near(key, _frames(tree, length))
        if stacks:
            data = stacks[0]
            angles = given.angles or _angles_near(tree, data)
            return Layout("NXtomo" if given == Paths() else "paths as given", data, angles, key)
    return None


def _data_with_angles(tree: Tree, given: Paths) -> Layout | None:
    """Return the layout of a stack of projections with angles somewhere near."""
    if given.data is not None:
        data = given.data
    else:
        stacks = [path for path in _frames(tree) if given.angles or _angles_near(tree, path)]
        stacks = [path for path in stacks if path.rsplit("/", 1)[1] not in _FLATS + _DARKS]
        if not stacks:
            return None
        data = min(stacks, key=lambda path: (-_size(tree, path), len(path)))
    shape = tree.datasets[data].shape[1:]

    def same_camera(dataset: h5py.Dataset) -> bool:
        return dataset.ndim in (2, 3) and dataset.shape[-2:] == shape

    return Layout(
        "projections with angles" if given == Paths() else "paths as given",
        data,
        given.angles or _angles_near(tree, data),
        None,
        given.flats or next(iter(_near(data, _named(tree, _FLATS, same_camera))), None),
        given.darks or next(iter(_near(data, _named(tree, _DARKS, same_camera))), None),
    )


def _frames(tree: Tree, length: int | None = None) -> list[str]:
    """Return the stacks of frames: three dimensions, numbers, more than one frame."""
    return [
        path
        for path, dataset in tree.datasets.items()
        if dataset.ndim == 3
        and dataset.dtype.kind in "uif"
        and len(dataset) > 1
        and length in (None, len(dataset))
    ]


def _angles_near(tree: Tree, data: str) -> str | None:
    """Return the dataset nearest to ``data`` that is named like angles and has one for each frame."""
    length = len(tree.datasets[data])
    named = _named(tree, _ANGLES, lambda d: d.dtype.kind in "uif" and d.size == length)
    return next(iter(_near(data, named)), None)


def _named(tree: Tree, names: Iterable[str], fits: Callable[[h5py.Dataset], bool]) -> list[str]:
    ranks = {name: rank for rank, name in enumerate(names)}
    found = [p for p, d in tree.datasets.items() if p.rsplit("/", 1)[1] in ranks and fits(d)]
    return sorted(found, key=lambda path: (ranks[path.rsplit("/", 1)[1]], len(path)))


def _near(path: str, candidates: list[str]) -> list[str]:
    """Return ``candidates``, those that share most of their groups with ``path`` first."""

    def shared(other: str) -> int:
        pairs = zip(path.split("/"), other.split("/"), strict=False)
        return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))

    return sorted(candidates, key=shared, reverse=True)


def _size(tree: Tree, path: str) -> int:
    return math.prod(tree.datasets[path].shape)


def _if_there(tree: Tree, path: str) -> str | None:
    return path if path in tree.datasets else None


def _require(tree: Tree, path: str, option: str) -> None:
    if path in tree.broken:
        raise ScanError(f"{option} {path} leads to {tree.broken[path]}, which is not there")
    if path not in tree.datasets:
        raise ScanError(f"{option} {path}: no such dataset; the file holds {_listing(tree)}")


def _not_a_scan(tree: Tree) -> str:
    lost = "".join(f"; {path} leads to {to}, which is not there" for path, to in tree.broken.items())
    return (
        "not a scan that is known: neither /exchange/data (Data Exchange) nor an image_key (NXtomo) nor a "
        f"stack of frames with angles; the file holds {_listing(tree)}{lost}; name its parts with --data and "
        "--angles, and --image-key or --flats and --darks"
    )


def _listing(tree: Tree, most: int = 12) -> str:
    """Return the largest datasets with their shapes, in one line."""
    largest = sorted(tree.datasets, key=lambda path: -_size(tree, path))[:most]
    texts = [f"{path} {tree.datasets[path].shape}" for path in largest]
    more = len(tree.datasets) - len(largest)
    return (", ".join(texts) or "no dataset at all") + (f", and {more} more" if more else "")
