"""What the hub does with documents and a broker does not: look at each one before it is kept or believed."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tomolive.errors import DocumentError
from tomolive.metrics import PUBLISHER_REFUSED
from tomolive.stream import records
from tomolive.stream.codec import decode
from tomolive.stream.sparing import SparingFilter
from tomolive.stream.validate import check

log = logging.getLogger(__name__)
log.addFilter(SparingFilter())


class Document(NamedTuple):
    """A valid document on its way to a broker."""

    seq: int
    """Its number in the spool."""
    name: str
    doc: dict[str, Any]
    record: bytes


def documents(data: bytes) -> Iterator[Document]:
    """Yield the valid documents of spooled records; the others are refused by name, as a hub does."""
    for record in records.walk(data):
        name, doc = "unknown", {}
        try:
            name, doc = decode(records.frames(data, record))
            check(name, doc)
        except DocumentError as error:
            refuse(name, doc, str(error))
        else:
            yield Document(record.seq, name, doc, data[record.start : record.end])


def refuse(name: str, doc: Mapping[str, Any], reason: str) -> None:
    """Report a document that goes to no broker."""
    PUBLISHER_REFUSED.inc()
    log.error("refused the %s document %s: %s", name, doc.get("uid", "?"), reason)


class Sequence:
    """Tells documents that came again: a Publisher's are numbered, and their order is kept."""

    def __init__(self, most: int = 1000) -> None:
        self._last: dict[bytes, int] = {}
        self._most = most

    def is_new(self, publisher: bytes, seq: int) -> bool:
        """Whether this one has not been seen; it has been from now on."""
        last = self._last.pop(publisher, 0)
        self._last[publisher] = max(last, seq)  # behind all others: the first is the one longest silent
        if len(self._last) > self._most:
            del self._last[next(iter(self._last))]
        return seq > last
