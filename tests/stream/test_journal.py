"""The journal and its records, on disk."""

import json
import logging
import os
import random

import pytest

from tomolive.errors import JournalError
from tomolive.stream import inspection, records
from tomolive.stream.codec import encode
from tomolive.stream.cursors import Cursors
from tomolive.stream.index import Batch
from tomolive.stream.journal import Journal, Reader
from tomolive.stream.messages import Position

PUBLISHER = b"publisher-000001"


def append(journal: Journal, documents: list[tuple[str, dict]], first_seq: int = 1) -> None:
    """Append documents, each in a batch of its own."""
    for seq, (name, doc) in enumerate(documents, first_seq):
        batch = Batch()
        starts = records.STARTS_RUN if name == "start" else 0
        batch.add(records.pack(PUBLISHER, seq, encode(name, doc), starts), 1, PUBLISHER, seq)
        if starts:
            batch.runs.append((0, doc["uid"]))
        journal.append(batch)


def numbers(journal: Journal, offset: int = 0, documents: int = 7, size: int = 2000) -> list[int]:
    """Read the journal in small bites; return the seq of every record."""
    reader = journal.reader(offset)
    found = []
    while (chunk := reader.read(documents, size)).count:
        found += [record.seq for record in records.walk(chunk.data)]
    reader.close()
    return found


@pytest.fixture
def open_journal(tmp_path):
    """Open the journal in tmp_path again and again; the last one is closed at the end."""
    opened = []

    def opener(**options) -> Journal:
        if opened:
            opened[-1].close()
        opened.append(Journal(tmp_path, **{"segment_bytes": 5000, **options}))
        return opened[-1]

    yield opener
    for journal in opened:
        journal.close()


def segments(journal: Journal) -> list:
    """Return the journal's files, oldest first."""
    return sorted(journal.folder.glob("segments/*.log"))


def crash(journal: Journal) -> None:
    """Let go of the files as the end of a killed process does: without index or clean close."""
    journal._closed.set()
    journal._file.close()
    os.close(journal._lock_fd)
    journal.close = lambda: None


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
@pytest.mark.parametrize("clean", [True, False])
def test_everything_is_there_after_a_restart(open_journal, make_run, fsync, clean):
    """Documents, runs and the Publisher's count outlive the process, whether it closed or was killed."""
    run, other = make_run(50), make_run(50)
    journal = open_journal(fsync=fsync)
    append(journal, [*run, *other])
    if not clean:
        crash(journal)
    again = open_journal(fsync=fsync)
    assert numbers(again) == list(range(1, len(run) + len(other) + 1))
    assert again.publishers == {PUBLISHER: len(run) + len(other)}
    assert again.find_run(run[0][1]["uid"]) == 0
    assert again.newest_run() == again.find_run(other[0][1]["uid"]) == len(run)


def test_the_newest_run_is_looked_for_once(open_journal, make_run, monkeypatch):
    """Results of scans are passed over without being read again; a scan that is no longer kept is none."""
    scan, following = make_run(1), make_run(1)
    results = [pair for _ in range(20) for pair in make_run(1, tomolive={"raw_run": scan[0][1]["uid"]})]
    journal, read = open_journal(), []
    monkeypatch.setattr(journal, "reader", lambda at: (read.append(at), Reader(journal, at))[1])
    append(journal, [*scan, *results])
    assert [journal.newest_run() for _ in range(3)] == [0, 0, 0]
    assert len(read) == 21
    append(journal, results, first_seq=1000)
    assert journal.newest_run() == 0
    assert len(read) == 41
    append(journal, following, first_seq=2000)
    assert journal.newest_run() == journal.find_run(following[0][1]["uid"])
    append(journal, results, first_seq=3000)
    assert open_journal().newest_run() == journal.find_run(following[0][1]["uid"])
    bounded = open_journal(keep_bytes=5000)
    assert bounded.newest_run() is not None
    append(bounded, results, first_seq=4000)
    assert bounded.first > journal.find_run(following[0][1]["uid"])
    assert bounded.newest_run() is None


