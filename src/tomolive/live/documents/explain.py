"""How recorded runs would be understood, and why: for whoever connects a beamline."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tomolive.errors import DocumentError
from tomolive.live.documents.rules import Rules, shipped_rules
from tomolive.live.documents.run import Note, Scan
from tomolive.live.documents.scan import ScanReader
from tomolive.live.documents.streams import ImageStream
from tomolive.stream.recorded import Document
from tomolive.stream.recorded import read_documents as read_documents


def explain(documents: Iterable[Document], rules: Sequence[Rules] | None = None) -> str:
    """Return how the runs in ``documents`` would be understood, and why; several lines for each run.

    Raises
    ------
    DocumentError
        if a document lacks what event-model requires of it.
    """
    rules = shipped_rules() if rules is None else rules
    reader = ScanReader(rules)
    starts: dict[str, dict[str, Any]] = {}
    problems: dict[str, list[str]] = {}
    for name, doc in documents:
        try:
            if name == "start":
                starts[doc["uid"]] = doc
            out = reader.document(name, doc)
        except KeyError as error:
            raise DocumentError(f"a {name} document has no {error}: {json.dumps(doc)[:200]}") from None
        for note in out:
            if isinstance(note, Note) and note.problem:
                problems.setdefault(note.run_uid, []).append(note.text)
    if not starts:
        raise DocumentError("there is no start document: nothing can be said of a run without it")
    parts = []
    for uid, start in starts.items():
        scan = reader.scan(uid)
        lines = _of_other(start, rules) if scan is None else _of_scan(scan)
        parts += [*lines, *(f"  problem: {text}" for text in problems.get(uid, []))]
    return "\n".join(parts)


def _title(start: dict[str, Any]) -> str:
    return (
        f"run {start['uid'][:8]} (plan {start.get('plan_name', 'unknown')}, scan {start.get('scan_id', '?')})"
    )


def _of_other(start: dict[str, Any], rules: Sequence[Rules]) -> list[str]:
    lines = [f"{_title(start)}: no tomography scan, left alone; its start document matches none of these:"]
    for rule in rules:
        wanted = "; or ".join(
            ", ".join(f"{key} = {value}" for key, value in alternative.items()) for alternative in rule.match
        )
        lines.append(f"  {rule.name}: {wanted}")
    return lines


def _of_scan(scan: Scan) -> list[str]:
    rules = scan.rules
    lines = [
        f"{_title(dict(scan.start))}: a tomography scan",
        f"  rules: {rules.name}, because {rules.why(scan.start)}",
    ]
    for stream in scan.streams.values():
        lines += _of_stream(stream)
    if not scan.streams:
        lines.append("  streams: none with images that these rules name")
    for uid in scan.references:
        lines.append(f"  darks and flats also of run {uid}, which the start document names")
    kinds = {stream.kind for stream in scan.streams.values()}
    if None not in kinds and "flat" not in kinds and not scan.references:
        lines.append("  flats: none; the beam would be taken to be even")
    size = "unknown" if scan.pixel_size_um is None else f"{scan.pixel_size_um:g} um"
    planned = "not said" if scan.planned is None else str(scan.planned)
    lines.append(f"  projections planned: {planned}; pixel size: {size}; sample: {scan.sample or 'not said'}")
    lines.append(f"  end: {scan.outcome}")
    return lines


def _of_stream(stream: ImageStream) -> list[str]:
    kind = f"{stream.kind}s" if stream.kind else "darks, flats and projections"
    count = len(stream.announced)
    each = f", {stream.per_event} to an event" if stream.per_event > 1 else ""
    lines = [
        f"  stream {stream.name!r}: {kind} ({stream.why})",
        f"    images: {stream.image_key!r}, {count} frames announced{each}",
    ]
    if stream.kind in (None, "projection"):
        lines.append(f"    angles: {stream.angles.told if stream.angles else 'none found'}")
    return lines
