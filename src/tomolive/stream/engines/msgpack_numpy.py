"""Values as msgpack-numpy writes them, which is bluesky-kafka's format; read without running anything.

An array is a mapping with the keys ``nd``, ``type``, ``kind``, ``shape`` and ``data`` as bytes. msgpack-numpy
unpickles what says that it is an object array; here it is refused.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from tomolive.errors import CodecError, DocumentError
from tomolive.stream.codec import NAMES, dtype_from
from tomolive.stream.limits import check_containers


def encode(name: str, doc: Mapping[str, Any]) -> bytes:
    """Return the body of a message: a list of the name and the document.

    Raises
    ------
    CodecError
        if the document holds what msgpack-numpy has no way to write.
    """
    try:
        return msgspec.msgpack.encode((name, doc), enc_hook=_mapping)
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError(f"the {name} document has no place in bluesky-kafka's format: {error}") from None


def decode(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return the name and the document of a message, which may come from anyone.

    Raises
    ------
    CodecError
        if it is no document, or holds objects.
    """
    try:
        check_containers(body)
        message = msgspec.msgpack.decode(body, ext_hook=_no_extension)
    except DocumentError:
        raise
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise CodecError(f"not a document: {error}") from None
    if not (isinstance(message, list) and len(message) == 2):
        raise CodecError("not a document: expected a list of name and document")
    name, doc = message
    if not isinstance(name, str) or name not in NAMES:
        raise CodecError(f"{name!r:.60} is not the name of a document")
    doc = _restored(doc)
    if not isinstance(doc, dict):
        raise CodecError(f"the {name} document is a {type(doc).__name__}, not a mapping")
    return name, doc


def _mapping(value: Any) -> dict[bytes, Any]:
    if isinstance(value, np.generic):
        if not isinstance(value, (np.bool_, np.number)):
            raise TypeError(f"a {type(value).__name__}")
        return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
    if isinstance(value, complex):
        return {b"complex": True, b"data": repr(value)}
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__}")
    is_structured = value.dtype.kind == "V"
    return {
        b"nd": True,
        b"type": value.dtype.descr if is_structured else value.dtype.str,
        b"kind": b"V" if is_structured else b"",
        b"shape": value.shape,
        b"data": value.tobytes(),
    }


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if b"nd" in value:
        return _array(value)
    if b"complex" in value:
        return _complex(value.get(b"data"))
    if not all(isinstance(key, str) for key in value):
        raise CodecError("a mapping with a key that is no text")
    return {key: _restored(item) for key, item in value.items()}


def _array(found: dict[Any, Any]) -> np.ndarray | np.generic:
    descr, data = found.get(b"type"), found.get(b"data")
    if found.get(b"kind") == b"O" or not isinstance(data, bytes):
        raise CodecError("an array of objects, which would have to be unpickled: refused")
    dtype = dtype_from(_text(descr))
    shape = found.get(b"shape", []) if found[b"nd"] is True else []
    if not (isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape)):
        raise CodecError(f"not the shape of an array: {shape!r:.60}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise CodecError(f"an array of shape {shape} and {dtype} in {len(data)} bytes")
    try:
        array = np.ndarray(shape, dtype, data)
    except (TypeError, ValueError) as error:
        raise CodecError(f"not an array: {error}") from None
    return array if found[b"nd"] is True else array[()]


def _text(descr: Any) -> Any:
    """Return a dtype's description with text where msgpack-numpy may have put bytes."""
    if isinstance(descr, bytes):
        return descr.decode("ascii", "replace")
    return [_text(item) for item in descr] if isinstance(descr, list) else descr


def _complex(text: Any) -> complex:
    try:
        return complex(text)
    except (TypeError, ValueError):
        raise CodecError(f"not a complex number: {text!r:.60}") from None


def _no_extension(code: int, _data: memoryview) -> Any:
    raise CodecError(f"an extension value of unknown kind {code}")