def test_it_can_be_read_from_any_document_on(open_journal, make_run):
    """Every offset, in every segment, before and after a restart."""
    run = make_run(300)
    journal = open_journal()
    append(journal, run)
    assert len(segments(journal)) > 3
    for journal in (journal, open_journal()):  # noqa: B020
        for offset in range(0, len(run), 17):
            assert numbers(journal, offset) == list(range(offset + 1, len(run) + 1))


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_torn_tail_is_cut_off(open_journal, make_run, cut, caplog):
    """What a crash left of the last record goes, all before it stays, and writing goes on."""
    run = make_run(5)
    journal = open_journal()
    append(journal, run)
    crash(journal)
    last = segments(journal)[-1]
    os.truncate(last, last.stat().st_size - cut)
    with caplog.at_level(logging.WARNING):
        again = open_journal()
    assert "cut off" in caplog.text
    assert numbers(again) == list(range(1, len(run)))
    append(again, run[-1:], first_seq=len(run))
    assert numbers(open_journal()) == list(range(1, len(run) + 1))


def test_garbage_behind_the_last_record_is_cut_off(open_journal, make_run):
    """Bytes that were never a record, as a power cut leaves them."""
    run = make_run(5)
    journal = open_journal()
    append(journal, run)
    crash(journal)
    with segments(journal)[-1].open("ab") as file:
        file.write(bytes(random.Random(1).randbytes(200)))
    assert numbers(open_journal()) == list(range(1, len(run) + 1))


def damage(journal: Journal, segment: int, position: int) -> None:
    """Flip one byte."""
    path = segments(journal)[segment]
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def test_damage_in_the_middle_stops_with_its_position(open_journal, make_run):
    """The last segment is checked at opening: document number, byte and reason are said; nothing is cut."""
    run = make_run(50)
    journal = open_journal(segment_bytes=1 << 20)
    append(journal, run)
    crash(journal)
    damage(journal, 0, 1000)
    size = segments(journal)[0].stat().st_size
    with pytest.raises(JournalError, match=r"document \d+ at byte \d+ .*whole records follow.*journal check"):
        open_journal(segment_bytes=1 << 20)
    assert segments(journal)[0].stat().st_size == size


def test_damage_in_a_sealed_segment_stops_the_reader(open_journal, make_run):
    """It is found when it is read, before it reaches a consumer."""
    run = make_run(100)
    journal = open_journal()
    append(journal, run)
    damage(journal, 1, 1000)
    with pytest.raises(JournalError, match=r"the record at byte \d+ .*journal check"):
        numbers(journal)


@pytest.mark.parametrize("begin", [0, 40, 59], ids=["before it", "at it", "behind it"])
def test_a_damaged_length_beside_a_sound_index_stops_the_reader(open_journal, make_run, begin):
    """A record that announces more bytes than the segment holds is damage, wherever reading begins."""
    journal = open_journal(segment_bytes=1 << 20)
    append(journal, make_run(60))
    ends = [record.end for record in records.walk(segments(journal)[0].read_bytes())]
    journal.close()
    with segments(journal)[0].open("r+b") as file:
        file.seek(ends[39] + 4)
        file.write((1 << 30).to_bytes(4, "little"))
    again = open_journal(segment_bytes=1 << 20)
    with pytest.raises(JournalError, match=rf"the record at byte {ends[39]} announces more bytes"):
        numbers(again, begin)


@pytest.mark.parametrize("size", range(1, 41))
def test_a_record_is_read_with_any_credit(open_journal, make_run, size):
    """However few bytes may still be sent, the next record comes, whole."""
    run = make_run(2)
    journal = open_journal()
    append(journal, run)
    assert numbers(journal, size=size) == list(range(1, len(run) + 1))


