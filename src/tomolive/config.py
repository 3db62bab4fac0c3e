"""Settings: frozen, strict, with a default for everything, so that no file is a valid configuration.

Read from a YAML file (``--config``) and from the environment: ``TOMOLIVE_HUB__NATIVE=0.0.0.0:5569`` sets
``hub.native``. The environment wins over the file, an option on the command line over both.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tomolive.errors import SettingsError

_PREFIX = "TOMOLIVE_"


class Section(BaseModel):
    """A part of the settings; unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class LiveSettings(Section):
    """The live reconstruction."""

    center: float | None = Field(
        default=None, description="rotation centre, detector column; default: estimated"
    )
    filter: str = Field(default="ramp", description="reconstruction filter")
    results: str = Field(default="tomolive-results", description="folder for slices and summaries")
    threads: int = Field(default=2, ge=1, description="threads of the reconstruction kernels")
    memory_mb: int = Field(
        default=2048,
        gt=0,
        description="megabytes for the projections of one scan; the rest lies in a temporary file",
    )
    spill: str | None = Field(
        default=None,
        description="folder of that temporary file, with room for the largest scan; "
        "default: the system's folder for such files",
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


class Settings(Section):
    """All settings of a beamline."""

    hub: HubSettings = HubSettings()
    files: FilesSettings = FilesSettings()
    live: LiveSettings = LiveSettings()
    volume: VolumeSettings = VolumeSettings()

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read ``path`` (YAML) and the environment.

        Raises
        ------
        SettingsError
            with the file or variable, the key and the reason of each mistake.
        """
        values = _read_yaml(path) if path else {}
        variables: dict[str, str] = {}
        for name, text in environ.items():
            section, _, key = name.removeprefix(_PREFIX).lower().partition("__")
            if name.startswith(_PREFIX) and key:
                variables[f"{section}.{key}"] = name
                _section_of(values, section, path)[key] = _from_text(cls, section, key, name, text)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            mistakes = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
            lines = [f"{variables.get(key, f'{path}, {key}')}: {why}" for key, why in mistakes]
            raise SettingsError("settings: " + "; ".join(lines)) from None


def _section_of(values: dict[str, Any], section: str, path: Path | None) -> dict[str, Any]:
    found = values.setdefault(section, {})
    if not isinstance(found, dict):
        raise SettingsError(f"settings: {path}, {section}: expected keys below it, got {found!r}")
    return found


def _from_text(settings: type[Section], section: str, key: str, variable: str, text: str) -> Any:
    """Return a variable's value: text where the setting is text, else YAML such as ``{/there: /here}``."""
    model = settings.model_fields[section].annotation if section in settings.model_fields else None
    fields = model.model_fields if isinstance(model, type) and issubclass(model, Section) else {}
    if key in fields and fields[key].annotation is str:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"settings: {variable}: {text!r} is not YAML") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read settings {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings {path} are not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"settings {path}: expected sections such as 'hub:', got {type(values).__name__}")
    # A section whose keys are all commented out is empty, not a mistake.
    return {key: {} if value is None else value for key, value in values.items()}
