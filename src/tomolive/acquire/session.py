"""A RunEngine whose documents go to a hub, and which a signal ends cleanly."""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from ophyd_async.core import PathInfo

from tomolive.acquire.plans import Plan
from tomolive.errors import FileAccessError, ScanError, TomoliveError

log = logging.getLogger(__name__)

Callback = Callable[[str, dict[str, Any]], Any]


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run_uid: str
    exit_status: str
    """'success', 'abort' or 'fail'."""


class Session:
    """Runs plans; a context manager that waits on exit until the documents are delivered.

    What is not delivered by then stays in the Publisher's spool.

    Parameters
    ----------
    hub
        address for a Publisher; None: documents go to ``callbacks`` only.
    spool
        folder of the Publisher's spool; None: its default.
    callbacks
        more subscribers.
    patience
        seconds to wait on exit for documents that are not delivered yet.
    """

    def __init__(
        self,
        hub: str | None,
        *,
        spool: Path | None = None,
        callbacks: Sequence[Callback] = (),
        patience: float = 10.0,
    ) -> None:
        # bluesky's own handler of Ctrl-C pauses a scan and asks at a prompt; here a signal ends the scan.
        self._engine = RunEngine({}, context_managers=[])
        self._patience = patience
        self._publisher = None
        self._runs: list[dict[str, Any]] = []
        self._engine.subscribe(lambda _, doc: self._runs.append(doc), "start")
        self._engine.subscribe(lambda _, doc: self._runs.append(doc), "stop")
        for callback in callbacks:
            self._engine.subscribe(callback)
        if hub is not None:
            from tomolive.stream.publisher import Publisher

            self._publisher = Publisher(hub, spool=spool)
            self._engine.subscribe(self._publisher)
        self._closed = threading.Event()
        self.stopping = threading.Event()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        if self._publisher is not None:
            self._publisher.close(self._patience)

    def run(self, plan: Plan) -> Outcome:
        """Run one plan that makes one run; returns when it is over, also when ``stop`` ended it.

        Raises
        ------
        TomoliveError
            the reason, if the plan failed for one that is expected.
        """
        self._runs.clear()
        try:
            # RunEngine prints what it does; our standard output holds what a caller asked for.
            with contextlib.redirect_stdout(sys.stderr):
                self._engine(plan)
        except RunEngineInterrupted:
            log.info("the scan was ended early")
        except Exception as error:
            raise _expected(error) or error from error
        if len(self._runs) < 2:
            raise ScanError("the plan ended before its run began")
        start, stop = self._runs[0], self._runs[-1]
        return Outcome(start["uid"], stop["exit_status"])

    def stop(self) -> None:
        """End the scan that runs, and start no other; returns at once, any thread."""
        self.stopping.set()
        threading.Thread(target=self._abort, name="abort", daemon=True).start()

    def _abort(self) -> None:
        # The signal may come just before the engine starts: then it is still idle here.
        while not self._closed.wait(0.05):
            if self._engine.state == "running":
                self._engine.abort("ended by a signal")
                return


def _expected(error: BaseException | None) -> TomoliveError | None:
    """Return the error of ours that led to ``error``: devices hand theirs on wrapped."""
    while error is not None:
        if isinstance(error, TomoliveError):
            return error
        error = error.__cause__ or error.__context__
    return None


class NumberedFiles:
    """Tells ophyd-async detectors where to write: DIRECTORY/<data key>_0001.h5, _0002.h5, ..."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._numbers: dict[str, int] = {}

    def __call__(self, datakey_name: str | None = None) -> PathInfo:
        """Return where the next file of ``datakey_name`` goes."""
        name = datakey_name or "data"
        self._numbers[name] = self._numbers.get(name, 0) + 1
        return PathInfo(directory_path=self._directory, filename=f"{name}_{self._numbers[name]:04d}")


@dataclass(frozen=True)
class ScanFolder:
    """A folder for the files of one scan."""

    path: Path
    number: int
    """The scan's number, which goes into its start document as ``scan_id``."""


def new_scan_folder(parent: Path) -> ScanFolder:
    """Make the folder PARENT/scan_00042, where 42 is one more than the highest number there.

    Raises
    ------
    FileAccessError
        if it cannot be made.
    """
    parent = parent.resolve()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max(
            (int(p.name[5:]) for p in parent.glob("scan_*") if p.name[5:].isdecimal()), default=0
        )
        while True:
            path = parent / f"scan_{number:05d}"
            try:
                path.mkdir()
            except FileExistsError:  # another process was faster
                number += 1
            else:
                return ScanFolder(path, number)
    except OSError as error:
        raise FileAccessError(
            f"cannot make a folder for the images in {parent}: {error.strerror}; choose another one"
        ) from None
