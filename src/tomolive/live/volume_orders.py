"""Volumes that are ordered while scans are followed: at the page, or at each stop document."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from tomolive.config import VolumeSettings
from tomolive.errors import ScanError
from tomolive.live.followed import Watched
from tomolive.live.snapshot import VolumeProgress
from tomolive.live.volume.request import VolumeRequest


class Runner(Protocol):
    """What is used of a `tomolive.live.volume.runner.VolumeRunner`."""

    def start(self, request: VolumeRequest) -> None: ...  # noqa: D102
    def poll(self) -> VolumeProgress | None: ...  # noqa: D102
    def cancel(self, run_uid: str = "") -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class VolumeOrders:
    """Orders volumes of scans, with the settings that are in force on the page.

    Parameters
    ----------
    runner
        Makes them, in processes of their own.
    request
        Returns what is asked for of the run with this uid; centre, filter and corrections are filled in here.
    settings
        Whether a volume begins at each stop document.
    """

    def __init__(
        self, runner: Runner, request: Callable[[str], VolumeRequest], settings: VolumeSettings
    ) -> None:
        self._runner, self._request = runner, request
        self._automatic = settings.automatic
        self._wanted: set[str] = set()
        """Uids of runs whose volume begins when they end."""
        self.progress: VolumeProgress | None = None

    def start(self, watched: Watched) -> None:
        """Order the volume of a scan; it begins at once, or when the scan has ended.

        Raises
        ------
        ScanError
            if the scan was broken off: a volume is made of what the documents of a whole run tell.
        """
        uid, tomogram = watched.scan.run_uid, watched.tomogram
        if watched.ended and watched.scan.stop is None:
            raise ScanError("no volume can be made: the scan was broken off without a stop document")
        if not watched.ended or watched.refining:
            self._wanted.add(uid)
            if self.progress is None or self.progress.state not in ("running", "waiting"):
                self.progress = VolumeProgress("waiting", uid, message="it begins when the scan has ended")
            return
        self._wanted.discard(uid)
        if tomogram is None:
            return
        self._runner.start(
            replace(
                self._request(uid),
                center=tomogram.center,
                center_source=tomogram.center_source,
                filter=tomogram.filter,
                corrections=tomogram.corrections,
                changes=tuple(watched.changes),
            )
        )

    def cancel(self, run_uid: str) -> None:
        """Stop making the volume of a run, or forget its order."""
        self._wanted.discard(run_uid)
        if self.progress and self.progress.run_uid == run_uid and self.progress.state == "waiting":
            self.progress = VolumeProgress("cancelled", run_uid)
        self._runner.cancel(run_uid)

    def scan_ended(self, watched: Watched) -> None:
        """Make the volume of a scan whose results are final, if somebody or the settings want it."""
        scan = watched.scan
        wanted = scan.run_uid in self._wanted or self._automatic
        if wanted and watched.ended and scan.stop and scan.takes_projections and not scan.failure:
            self.start(watched)

    def poll(self) -> bool:
        """Look how far the volume is; return whether that has changed."""
        before, found = self.progress, self._runner.poll()
        awaited = before is not None and before.run_uid in self._wanted
        if found and (not awaited or found.state in ("running", "waiting")):
            self.progress = found
        return self.progress != before

    def take_no_more(self) -> None:
        """Begin no volume at the end of a scan any more."""
        self._automatic = False
        self._wanted.clear()

    def close(self) -> None:
        """Stop what is being made; it can be taken up later."""
        self._runner.close()
