"""Which pictures can be looked at: their keys, and the places that a volume has."""

import math

from tomolive.errors import RequestError
from tomolive.live.snapshot import Snapshot, parse_key, picture_key

_PLACES: dict[str, tuple[int, ...]] = {
    "xy": (0, 1), "xz": (0, 1), "yz": (0, 1), "projection": (0,), "oblique": (3,), "sinogram": (1,),
    "candidates": (0,),
}  # fmt: skip
"""How many numbers tell where a picture of each plane lies."""


def check_key(key: str, snapshot: Snapshot) -> str:
    """Return ``key`` if there can be such a picture.

    Raises
    ------
    RequestError
        if it names no picture, is not written as `picture_key` writes it, or lies outside the volume.
    """
    try:
        plane, place = parse_key(key)
    except ValueError:
        raise RequestError(f"picture {key[:60]!r}: expected numbers after the @") from None
    if plane not in _PLACES:
        raise RequestError(f"no picture {plane[:40]!r}; there are {', '.join(_PLACES)}")
    if len(place) not in _PLACES[plane] or not all(map(math.isfinite, place)):
        counts = " or ".join(map(str, _PLACES[plane]))
        raise RequestError(f"picture {key[:60]!r}: {plane} takes {counts} finite numbers after the @")
    if picture_key(plane, *place) != key:
        raise RequestError(f"picture {key[:60]!r} is written {picture_key(plane, *place)!r}")
    _check_place(plane, place, snapshot)
    return key


def _check_place(plane: str, place: tuple[float, ...], snapshot: Snapshot) -> None:
    size = volume_size(snapshot).get("xy" if plane == "sinogram" else plane)
    if plane == "oblique":
        # Beyond its corners a volume is empty; how far off that is does not matter here.
        if max(map(abs, place[:2])) > 360 or abs(place[2]) > 1e5:
            raise RequestError("an oblique plane is tilted and turned by -360 to 360 degrees")
        return
    for position in place:
        if position < 0 or position != int(position) or (size is not None and position >= size):
            last = f"0 to {size - 1}" if size is not None else "whole numbers from 0"
            raise RequestError(f"plane {plane} has positions {last}, not {position:g}")


def volume_size(snapshot: Snapshot) -> dict[str, int]:
    """Return how many positions each plane has, as far as is known."""
    if snapshot.status.volume_shape is not None:
        rows, down, across = snapshot.status.volume_shape
        return {"xy": rows, "xz": down, "yz": across}
    pictures = snapshot.pictures
    size = {}
    if "xy" in pictures:
        size["xz"], size["yz"] = pictures["xy"].pixels.shape
    for plane in ("xz", "yz"):
        if plane in pictures:
            size["xy"] = pictures[plane].pixels.shape[0]
    return size
