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
            scan.announced.add(stream.base + a, stream.base + b)
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
    count = len(paired.array)
    stream.received.add(paired.first, paired.first + count)
    stream.missing.discard(paired.first, paired.first + count)
    if stream.kind:
        first = paired.first
        return [
            _batch(scan, stream, stream.kind, paired, a - first, b - first, after)
            for a, b, after in stream.pieces(first, first + count)
        ]
    rules = scan.rules.frame_kinds
    kinds: list[Kind | None] = [
        rules.values.get(int(value)) if rules else None for value in paired.numbers["kind"]
    ]
    out: list[Output] = []
    number = stream.base + paired.first
    edges = [0, *(i for i in range(1, count) if kinds[i] != kinds[i - 1]), count]
    for a, b in pairwise(edges):
        kind = kinds[a]
        if kind != "projection":
            scan.announced.discard(number + a, number + b)
            scan.missing.discard(number + a, number + b)
        if kind:
            after = scan.received.end_before(number + a)
            out.append(_batch(scan, stream, kind, paired, a, b, after))
    return out


def _batch(scan: Scan, stream: ImageStream, kind: Kind, paired: Paired, a: int, b: int, after: int) -> Batch:
    angles = None
    first = paired.first + a
    scan.received_frames(kind, b - a)
    if kind == "projection":
        first += stream.base
        scan.received.add(first, first + b - a)
        scan.missing.discard(first, first + b - a)
        if stream.angles:
            angles = paired.numbers["angle"][a:b].copy()
            degrees = np.rad2deg(angles)
            scan.angle_first = float(degrees[0]) if scan.angle_first is None else scan.angle_first
            scan.angle_last = float(degrees[-1])
    return Batch(kind, scan.run_uid, first, paired.array[a:b], angles, after)


def lose(scan: Scan, stream: ImageStream, ranges: Iterable[tuple[int, int]], why: str) -> list[Output]:
    """Note frames of a stream as missing, and return what is to be said of those that were not before."""
    lost = [new for a, b in ranges for new in stream.missing.gaps(a, b)]
    if not lost:
        return []
    for a, b in lost:
        stream.missing.add(a, b)
        if stream.kind in (None, "projection"):
            scan.missing.add(stream.base + a, stream.base + b)
    what = f"{stream.kind}s" if stream.kind else "frames"
    text = f"{what} {in_words(lost)} of stream {stream.name!r} are missing: {why}"
    if stream.kind in ("dark", "flat"):
        return [scan.note(text)]
    scan.missing_because = why
    return [scan.note(text, problem=False)]
