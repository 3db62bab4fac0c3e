"""Darks and flats of the newest runs, so that a scan finds those of an earlier run that it names."""

import logging
import queue
import threading
import time
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings
from tomolive.errors import ReconstructionError
from tomolive.files.gathering import Gathering
from tomolive.live.documents.rules import Kind, Rules
from tomolive.live.documents.run import Batch, Note, Output
from tomolive.live.documents.scan import ScanReader
from tomolive.recon.flat_field import AnyField, is_lit
from tomolive.recon.pipeline import references

log = logging.getLogger(__name__)

RUNS_KEPT = 4
_GIVE_UP_S = 60.0
"""Without a document or a frame for so long, what came of an earlier run is all."""
_MEMORY = 1 << 28
"""Bytes of its darks, and of its flats; beyond it they lie in a file until they are averaged."""
_BRIGHTEST = 99.9
"""Percentile of a projection; a few pixels may be hot."""
_LEAST_APART, _PARTS = 10, 20
"""Projections, and part of all of them, that lie at least between flats of different times."""

UNUSABLE = "Darks and flats cannot be used: {}"
"""Said of a reconstruction that goes on without them, as if there were none."""

Stack = npt.NDArray[np.float64]


class _Sum:
    """Adds up what is finite in frames, so that a thousand flats take no more memory than one."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.count = shape, 0
        self._sum = np.zeros(shape)
        self._count = np.zeros(shape, np.int32)

    def add(self, frames: npt.NDArray[np.generic]) -> None:
        if frames.shape[1:] != self._sum.shape:
            raise ReconstructionError(
                f"frames of {frames.shape[1:]} pixels follow others of {self._sum.shape}; they are left out"
            )
        for frame in frames:
            known = np.isfinite(frame)
            self._sum += np.where(known, frame, 0)
            self._count += known
            self.count += 1

    @staticmethod
    def mean(totals: Sequence["_Sum"]) -> Stack:
        """Return the mean (1, rows, columns) of all that was added to ``totals``."""
        total, count = sum(one._sum for one in totals), sum(one._count for one in totals)
        mean = np.full((1, *totals[0].shape), np.nan)
        return np.divide(total, count, out=mean, where=count > 0)


@dataclass
class _Taken:
    """Flats that were taken together."""

    first: int
    """The number after the last projection before the first of them."""
    last: int
    """Likewise of the last of them."""
    total: _Sum


def _taken_with(flats: list[_Taken], batch: Batch, apart: int) -> _Sum:
    """Return what a batch of flats is added to; in whichever order they come, times increase."""
    for taken in flats:
        if taken.first - apart < batch.after < taken.last + apart:
            taken.first, taken.last = min(taken.first, batch.after), max(taken.last, batch.after)
            return taken.total
    total = _Sum(flats[0].total.shape if flats else batch.array.shape[1:])
    insort(flats, _Taken(batch.after, batch.after, total), key=lambda taken: taken.first)
    return total


class References:
    """The mean darks and flats of each run; those of runs long past are forgotten.

    Flats that are taken again later in a scan are kept apart, so that they can be interpolated.
    """

    def __init__(self) -> None:
        self._darks: OrderedDict[str, _Sum | None] = OrderedDict()
        self._flats: dict[str, list[_Taken]] = {}

    def __contains__(self, run_uid: str) -> bool:
        return run_uid in self._darks

    def add(self, batch: Batch, planned: int | None = None) -> None:
        """Take a batch of darks or flats.

        Flats were taken at different times if a twentieth of all projections lies between, and at least ten.

        Parameters
        ----------
        planned
            How many projections the run will have, if that is known.

        Raises
        ------
        ReconstructionError
            if their frames have another size than those before.
        """
        shape = batch.array.shape[1:]
        known = self._darks.setdefault(batch.run_uid, None)
        flats = self._flats.setdefault(batch.run_uid, [])
        if batch.kind == "dark":
            total = self._darks[batch.run_uid] = known or _Sum(shape)
        else:
            total = _taken_with(flats, batch, max(_LEAST_APART, (planned or 0) // _PARTS))
        total.add(batch.array)
        self._darks.move_to_end(batch.run_uid)

    def forget_past(self, in_use: Collection[str]) -> None:
        """Forget the darks and flats of all runs but those in use and the newest others."""
        idle = [uid for uid in self._darks if uid not in in_use]
        for uid in idle[:-RUNS_KEPT]:
            del self._darks[uid], self._flats[uid]

    def dark(self, run_uids: Iterable[str]) -> Stack | None:
        """Return the mean dark (1, rows, columns) of the first of ``run_uids`` that has any."""
        found = (self._darks.get(uid) for uid in run_uids)
        return next((_Sum.mean([total]) for total in found if total), None)

    def flats(self, run_uids: Iterable[str]) -> tuple[list[Stack], list[float]]:
        """Return mean flats (1, rows, columns) of the first of ``run_uids`` that has any, and their times.

        The first of ``run_uids`` is the scan itself; a time is a number of its projections (`Batch.after`).
        Of another run all flats are averaged, for its clock is another one.
        """
        for number, uid in enumerate(run_uids):
            if taken := [flats for flats in self._flats.get(uid, ()) if flats.total.count]:
                if number:
                    return [_Sum.mean([flats.total for flats in taken])], [0.0]
                return [_Sum.mean([f.total]) for f in taken], [float(f.first) for f in taken]
        return [], []

    def lit_flats(self, run_uids: Iterable[str]) -> tuple[list[Stack], list[float], list[str]]:
        """Return `flats` without those of times when there was no beam, and what is to be said of these."""
        runs = tuple(run_uids)
        (flats, times), dark = self.flats(runs), self.dark(runs)
        kept, told = lit([flats], times, [dark])
        return [flats[k] for k in kept], [times[k] for k in kept], told


def lit(
    flats: Sequence[Sequence[Stack]], times: Sequence[float], darks: Sequence[Stack | None]
) -> tuple[list[int], list[str]]:
    """Return at which of ``times`` each of some detectors saw the beam, and words about the other times.

    If there was none at any time all are returned: whoever uses the flats says that they are of no use.
    """

    def is_seen(flat: Stack, dark: Stack | None) -> bool:
        return is_lit(flat[0] if dark is None or dark.shape != flat.shape else flat[0] - dark[0])

    seen = [
        all(is_seen(of_one[k], dark) for of_one, dark in zip(flats, darks, strict=True))
        for k in range(len(times))
    ]
    if not any(seen):
        return list(range(len(times))), []
    shut = [
        f"after projection {time - 1:g}" if time else "before the first projection"
        for time, good in zip(times, seen, strict=True)
        if not good
    ]
    told = [f"The flats taken {when} saw no beam, and are left out." for when in shut]
    return [k for k, good in enumerate(seen) if good], told


def brightest(frame: npt.NDArray[np.generic]) -> float:
    """Return the counts of the beam in a projection (rows, columns), as its brightest pixels tell of it."""
    known = frame[np.isfinite(frame)]
    return float(np.percentile(known.astype(np.float64), _BRIGHTEST)) if known.size else 0.0


def check_frames(
    darks: npt.NDArray[np.generic] | None, flats: Iterable[npt.NDArray[np.generic]], shape: tuple[int, ...]
) -> None:
    """Raise a ReconstructionError unless darks and flats have frames of ``shape`` (rows, columns)."""
    for name, frames in [("darks", darks), *(("flats", one) for one in flats)]:
        if frames is not None and frames.shape[-2:] != shape:
            raise ReconstructionError(f"{name} have frames of {frames.shape[-2:]} pixels; expected {shape}")


def averaged(
    darks: npt.NDArray[np.generic] | None,
    flats: Sequence[npt.NDArray[np.generic]],
    times: Sequence[float] | None,
    corrections: CorrectionSettings,
    first: npt.NDArray[np.generic] | None,
) -> tuple[AnyField | None, list[str]]:
    """Return what corrects projections, and what had to be assumed, in plain sentences.

    Parameters
    ----------
    flats, times
        Of one time, or of several and when those were.
    first
        Counts of the first projection: without flats its brightest pixels tell of the beam. None: there is
        none yet, nor what corrects it.
    """
    assumed = ["No darks: the camera is taken to count nothing without beam."] if darks is None else []
    if len(flats) > 1:
        return references(flats, darks, corrections, times=times), assumed
    if flats:
        return references(flats[0], darks, corrections), assumed
    if first is None:
        return None, assumed
    beam = brightest(first)
    assumed.append(
        f"No flats: the beam is taken to be even, {beam:.6g} counts, the brightest of the first "
        "projection. Grey levels are not absolute."
    )
    return references(np.full(first.shape, beam), darks, corrections), assumed


class Dispatcher(Protocol):
    """What is used of a RemoteDispatcher."""

    def subscribe(self, func: Callable[[str, dict[str, Any]], Any], name: str = "all") -> int: ...  # noqa: D102
    def subscribe_frames(self, callback: Any, missing: Any = None) -> int: ...  # noqa: D102
    def subscribe_idle(self, callback: Callable[[], Any]) -> int: ...  # noqa: D102
    def start(self) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102


class EarlierRuns:
    """Fetches the darks and flats of earlier runs again, each in a thread of its own.

    Parameters
    ----------
    connect
        Returns a dispatcher that begins at the run with the given uid.
    rules
        As the live reconstruction has them.
    camera
        Data key of the camera whose darks and flats are wanted; None: the one that rules or documents name.
    """

    def __init__(
        self,
        connect: Callable[[str], Dispatcher],
        rules: Sequence[Rules] | None = None,
        camera: str | None = None,
    ) -> None:
        self._connect = connect
        self._rules, self._camera = rules, camera
        self._found: queue.SimpleQueue[Output] = queue.SimpleQueue()
        self._under_way: set[str] = set()

    def ask(self, run_uid: str) -> None:
        """Look for a run, unless that is being done; returns at once."""
        if run_uid not in self._under_way:
            self._under_way.add(run_uid)
            threading.Thread(target=self._fetch, args=(run_uid,), name="earlier-run", daemon=True).start()

    @property
    def under_way(self) -> bool:
        """Whether a run is still being looked for; what came of the others is there to be taken."""
        return bool(self._under_way)

    def is_looked_for(self, run_uid: str) -> bool:
        """Whether something of a run may still come, or has come and was not taken."""
        return run_uid in self._under_way or not self._found.empty()

    def take(self) -> list[Output]:
        """Return the darks and flats, and the words about them, that have come since the last call."""
        found = []
        while not self._found.empty():
            found.append(self._found.get())
        return found

    def _fetch(self, run_uid: str) -> None:
        try:
            found = self._read(run_uid)
        except Exception as error:
            log.exception("run %s could not be read again", run_uid)
            found = [Note(run_uid, f"darks and flats of run {run_uid[:8]} could not be read: {error}")]
        for output in found:
            self._found.put(output)
        # The next scan that names this run may ask again: it may be there by then, or forgotten here.
        self._under_way.discard(run_uid)

    def _read(self, run_uid: str) -> list[Output]:
        """Read one run up to its stop document, or as far as it comes."""
        reader = ScanReader(self._rules, camera=self._camera)
        dispatcher = self._connect(run_uid)
        found: dict[Kind, Gathering] = {"dark": Gathering(_MEMORY), "flat": Gathering(_MEMORY)}
        newest = time.monotonic()

        def keep(outputs: Iterable[Output]) -> None:
            nonlocal newest
            newest = time.monotonic()
            for out in outputs:
                if isinstance(out, Batch) and out.run_uid == run_uid and out.kind in found:
                    found[out.kind].add(out.array)

        def document(name: str, doc: dict[str, Any]) -> None:
            keep(reader.document(name, doc))
            if name == "stop" and doc["run_start"] == run_uid:
                dispatcher.stop()

        def idle() -> None:
            if time.monotonic() - newest > _GIVE_UP_S:
                dispatcher.stop()

        dispatcher.subscribe(document)
        dispatcher.subscribe_frames(lambda f: keep(reader.frames(f)), lambda m: keep(reader.missing(m)))
        dispatcher.subscribe_idle(idle)
        dispatcher.start()
        batches = [Batch(kind, run_uid, 0, got.array(), None) for kind, got in found.items() if len(got)]
        if not batches:
            return [Note(run_uid, f"darks and flats of run {run_uid[:8]} were not found at the hub")]
        counts = f"{len(found['dark'])} darks and {len(found['flat'])} flats"
        return [*batches, Note(run_uid, f"{counts} of run {run_uid[:8]} are used", problem=False)]