@pytest.mark.parametrize("position", [2, 5, 9, 300], ids=["magic", "length", "checksum", "frames"])
@pytest.mark.parametrize("segment", [0, -1], ids=["sealed", "last"])
def test_repair_keeps_every_other_document_at_its_number(open_journal, make_run, position, segment):
    """Check says what would be lost; repair loses that, and nothing moves."""
    run = make_run(60)
    journal = open_journal()
    append(journal, run)
    crash(journal)
    damage(journal, segment, position)
    report = inspection.check(journal.folder)
    assert [d.lost for d in report.damage] == [1]
    lost = report.damage[0].document
    assert f"1 document(s) from number {lost} on" in str(report.damage[0])
    inspection.repair(journal.folder)
    assert not inspection.check(journal.folder).damage
    again = open_journal()
    assert numbers(again) == [0 if seq == lost + 1 else seq for seq in range(1, len(run) + 1)]


def test_two_processes_cannot_have_it(open_journal):
    """Neither a second hub nor a check while a hub has it open."""
    journal = open_journal()
    with pytest.raises(JournalError, match="in use by another hub"):
        Journal(journal.folder)
    with pytest.raises(JournalError, match="in use by another hub"):
        inspection.check(journal.folder)


def test_the_oldest_documents_go_when_there_are_too_many(open_journal, make_run):
    """Retention by size removes whole segments; offsets stay, and a reader goes on at the oldest kept one."""
    run = make_run(300)
    journal = open_journal(keep_bytes=15000)
    reader = journal.reader(0)
    append(journal, run)
    assert 0 < journal.first < journal.head == len(run)
    assert journal.size < 15000 + 5000
    chunk = reader.read(1, 1000)
    assert chunk.offset == journal.first
    assert numbers(journal, 0) == list(range(journal.first + 1, len(run) + 1))
    assert journal.resume(Position(journal.epochs.current, 3)) == (journal.first, journal.first - 3)
    reader.close()


def test_old_documents_go_when_their_time_is_over(open_journal, make_run):
    """Retention by age looks at when a segment was last written."""
    journal = open_journal(keep_seconds=3600)
    append(journal, make_run(40))
    for path in segments(journal)[:-1]:
        os.utime(path, (0, 0))
    append(journal, make_run(40))
    assert journal.first > 0


def test_a_power_cut_begins_a_new_epoch(open_journal, make_run):
    """Offsets that a consumer saw and the journal lost are counted as lost, not given twice in silence."""
    run = make_run(20)
    journal = open_journal(segment_bytes=1 << 20)
    append(journal, run)
    seen = journal.position
    crash(journal)
    first = segments(journal)[0]
    found = list(records.walk(first.read_bytes()))
    os.truncate(first, found[9].end)  # the disk has the first ten
    pretend_restart(journal.folder)
    again = open_journal(segment_bytes=1 << 20)
    assert again.epochs.current != seen.epoch
    assert again.resume(seen) == (10, len(run) - 10)
    append(again, run[10:], first_seq=11)
    assert again.resume(seen) == (10, len(run) - 10)
    assert again.resume(again.position) == (len(run), 0)


@pytest.mark.parametrize(("fsync", "same"), [("interval", False), ("always", True)])
def test_the_epoch_goes_on_unless_documents_may_be_lost(open_journal, make_run, fsync, same):
    """A restart of the hub keeps it; one of the machine does if every document was forced to the disk."""
    journal = open_journal(fsync=fsync)
    epoch = journal.epochs.current
    append(journal, make_run(3))
    crash(journal)
    journal = open_journal(fsync=fsync)
    assert journal.epochs.current == epoch
    crash(journal)
    pretend_restart(journal.folder)
    assert (open_journal(fsync=fsync).epochs.current == epoch) is same


def pretend_restart(folder) -> None:
    """Make the journal believe that the machine has restarted since."""
    path = folder / "journal.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "before"}))


def test_a_consumer_of_another_journal_begins_at_the_oldest(open_journal, make_run):
    """An epoch that was never here belongs to a journal that is gone; all of this one is new."""
    journal = open_journal()
    append(journal, make_run(3))
    assert journal.resume(Position("elsewhere", 1000)) == (0, 0)


