"""What becomes of the frames of a stream: announced, handed on with their angles, or lost."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from tomolive.live.documents.pairing import Paired
from tomolive.live.documents.rules import Kind
from tomolive.live.documents.run import Batch, Output, Scan, in_words
from tomolive.live.documents.streams import ImageStream


def announce(scan: Scan, stream: ImageStream, first: int, last: int) -> None:
    """Note that documents promise the frames ``[first, last)`` of a stream.

    Raises
    ------
    ScanError
        if no scan has that many frames.
    """
    for a, b in stream.announce(first, last):
        if stream.kind in (None, "projection"):
            number = stream.number(a, b, scan.numbered)
            scan.numbered.add(*number)
            scan.announced.add(*number)
        else:
            stream.came_after(a, scan.announced.end)


def take_paired(scan: Scan, stream: ImageStream, why: str = "they have no angle") -> list[Output]:
    """Return the frames of a stream that have all that belongs to them, in batches of one kind.

    Those that will never have it are missing; ``why`` says so if their pairing has no reason of its own.
    """
    stream.ask_monitor()
    out: list[Output] = []
    for paired in stream.pairing.take():
        out += _batches(scan, stream, paired)
    return out + lose(scan, stream, stream.pairing.lost(), stream.pairing.trouble or why)


def _batches(scan: Scan, stream: ImageStream, paired: Paired) -> list[Output]:
    first, last = paired.first, paired.first + len(paired.array)
    stream.received.add(first, last)
    stream.missing.discard(first, last)
    if stream.kind in ("dark", "flat"):
        return [
            _references(scan, stream.kind, paired, a - first, b - first, after)
            for a, b, after in stream.pieces(first, last)
        ]
    out: list[Output] = []
    for a, b, number in stream.numbers(first, last):
        for begin, end, kind in _kinds(scan, stream, paired, a - first, b - first):
            out += _batch(scan, stream, kind, paired, begin, end, number + begin - (a - first))
    return out


def _kinds(
    scan: Scan, stream: ImageStream, paired: Paired, first: int, last: int
) -> list[tuple[int, int, Kind | None]]:
    """Cut where the frames are of another kind."""
    if stream.kind:
        return [(first, last, stream.kind)]
    rules = scan.rules.frame_kinds
    values = paired.numbers["kind"][first:last]
    kinds: list[Kind | None] = [rules.values.get(int(value)) if rules else None for value in values]
    edges = [0, *(i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]), len(kinds)]
    return [(first + a, first + b, kinds[a]) for a, b in pairwise(edges)]


def _batch(
    scan: Scan, stream: ImageStream, kind: Kind | None, paired: Paired, a: int, b: int, number: int
) -> list[Output]:
    """Return frames of one kind that stand among the projections of the scan, from ``number`` on."""
    last = number + b - a
    if kind != "projection":
        scan.announced.discard(number, last)
        scan.missing.discard(number, last)
        after = scan.received.end_before(number)
        return [_references(scan, kind, paired, a, b, after)] if kind else []
    scan.received_frames(kind, b - a)
    scan.received.add(number, last)
    scan.missing.discard(number, last)
    angles = None
    if stream.angles:
        angles = paired.numbers["angle"][a:b].copy()
        degrees = np.rad2deg(angles)
        scan.angle_first = float(degrees[0]) if scan.angle_first is None else scan.angle_first
        scan.angle_last = float(degrees[-1])
    return [Batch(kind, scan.run_uid, number, paired.array[a:b], angles)]


def _references(scan: Scan, kind: Kind, paired: Paired, a: int, b: int, after: int) -> Batch:
    """Return darks or flats; they count through their stream."""
    scan.received_frames(kind, b - a)
    return Batch(kind, scan.run_uid, paired.first + a, paired.array[a:b], None, after)


def lose(scan: Scan, stream: ImageStream, ranges: Iterable[tuple[int, int]], why: str) -> list[Output]:
    """Note frames of a stream as missing, and return what is to be said of those that were not before."""
    lost = [new for a, b in ranges for new in stream.missing.gaps(a, b)]
    if not lost:
        return []
    for a, b in lost:
        stream.missing.add(a, b)
        for c, d, number in stream.numbers(a, b):
            scan.missing.add(number, number + d - c)
    what = f"{stream.kind}s" if stream.kind else "frames"
    text = f"{what} {in_words(lost)} of stream {stream.name!r} are missing: {why}"
    if stream.kind in ("dark", "flat"):
        return [scan.note(text)]
    scan.missing_because = why
    return [scan.note(text, problem=False)]
