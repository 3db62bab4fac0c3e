"""The messages of the native protocol: a MessagePack head, and for documents a second part of records.

Decoding is strict: what does not match a message's fields and bounds is a ProtocolError, nothing else.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from tomolive.errors import TomoliveError

VERSION = 1
PublisherId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Name = Annotated[str, Meta(max_length=200)]


class ProtocolError(TomoliveError):
    """A peer says something that the protocol does not know."""


class Position(Struct, frozen=True, array_like=True):
    """A place in a hub's journal."""

    epoch: Name
    offset: Count
    """Number of the next document."""


class _Message(Struct, frozen=True, array_like=True, gc=False):
    """Base of all messages."""


class Hello(_Message, frozen=True, tag=1):
    """Publisher: here I am."""

    version: int
    publisher: PublisherId
    name: Name
    first: Count
    """The oldest document that it still has."""


class Publish(_Message, frozen=True, tag=2):
    """Publisher: records; the second part holds them."""

    count: Count
    waiting: Count
    """Documents in its spool."""


class Subscribe(_Message, frozen=True, tag=3):
    """Consumer: send me documents."""

    version: int
    name: Name
    """Of its cursor; empty: none."""
    start: Name
    """cursor, newest, all, new, or a run's uid."""
    position: Position | None
    """Where to go on; wins over ``start``."""
    documents: Annotated[int, Meta(ge=1, le=1 << 20)]
    """Credit: documents that may be under way."""
    size: Annotated[int, Meta(ge=1, le=1 << 40)]
    """Credit in bytes."""


class Acknowledge(_Message, frozen=True, tag=4):
    """Consumer: the documents before ``offset`` are done."""

    offset: Count


class Ping(_Message, frozen=True, tag=5):
    """Anyone: say that you are there."""

    waiting: Count = 0


class Bye(_Message, frozen=True, tag=6):
    """Anyone: forget me."""


class Welcome(_Message, frozen=True, tag=16):
    """Hub to Publisher: begin with document ``expected``."""

    expected: Count
    largest: Count
    """Bytes of the largest record that it takes."""


class Accepted(_Message, frozen=True, tag=17):
    """Hub to Publisher: the documents up to ``seq`` are in the journal, or were refused."""

    seq: Count


class Refused(_Message, frozen=True, tag=18):
    """Hub to Publisher: this document is not valid and goes nowhere."""

    seq: Count
    document: Name
    uid: Name
    reason: str


class Busy(_Message, frozen=True, tag=19):
    """Hub to Publisher: I cannot take documents now; greet me again in a while."""

    reason: str


class Subscribed(_Message, frozen=True, tag=20):
    """Hub to Consumer: documents will come from ``position`` on."""

    position: Position
    head: Count
    lost: Count
    """Documents between where it wanted to go on and here that the journal no longer has."""


class Deliver(_Message, frozen=True, tag=21):
    """Hub to Consumer: records; the second part holds them."""

    offset: Count
    """Number of the first one."""
    count: Count
    head: Count
    """One past the newest document of the journal."""
    lost: Count = 0
    """Documents right before ``offset`` that the journal no longer has."""


class Pong(_Message, frozen=True, tag=22):
    """Hub: I am here."""

    head: Count


class Unknown(_Message, frozen=True, tag=23):
    """Hub: I do not know you; say who you are."""


class Denied(_Message, frozen=True, tag=24):
    """Hub: no, and asking again will not help."""

    reason: str


FromPeer = Hello | Publish | Subscribe | Acknowledge | Ping | Bye
FromHub = Welcome | Accepted | Refused | Busy | Subscribed | Deliver | Pong | Unknown | Denied

_encoder = msgspec.msgpack.Encoder()
_from_peer: msgspec.msgpack.Decoder[FromPeer] = msgspec.msgpack.Decoder(FromPeer)
_from_hub: msgspec.msgpack.Decoder[FromHub] = msgspec.msgpack.Decoder(FromHub)
encode = _encoder.encode


def from_peer(parts: Sequence[bytes | bytearray | memoryview]) -> FromPeer:
    """Understand what a Publisher or consumer says; only Publish has a second part."""
    message = _decode(_from_peer, parts[0] if parts else b"")
    if len(parts) != 1 + isinstance(message, Publish):
        raise ProtocolError(f"{type(message).__name__} in {len(parts)} parts")
    return message


def from_hub(*parts: bytes | bytearray | memoryview) -> FromHub:
    """Understand what the hub says; only Deliver has a second part."""
    message = _decode(_from_hub, parts[0] if parts else b"")
    if len(parts) != 1 + isinstance(message, Deliver):
        raise ProtocolError(f"{type(message).__name__} in {len(parts)} parts")
    return message


def _decode(decoder, head):
    try:
        return decoder.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not a message of protocol version {VERSION}: {error}") from None
