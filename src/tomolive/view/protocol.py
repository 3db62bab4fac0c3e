"""What the page and the server say to each other, Sans-IO: values in, bytes and values out.

Server to page: one JSON text ``state``, then a binary message for each key that it names in ``sending``, in
that order; now and then a JSON text ``trends`` before them. Page to server: the JSON texts of
`tomolive.view.requests`; a ``view`` says which pictures are looked at, and after drawing an ``ack``, without
which no more is sent.

A binary message is a 48-byte header and rows x columns little-endian uint16 pixels::

    bytes  0-3   "TMLV"            24-31  position, float64
    byte   4     protocol, 1       32-39  scale, float64
    byte   5     plane, 0 to 6     40-47  offset, float64
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
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from tomolive.live.controls import Wish
from tomolive.live.snapshot import Picture, Plane, Snapshot, Status, Subject

PLANES: tuple[str, ...] = get_args(Plane)
_MAGIC = b"TMLV"
_PROTOCOL = 1
_HEADER = struct.Struct("<4sBBHIIIIddd")
_TOP = 65534
_NOT_FINITE = 65535


def encode_status(status: Status) -> msgspec.Raw:
    """Return a status as JSON, without its trends, which are many numbers and change seldom."""
    return msgspec.Raw(_json(replace(status, trends=())))


def encode_trends(status: Status) -> str:
    """Return the message that carries the trends."""
    return _json({"type": "trends", "run_uid": status.run_uid, "trends": status.trends}).decode()


def encode_state(
    snapshot: Snapshot,
    status: msgspec.Raw,
    *,
    now: float,
    keys: Iterable[str],
    sending: Iterable[str] = (),
    pending: Iterable[Wish] = (),
) -> str:
    """Return the message ``state``: how the scan goes, and what there is to see of what a viewer looks at.

    Parameters
    ----------
    status
        `encode_status` of the snapshot's, so that it is made once for all viewers.
    now
        Unix time; ``age_s`` spares the page a comparison of its clock with the server's.
    keys
        Pictures that the viewer looks at.
    sending
        Those that follow as binary messages; they are described even if he has looked away meanwhile.
    pending
        What was asked for and is not done.
    """
    following = list(sending)
    keys = dict.fromkeys([*keys, *following])
    there = {key: _about(snapshot.pictures[key]) for key in keys if key in snapshot.pictures}
    return _json({
        "type": "state", "version": snapshot.version, "age_s": _age(snapshot, now), "status": status,
        "pictures": there, "sending": following, "pending": describe_pending(pending),
    }).decode()  # fmt: skip


def describe_state(snapshot: Snapshot, pending: Iterable[Wish], *, now: float) -> bytes:
    """Return as JSON every field of the status, which pictures there are, and what is not done yet."""
    return _json({
        "version": snapshot.version, **fields_of(snapshot.status), "age_s": _age(snapshot, now),
        "pictures": {key: _about(picture) for key, picture in snapshot.pictures.items()},
        "pending": describe_pending(pending),
    })  # fmt: skip


def describe(picture: Picture) -> dict[str, Any]:
    """Return what is known of a picture beside its pixels: for files that leave the page."""
    told = {"plane": picture.plane, "key": picture.key, "position": picture.position, "units": picture.units}
    return msgspec.json.decode(_json({**told, **fields_of(picture.of)}))


def describe_pending(pending: Iterable[Wish]) -> list[dict[str, str]]:
    """Return what is being done and for whom, each kind once: the newest wish wins."""
    newest = {wish.about: {"about": wish.about, "who": wish.who, "run_uid": wish.run_uid} for wish in pending}
    return [told for about, told in newest.items() if about]


def fields_of(value: Status | Subject) -> dict[str, Any]:
    """Return the fields of a dataclass, as they are."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _about(picture: Picture) -> dict[str, Any]:
    rows, columns = picture.pixels.shape
    told = {"plane": picture.plane, "version": picture.version, "position": picture.position}
    return {**told, "units": picture.units, "rows": rows, "columns": columns, "of": picture.of}


def _age(snapshot: Snapshot, now: float) -> float | None:
    updated = snapshot.status.updated
    return max(0.0, now - updated) if updated else None


def _json(value: Any) -> bytes:
    """Encode; what JSON cannot say (NaN, infinity) becomes null, settings their values."""
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"no JSON for {type(value).__name__}")


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
    for _ in ("rows", "columns"):
        whole = len(pixels) // binning * binning
        # Adding lines is many times as fast as np.add.reduceat; the order of memory stays as it is.
        means = np.array(pixels[:whole:binning])
        for line in range(1, binning):
            means += pixels[line:whole:binning]
        means /= np.float32(binning)
        if whole < len(pixels):
            means = np.concatenate([means, pixels[whole:].mean(axis=0, keepdims=True)])
        pixels = means.T
    return pixels


def binning_for(shape: tuple[int, ...], wanted: int | None) -> int:
    """Return how many pixels to average so that the longer side stays at least ``wanted`` device pixels.

    >>> binning_for((2048, 2048), 600), binning_for((512, 512), 600), binning_for((512, 512), None)
    (3, 1, 1)
    """
    return max(1, max(shape) // wanted) if wanted else 1
