"""The wire format of ``bluesky.callbacks.zmq``: a prefix, the name and a pickle, with a space between each.

What a stock ``Publisher`` sends is read without unpickling it; what a stock ``RemoteDispatcher`` gets is a
pickle of plain data. JSON and MessagePack, as a ``Publisher(serializer=...)`` may make them, are read too.
"""

import pickle
from collections.abc import Mapping
from typing import Any

import msgspec

from tomolive.errors import CodecError
from tomolive.stream import codec, limits, plain_pickle

_PICKLE_PROTOCOL = 4
"""The default of Python 3.8 to 3.13; a stock consumer then gets arrays that it may write to."""


def encode_stock(name: str, doc: Mapping[str, Any], prefix: bytes = b"") -> bytes:
    """Return the message of a document for a stock ``RemoteDispatcher``.

    Raises
    ------
    CodecError
        if the prefix holds a space, or ``name`` is not the name of a document: that would end every stock
        ``RemoteDispatcher``.
    """
    if b" " in prefix:
        raise CodecError(f"the prefix {prefix!r} holds a space, which separates the parts of a message")
    _check_name(name)
    return b" ".join([prefix, name.encode(), pickle.dumps(doc, protocol=_PICKLE_PROTOCOL)])


def decode_stock(message: bytes | memoryview, limit: int = 256 * 2**20) -> tuple[str, dict[str, Any]]:
    """Return the name and the document of a message of a stock ``Publisher``; the prefix is ignored.

    Parameters
    ----------
    message
        what one stock message holds; it may come from anyone.
    limit
        bytes; a longer message is refused unread.

    Raises
    ------
    CodecError
        if it is anything else than one document of plain data and numpy arrays.
    """
    if len(message) > limit:
        raise CodecError(f"a message of {len(message)} bytes; the limit is {limit}")
    parts = bytes(message).split(b" ", 2)
    if len(parts) != 3:
        raise CodecError(f"a message of {len(message)} bytes that is not prefix, name and document")
    _, name, body = parts
    try:
        name = name.decode()
    except UnicodeDecodeError:
        raise CodecError(f"{name!r:.60} is not the name of a document") from None
    _check_name(name)
    doc = _deserialised(body)
    if not isinstance(doc, dict):
        raise CodecError(f"the {name} document is a {type(doc).__name__}, not a mapping")
    return name, doc


def _check_name(name: str) -> None:
    if name not in codec.NAMES:
        raise CodecError(
            f"{name!r:.60} is not the name of a document; known are {', '.join(sorted(codec.NAMES))}"
        )


def _deserialised(body: bytes) -> Any:
    """Tell pickle, JSON and MessagePack by their first bytes."""
    if body[:1] == b"\x80":
        return plain_pickle.loads(body)
    try:
        if body.lstrip()[:1] == b"{":
            if body.count(b"[") + body.count(b"{") > limits.CONTAINERS:
                raise CodecError(f"a document of more than {limits.CONTAINERS} lists and mappings")
            return msgspec.json.decode(body)
        limits.check_head(body)
        return msgspec.msgpack.decode(body, ext_hook=_no_extension)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CodecError(f"not a document: {error}") from None


def _no_extension(code: int, data: memoryview) -> Any:
    raise CodecError(f"an extension value of unknown kind {code}, {len(data)} bytes")
