"""What pages tell people to type is typed here, from top to bottom, page by page.

Shell blocks are one session of bash for each page, Python blocks one namespace, both in an empty folder. A
command that serves until it is stopped is waited for until it says that it serves, and gets a SIGTERM at the
end of the page, which it must end well. A ``text`` block that follows a Python block is what that prints, to
the letter.

``<!-- file NAME -->`` before a block has the block written to that file first; ``<!-- needs NAME -->`` leaves
the block out where that file is not at hand.

What pages take for granted is there (`stage` in conftest.py); its addresses, folders and uids stand in for
those of the pages: `_stand_ins`. What cannot be run here is in `LEFT_OUT`, with the reason.
"""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parents[2]
TIMEOUT = 120.0

LEFT_OUT = {
    r"^make (demo|test)\b": "tests/demo runs the demo; the other one is what runs now",
    r"^tomolive demo\b": "tests/demo runs the demo",
    r"pip install|^python3 -m venv|^git clone|^cd tomolive$|bin/activate$": "installs from outside",
    r"^(useradd|install -D|cp deploy|systemctl)\b": "needs root; tests/operations reads the units",
    r"^ssh -L": "needs another machine",
    r"^createdb|^tiled serve|--database postgresql": "needs PostgreSQL; tests/catalog runs it",
    r"^dask |--dask|--workers": "needs a cluster; tests/live runs several workers and Dask",
    r"^jupyter lab": "needs JupyterLab; tests/view runs the same cells as a script",
    r"^tomolive \w+ 'kafka://beamline@": "needs a Kafka that asks for a password",
}
ELSEWHERE = {"examples/three_sessions/README.md": "tests/test_three_sessions.py plays the three sessions"}
SERVES = {"hub", "live", "archive", "catalog", "bridge", "watch"}
PAGES = [
    path
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").rglob("*.md")),
    )
    if "_build" not in path.parts and str(path.relative_to(ROOT)) not in ELSEWHERE
]
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>(?:needs|file) \S+) -->\n)?^```(?P<language>[\w{}]*).*?\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A piece of a page."""

    line: int
    language: str
    body: str
    note: str = ""
    printed: str | None = None
    """What it prints, if the page says so."""


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page."""
    found = list(_BLOCK.finditer(text))
    blocks = []
    for this, following in zip_longest(found, found[1:]):
        printed = None
        if following and following["language"] == "text" and not text[this.end() : following.start()].strip():
            printed = following["body"]
        line = text.count("\n", 0, this.start("body")) + 1
        blocks.append(Block(line, this["language"], this["body"], this["note"] or "", printed))
    return blocks


def commands_of(body: str) -> list[str]:
    """Return the commands of a shell block, one for each line that is not continued."""
    lines = body.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def reason_to_leave_out(command: str) -> str | None:
    """Return why a command is not run."""
    plain = command.replace(".venv/bin/", "")
    return next((reason for pattern, reason in LEFT_OUT.items() if re.search(pattern, plain)), None)


PAGES = [path for path in PAGES if any(b.language in ("sh", "python") for b in blocks_of(path.read_text()))]


# ---- what stands in for what


def _stand_ins(
    page: str, stage: Any, folder: Path, ports: dict[int, int]
) -> list[tuple[str, str | Callable[[], str]]]:
    """Return pairs: what the page says, what is meant here. A page that starts a service means its own."""
    own_hub = re.search(r"^\s*tomolive hub", page, re.MULTILINE)
    own_page = re.search(r"^\s*tomolive (live|demo).*--page 127", page, re.MULTILINE)
    hub = f"127.0.0.1:{ports[5569]}" if own_hub else stage.hub.removeprefix("tcp://")
    stock_in, stock_out = (
        (f"127.0.0.1:{ports[5567]}", f"127.0.0.1:{ports[5568]}")
        if own_hub
        else (stage.stock_in, stage.stock_out)
    )
    images = str(stage.images)
    return [
        (".venv/bin/", ""),
        # Beside the one that serves all pages, which would end if its cursor were taken.
        ("tomolive archive --hub", f"tomolive archive --name {Path(folder).name} --hub"),
        ("http://127.0.0.1:8010/api/v1?api_key=...", stage.catalog),
        ("--catalog http://tiled:8000", f"--catalog {stage.catalog}"),
        *((f"{host}:5569", hub) for host in ("hub.example.org", "hub", "localhost", "127.0.0.1")),
        ("hub.example.org:5567", stock_in),
        ("localhost:5568", stock_out),
        ("127.0.0.1:8000", f"127.0.0.1:{ports[8000]}" if own_page else stage.page),
        ("broker:9092", stage.kafka),
        # Every port of the page's own services is free, and only this machine's.
        *((f"0.0.0.0:{usual}", f"127.0.0.1:{port}") for usual, port in ports.items()),
        # The detector's folder has the same path everywhere; a mount of it on itself is one all the same.
        *((text, f"{images}={images}") for text in ("/detector=/mnt/detector", "/data/camera=/mnt/camera")),
        ('"/detector": "/mnt/detector"', f'"{images}": "{images}"'),
        *((text, images) for text in ("/mnt/detector", "/data/detector")),
        ("--root /data ", f"--root {images} "),
        ("/etc/tomolive/beamline.yml", str(stage.settings)),
        ("scp hub:", "cp "),
        ("scp analysis:", "cp ~/"),
        ("/home/beamline/keys", str(folder / "home/.config/tomolive/keys")),
        ("/home/me/", f"{folder}/"),
        ("/data/journal", str(folder / "journal")),
        *((text, str(folder / text[1:])) for text in ("/etc/tomolive", "/var/lib/tomolive", "/srv/tiled")),
        # Runs.
        ("reconstruct RUN", f"reconstruct {stage.run}"),
        (
            "volumes/RUN/volume-1a2b3c4d.ome.zarr",
            lambda: str(next(folder.glob("volumes/*/volume-*.ome.zarr"))),
        ),
        ("RESULT_UID", stage.volume),
        ("4c9ed3a3", stage.run[:8]),
        ('open_export(".")', 'open_export("my-scan")'),
        ("catalog[-1]", f'catalog["{stage.run}"]'),  # the newest here is what was made of it
        ("db[-1].table(", f'db["{stage.run}"].table("flats", '),  # there is no stream primary
        # Small enough for a test.
        (
            "tomolive simulate",
            "tomolive simulate --rows 16 --columns 64 --projections 40 --rate 200 --darks 3 --flats 3",
        ),
        ("--rate 50", "--rate 500"),
        ("--center 1021.5", "--center 31.2"),
        ("250.4", "31.2"),
        ("position=40", "position=4"),
        ("(128, 256, center=124.6), 128, 256, center=124.6", "(8, 32, center=15.6), 8, 32, center=15.6"),
        ("half_turn(181), darks=10, flats=10, period=0.02", "half_turn(9), darks=2, flats=2, period=0.005"),
        ("[100]", "[3]"),
        ('"xy", 100,', '"xy", 3,'),
        # Instead of Ctrl-C a consumer ends when nothing more comes; it begins with the scan that was taken.
        ("dispatcher.start()", "until_quiet(dispatcher)"),
        ("fill=True, mounts=", 'start="newest", fill=True, mounts='),
        ('start="new")', 'start="newest")'),
    ]


# ---- the sessions


class Shell:
    """A bash in a folder, and what was started in it to serve."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._sockets = tempfile.TemporaryDirectory(prefix="tomolive-")  # the path of a socket must be short
        self._bash = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._folder, self._serving = folder, list[tuple[int, str]]()

    def run(self, command: str) -> str:
        """Run a command; return what it printed."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(
            f"{{ {command}\n}} </dev/null; _code=$?; echo; echo __over__ $_code\n".encode()
        )
        self._bash.stdin.flush()
        watchdog = threading.Timer(TIMEOUT, self._kill)
        watchdog.start()
        said: list[str] = []
        try:
            for line in self._bash.stdout:
                said.append(line.decode(errors="replace"))
                if said[-1].startswith("__over__"):
                    break
        finally:
            watchdog.cancel()
        said = "".join(said).rpartition("\n__over__ ")[::2] if said else ("", "no answer")
        assert said[1].strip() == "0", f"{command}\n{said[0]}"
        return said[0]

    def serve(self, command: str) -> None:
        """Start a command that serves, and wait until it says so."""
        address, log = (
            f"{self._sockets.name}/{len(self._serving)}",
            self._folder / f"serving-{len(self._serving)}.log",
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address)
            said = self.run(f"NOTIFY_SOCKET={address} {command} >{log} 2>&1 </dev/null & echo $!")
            pid = int(said.split()[-1])
            deadline = time.monotonic() + TIMEOUT
            while not select.select([listener], [], [], 0.1)[0]:
                assert time.monotonic() < deadline, f"{command}: does not serve\n{log.read_text()}"
                assert Path(f"/proc/{pid}").exists(), f"{command}: ended\n{log.read_text()}"
            self._serving.append((pid, command))

    def close(self) -> None:
        """Stop what serves, in the opposite order; each must end well."""
        try:
            while self._serving:
                pid, command = self._serving.pop()
                self.run(f"kill -TERM {pid} && wait {pid}  # {command}")
        finally:
            self._kill()
            self._bash.communicate()
            self._sockets.cleanup()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)


_ALONE = ("from databroker", "RunEngine()")
"""A block with one of these has a process of its own: databroker changes what Tiled's client returns, and a
session has one RunEngine."""


class Python:
    """The Python of a page: a process that is started with its first block."""

    def __init__(self, path: Path, names: dict[str, Any], environ: dict[str, str]) -> None:
        self._path, self._names, self._environ = path, names, environ
        self._process: subprocess.Popen[str] | None = None

    def run(self, code: str, line: int) -> str:
        """Run a block; return what it printed."""
        if any(word in code for word in _ALONE):
            done = subprocess.run(
                [sys.executable, "-c", code], env=self._environ, capture_output=True, text=True,
                timeout=TIMEOUT, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{self._path.name}, line {line}\n{done.stderr}"
            return done.stdout
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("page_session.py"))], env=self._environ,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            self._say(self._names)
        watchdog = threading.Timer(TIMEOUT, self._process.kill)
        watchdog.start()
        self._say({"code": code, "line": line, "page": str(self._path)})
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline() or '{"error": "no answer"}')
        watchdog.cancel()
        assert "error" not in answer, f"{self._path.name}, line {line}\n{answer['error']}"
        return answer["printed"]

    def _say(self, what: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End what the page has left running."""
        if self._process is not None:
            try:
                self._process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
                raise


@dataclass
class Session:
    """Everything that a page needs to be run."""

    shell: Shell
    python: Python
    folder: Path
    files: dict[str, Path]
    hub: str
    """To which a replay goes, instead of starting all that it needs."""
    stand_ins: list[tuple[str, str | Callable[[], str]]]

    def translate(self, text: str) -> str:
        """Put what is here in the place of what the page says."""
        for said, meant in self.stand_ins:
            if said in text:
                text = text.replace(said, meant() if callable(meant) else meant)
        return text

    def run(self, block: Block, page: str) -> str | None:
        """Run a block; return the name of a file that it needs and that is not at hand."""
        kind, _, name = block.note.partition(" ")
        if kind == "file":
            (self.folder / name).write_text(self.translate(block.body))
        if kind == "needs":
            if name not in self.files:
                return name
            self._bring(name)
        for name in self.files if block.language == "sh" else ():
            if name in block.body:
                self._bring(name)
        if block.language == "python" and not block.body.startswith(">>>"):  # a doctest is run elsewhere
            printed = self.python.run(self.translate(block.body), block.line)
            assert block.printed in (None, printed), f"{page}, line {block.line}"
        elif block.language in ("sh", "bash", "console"):
            for command in commands_of(block.body):
                self._type(command)
        return None

    def _bring(self, name: str) -> None:
        if not (self.folder / name).exists():
            (self.folder / name).symlink_to(self.files[name])

    def _type(self, command: str) -> None:
        if reason_to_leave_out(command):
            return
        command = self.translate(command)
        words = command.split()
        if words[:2] == ["tomolive", "replay"] and "--hub" not in words:
            command = command.partition(" #")[0] + f" --hub {self.hub}"
        if words[0] == "tomolive" and words[1] in SERVES and "--show-config" not in words:
            self.shell.serve(command.partition(" #")[0])
        else:
            self.shell.run(command)


@pytest.fixture
def session(stage, files, request, monkeypatch, free_ports) -> Iterator[Callable[[Path], Session]]:
    """Prepare an empty folder for a page, that the catalog may read; end at the end what was started."""
    ends = ExitStack()

    def prepare(path: Path) -> Session:
        text = path.read_text()
        folder = stage.folder / "pages" / path.relative_to(path.parents[-1]).with_suffix("")
        home = folder / "home"
        home.mkdir(parents=True)
        (home / ".curlrc").write_text("fail\nsilent\nshow-error\n")  # an answer of 400 and more is a failure
        own = {
            "HUB__NATIVE": free_ports[5569], "HUB__STOCK_IN": free_ports[5567],
            "HUB__STOCK_OUT": free_ports[5568], "HUB__HTTP": free_ports[5570],
            "CATALOG__LISTEN": free_ports[8010],
        }  # fmt: skip
        settings = {f"TOMOLIVE_{key}": f"127.0.0.1:{port}" for key, port in own.items()}
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        path_here = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
        places = {
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": cache,
            "PATH": path_here,
        }
        is_own = re.search(r"^tomolive (hub|catalog)", text, re.MULTILINE)
        for key, value in {**(settings if is_own else {}), **places}.items():
            monkeypatch.setenv(key, value)
        monkeypatch.chdir(folder)
        environ = dict(os.environ)
        python = Python(path, {"raw_uid": stage.run, "start": stage.start}, environ)
        shell = Shell(folder, environ)
        ends.callback(shell.close)
        ends.callback(python.close)
        kafka = f"kafka://{stage.kafka}/replayed"  # the stage's own page goes on showing its scan
        return Session(shell, python, folder, files, kafka, _stand_ins(text, stage, folder, free_ports))

    with ends:
        yield prepare


@pytest.fixture
def free_ports() -> dict[int, int]:
    """A free port for each usual one, below those that the system gives away by itself."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    candidate = low - 1 - os.getpid() % 4000
    while len(found) < len(_USUAL):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", candidate))
            found.append(candidate)
        candidate -= 1
    return dict(zip(_USUAL, found, strict=True))


_USUAL = (5567, 5568, 5569, 5570, 8000, 8010)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_says_runs(page: Path, session) -> None:
    """From top to bottom, in an empty folder, printing what the page says."""
    at_work = session(page)
    missing = [name for block in blocks_of(page.read_text()) if (name := at_work.run(block, page.name))]
    if missing:
        pytest.skip(f"the rest ran; blocks that need {', '.join(missing)} were left out")


@pytest.mark.parametrize(("pattern", "reason"), LEFT_OUT.items(), ids=range(len(LEFT_OUT)))
def test_what_is_left_out_is_told(pattern: str, reason: str) -> None:
    """Each entry of the list still stands for a command of a page, and the summary shows which."""
    commands = [
        command
        for path in PAGES
        for block in blocks_of(path.read_text())
        if block.language in ("sh", "bash", "console")
        for command in commands_of(block.body)
        if re.search(pattern, command.replace(".venv/bin/", ""))
    ]
    assert commands
    pytest.skip(f"{reason}: {'; '.join(sorted(set(commands)))}")


def test_every_block_says_what_it_is() -> None:
    """A block without a language would not be run; one that is meant to be read says text."""
    nameless = [
        f"{path.relative_to(ROOT)}:{block.line}"
        for path in (*PAGES, *(ROOT / "docs").rglob("*.md"))
        if "_build" not in path.parts
        for block in blocks_of(path.read_text())
        if not block.language
    ]
    assert nameless == []


def test_a_page_that_is_wrong_fails(session, stage) -> None:
    """What it prints, what it raises, what it needs, and how its commands end."""
    page = stage.folder / "wrong.md"
    page.write_text("tomolive")
    at_work = session(page)

    def run(text: str) -> list[str]:
        return [name for block in blocks_of(text) if (name := at_work.run(block, page.name))]

    run("```python\nx = 2\n```\n\n```python\nprint(x)\n```\n\n```text\n2\n```\n")
    with pytest.raises(AssertionError, match=r"wrong.md, line 2"):
        run("```python\nprint(3)\n```\n\n```text\n2\n```\n")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run("```python\n1 / 0\n```\n")
    assert run("<!-- needs moon.h5 -->\n```python\n1 / 0\n```\n") == ["moon.h5"]
    run("<!-- file a.txt -->\n```text\nhello\n```\n\n```sh\ngrep hello a.txt\n```\n")
    with pytest.raises(AssertionError, match="grep moon"):
        run("```sh\ngrep moon a.txt\n```\n")
    with pytest.raises(AssertionError, match="ended"):
        run("```sh\ntomolive hub --journal\n```\n")
