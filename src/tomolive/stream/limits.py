"""What one message may make its reader do.

A list or a mapping costs a byte to send and a hundred bytes and a microsecond to build, so that a message of
a few megabytes could hold up a hub for seconds. Arrays lie beside the head of a document and are not looked
at: a document with large data holds arrays, and its head is small.
"""

from collections.abc import Callable

from tomolive.errors import CodecError

HEAD_BYTES = 4 << 20
"""Of a document without its arrays: a list of 466,000 numbers, say."""
CONTAINERS = 1 << 18
"""Lists, mappings and arrays in one document."""
TOGETHER_BYTES = 2 << 20
"""Several documents in one message; a document of any size may come alone."""

_OPENING = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
_ADVICE = "send long data as numpy arrays, which travel beside it"


def check_head(head: bytes | bytearray | memoryview) -> None:
    """Return if decoding the MessagePack ``head`` is little work.

    Raises
    ------
    CodecError
        with the limit and what to do.
    """
    if len(head) > HEAD_BYTES:
        raise CodecError(f"a document of {len(head)} bytes beside its arrays; {HEAD_BYTES} may be: {_ADVICE}")
    check_containers(head)


def check_containers(head: bytes | bytearray | memoryview) -> None:
    """Return if the MessagePack ``head`` holds few lists and mappings, however long its text and bytes are.

    Raises
    ------
    CodecError
        with the limit and what to do.
    """
    if len(head) <= CONTAINERS:
        return
    head = bytes(head)
    # Bytes inside numbers and text may look as if they opened a list: what is counted first is at least as
    # much as there is, and nearly always little enough.
    if _count_opening(head) > CONTAINERS and _count_containers(head) > CONTAINERS:
        raise CodecError(f"a document of more than {CONTAINERS} lists and mappings: {_ADVICE}")


def _count_opening(head: bytes) -> int:
    return len(head) - len(head.translate(None, _OPENING))


def _count_containers(head: bytes) -> int:
    """Count lists, mappings and extensions of well-formed MessagePack; of other bytes, something."""
    count = at = 0
    size = len(head)
    while at < size:
        first = head[at]
        opens, measure = _TOKENS[first]
        step = measure(head, at) if measure else 1
        if opens:
            count += 1
            if first in _EXTENSIONS:
                count += _count_opening(head[at : at + step])
        at += step
    return count


Measure = Callable[[bytes, int], int]


def _fixed(size: int) -> Measure:
    return lambda _head, _at: size


def _sized(width: int, more: int = 0) -> Measure:
    return lambda head, at: 1 + width + more + int.from_bytes(head[at + 1 : at + 1 + width], "big")


_EXTENSIONS = frozenset([*range(0xC7, 0xCA), *range(0xD4, 0xD9)])
_TOKENS: list[tuple[bool, Measure | None]] = [(False, None)] * 256
"""first byte -> (whether it opens something, how many bytes to go on; None: one)."""
for _first in range(0x80, 0xA0):
    _TOKENS[_first] = (True, None)
for _first in range(0xA0, 0xC0):
    _TOKENS[_first] = (False, _fixed(1 + (_first & 31)))
for _first, _size in {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}.items():
    _TOKENS[_first] = (False, _sized(_size))
for _first, _size in {0xC7: 1, 0xC8: 2, 0xC9: 4}.items():
    _TOKENS[_first] = (True, _sized(_size, 1))
for _first, _size in {
    0xDC: 3,
    0xDD: 5,
    0xDE: 3,
    0xDF: 5,
    0xD4: 3,
    0xD5: 4,
    0xD6: 6,
    0xD7: 10,
    0xD8: 18,
}.items():
    _TOKENS[_first] = (True, _fixed(_size))
for _first, _size in zip(range(0xCA, 0xD4), (5, 9, 2, 3, 5, 9, 2, 3, 5, 9), strict=True):
    _TOKENS[_first] = (False, _fixed(_size))