def test_a_failed_append_leaves_nothing(open_journal, make_run, monkeypatch):
    """A write that the disk cuts short is taken back, and the journal goes on when there is room."""
    run = make_run(10)
    journal = open_journal()
    append(journal, run[:5])
    real = os.pwrite

    def short(fd, data, position):
        if position and len(data) > 100:
            return real(fd, bytes(data)[:100], position)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", short)
        with pytest.raises(JournalError, match="No space left"):
            append(journal, run[5:6], first_seq=6)
    append(journal, run[5:], first_seq=6)
    crash(journal)
    assert numbers(open_journal()) == list(range(1, len(run) + 1))


def test_a_failed_sync_leaves_nothing(open_journal, make_run, monkeypatch):
    """What could not be forced to the disk is taken back, with the reason; later documents go in."""
    run = make_run(10)
    journal = open_journal(fsync="always")
    append(journal, run[:5])
    size = journal.size
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", _full)
        with pytest.raises(JournalError, match="No space left"):
            append(journal, run[5:6], first_seq=6)
    assert segments(journal)[-1].stat().st_size == size
    append(journal, run[5:], first_seq=6)
    crash(journal)
    assert numbers(open_journal(fsync="always")) == list(range(1, len(run) + 1))


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_segment_that_cannot_be_sealed_stays_the_last(open_journal, make_run, monkeypatch, call):
    """A disk that fails when a new segment begins makes the append fail, and nothing else."""
    run = make_run(60)
    journal = open_journal()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, _full)
        with pytest.raises(JournalError, match="No space left"):
            append(journal, run)
    assert len(segments(journal)) == 1
    had = journal.head
    append(journal, run[had:], first_seq=had + 1)
    assert numbers(journal) == list(range(1, len(run) + 1))


def _full(_fd: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "epochs": 5}'])
def test_a_damaged_header_can_be_repaired(open_journal, make_run, content):
    """The hub says what to do, check finds it, repair begins a new epoch that has every document."""
    run = make_run(50)
    journal = open_journal()
    append(journal, run)
    before = journal.position
    journal.close()
    (journal.folder / "journal.json").write_text(content)
    with pytest.raises(JournalError, match=r"journal\.json is damaged .*journal repair"):
        Journal(journal.folder)
    assert "journal.json" in inspection.check(journal.folder).header
    inspection.repair(journal.folder)
    assert not inspection.check(journal.folder).header
    again = open_journal()
    assert again.epochs.current != before.epoch
    assert numbers(again) == list(range(1, len(run) + 1))
    assert again.resume(before) == (0, 0)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 5}', '{"name": ["epoch", "x"]}'])
def test_damaged_cursors_are_set_aside(tmp_path, content, caplog):
    """The hub starts without them, and an error says so."""
    (tmp_path / "cursors.json").write_text(content)
    assert Cursors(tmp_path).items() == []
    assert "cursors.json.damaged" in caplog.text
    assert (tmp_path / "cursors.json.damaged").read_text() == content


def test_records_keep_their_frames():
    """Any number of frames of any size come back as they were."""
    rng = random.Random(4)
    frames = [[rng.randbytes(rng.choice([0, 1, 500])) for _ in range(count)] for count in (0, 1, 2, 5, 1)]
    buffer = b"".join(records.pack(PUBLISHER, seq, parts, seq % 2) for seq, parts in enumerate(frames))
    found = list(records.walk(buffer))
    assert [[bytes(frame) for frame in records.frames(buffer, record)] for record in found] == frames
    assert [(record.publisher, record.seq, record.flags) for record in found] == [
        (PUBLISHER, seq, seq % 2) for seq in range(5)
    ]


def test_no_flipped_bit_passes_unnoticed():
    """Each bit of a record, flipped, is damage or a cut; never another record."""
    record = records.pack(PUBLISHER, 7, [b"some content"])
    for bit in range(8 * len(record)):
        changed = bytearray(record)
        changed[bit // 8] ^= 1 << bit % 8
        (stretch,) = records.stretches(bytes(changed))
        assert stretch.count == 0
        assert stretch.fault
