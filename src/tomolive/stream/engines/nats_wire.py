"""What a message on NATS looks like; Sans-IO. docs/reference/engines.md describes it.

Ours hold whole records, as in the hub's journal: the documents of one Publisher, one after the other, a start
document always first in its message. A record that is larger than the server takes travels in parts.
Those of bluesky-nats hold one document as MessagePack, and its name is the last token of the subject.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tomolive.errors import CodecError, DocumentError
from tomolive.stream import records
from tomolive.stream.codec import NAMES
from tomolive.stream.derived import is_result
from tomolive.stream.engines.vetting import Document, refuse
from tomolive.stream.limits import check_head

MSG_ID, PART = "Nats-Msg-Id", "Tomolive-Part"
BATCH_DOCUMENTS = 256
INDEX_BITS = 10
"""Of a position's offset: which document of its message; the bits above are the message's number."""


class Outgoing(NamedTuple):
    """A message to publish."""

    subject: str
    headers: dict[str, str]
    payload: bytes
    seq: int
    """Of its last document."""
    part: "Part | None" = None

    @property
    def completes(self) -> bool:
        """Whether its last document ends with it."""
        return self.part is None or self.part.at + len(self.payload) == self.part.total

    def behind(self, first: int) -> "Outgoing":
        """Return it as it goes out; ``first``: number in the stream of the first part of its document."""
        if self.part is None:
            return self
        place = f"{self.part.at}/{self.part.total}/{first if self.part.at else 0}"
        return self._replace(headers={**self.headers, PART: place})


class Progress(NamedTuple):
    """How far a Publisher's documents are in the stream."""

    seq: int = 0
    """Its last complete document; 0: none, as far as is known."""
    have: int = 0
    """Bytes of the next one that are there, in parts."""
    first: int = 0
    """Number in the stream of the first of these parts."""


class Subjects(NamedTuple):
    """Names under which documents are kept."""

    prefix: str

    @property
    def all(self) -> str:
        """Of everything."""
        return f"{self.prefix}.>"

    @property
    def runs(self) -> str:
        """Of messages of ours that begin a run, and not that of a result."""
        return f"{self.prefix}.*.run.>"

    @property
    def their_starts(self) -> str:
        """Of start documents of bluesky-nats."""
        return f"{self.prefix}.start"

    def run(self, uid: str) -> str:
        """Of the message that begins a run, whatever it is."""
        return f"{self.prefix}.*.*.{token(uid)}"

    def beginning(self, start: Mapping[str, Any], publisher: str) -> str:
        """Of a message that begins a run."""
        kind = "result" if is_result(start) else "run"
        return f"{self.prefix}.{publisher}.{kind}.{token(str(start['uid']))}"

    def documents(self, publisher: str) -> str:
        """Of messages that begin no run."""
        return f"{self.prefix}.{publisher}.docs"

    def of(self, publisher: str) -> str:
        """Of all messages of a Publisher."""
        return f"{self.prefix}.{publisher}.>"


def token(text: str) -> str:
    """Return ``text`` as one token of a subject.

    >>> token("4c2f-8"), token("a.b c")
    ('4c2f-8', 'a=2eb=20c')
    """
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: "".join(f"={b:02x}" for b in found[0].encode()), text)


# ---- out


