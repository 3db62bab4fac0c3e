"""The user's own analysis while a scan runs, each in a process of its own.

A slow analysis sees fewer slices, always the newest; of projections it gets batches through a short queue,
and those that find it full are left out and counted. One that crashes is started again, a few times. None of
this is waited for: `Analysis.offer` only puts something down, and a thread hands it over.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from tomolive.live.analysis.input import AnalysisInput, Kind
from tomolive.live.snapshot import Trend

log = logging.getLogger(__name__)

_QUEUE = 8
"""Batches of projections that wait for an analysis, at most."""
_CRASHES = 3
"""Times in a row that a process may die before its analysis is given up."""
_PAUSE_S = 1.0
_LOOK_S = 0.2
_END_S = 2.0
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Finding:
    """What an analysis found out at one moment."""

    analysis: str
    run_uid: str
    values: dict[str, float]
    at: float
    """Degrees covered, or the number of the last projection."""
    over: str
    """'degrees' or 'projection'."""
    final: bool
    seconds: float
    """What it took."""


@dataclass(frozen=True)
class Problem:
    """What went wrong with an analysis, in plain words."""

    run_uid: str
    """Of the scan that it was busy with, or empty."""
    text: str
    lasting: bool = False
    """Whether the analysis is given up."""


class Analysis:
    """One analysis and its process.

    Parameters
    ----------
    name
        An entry point of the group ``tomolive.analysis``, or ``module:function``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind: Kind | None = None
        """What it wants to see; None until its process has said so."""
        self.dropped = 0
        """Projections that came while its queue was full."""
        self._waiting: deque[AnalysisInput] = deque()
        self._busy: AnalysisInput | None = None
        self._out: deque[Finding | Problem] = deque()
        self._changed = threading.Condition()
        self._closed = self._given_up = False
        self._told = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._follow, name=f"analysis {name}", daemon=True)
        self._thread.start()

    # -- for the reconstruction's thread: none of these waits ---------------------------------------------

    def wants(self, kind: Kind) -> bool:
        """Whether something of this kind would be looked at soon."""
        with self._changed:
            if self.kind != kind or self._given_up:
                return False
            return len(self._waiting) < (_QUEUE if kind == "projections" else 1)

    def offer(self, material: AnalysisInput) -> None:
        """Have something analysed: of slices the newest, of projections what the queue holds.

        What is final waits also for a process that has not said yet what it wants to see.
        """
        with self._changed:
            if self._given_up or self.kind not in (None, material.kind):
                return
            if self.kind is None and not material.final:
                return
            if material.kind == "slices":
                # What is final is looked at whatever comes after it, of the next scan.
                kept = [other for other in self._waiting if other.final and other.run_uid != material.run_uid]
                for gone in kept[: -(_QUEUE - 1)]:
                    self._out.append(
                        Problem(gone.run_uid, f"analysis {self.name} is too slow to see this scan")
                    )
                self._waiting = deque(kept[-(_QUEUE - 1) :])
            elif material.kind == "projections" and len(self._waiting) >= _QUEUE:
                self.leave_out(material)
                return
            self._waiting.append(material)
            self._changed.notify()

    def leave_out(self, material: AnalysisInput) -> None:
        """Count projections that are not analysed, and say so the first time."""
        if not self.dropped:
            text = f"analysis {self.name} is slower than the scan: some projections are left out"
            self._out.append(Problem(material.run_uid, text))
        self.dropped += len(material.numbers) if material.numbers is not None else 1

    def take(self) -> list[Finding | Problem]:
        """Return what was found, or went wrong, since the last call."""
        found = []
        while self._out:
            found.append(self._out.popleft())
        return found

    def is_busy_with(self, run_uid: str) -> bool:
        """Whether something of this scan waits for it or is being analysed."""
        with self._changed:
            at_hand = [*self._waiting, self._busy] if self._busy else self._waiting
            return any(material.run_uid == run_uid for material in at_hand)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        # Its thread may just be starting it: then the closed pipe ends it.
        if self._process and self._process.poll() is None:
            self._process.terminate()
        self._thread.join()

    # -- the thread ---------------------------------------------------------------------------------------

    @property
    def _over(self) -> bool:
        return self._closed or self._given_up

    def _follow(self) -> None:
        crashes = 0
        while not self._over:
            answered, ended = self._serve()
            if self._over:
                break
            crashes = 1 if answered else crashes + 1
            self._given_up = crashes >= _CRASHES
            then = "it is given up" if self._given_up else "it is started again"
            self._tell(f"analysis {self.name} {ended}, {crashes} of {_CRASHES} times in a row; {then}")
            with self._changed:
                self._busy = None
                self._changed.wait_for(lambda: self._closed, _PAUSE_S)
        with self._changed:
            self._busy = None
            self._waiting.clear()

    def _serve(self) -> tuple[bool, str]:
        """Start the process and work with it until it ends; return whether it answered, and how it ended."""
        answered = False
        try:
            ours, theirs = Pipe()
            with ours:
                process = self._start(theirs)
                try:
                    for _ in self._answers(ours, process):
                        answered = True
                except (EOFError, OSError):
                    log.debug("the pipe to analysis %s has closed", self.name)
                return answered, f"died ({_death(_end(process))})"
        except OSError as error:  # no memory, or no more files, for one more process
            return answered, f"cannot be started ({error.strerror})"

    def _start(self, theirs: Connection) -> subprocess.Popen[bytes]:
        environment = dict.fromkeys(_ONE_THREAD, "1") | dict(os.environ)
        command = [sys.executable, "-m", "tomolive.live.analysis.process", self.name, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
            )
        return self._process

    def _answers(self, pipe: Connection, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Hand over one input after the other; yield after each answer."""
        word, text = self._receive(pipe, process)
        if word == "broken":
            self._given_up = True
            self._tell(f"analysis {self.name} cannot be loaded: {text}")
            return
        with self._changed:
            self.kind = text
            self._waiting = deque(material for material in self._waiting if material.kind == text)
        while (material := self._next(process)) is not None:
            began = time.monotonic()
            pipe.send(material)
            word, answer = self._receive(pipe, process)
            if word == "failed":
                self._tell(f"analysis {self.name} failed: {answer}")
            elif answer:
                seconds = time.monotonic() - began
                self._out.append(_finding(self.name, material, answer, seconds))
            with self._changed:
                self._busy = None
            yield

    def _next(self, process: subprocess.Popen[bytes]) -> AnalysisInput | None:
        """Wait for something to analyse; None when it is all over."""
        with self._changed:
            while not self._waiting:
                if self._over or process.poll() is not None:
                    return None
                self._changed.wait(_LOOK_S)
            self._busy = self._waiting.popleft()
            return self._busy

    def _receive(self, pipe: Connection, process: subprocess.Popen[bytes]) -> tuple[str, Any]:
        while not pipe.poll(_LOOK_S):
            if self._closed or process.poll() is not None:
                raise EOFError
        return pipe.recv()

    def _tell(self, text: str) -> None:
        busy = self._busy
        run_uid = busy.run_uid if busy else ""
        # An analysis that fails for each picture says so once.
        if text != self._told:
            self._told = text
            log.warning("%s", text)
            self._out.append(Problem(run_uid, text, lasting=self._given_up))


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process whose pipe has closed, or have it end; return its exit code."""
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _death(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _finding(name: str, material: AnalysisInput, values: dict[str, float], seconds: float) -> Finding:
    if material.kind == "projections" and material.numbers is not None and len(material.numbers):
        at, over = float(material.numbers[-1]), "projection"
    else:
        at, over = material.coverage_deg, "degrees"
    return Finding(name, material.run_uid, values, at, over, material.final, seconds)


class Analyses:
    """All analyses of a live reconstruction; the thread that reconstructs calls its methods.

    Parameters
    ----------
    names
        Of entry points, or ``module:function``.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._all = [Analysis(name) for name in dict.fromkeys(names)]

    def wants(self, kind: Kind) -> bool:
        """Whether any of them would soon look at something of this kind."""
        return any(one.wants(kind) for one in self._all)

    def offer(self, material: AnalysisInput) -> None:
        """Have something analysed by those that want it; returns at once."""
        for one in self._all:
            one.offer(material)

    def take(self) -> list[Finding | Problem]:
        """Return what was found, or went wrong, since the last call."""
        return [found for one in self._all for found in one.take()]

    def is_busy_with(self, run_uid: str) -> bool:
        """Whether an answer about this scan may still come."""
        return any(one.is_busy_with(run_uid) for one in self._all)

    def leave_out(self, material: AnalysisInput) -> None:
        """Count projections that were not worth correcting, since every queue is full."""
        for one in self._all:
            if one.kind == "projections":
                one.leave_out(material)

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for one in self._all:
            one.close()


def trends(findings: Sequence[Finding]) -> tuple[Trend, ...]:
    """Return each number of each analysis over the scan, for small plots."""
    points: dict[tuple[str, str, str], dict[int, float]] = {}
    for found in findings:
        for key, value in found.values.items():
            points.setdefault((found.analysis, key, found.over), {})[round(found.at)] = value
    return tuple(
        Trend(f"{key} ({_short(analysis)})", "", tuple(sorted(values.items())), over=over)
        for (analysis, key, over), values in points.items()
    )


def events(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return data of events for the result run, one for each number: all have the same keys."""
    return [
        {
            "analysis": found.analysis,
            "number": key,
            "value": value,
            "at": found.at,
            "over": found.over,
            "final": found.final,
        }
        for found in findings
        for key, value in found.values.items()
    ]


def _short(name: str) -> str:
    return name.rpartition(":")[2]
