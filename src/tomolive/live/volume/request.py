"""What volume is asked for: values that travel between processes, and that name the result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tomolive import __version__
from tomolive.config import CorrectionSettings, FilesSettings, VolumeSettings
from tomolive.errors import SettingsError
from tomolive.live.results.files import folder_of
from tomolive.live.snapshot import Change
from tomolive.live.volume.documents import DocumentSource
from tomolive.live.volume.output import FORMATS


@dataclass(frozen=True)
class VolumeRequest:
    """One volume."""

    run_uid: str
    source: DocumentSource
    """Where the run's documents are."""
    center: float | None = None
    """Detector column; None: estimated, as the live reconstruction does."""
    center_source: str = ""
    filter: str = "ramp"
    corrections: CorrectionSettings = field(default_factory=CorrectionSettings)
    volume: VolumeSettings = field(default_factory=VolumeSettings)
    files: FilesSettings = field(default_factory=FilesSettings)
    value_range: tuple[float, float] | None = None
    """For uint16, what 0 and 65535 stand for; None: found from a few slices."""
    changes: tuple[Change, ...] = ()
    """Who changed what on the page, and when."""
    like: str = ""
    """Uid of the result that this one repeats."""
    rule_files: tuple[str, ...] = ()
    """Rules that come before the shipped ones."""
    publish: str | None = None
    """Address of the hub that gets the result's documents."""
    spool: str | None = None
    """Folder of the Publisher's spool."""

    def to_json(self) -> str:
        """Return it as text for another process."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {name: values[name].model_dump() for name in ("corrections", "volume", "files")}
        values |= {"source": asdict(self.source), "changes": [asdict(change) for change in self.changes]}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> "VolumeRequest":
        """Return what `to_json` has written."""
        values = json.loads(text)
        values["source"] = DocumentSource(**values["source"])
        values["corrections"] = CorrectionSettings.model_validate(values["corrections"])
        values["volume"] = VolumeSettings.model_validate(values["volume"])
        values["files"] = FilesSettings.model_validate(values["files"])
        values["changes"] = tuple(Change(**change) for change in values["changes"])
        values["rule_files"] = tuple(values["rule_files"])
        if values["value_range"] is not None:
            values["value_range"] = tuple(values["value_range"])
        return cls(**values)

    @property
    def name(self) -> str:
        """Name of the result: another one for each choice that changes it."""
        choices = {
            "center": self.center,
            "filter": self.filter,
            "corrections": self.corrections.model_dump(),
            "dtype": self.volume.dtype,
            "range": self.value_range,
            "version": __version__,
        }
        digest = hashlib.sha256(json.dumps(choices, sort_keys=True).encode()).hexdigest()
        return f"volume-{digest[:8]}"

    @property
    def path(self) -> Path:
        """Where the volume will be, absolute."""
        folder = folder_of(Path(self.volume.folder).expanduser().absolute(), self.run_uid)
        return folder / f"{self.name}{FORMATS[self.volume.format].suffix}"

    def repeated(self, uid: str, start: Mapping[str, Any]) -> "VolumeRequest":
        """Return this request with the parameters of an earlier result.

        Parameters
        ----------
        uid, start
            Of the result, and its start document.

        Raises
        ------
        SettingsError
            if it is no result of ours.
        """
        try:
            told = start["tomolive"]
            found = told["parameters"]
            value_range = found.get("value_range")
            chosen = {key: found[key] for key in ("format", "dtype") if key in found}
            volume = VolumeSettings.model_validate(self.volume.model_dump() | chosen)
            made_by = told.get("software", {}).get("tomolive", "an unknown version")
            by_another = "" if made_by == __version__ else f", made by tomolive {made_by}"
            return replace(
                self,
                run_uid=told["raw_run"],
                center=float(found["center"]),
                center_source=f"that of result {uid[:8]}{by_another}",
                filter=found["filter"],
                corrections=CorrectionSettings.model_validate(found["corrections"] or {}),
                volume=volume,
                value_range=None if value_range is None else (float(value_range[0]), float(value_range[1])),
                like=uid,
            )
        except (LookupError, TypeError, ValueError) as error:
            raise SettingsError(f"run {uid[:8]} is not a result that can be repeated: {error!r}") from None
