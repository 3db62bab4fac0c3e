"""What the page and the server say to each other, Sans-IO: values in, bytes and values out.

Server to page: one JSON text ``state``, then a binary message for each picture that it names in ``sending``.
Page to server: JSON texts; after drawing, an ``ack``, without which no further picture is sent.

A binary message is a 48-byte header and rows x columns little-endian uint16 pixels::

    bytes  0-3   "TMLV"            24-31  position, float64
    byte   4     protocol, 1       32-39  scale, float64
    byte   5     plane, 0 to 3     40-47  offset, float64
    bytes  6-7   binning           48-    pixels
    bytes  8-11  picture version
    bytes 12-15  snapshot version
    bytes 16-19  rows
    bytes 20-23  columns

A pixel ``q`` stands for ``offset + scale * q``; 65535 is no finite value. ``binning`` pixels a side
of the picture are averaged into one that is sent.
"""

import math
import struct
from dataclasses import asdict
from typing import Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tomolive.errors import RequestError
from tomolive.live.controls import Wish
from tomolive.live.snapshot import Picture, Plane, Snapshot

PLANES: tuple[str, ...] = get_args(Plane)
MAX_MESSAGE = 4096
"""Bytes of a message from the page; more is a mistake or an attack."""

_MAGIC = b"TMLV"
_PROTOCOL = 1
_HEADER = struct.Struct("<4sBBHIIIIddd")
_TOP = 65534
_NOT_FINITE = 65535


# ---- server to page


