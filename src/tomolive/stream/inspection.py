"""Check a journal that no hub has open, and mend what can be mended.

Damage takes documents; those before and behind it keep their numbers. What was damaged is replaced by void
records, one for each document that stood there, so that every cursor and position stays true.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tomolive.errors import JournalError
from tomolive.stream import records
from tomolive.stream.atomic import sync_directory
from tomolive.stream.epochs import DamagedEpochsError, Epochs
from tomolive.stream.index import index_path
from tomolive.stream.journal import lock
from tomolive.stream.records import Stretch
from tomolive.stream.segments import segments_in, survey

_NOBODY = bytes(16)


@dataclass(frozen=True)
class Damage:
    """A place of a journal that cannot be read."""

    path: Path
    start: int
    """Byte where it begins."""
    end: int
    """Byte where whole records go on, or the file ends."""
    document: int
    """Number of the first document that is lost."""
    lost: int
    """Documents that are lost."""
    reason: str
    torn: bool
    """True for the last write, cut short: this document was never acknowledged."""

    def __str__(self) -> str:
        documents = f"{self.lost} document(s) from number {self.document} on"
        what = "the last write was torn" if self.torn else documents
        return f"{self.path.name}: byte {self.start} to {self.end}: {what} (the record {self.reason})"


@dataclass(frozen=True)
class Report:
    """What a check found."""

    segments: int
    documents: int
    size: int
    damage: tuple[Damage, ...]
    header: str = ""
    """What is wrong with ``journal.json``; empty if it is sound."""


def check(folder: Path) -> Report:
    """Read every record of the journal in ``folder``.

    Raises
    ------
    JournalError
        if there is no journal, a hub has it open, or whole segments are missing.
    """
    _require_journal(folder)
    fd = lock(folder)
    try:
        return _check(folder)
    finally:
        os.close(fd)


def repair(folder: Path) -> Report:
    """Mend the journal in ``folder``, keeping changed files as ``.damaged``; return what was lost.

    Raises
    ------
    JournalError
        as `check` does.
    """
    _require_journal(folder)
    fd = lock(folder)
    try:
        report = _check(folder)
        if report.header:
            Epochs.make_again(folder)
        for path in sorted({damage.path for damage in report.damage}):
            _mend(path, [damage for damage in report.damage if damage.path == path])
        return report
    finally:
        os.close(fd)


def _require_journal(folder: Path) -> None:
    if not (folder / "journal.json").is_file():
        raise JournalError(f"{folder} holds no journal")


def _check(folder: Path) -> Report:
    damage: list[Damage] = []
    documents = size = 0
    found = segments_in(folder / "segments")
    for (first, path), following in zip(found, [*found[1:], None], strict=True):
        wanted = following[0] - first if following else None
        pieces = survey(path)
        damage += _damage_of(path, first, wanted, pieces)
        documents += sum(piece.count for piece in pieces)
        size += path.stat().st_size
    return Report(len(found), documents, size, tuple(damage), _fault_of_header(folder))


def _fault_of_header(folder: Path) -> str:
    try:
        Epochs.open(folder)
    except DamagedEpochsError as error:
        return str(error)
    return ""


def _damage_of(path: Path, first: int, wanted: int | None, pieces: list[Stretch]) -> Iterator[Damage]:
    """Yield the gaps of a segment that should hold ``wanted`` documents; None: as many as can be read."""
    size = path.stat().st_size
    gaps = [(here, ahead) for here, ahead in zip(pieces, [*pieces[1:], None], strict=True) if here.fault]
    missing = None if wanted is None else wanted - sum(piece.count for piece in pieces)
    if not gaps and missing:
        raise JournalError(f"journal {path}: its name and the next one's promise {missing} documents more")
    number = first
    for left, (here, ahead) in zip(range(len(gaps), 0, -1), gaps, strict=True):
        torn = ahead is None and wanted is None
        # Nobody knows how many documents one of several gaps held: one each, the last takes the rest.
        lost = 0 if torn else (missing or 1) if left == 1 else 1
        number += here.count
        yield Damage(path, here.end, ahead.start if ahead else size, number, lost, here.fault, torn)
        number += lost
        missing = None if missing is None else missing - lost


def _mend(path: Path, damage: list[Damage]) -> None:
    data = path.read_bytes()
    parts, position = [], 0
    for gap in damage:
        parts.append(data[position : gap.start])
        parts += [records.pack(_NOBODY, 0, (), records.VOID)] * gap.lost
        position = gap.end
    parts.append(data[position:])
    fresh = path.with_suffix(".new")
    fresh.write_bytes(b"".join(parts))
    path.replace(path.with_suffix(".damaged"))
    fresh.replace(path)
    index_path(path).unlink(missing_ok=True)
    sync_directory(path.parent)
