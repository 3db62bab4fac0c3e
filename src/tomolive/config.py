"""Settings: frozen, strict, with a default for everything, so that no file is a valid configuration.

Read from a YAML file (``--config``) and from the environment: ``TOMOLIVE_HUB__NATIVE=0.0.0.0:5569`` sets
``hub.native``. The environment wins over the file, an option on the command line over both.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tomolive.config_places import Mistake, Places, mistake_in, section_of, value_of
from tomolive.errors import SettingsError

_PREFIX = "TOMOLIVE_"


class Section(BaseModel):
    """A part of the settings; unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_size(text: str) -> int:
    """Return the bytes of a size.

    >>> parse_size("1K"), parse_size("1.5G")
    (1024, 1610612736)

    Raises
    ------
    SettingsError
        if it is none.
    """
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    number, shift = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 0)
    try:
        size = int(float(number) * (1 << shift))
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise SettingsError(f"{text!r} is not a size such as 500M or 20G")
    return size


class HubSettings(Section):
    """The hub: where documents come in, are kept, and go out."""

    native: str = Field(
        default="127.0.0.1:5569", description="HOST:PORT of the acknowledged, journaled protocol"
    )
    stock_in: str = Field(default="127.0.0.1:5567", description="HOST:PORT for unmodified bluesky Publishers")
    stock_out: str = Field(
        default="127.0.0.1:5568", description="HOST:PORT for unmodified bluesky RemoteDispatchers"
    )
    http: str = Field(default="127.0.0.1:5570", description="HOST:PORT of /healthz and /metrics")
    address: str | None = Field(
        default=None, description="where publishers and consumers find it; default: tcp:// and `native`"
    )
    journal: str | None = Field(default=None, description="folder that keeps every document")
    fsync: Literal["always", "interval", "never"] = Field(
        default="interval", description="when documents are forced to the disk; matters for power cuts only"
    )
    keep_size: str | None = Field(
        default=None, description="let go of the oldest documents beyond this: 500M, 20G"
    )
    keep_days: float | None = Field(default=None, gt=0, description="let go of documents older than this")
    keys: str | None = Field(
        default=None, description="folder of the hub's keys, made by `tomolive keys server`"
    )
    insecure: bool = Field(default=False, description="listen beyond loopback without keys")


class FilesSettings(Section):
    """Reading image files."""

    mounts: dict[str, str] = Field(
        default={}, description="path prefix in documents -> path prefix on this machine"
    )
    roots: tuple[str, ...] = Field(
        default=(), description="folders that may be read; default: local sides of mounts"
    )
    patience_s: float = Field(
        default=10.0, gt=0, description="seconds without a sign of life, then frames are missing"
    )
    memory_mb: int = Field(default=512, gt=0, description="megabytes of frames in flight")
    threads: int = Field(default=2, ge=1, description="threads that decompress the frames of one block")


class PaganinSettings(Section):
    """Phase retrieval from one distance, see `tomolive.recon.paganin`."""

    energy_kev: float = Field(gt=0, description="photon energy, keV")
    distance_m: float = Field(gt=0, description="from the sample to the detector, metres")
    pixel_size_um: float = Field(gt=0, description="at the sample, micrometres")
    delta_beta: float = Field(gt=0, description="ratio of the decrement to the absorption index")
    generalised: bool = Field(default=True, description="the form for pixels of finite width")


class CorrectionSettings(Section):
    """What is done to projections beside darks and flats; the same live and for the volume."""

    zingers: bool = Field(default=False, description="replace single pixels that a stray photon hit")
    rings: Literal["none", "sorting", "combined", "fourier-wavelet"] = Field(
        default="none", description="method of stripe removal"
    )
    paganin: PaganinSettings | None = Field(default=None, description="phase retrieval; default: none")
    binning: Literal[1, 2, 4, 8] = Field(
        default=1, description="pixels a side that are averaged before anything else"
    )
    least_beam: float = Field(
        default=0.05, ge=0, lt=1,
        description="a projection darker than this part of the usual one saw no beam, and is left out of "
        "slices and volumes; 0: none is",
    )  # fmt: skip
    half_acquisition: bool | None = Field(
        default=None,
        description="whether slices are widened about an axis near the detector's edge; "
        "default: where a whole turn and the centre show it",
    )


class QualitySettings(Section):
    """From where on a number that is shown during a scan is coloured and explained; none: never."""

    transmission_drop: float | None = Field(
        default=0.25, description="a projection darker than this part of the usual one lost the beam"
    )
    saturated: float | None = Field(default=0.001, description="part of the pixels that count all they can")
    bad_pixels: float | None = Field(default=0.01, description="part of the pixels that are dead or hot")
    flat_drift: float | None = Field(
        default=0.02, description="difference of flats before and after, part of their mean"
    )
    sample_drift_px: float | None = Field(
        default=1.0, description="shift of a projection that repeats an angle, pixels"
    )
    noise: float | None = Field(default=None, description="noise of the slice, part of its range")
    resolution_px: float | None = Field(
        default=None, description="resolution estimated by Fourier shell correlation, pixels"
    )


class TileSettings(Section):
    """Where the frames of one camera lie in a field that several cameras see together, pixels."""

    row: int = Field(default=0, ge=-1_000_000, le=1_000_000, description="of their first row")
    column: int = Field(default=0, ge=-1_000_000, le=1_000_000, description="of their first column")


