"""Settings: frozen, strict, with a default for everything, so that no file is a valid configuration.

Read from a YAML file (``--config``) and from the environment: ``TOMOLIVE_HUB__NATIVE=0.0.0.0:5569`` sets
``hub.native``. The environment wins over the file, an option on the command line over both.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


class ViewSettings(Section):
    """The page."""

    page: str = Field(default="127.0.0.1:8000", description="HOST:PORT of the page")


class CatalogSettings(Section):
    """The catalog."""

    uri: str = Field(default="http://127.0.0.1:8010", description="address of the Tiled server")


class Settings(Section):
    """All settings of a beamline."""

    hub: HubSettings = HubSettings()
    files: FilesSettings = FilesSettings()
    live: LiveSettings = LiveSettings()
    view: ViewSettings = ViewSettings()
    catalog: CatalogSettings = CatalogSettings()

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read ``path`` (YAML) and the environment.

        Raises
        ------
        SettingsError
            with the file, the key and the reason of each mistake.
        """
        values = _read_yaml(path) if path else {}
        for name, text in environ.items():
            section, _, key = name.removeprefix(_PREFIX).lower().partition("__")
            if name.startswith(_PREFIX) and key:
                values.setdefault(section, {})[key] = yaml.safe_load(text)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            where = path or "the environment"
            lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise SettingsError(f"settings in {where}: " + "; ".join(lines)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read settings {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"settings {path} are not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"settings {path}: expected sections such as 'hub:', got {type(values).__name__}")
    return values
