"""Documents as bytes: MessagePack for what is small, and every numpy array beside it as its own raw frame.

The first frame is the MessagePack list ``[VERSION, name, document]``. Where the document holds an array, that
frame has an extension value, the array's dtype and shape; the n-th extension value stands for the n-th
frame after the first. Arrays are therefore neither copied nor looked at on the way, and keep byte order,
structured fields and shape to the bit.

What comes back equals what went in, except: tuples, sets and deques come back as lists; numpy's real
numbers as Python's, of the same value; dates, times, paths and UUIDs as text; arrays as read-only views of
the frames.
"""

import datetime as dt
import math
import os
import re
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Enum
from typing import Any

import jsonschema_rs
import msgspec
import numpy as np
import ormsgpack
from event_model import DocumentNames

from tomolive.errors import CodecError
from tomolive.stream.limits import CONTAINERS, check_head

VERSION = 1
NAMES = frozenset(name.value for name in DocumentNames)

_ARRAY, _SCALAR = 1, 2
_KINDS = "?biufcmMSUV"
_DTYPE = re.compile(rf"[<>|=]?[{_KINDS}]\d{{0,10}}(\[\w{{1,16}}\])?")
_BECOME_PYTHON: tuple[type, ...] = (
    np.bool_,
    np.integer,
    np.float16,
    np.float32,
    np.float64,
    np.str_,
    np.bytes_,
)
_LEAVES = frozenset(
    [str, float, int, bool, type(None), bytes, np.ndarray]
    + [np.dtype(code).type for code in np.typecodes["All"] if code != "O"]
)

Buffer = bytes | bytearray | memoryview

# Of all encoders this one is strict in C: whatever is not exactly plain data, with text for keys, it hands to
# the hook or refuses, so that nothing needs to look at the document a second time while the RunEngine waits.
_STRICT = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
)
_pack = ormsgpack.packb
_decode_plain = msgspec.msgpack.Decoder().decode
_IMPOSSIBLE = (TypeError, ValueError, OverflowError, RecursionError)


def encode(name: str, doc: Mapping[str, Any]) -> list[Buffer]:
    """Return the frames of a document; arrays that are contiguous are views, so write them at once.

    Raises
    ------
    CodecError
        with the path of the value that cannot travel: an object array, a masked array, an integer beyond 64
        bits, a key that is no string, an object that is no data, or something that contains itself; or if
        the document is beyond ``limits`` beside its arrays.
    """
    if name not in NAMES:
        raise CodecError(f"{name!r} is not the name of a document; known are {', '.join(sorted(NAMES))}")
    try:
        head = _pack((VERSION, name, doc), None, _STRICT)
        if len(head) <= CONTAINERS:
            return [head]  # almost every document
    except _IMPOSSIBLE:
        pass  # it holds arrays, or something that the careful way has a word about
    try:
        frames = _encode(name, doc)
    except _IMPOSSIBLE:
        # The encoder knows what is wrong but not where; walk the document to say so.
        frames = _encode(name, _plain(doc, name))
    check_head(frames[0])
    return frames


def _encode(name: str, doc: Mapping[str, Any]) -> list[Buffer]:
    frames: list[Buffer] = [b""]

    def beside(value: Any) -> Any:
        if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
            return _set_aside(value, _ARRAY, frames)
        if isinstance(value, _BECOME_PYTHON):
            return value.item()
        if isinstance(value, np.generic):
            return _set_aside(np.asarray(value), _SCALAR, frames)
        raise TypeError

    frames[0] = _pack((VERSION, name, doc), beside, _STRICT)
    return frames


def _set_aside(array: np.ndarray, code: int, frames: list[Buffer]) -> ormsgpack.Ext:
    if not array.dtype.itemsize:
        raise ValueError("elements of zero bytes")
    descr = array.dtype.str if array.dtype.names is None else array.dtype.descr
    frames.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return ormsgpack.Ext(code, msgspec.msgpack.encode((descr, array.shape)))


def decode(frames: Sequence[Buffer]) -> tuple[str, dict[str, Any]]:
    """Return the name and the document of frames that :func:`encode` made; ``frames`` may come from anyone.

    Raises
    ------
    CodecError
        if they are not exactly one document.
    """
    if not frames:
        raise CodecError("a document of no frames")
    try:
        message = _decode_plain(frames[0]) if len(frames) == 1 else _decode(frames)
    except (msgspec.MsgspecError, ValueError, RecursionError, MemoryError) as error:
        raise CodecError(f"not a document: {error}") from None
    if not (isinstance(message, list) and len(message) == 3):
        raise CodecError("not a document: expected a list of version, name and document")
    version, name, doc = message
    if version != VERSION:
        raise CodecError(f"a document of format {version!r}; this tomolive reads format {VERSION}")
    if not isinstance(name, str) or name not in NAMES:
        raise CodecError(f"{name!r:.60} is not the name of a document")
    if not isinstance(doc, dict):
        raise CodecError(f"the {name} document is not a mapping")
    if not _is_plain(doc):
        raise CodecError(f"the {name} document holds a key or a value that no encoder makes")
    return name, doc


def _decode(frames: Sequence[Buffer]) -> Any:
    arrays = iter(frames[1:])

    def from_beside(code: int, data: memoryview) -> np.ndarray | np.generic:
        array = _array_of(data, next(arrays, None))
        if code == _ARRAY:
            return array
        if code == _SCALAR and array.ndim == 0:
            return array[()]
        raise CodecError(f"an extension value of unknown kind {code}")

    message = msgspec.msgpack.decode(frames[0], ext_hook=from_beside)
    if next(arrays, None) is not None:
        raise CodecError("a document with frames that it does not mention")
    return message