def _two_fifths_of_the_memory() -> int:
    """Return megabytes; a container's limit counts, where there is one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        memory = min(memory, int(text))
    return max(1, int(0.4 * memory / 2**20))


class LiveSettings(Section):
    """The live reconstruction."""

    center: float | None = Field(
        default=None, description="rotation centre, detector column; default: estimated"
    )
    filter: str = Field(default="ramp", description="reconstruction filter")
    results: str = Field(default="tomolive-results", description="folder for slices and summaries")
    threads: int = Field(default=2, ge=1, description="threads of the reconstruction kernels")
    memory_mb: int = Field(
        default_factory=_two_fifths_of_the_memory,
        gt=0,
        description="megabytes for the projections of one scan: a third for counts, the rest of which lies "
        "in a temporary file, and two for filtered ones, which are made again where they do not fit; "
        "default: two fifths of the machine's memory",
    )
    spill: str | None = Field(
        default=None,
        description="folder of that temporary file, with room for the largest scan; "
        "default: the system's folder for such files",
    )
    analysis: tuple[str, ...] = Field(
        default=(), description="analyses of your own: names of entry points, or module:function"
    )
    tiles: dict[str, TileSettings] = Field(
        default={},
        description="cameras that see one field together, by their data keys; default: as the start document "
        "says, else each by itself; needs workers",
    )
    corrections: CorrectionSettings = CorrectionSettings()
    quality: QualitySettings = QualitySettings()


class VolumeSettings(Section):
    """The full volume after a scan."""

    automatic: bool = Field(default=False, description="begin at each stop document")
    folder: str = Field(default="tomolive-volumes", description="where volumes are written")
    format: Literal["ome-zarr", "nxtomoproc"] = Field(default="ome-zarr", description="of the output")
    dtype: Literal["float32", "uint16"] = Field(default="float32", description="of the output")
    memory_mb: int = Field(
        default=4096, gt=0, description="peak memory, megabytes, of all processes together"
    )
    processes: int = Field(default=2, ge=1, description="cores that work on it")
    dask: str | None = Field(default=None, description="address of a Dask scheduler; default: this machine")


class PageSettings(Section):
    """The page to watch a scan on."""

    listen: str | None = Field(default=None, description="HOST:PORT; default: no page")
    token_file: str | None = Field(
        default=None, description="file with the token that lets a browser elsewhere control"
    )
    read_only: bool = Field(default=False, description="nobody may control")


class CatalogSettings(Section):
    """The Tiled catalog: the one that is served here, or one that is there already."""

    uri: str | None = Field(
        default=None, description="where archive and page find it; default: http:// and `listen`"
    )
    directory: str | None = Field(default=None, description="folder of the embedded server")
    listen: str = Field(default="127.0.0.1:8010", description="HOST:PORT of the embedded server")
    readable: tuple[str, ...] = Field(default=(), description="folders where detectors write")
    database: str | None = Field(
        default=None, description="postgresql://USER@HOST/NAME for metadata; default: SQLite"
    )
    storage: str | None = Field(
        default=None, description="postgresql://USER@HOST/NAME for tables; default: DuckDB"
    )


class ArchiveSettings(Section):
    """The archive: what writes every run to the catalog."""

    mounts: dict[str, str] = Field(
        default={}, description="path prefix in documents -> path prefix where the Tiled server runs"
    )
    http: str | None = Field(default=None, description="HOST:PORT of /healthz and /metrics; default: none")


class LogSettings(Section):
    """What every process writes to standard error."""

    format: Literal["text", "json"] = Field(
        default="text", description="one line, or one JSON object, an event"
    )
    verbose: bool = Field(default=False, description="also what is of use to developers only")


class Settings(Section):
    """All settings of a beamline."""

    hub: HubSettings = HubSettings()
    files: FilesSettings = FilesSettings()
    live: LiveSettings = LiveSettings()
    volume: VolumeSettings = VolumeSettings()
    page: PageSettings = PageSettings()
    catalog: CatalogSettings = CatalogSettings()
    archive: ArchiveSettings = ArchiveSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read ``path`` (YAML) and the environment.

        Raises
        ------
        SettingsError
            with the file and line or the variable, the key and the reason of each mistake.
        """
        settings, mistakes = cls.read(path, environ)
        if settings is None:
            raise SettingsError("settings: " + "; ".join(map(str, mistakes)))
        return settings

    @classmethod
    def read(
        cls,
        path: Path | None = None,
        environ: Mapping[str, str] = os.environ,
        places: Places | None = None,
    ) -> tuple["Settings | None", list[Mistake]]:
        """Read ``path`` and the environment; return the settings, or None and every mistake in them.

        ``places`` learns where each setting stands.
        """
        places = places or Places(path)
        try:
            values = places.values() if path else {}
            for name, text in environ.items():
                section, _, key = name.removeprefix(_PREFIX).lower().partition("__")
                if name.startswith(_PREFIX) and key:
                    places.variables[f"{section}.{key}"] = name
                    section_of(values, section, path)[key] = value_of(cls, section, key, name, text)
        except SettingsError as error:
            return None, [Mistake(str(path or ""), "", str(error))]
        mistakes = [Mistake(places.of(key), key, "is given twice") for key in places.twice]
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            return None, mistakes + [mistake_in(cls, places, found) for found in error.errors()]
        return (None, mistakes) if mistakes else (settings, [])
