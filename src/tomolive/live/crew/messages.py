"""What a crew's master and its workers tell each other: plain values, so that they travel."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tomolive.config import CorrectionSettings, LiveSettings
from tomolive.live.documents.fields import Field
from tomolive.live.documents.rules import Rules
from tomolive.live.slices.prepared import PLAIN
from tomolive.live.snapshot import Trend
from tomolive.recon.stitching import Rows
from tomolive.stream.dispatcher import RemoteDispatcher

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """Where documents and files are, as a RemoteDispatcher wants it."""

    hub: str
    mounts: Mapping[str, str] = field(default_factory=dict)
    roots: tuple[str, ...] | None = None
    patience_s: float = 10.0
    memory_mb: int = 512
    threads: int = 1

    def connect(self, start: str) -> RemoteDispatcher:
        """Return a dispatcher that begins at a run."""
        return RemoteDispatcher(
            self.hub, start=start, mounts=dict(self.mounts), roots=self.roots, patience=self.patience_s,
            memory=self.memory_mb * 1_000_000, threads=self.threads, on_error="stop",
        )  # fmt: skip


@dataclass(frozen=True)
class Share:
    """What one worker does of one scan; plain values, so that it travels."""

    run_uid: str
    field: Field
    rows: Rows
    """Of the field."""
    taken: Rows
    """Those, and the rows beside them that corrections need."""
    source: Source
    rules: tuple[Rules, ...]
    settings: LiveSettings
    leads: bool = False
    """It finds the rotation centre, and what tells whether the scan is worth going on with, for its field."""
    crew: str = ""
    """Id of the crew: others may work on the same run, in the same workers, with another centre."""

    @property
    def name(self) -> str:
        """Name of the share among all that a worker does."""
        return f"{self.run_uid}/{self.field.name}/{self.rows}/{self.taken}/{self.crew}"


@dataclass(frozen=True)
class Orders:
    """What the crew's master asks of a share, each time that it asks for a report."""

    center: float | None = None
    filter: str | None = None
    corrections: CorrectionSettings | None = None
    estimate: int = 0
    """How often the centre was to be estimated anew."""
    without_beam: tuple[Rows, ...] = ()
    """Numbers of the projections that the share that leads has found to be without beam; ranges."""
    positions: Mapping[str, int] = field(default_factory=dict)
    """Where the slices of the results lie in the volume of the field."""
    keys: tuple[str, ...] = ()
    """Other pictures that are looked at, by their `picture_key` in the volume of the field."""
    projection: int | None = None
    """Number of the projection to show, so that all shares show the same."""
    have: str = ""
    """Version of the pictures that the master has."""


@dataclass(frozen=True, eq=False)
class Report:
    """What a share has done so far."""

    worker: str
    """Host and process."""
    version: str = ""
    """Of the pictures."""
    pictures: Mapping[str, Pixels] | None = None
    """By their `picture_key`, with what this share has of each; None: as in the report before."""
    projection: tuple[int, str] | None = None
    """Number and units of the projection among the pictures."""
    received: tuple[Rows, ...] = ()
    """Numbers of the projections in its slices, half-open ranges."""
    missing: tuple[Rows, ...] = ()
    missing_because: str = ""
    darks: int = 0
    flats: int = 0
    angle_first: float | None = None
    angle_last: float | None = None
    unreadable: str = ""
    center: float | None = None
    center_source: str = ""
    estimated: int = 0
    """How often it has estimated the centre anew."""
    filter: str = ""
    corrections: CorrectionSettings = PLAIN
    without_beam: tuple[Rows, ...] = ()
    """Numbers of the projections that are left out; ranges."""
    coverage: float = 0.0
    coverage_wanted: float = 180.0
    columns: int = 0
    """Of the volume."""
    trends: tuple[Trend, ...] = ()
    notes: tuple[str, ...] = ()
    ended: bool = False
    """The run is over, and the slices are final for this centre, filter and corrections."""
    failure: str = ""

    @property
    def count(self) -> int:
        """How many projections are in its slices."""
        return sum(last - first for first, last in self.received)