def _array_of(header: memoryview, frame: Buffer | None) -> np.ndarray:
    if frame is None:
        raise CodecError("an array without its frame")
    try:
        descr, shape = msgspec.msgpack.decode(header, type=tuple[Any, tuple[int, ...]])
        dtype = dtype_from(descr)
        raw = memoryview(frame).toreadonly()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != raw.nbytes:
            raise CodecError(f"an array of shape {shape} and {dtype} in a frame of {raw.nbytes} bytes")
        array = np.ndarray(shape, dtype, raw)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"not an array: {error}") from None
    if array.flags.aligned:
        return array
    # A frame inside a larger buffer may start anywhere; compiled kernels want aligned data.
    array = array.copy()
    array.flags.writeable = False
    return array


def dtype_from(descr: Any) -> np.dtype:
    """Return the dtype of a description from elsewhere: numbers, times, text and structures of these.

    ``descr`` is text as ``"<u2"``, or a list of fields ``(name, descr)`` or ``(name, descr, shape)``.

    Raises
    ------
    CodecError
        if it is anything else, objects above all.
    """
    try:
        dtype = np.lib.format.descr_to_dtype(_checked(descr))
    except (TypeError, ValueError, IndexError, OverflowError, RecursionError) as error:
        raise CodecError(f"not a dtype: {error}") from None
    if dtype.hasobject or not dtype.itemsize:
        raise CodecError(f"arrays of {dtype} cannot travel")
    return dtype


def _checked(descr: Any) -> Any:
    """Return ``descr`` with tuples where numpy wants them, and only simple types in it."""
    if isinstance(descr, str) and _DTYPE.fullmatch(descr):
        return descr
    if isinstance(descr, list) and all(isinstance(field, list) and len(field) in (2, 3) for field in descr):
        return [
            (tuple(name) if isinstance(name, list) else name, _checked(of), *map(tuple, shape))
            for name, of, *shape in descr
        ]
    raise CodecError(f"not a dtype: {descr!r:.60}")


# A schema that holds for every document. Walking one by it looks at each key and value in 0.8 us for an
# event, against 2 us in Python, and ends with an error at a key that is no string and at a value that is no
# JSON. It has no guard against endless depth: only what went through MessagePack, which has, may come here.
_EVERYTHING = jsonschema_rs.validator_for({"additionalProperties": {"$ref": "#"}, "items": {"$ref": "#"}})


def _is_plain(doc: Mapping[str, Any]) -> bool:
    """Whether this is mappings with string keys and lists of values that the encoder knows."""
    try:
        return _EVERYTHING.is_valid(doc)
    except ValueError:
        return _holds_only_leaves(doc)


def _holds_only_leaves(value: Any) -> bool:
    values: Iterable[Any] = value
    if type(value) is dict:
        if not all(type(key) is str for key in value):
            return False
        values = value.values()
    elif type(value) is not list and type(value) is not tuple:
        return False
    if _LEAVES.issuperset(map(type, values)):
        return True
    return all(type(item) in _LEAVES or _holds_only_leaves(item) for item in values)


def _plain(value: Any, path: str) -> Any:
    """Return ``value`` made of what the encoder knows, or say where that is impossible."""
    try:
        match value:
            case None | bool() | np.bool_():
                return value
            case Enum():
                return _plain(value.value, path)
            case np.ndarray() | np.generic():
                return _plain_array(value, path)
            case int():
                if not -(2**63) <= value < 2**64:
                    raise CodecError(f"{path} is an integer beyond 64 bits; make it a float or text")
                return int(value)
            case float():
                return float(value)
            case complex():
                return np.complex128(value)
            case str():
                return _plain_text(value, path)
            case bytes() | bytearray() | memoryview():
                return bytes(value)
            case Mapping():
                return {_key(key, path): _plain(item, f"{path}.{key}") for key, item in value.items()}
            case list() | tuple() | Set() | deque():
                return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
            case dt.date() | dt.time():
                return value.isoformat()
            case os.PathLike() | uuid.UUID():
                return str(value)
    except RecursionError:
        raise CodecError(f"{path:.60}... is nested too deeply, or contains itself") from None
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise CodecError(f"{path} is a {kind}; documents hold plain data and numpy arrays")


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise CodecError(f"{path} has the key {key!r:.60}; keys must be strings")
    return _plain_text(key, path)


def _plain_text(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CodecError(f"{path} is text that UTF-8 cannot hold: {text!r:.60}") from None
    return str(text)


def _plain_array(array: np.ndarray | np.generic, path: str) -> np.ndarray | np.generic:
    if isinstance(array, np.ma.MaskedArray):
        raise CodecError(f"{path} is a masked array; fill it, or send the mask as an array of its own")
    if array.dtype.hasobject or array.dtype.kind not in _KINDS:
        raise CodecError(f"{path} is an array of {array.dtype}; objects cannot travel")
    try:
        _ = array.dtype.descr
    except ValueError:
        raise CodecError(f"{path} is an array whose fields overlap or are out of order") from None
    if not array.dtype.itemsize:
        raise CodecError(f"{path} is an array of {array.dtype}, of zero bytes each")
    return array
