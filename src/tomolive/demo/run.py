"""A demo or a replay on one machine: the services up, scans through them, a report at the end."""

import itertools
import json
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomolive.demo.folder import Folder
from tomolive.demo.processes import Service, ServiceFailedError, Services
from tomolive.demo.report import Report, make_report
from tomolive.demo.volume import make_volume
from tomolive.errors import AddressError, SettingsError

ANY_PORT = "127.0.0.1:0"
RESULT_TIMEOUT_S = 600.0
"""For the work that may be left when the last frame is taken, on a slow machine."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    ``scan(n)`` gives the arguments of a ``tomolive`` command that takes the n-th scan; ``--hub`` and
    ``--spool`` are added.
    """

    scan: Callable[[int], Sequence[str]]
    folder: Folder
    page: str = "127.0.0.1:8000"
    """HOST:PORT of the page."""
    center: float | None = None
    """Rotation centre, detector column; None: estimated."""
    once: bool = False
    again: bool = False
    """Without ``once``: one scan after another (a demo), or one and then the page stays (a replay)."""
    volume: Sequence[str] | None = None
    """Options of ``tomolive reconstruct``, to make the full volume of each scan; None: there is none."""
    keep: int = 20
    """Scans whose image files are kept, when scans are taken again and again."""


@dataclass(frozen=True)
class Running:
    """The services of one machine, and where they are."""

    services: Services
    folder: Folder
    hub: str
    catalog: str
    page: str
    archive: Service

    def take(self, scan: Sequence[str]) -> Path:
        """Run one scan to its end; return the folder that the live reconstruction made for it.

        Raises
        ------
        ServiceFailedError
            if the scan or a service fails, or no result appears.
        """
        known = set(_results(self.folder))
        where = ["--hub", self.hub, "--spool", str(self.folder.spool)]
        process = self.services.spawn("scan", [*scan, *where])
        code = self.services.wait(process)
        if code:
            raise ServiceFailedError(process.last_words().removeprefix("tomolive: "))
        deadline = time.monotonic() + RESULT_TIMEOUT_S
        while not (new := set(_results(self.folder)) - known):
            self.services.check()
            if time.monotonic() > deadline:
                raise ServiceFailedError(
                    f"no slices appeared for this scan; see {self.folder.logs / 'live.log'}"
                )
            time.sleep(0.1)
        return new.pop()


def run(plan: Plan, say: Say, json_file: Path | None = None) -> int:
    """Do what ``plan`` says until it is done, or until Ctrl-C or SIGTERM; return the exit code.

    0: done, 1: the scan did not end well or frames are missing, 130: stopped.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    try:
        report = run_scans(plan, say, json_file)
    except KeyboardInterrupt:
        say("stopped: every process has ended")
        return 130
    return 0 if report.complete else 1


def run_scans(plan: Plan, say: Say, json_file: Path | None = None) -> Report:
    """Start the services, take the scans, report each; return the last report.

    Raises
    ------
    SettingsError, AddressError
        if a folder cannot be written or a port is taken.
    ServiceFailedError
        if a process fails; its log says more.
    """
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise SettingsError(f"cannot write {json_file}: {json_file.absolute().parent} is not a folder")
    _require_free(plan.page)
    say("starting catalog, hub, archive and live reconstruction ...")
    with plan.folder.in_use(), _running(plan, say) as running:
        say(f"watch it here: {running.page}    (Ctrl-C ends everything)")
        say(f"its documents and images: {running.hub}    (tomolive watch {running.hub})")
        if plan.again and not plan.once:
            say(f"the images of the newest {plan.keep} scans stay in {plan.folder.data}")
        say("the scan begins in a few seconds ...")
        images: deque[set[Path]] = deque()
        for number in itertools.count():
            before = set(plan.folder.data.iterdir())
            result = running.take(plan.scan(number))
            images.append(set(plan.folder.data.iterdir()) - before)
            volume = None
            if plan.volume is not None:
                say("making the volume ...")
                volume = make_volume(running.services, plan.folder, running.hub, result.name, plan.volume)
            report = make_report(result, plan.folder, running.catalog, volume)
            say(report.text())
            if json_file is not None:
                _write_json(json_file, report.as_dict())
            if plan.once:
                return report
            if not plan.again:
                say(f"the page stays: {running.page}    (Ctrl-C ends everything)")
                _stay(running)
            if len(images) > plan.keep:
                # Only what this demo made, so that an endless one does not fill the disk.
                for path in images.popleft():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    raise AssertionError("scans are counted without end")


@contextmanager
def _running(plan: Plan, say: Say) -> Iterator[Running]:
    folder = plan.folder
    data = str(folder.data)
    with Services(folder.logs) as services:
        readable = [o for f in (data, folder.results, folder.volumes) for o in ("--readable", str(f))]
        catalog_ = services.begin(
            "catalog", ["catalog", "--dir", str(folder.catalog), "--listen", ANY_PORT, *readable]
        )
        bind = [part for option in ("--native", "--in", "--out", "--http") for part in (option, ANY_PORT)]
        hub = services.start("hub", ["hub", "--journal", str(folder.journal), *bind]).fields["native"]
        center = [] if plan.center is None else ["--center", str(plan.center)]
        results = ["--results", str(folder.results), "--start", "new"]
        catalog = services.wait_ready(catalog_).fields["uri"]
        # Everybody on this machine sees the words of a command; a key in its environment only its user.
        address, _, key = catalog.partition("?api_key=")
        environ = {"TILED_API_KEY": key}
        where = ["--hub", hub, "--root", data, "--page", plan.page, "--catalog", address]
        live = services.begin("live", ["live", *where, *results, *center], environ)
        archive = services.wait_ready(
            services.begin("archive", ["archive", "--hub", hub, "--catalog", address], environ)
        )
        page = services.wait_ready(live).fields["page"]
        try:
            yield Running(services, folder, hub, catalog, page, archive)
        except KeyboardInterrupt:
            say("stopping ...")
            raise


def _require_free(page: str) -> None:
    """Say at once, not after the services have started, that the page's port is taken."""
    host, _, port = page.rpartition(":")
    try:
        socket.create_server((host, int(port))).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "expected HOST:PORT"
        raise AddressError(f"cannot show the page at {page}: {reason}; choose another with --page") from None


def _stay(running: Running) -> None:
    while True:
        running.services.check()
        time.sleep(0.5)


def _results(folder: Folder) -> Iterator[Path]:
    return (summary.parent for summary in folder.results.glob("*/summary.json"))


def _write_json(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(values, indent=2) + "\n")
        partial.replace(path)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from None
