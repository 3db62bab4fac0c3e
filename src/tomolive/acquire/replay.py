"""An existing scan as a live run: its frames go through a RunEngine, into new files, at a rate."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomolive.acquire.layouts import Paths
from tomolive.acquire.plans import Plan, Scan, tomo_fly
from tomolive.acquire.scanfile import ScanFile, open_scan
from tomolive.acquire.scene import Kind
from tomolive.acquire.session import Outcome, ScanFolder, Session, new_scan_folder
from tomolive.acquire.simulate import Style, beamline
from tomolive.errors import ScanError

log = logging.getLogger(__name__)


class RecordedScene:
    """The frames of a scan file, in their order, in their dtype."""

    def __init__(self, scan: ScanFile) -> None:
        self.rows, self.columns = scan.projections.rows, scan.projections.columns
        self._stacks = {"dark": scan.darks, "flat": scan.flats, "projection": scan.projections}
        used = [stack.dtype for stack in self._stacks.values() if stack is not None]
        self.dtype = np.result_type(*used)
        self._taken = dict.fromkeys(self._stacks, 0)

    def expose(self, kind: Kind, angle: float) -> npt.NDArray:
        """Return the next frame of its kind."""
        del angle
        stack, number = self._stacks[kind], self._taken[kind]
        if stack is None or number >= len(stack):
            raise ScanError(f"there is no {kind} number {number} in the file")
        self._taken[kind] += 1
        return stack[number].astype(self.dtype, copy=False)


def replay_plan(scan: ScanFile, folder: ScanFolder, rate: float, style: Style = "async") -> Plan:
    """Return a fly scan that shows the frames of ``scan``; a RunEngine must exist.

    Parameters
    ----------
    scan
        stays open until the plan is over.
    folder
        where the frames are written again, as a detector writes them.
    rate
        frames a second.
    """
    details = {key: value for key, value in scan.details.items() if key != "sample"}
    plan = Scan(
        scan.angles.tolist(),
        len(scan.darks) if scan.darks else 0,
        len(scan.flats) if scan.flats else 0,
        1 / rate,
        {
            **details,
            "replay": {"file": scan.path.name, "layout": scan.layout.name, "notes": list(scan.notes)},
        },
    )
    name = scan.details.get("sample") or scan.path.stem
    md = {"scan_id": folder.number, "sample": {"name": name}}
    return tomo_fly(beamline(style, RecordedScene(scan), folder.path), plan, md)


def run_replay(
    file: Path,
    session: Session,
    data: Path,
    rate: float = 36.0,
    *,
    paths: Paths | None = None,
    style: Style = "async",
    say: Callable[[str], object] = log.info,
) -> Outcome:
    """Replay a scan file once.

    Parameters
    ----------
    file
        the scan.
    session
        where to run it.
    data
        the frames go to a new folder in here.
    rate
        frames a second.
    paths
        where the parts of the scan are, if they are not where the field puts them.
    style
        which devices take part.
    say
        is told what was found and assumed.

    Raises
    ------
    FileAccessError, UnknownLayoutError, ScanError
        if the file cannot be used.
    """
    if not rate > 0:
        raise ScanError(f"the rate must be positive, got {rate} frames/s")
    with open_scan(file, paths) as scan:
        for line in scan.describe():
            say(line)
        return session.run(replay_plan(scan, new_scan_folder(data), rate, style))