def compose(
    documents: Iterable[Document], subjects: Subjects, publisher: str, limit: int, progress: Progress
) -> Iterator[Outgoing]:
    """Yield messages of at most ``limit`` bytes; a document of which parts are there goes on behind these."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        ends = document.name == "start" or size + len(document.record) > limit
        if batch and ends:
            yield _whole(batch, subjects, publisher)
            batch, size = [], 0
        started = progress.have if document.seq == progress.seq + 1 else 0
        if started or len(document.record) > limit:
            yield from _parts(document, subjects, publisher, limit, started)
            continue
        batch.append(document)
        size += len(document.record)
    if batch:
        yield _whole(batch, subjects, publisher)


def _whole(batch: list[Document], subjects: Subjects, publisher: str) -> Outgoing:
    payload = b"".join(document.record for document in batch)
    headers = {MSG_ID: f"{publisher}-{batch[0].seq}"}
    return Outgoing(_subject(batch[0], subjects, publisher), headers, payload, batch[-1].seq)


def _parts(
    document: Document, subjects: Subjects, publisher: str, limit: int, started: int
) -> Iterator[Outgoing]:
    total = len(document.record)
    subject = _subject(document, subjects, publisher)
    for at in range(started, total, limit):
        headers = {MSG_ID: f"{publisher}-{document.seq}@{at}"}
        payload = document.record[at : at + limit]
        yield Outgoing(subject, headers, payload, document.seq, Part(at, total))


def _subject(document: Document, subjects: Subjects, publisher: str) -> str:
    if document.name == "start":
        return subjects.beginning(document.doc, publisher)
    return subjects.documents(publisher)


def compose_theirs(
    documents: Iterable[Document], prefix: str, publisher: str, largest: int
) -> Iterator[Outgoing]:
    """Yield messages as bluesky-nats makes them; arrays become lists, which is all that its format has."""
    run = ""
    for document in documents:
        run = document.doc["uid"] if document.name == "start" else document.doc.get("run_start", run)
        headers = {MSG_ID: f"{publisher}-{document.seq}", **({"run_id": run} if run else {})}
        try:
            payload = msgspec.msgpack.encode(document.doc, enc_hook=_plain)
        except (TypeError, ValueError, OverflowError) as error:
            refuse(document.name, document.doc, f"bluesky-nats has no way to write it: {error}")
            continue
        if len(payload) > largest:
            refuse(document.name, document.doc, f"{len(payload)} bytes; the broker takes {largest}")
            continue
        yield Outgoing(f"{prefix}.{document.name}", headers, payload, document.seq)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind not in "cMmV":
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} of {getattr(value, 'dtype', type(value).__name__)}")


def progress_of(publisher: str, headers: Mapping[str, str], payload: bytes, stream_seq: int) -> Progress:
    """Return how far a Publisher has come, from its last message in the stream."""
    owner, _, place = headers.get(MSG_ID, "").partition("-")
    if owner != publisher:
        return Progress()
    seq = int(place.partition("@")[0])
    if part := part_of(headers):
        have = part.at + len(payload)
        return Progress(seq) if have == part.total else Progress(seq - 1, have, part.first or stream_seq)
    if payload.startswith(records.MAGIC):
        seq = max(record.seq for record in records.walk(payload))
    return Progress(seq)


# ---- in


class Part(NamedTuple):
    """Which bytes of a record a message holds."""

    at: int
    total: int
    first: int = 0
    """Number in the stream of the part at 0; 0 for that one itself."""


def part_of(headers: Mapping[str, str] | None) -> Part | None:
    """Return which part of a record a message is; None: it holds whole ones.

    Raises
    ------
    CodecError
        if it does not say so properly.
    """
    text = (headers or {}).get(PART)
    if text is None:
        return None
    numbers = re.fullmatch(r"(\d{1,12})/(\d{1,12})/(\d{1,18})", text)
    if not numbers:
        raise CodecError(f"a part {text!r:.60}")
    return Part(*map(int, numbers.groups()))


def is_ours(payload: bytes) -> bool:
    """Whether these are records, whole or the first part of one."""
    return payload.startswith(records.MAGIC)


def decode_theirs(subject: str, payload: bytes) -> tuple[str, dict[str, Any]]:
    """Return the document of a message of bluesky-nats, which may come from anyone.

    Raises
    ------
    CodecError
        if it is none.
    """
    name = subject.rpartition(".")[2]
    if name not in NAMES:
        raise CodecError(f"{name!r:.60} is not the name of a document")
    try:
        check_head(payload)
        doc = msgspec.msgpack.decode(payload, ext_hook=_no_extension)
    except DocumentError:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CodecError(f"not a document: {error}") from None
    if not isinstance(doc, dict):
        raise CodecError(f"the {name} document is a {type(doc).__name__}, not a mapping")
    return name, doc


def _no_extension(code: int, _data: memoryview) -> Any:
    raise CodecError(f"an extension value of unknown kind {code}")
