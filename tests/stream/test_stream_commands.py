"""The commands about hub, journal and spool, as a user types them."""

import os
import signal
import subprocess
import sys

import pytest

ANY = "127.0.0.1:0"


def tomolive(*arguments: object, **environ: str) -> subprocess.CompletedProcess:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tomolive", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
        check=False,
    )


@pytest.mark.parametrize("option", ["--native", "--in", "--out", "--http"])
def test_a_taken_port_is_one_line_and_exit_code_2(hub, tmp_path, option):
    """The line names the address and the option that chooses another."""
    taken = hub.native.removeprefix("tcp://")
    ports = {"--native": ANY, "--in": ANY, "--out": ANY, "--http": ANY, option: taken}
    done = tomolive(
        "hub", "--journal", tmp_path / "other", *[word for pair in ports.items() for word in pair]
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tomolive: cannot listen on {taken}")
    assert f"{option} HOST:PORT" in line


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_code_2(tmp_path):
    """It says which folder, and which option chooses another."""
    (tmp_path / "file").touch()
    done = tomolive("hub", "--journal", tmp_path / "file" / "journal", "--native", ANY)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cannot write the journal in" in line
    assert "--journal" in line


def test_a_damaged_journal_stops_the_hub_and_repair_mends_it(make_hub, publishing, make_run, tmp_path):
    """The hub stops with the position, check says what would be lost, after repair the hub starts."""
    folder = tmp_path / "journal"
    hub = make_hub(folder)
    with publishing(hub.native) as publish:
        for name, doc in make_run(30):
            publish(name, doc)
        assert publish.flush(60)
    hub.stop()
    (segment,) = folder.glob("segments/*.log")
    segment.with_suffix(".index").unlink()
    content = bytearray(segment.read_bytes())
    content[1500] ^= 1
    segment.write_bytes(content)
    ports = ["--native", ANY, "--in", ANY, "--out", ANY, "--http", ANY]
    stopped = tomolive("hub", "--journal", folder, *ports)
    assert stopped.returncode == 2
    assert "at byte" in stopped.stderr
    checked = tomolive("journal", "check", folder)
    assert checked.returncode == 1
    assert "1 document(s) from number" in checked.stdout
    assert tomolive("journal", "repair", "--yes", folder).returncode == 0
    assert tomolive("journal", "check", folder).returncode == 0
    hub.start()
    assert hub.hub.journal.head == 33


def test_a_leftover_spool_is_listed_and_drained(hub, publishing, make_run, listen, wait_for, tmp_path):
    """What a Publisher could not send is shown, sent by ``spool drain``, and then gone."""
    run = make_run(10)
    hub.stop()
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
    listed = tomolive("spool", "list", "--spool", tmp_path / "spool")
    assert hub.native in listed.stdout
    assert "left behind" in listed.stdout
    failed = tomolive("spool", "drain", hub.native, "--spool", tmp_path / "spool", "--timeout", 1)
    assert failed.returncode == 1
    hub.start()
    drained = tomolive("spool", "drain", hub.native, "--spool", tmp_path / "spool")
    assert drained.returncode == 0, drained.stderr
    assert "sent 13 documents" in drained.stdout
    assert "no spools" in tomolive("spool", "list", "--spool", tmp_path / "spool").stdout
    listener = listen(hub.native, start="all")
    wait_for(lambda: len(listener.documents) >= len(run))
    assert listener.documents == run


def test_watch_prints_what_flows(hub, publishing, make_run):
    """One line for each document; SIGTERM ends it with exit code 0."""
    run = make_run(2)
    with publishing(hub.native) as publish:
        for name, doc in run:
            publish(name, doc)
        assert publish.flush(60)
    command = [sys.executable, "-m", "tomolive", "watch", hub.native, "--start", "all", "--lines"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watch:
        lines = [watch.stdout.readline() for _ in run]
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(60) == 0
    assert [line.split()[0] for line in lines] == [name for name, _ in run]


def test_watch_says_that_an_address_is_none():
    """One line, exit code 2."""
    done = tomolive("watch", "nowhere")
    assert done.returncode == 2
    assert "expected tcp://HOST:PORT" in done.stderr


@pytest.mark.parametrize("option", ["--keep-size=-5G", "--keep-size=0", "--keep-days=0", "--keep-days=-1"])
def test_what_is_kept_is_more_than_nothing(tmp_path, option):
    """A size or an age that is not positive is refused with the option, before anything is written."""
    result = tomolive("hub", "--journal", tmp_path / "journal", "--native", ANY, option)
    assert result.returncode == 2
    assert not (tmp_path / "journal").exists()


def test_sigterm_while_a_command_starts_is_a_clean_end():
    """Before it serves, where no command has its own answer to signals yet."""
    early = (
        "import os; from tomolive import cli; cli.group = lambda **_: os.kill(os.getpid(), 15); cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", early], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