def state_message(snapshot: Snapshot, *, now: float, sending: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the JSON-ready state: every field of Status, and what there is to see and of which scan.

    ``now`` is Unix time; ``age_s`` spares the page a comparison of its clock with the server's.
    """
    status = snapshot.status
    return _finite({
        "type": "state",
        "version": snapshot.version,
        **asdict(status),
        "age_s": max(0.0, now - status.updated) if status.updated else None,
        "pictures": {
            plane: {
                "version": picture.version,
                "position": picture.position,
                "units": picture.units,
                "rows": picture.pixels.shape[0],
                "columns": picture.pixels.shape[1],
                "of": asdict(picture.of),
            }
            for plane, picture in snapshot.pictures.items()
        },
        "sending": list(sending),
    })  # fmt: skip


def describe(picture: Picture) -> dict[str, Any]:
    """Return what is known of a picture beside its pixels, JSON-ready: for files that leave the page."""
    told = {"plane": picture.plane, "position": picture.position, "units": picture.units}
    return _finite({**told, **asdict(picture.of)})


def encode_picture(picture: Picture, snapshot_version: int, binning: int = 1) -> bytes:
    """Return the binary message that carries ``picture``."""
    pixels = bin_mean(picture.pixels, binning)
    quantised, scale, offset = quantise(pixels)
    header = _HEADER.pack(
        _MAGIC,
        _PROTOCOL,
        PLANES.index(picture.plane),
        binning,
        picture.version & 0xFFFFFFFF,
        snapshot_version & 0xFFFFFFFF,
        *pixels.shape,
        picture.position,
        scale,
        offset,
    )
    return header + quantised.astype("<u2", copy=False).tobytes()


def quantise(pixels: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint16], float, float]:
    """Return ``(q, scale, offset)``: ``offset + scale * q`` is within 0.51 ``scale`` of each finite pixel.

    >>> q, scale, offset = quantise(np.array([[0, 1, np.nan]], np.float32))
    >>> q.tolist(), round(scale * 65534, 6), offset
    ([[0, 65534, 65535]], 1.0, 0.0)
    """
    low, high = float(pixels.min(initial=np.inf)), float(pixels.max(initial=-np.inf))
    finite = None
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = np.isfinite(pixels)
        if not finite.any():
            return np.full(pixels.shape, _NOT_FINITE, np.uint16), 0.0, 0.0
        low = float(pixels.min(where=finite, initial=np.inf))
        high = float(pixels.max(where=finite, initial=-np.inf))
        pixels = np.where(finite, pixels, np.float32(low))
    scale = (high - low) / _TOP
    if scale == 0:
        quantised = np.zeros(pixels.shape, np.uint16)
    else:
        # float32 is exact enough, and twice as fast, except where its range ends.
        kind = np.float32 if 1e-30 < high - low < 1e38 else np.float64
        steps = pixels.astype(kind, copy=False) - kind(low)
        steps *= kind(1 / scale)
        steps += kind(0.5)
        quantised = np.minimum(steps, kind(_TOP)).astype(np.uint16)
    if finite is not None:
        quantised[~finite] = _NOT_FINITE
    return quantised, scale, low


def bin_mean(pixels: npt.NDArray[np.float32], binning: int) -> npt.NDArray[np.float32]:
    """Average blocks of ``binning`` x ``binning`` pixels; at the lower and right edge, what is there of them.

    >>> bin_mean(np.array([[1, 3, 5]], np.float32), 2).tolist()
    [[2.0, 5.0]]
    """
    if binning == 1:
        return pixels
    for axis, n in enumerate(pixels.shape):
        starts = np.arange(0, n, binning)
        counts = np.minimum(binning, n - starts).astype(np.float32)
        total = np.add.reduceat(pixels, starts, axis=axis)
        pixels = total / (counts[:, None] if axis == 0 else counts)
    return pixels


def binning_for(shape: tuple[int, ...], wanted: int | None) -> int:
    """Return how many pixels to average so that the longer side stays at least ``wanted`` device pixels.

    >>> binning_for((2048, 2048), 600), binning_for((512, 512), 600), binning_for((512, 512), None)
    (3, 1, 1)
    """
    return max(1, max(shape) // wanted) if wanted else 1


def _finite(value: Any) -> Any:
    """Replace what JSON cannot say (NaN, infinity) by None, and settings by their values."""
    if isinstance(value, BaseModel):
        return _finite(value.model_dump())
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# ---- page to server


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Request(_Message):
    run_uid: str = Field("", max_length=200, description="the run to change; empty: the one that is shown")


class Hello(_Message):
    """Who is watching, and the token that lets them control."""

    type: Literal["hello"]
    name: str = Field("", max_length=40, pattern=r"^[^\x00-\x1f<>]*$")
    token: str = Field("", max_length=200)


class Ack(_Message):
    """The pictures of this snapshot are on the screen."""

    type: Literal["ack"]
    version: int = Field(ge=0)


class View(_Message):
    """How many device pixels the longer side of each picture fills."""

    type: Literal["view"]
    pixels: dict[Plane, Annotated[int, Field(ge=16, le=16384)]]


class CenterRequest(_Request):
    """Set the rotation centre, or ask for an estimate."""

    type: Literal["center"] = "center"
    center: float | None = Field(None, description="detector column, may lie between two")
    estimate: bool = Field(False, description="let the reconstruction find it")


class FilterRequest(_Request):
    """Choose the reconstruction filter."""

    type: Literal["filter"] = "filter"
    filter: str = Field(max_length=40)


class PositionRequest(_Request):
    """Move a plane through the volume."""

    type: Literal["position"] = "position"
    plane: Literal["xy", "xz", "yz"]
    position: int = Field(ge=0, description="z for xy, y for xz, x for yz, in pixels")


Request = CenterRequest | FilterRequest | PositionRequest
Message = Hello | Ack | View | Request

_MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


def parse_message(text: str | bytes) -> Message:
    """Understand a JSON message from a page.

    Raises
    ------
    RequestError
        in words that the page can show.
    """
    if len(text) > MAX_MESSAGE:
        raise RequestError(f"message of {len(text)} bytes; at most {MAX_MESSAGE} are read")
    try:
        return _MESSAGES.validate_json(text)
    except ValidationError as error:
        raise RequestError(f"message not understood: {first_mistake(error)}") from None


def first_mistake(error: ValidationError) -> str:
    """Return one line: where the first mistake is, and what it is."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def to_wish(request: Request, who: str, snapshot: Snapshot, filters: tuple[str, ...]) -> Wish:
    """Turn a request into a wish for the reconstruction, after a look at what is possible now.

    Raises
    ------
    RequestError
        if the centre lies outside the detector, the plane outside the volume, or the filter is unknown.
    """
    run = request.run_uid
    if isinstance(request, FilterRequest):
        if request.filter not in filters:
            raise RequestError(f"unknown filter {request.filter[:40]!r}; known are {', '.join(filters)}")
        return Wish(who, run, filter=request.filter)
    if isinstance(request, PositionRequest):
        size = volume_size(snapshot).get(request.plane)
        if size is not None and request.position >= size:
            raise RequestError(f"plane {request.plane} has positions 0 to {size - 1}, not {request.position}")
        return Wish(who, run, plane=request.plane, position=request.position)
    if request.estimate:
        return Wish(who, run, estimate_center=True)
    if request.center is None:
        raise RequestError("give a centre, a detector column, or ask for an estimate")
    columns = volume_size(snapshot).get("yz")
    if columns is not None and not 0 <= request.center <= columns - 1:
        raise RequestError(
            f"rotation centre {request.center:g} lies outside the detector, 0 to {columns - 1}"
        )
    return Wish(who, run, center=request.center)


def volume_size(snapshot: Snapshot) -> dict[str, int]:
    """Return how many positions each plane has, as far as pictures tell."""
    pictures = snapshot.pictures
    size = {}
    if "xy" in pictures:
        size["xz"], size["yz"] = pictures["xy"].pixels.shape
    for plane in ("xz", "yz"):
        if plane in pictures:
            size["xy"] = pictures[plane].pixels.shape[0]
    return size
