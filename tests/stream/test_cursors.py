"""Cursors: what outlives a killed hub, how old they are, and when they are forgotten."""

import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from tomolive.bench import fault_scenes
from tomolive.bench.fault_cast import Cast
from tomolive.cli.storage import journal as journal_command
from tomolive.stream import cursors
from tomolive.stream.cursors import Cursors
from tomolive.stream.messages import Position

ANY = "127.0.0.1:0"
TIMEOUT = 60
DAY = 86400.0


def test_what_was_kept_outlives_a_kill(tmp_path):
    """Without a save, and with a line that was torn behind it."""
    before = Cursors(tmp_path)
    before.set("archive", Position("e", 7))
    before.set("archive", Position("e", 9))
    before.keep()
    with (tmp_path / "cursors.log").open("ab") as log:
        log.write(b'["archive", "e", 1')
    assert Cursors(tmp_path).get("archive") == Position("e", 9)
    assert cursors.look(tmp_path)["archive"].position == Position("e", 9)


def test_what_follows_a_torn_line_outlives_a_kill(tmp_path):
    """The first cursor that a hub keeps is not written on to what its predecessor could not end."""
    (tmp_path / "cursors.log").write_bytes(b'["archive", "e", 1')
    after = Cursors(tmp_path)
    after.set("archive", Position("e", 12))
    after.keep()
    assert Cursors(tmp_path).get("archive") == Position("e", 12)


def test_a_line_that_a_full_disk_cuts_is_written_again(tmp_path, monkeypatch):
    """What did not fit is kept by the next turn, and spoils no other line."""
    kept, write = Cursors(tmp_path), os.write
    kept.set("archive", Position("e", 12))
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    kept.keep()
    monkeypatch.setattr(os, "write", write)
    kept.keep()
    assert Cursors(tmp_path).get("archive") == Position("e", 12)


def test_a_forgotten_cursor_does_not_come_back(tmp_path):
    """Nor is it forgotten again, with a word in the log, at each start of the hub."""
    rows = {"gone": ["e", 5, time.time() - 100 * DAY]}
    (tmp_path / "cursors.json").write_text(json.dumps(rows))
    assert Cursors(tmp_path).expire(90 * DAY, ()) == ["gone"]
    assert Cursors(tmp_path).items() == []


def test_the_log_is_folded_into_the_snapshot(tmp_path, monkeypatch):
    """However long cursors move, their log stays short, and nothing of it is forgotten."""
    monkeypatch.setattr(cursors, "_LOG_BYTES", 1000)
    kept = Cursors(tmp_path)
    for offset in range(500):
        kept.set("archive", Position("e", offset))
        kept.keep()
        assert (tmp_path / "cursors.log").stat().st_size < 1100
    assert Cursors(tmp_path).get("archive") == Position("e", 499)


def test_cursors_without_a_time_are_of_today(tmp_path):
    """The first format did not note when a cursor was used; such a one is not forgotten at once."""
    (tmp_path / "cursors.json").write_text('{"archive": ["e", 5]}')
    kept = Cursors(tmp_path)
    assert kept.expire(DAY, ()) == []
    assert kept.get("archive") == Position("e", 5)


def test_an_unused_cursor_is_forgotten(tmp_path, caplog):
    """With a word in the log and for good; one whose consumer is connected stays, however idle it is."""
    old = time.time() - 100 * DAY
    rows = {name: ["e", 5, old] for name in ("gone", "idle")} | {"busy": ["e", 6, time.time()]}
    (tmp_path / "cursors.json").write_text(json.dumps(rows))
    kept = Cursors(tmp_path)
    assert kept.expire(90 * DAY, {"idle"}) == ["gone"]
    assert "'gone' was not used for 100.0 days and is forgotten, at document 5" in caplog.text
    kept.keep()
    again = Cursors(tmp_path)
    assert {name for name, _ in again.items()} == {"idle", "busy"}
    assert again.ages()["idle"] < DAY


def test_a_hub_forgets_and_shows(make_hub, publishing, listen, make_run, wait_for, tmp_path):
    """The health page shows lag and age; who comes back too late begins at the oldest document."""
    run = make_run(10)
    hub = make_hub()
    first = listen(hub.native, name="archive")
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        wait_for(lambda: hub.hub.health()["cursors"].get("archive", {}).get("behind") == 0)
        assert hub.hub.health()["cursors"]["archive"]["unused_seconds"] < TIMEOUT
        first.stop()
        hub.stop()
        snapshot = tmp_path / "journal" / "cursors.json"
        ((name, (epoch, offset, _)),) = json.loads(snapshot.read_text()).items()
        snapshot.write_text(json.dumps({name: [epoch, offset, time.time() - 91 * DAY]}))
        hub.start()
        wait_for(lambda: hub.hub.health()["cursors"] == {})
        again = listen(hub.native, name="archive")
        wait_for(lambda: len(again.documents) >= len(run))
    assert again.documents == run


def test_what_is_acknowledged_never_comes_again(tmp_path, publishing, listen, make_run, wait_for):
    """Hub and consumer are killed together: the cursor alone leads to the very next document."""
    run, later = make_run(300), make_run(3)
    with Cast(tmp_path) as cast:
        cast.start_hub()
        with publishing(cast.address) as publish:
            first = listen(cast.address, name="archive")
            for name, doc in run:
                publish(name, doc)
            wait_for(lambda: cast.health().get("cursors", {}).get("archive", {}).get("behind") == 0)
            cast.kill("hub")
            first.stop()
            cast.start_hub()
            second = listen(cast.address, name="archive")
            for name, doc in later:
                publish(name, doc)
            wait_for(lambda: len(second.documents) >= len(later))
    assert first.documents == run
    assert second.documents == later


def test_the_command_shows_cursors(tmp_path):
    """``tomolive journal cursors``: who, where, and since when; also while a hub runs."""
    kept = Cursors(tmp_path)
    kept.set("archive", Position("e", 42))
    kept.keep()
    shown = CliRunner().invoke(journal_command, ["cursors", str(tmp_path)])
    assert shown.exit_code == 0
    assert "archive  next document 42  last used 0.0 days ago" in shown.output


def test_a_hub_on_a_full_disk_says_so_and_ends(tmp_path):
    """One line with the reason and exit code 2; when there is room it serves what it had."""
    small = tmp_path / "small"
    small.mkdir()
    command = [sys.executable, "-m", "tomolive", "hub", "--journal", str(small / "journal")]
    command += [word for option in ("native", "in", "out", "http") for word in (f"--{option}", ANY)]
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    try:
        with fault_scenes.small_disk(small, 1 << 20):
            filler = small / "filler"
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(2 << 20))
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
            assert done.returncode == 2
            assert done.stderr.splitlines()[-1].startswith("tomolive: cannot ")
            assert "No space left on device" in done.stderr
            assert "Traceback" not in done.stderr
            filler.unlink()
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                assert process.stdout is not None
                assert process.stdout.readline().startswith(b"hub at ")
                process.terminate()
                assert process.wait(TIMEOUT) == 0
    except fault_scenes.UnavailableError as error:
        pytest.skip(str(error))
