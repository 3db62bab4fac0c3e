"""Rules: data that say how the documents of one beamline style are to be understood.

One YAML file for each style. A rule set is chosen by the start document; then it tells which stream holds
darks, flats or projections, and where the angle of each projection comes from. Names with dots are paths into
the start document; names of streams and data keys may hold the wildcards of :mod:`fnmatch`.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from tomolive.config import Section
from tomolive.errors import ScanError, SettingsError
from tomolive.geometry import to_radians
from tomolive.stream.derived import is_result

Kind = Literal["dark", "flat", "projection"]
KINDS: tuple[Kind, ...] = ("dark", "flat", "projection")


Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]
"""One name or a list of them."""


class AngleSource(Section):
    """One place where the angles of projections can be found; exactly one of the first four says which."""

    data_key: Names = Field((), description="data keys of the images' stream: event or file scalars")
    data_key_in_start: str | None = Field(None, description="start key that holds the name of that data key")
    monitor: Names = Field((), description="streams of readings, interpolated at the frames' times")
    start: str | None = Field(None, description="start key of the first angle; with `stop` and `count`")
    stop: str | None = None
    count: str | None = None
    endpoint: bool = Field(True, description="the last projection lies at `stop`, not one step before it")
    reading: Names = Field(("*",), description="data keys of the monitor that hold the angle")
    times: Names = Field((), description="data keys of the images' stream: seconds of each frame")
    times_since: float = Field(0.0, description="Unix time at which these times begin; EPICS: 631152000")
    units: str | None = Field(None, description="where the data key has none; deg or rad")

    @field_validator("units")
    @classmethod
    def _is_a_unit_of_angle(cls, units: str | None) -> str | None:
        try:
            to_radians(0.0, units or "deg")
        except ScanError as error:
            raise ValueError(str(error)) from None
        return units

    @model_validator(mode="after")
    def _is_one_source(self) -> "AngleSource":
        if sum(map(bool, (self.data_key, self.data_key_in_start, self.monitor, self.start))) != 1:
            raise ValueError("give exactly one of data_key, data_key_in_start, monitor, start")
        if self.start and not (self.stop and self.count):
            raise ValueError("start needs stop and count")
        return self


class FrameKinds(Section):
    """A number for each frame says what it is, as the image key of NXtomo does."""

    data_key: Names
    values: dict[int, Kind | None]


class RunKinds(Section):
    """A start key says what all the images of the run are."""

    key: str
    values: dict[str, Kind]


class Length(Section):
    """A length in the start document."""

    key: str
    units_key: str | None = None
    units: str = "um"


class Rules(Section):
    """How the documents of one beamline style are to be understood."""

    name: str
    about: str = ""
    match: tuple[dict[str, Any], ...] = Field(
        description="alternatives; in each, start key -> value, pattern or list of these, and all must hold"
    )
    image_key: Names = Field((), description="start keys that hold the camera's data key")
    streams: dict[Kind, Names] = Field({}, description="kind -> names of streams")
    streams_in_start: dict[Kind, str] = Field(
        {}, description="kind -> start key that holds the stream's name"
    )
    run_kinds: RunKinds | None = None
    frame_kinds: FrameKinds | None = None
    references: Names = Field((), description="start keys that hold the uid of a dark and flat run")
    angles: tuple[AngleSource, ...] = Field((), description="the first that applies is used")
    planned: Names = Field((), description="start keys that hold the number of projections")
    angle_range: tuple[str, str] | None = Field(
        None, description="start keys of first and last angle, degrees"
    )
    pixel_size: tuple[Length, ...] = ()
    tiles: Names = Field(
        (), description="start keys of where cameras lie in one field: data key -> {row: ..., column: ...}"
    )
    sample: Names = ("sample.name", "sample", "sample_name")

    def why(self, start: Mapping[str, Any]) -> str:
        """Return by what ``start`` is the start document of such a scan, in words; empty if it is not."""
        for alternative in self.match:
            if all(_holds(lookup(start, key), wanted) for key, wanted in alternative.items()):
                return " and ".join(f"{key} is {lookup(start, key)!r}" for key in alternative)
        return ""

    def kind_of_stream(self, start: Mapping[str, Any], stream: str) -> tuple[Kind | None, str]:
        """Return what the images of ``stream`` are, and by what; None if the rules do not say."""
        for kind, key in self.streams_in_start.items():
            if lookup(start, key) == stream:
                return kind, f"{key} names this stream"
        for kind, patterns in self.streams.items():
            if first_match([stream.lower()], patterns):
                return kind, "by its name"
        if self.run_kinds:
            value = str(lookup(start, self.run_kinds.key))
            return self.run_kinds.values.get(value), f"{self.run_kinds.key} is {value!r}"
        return None, ""

    def first_of(self, start: Mapping[str, Any], keys: Sequence[str]) -> Any:
        """Return the value of the first of ``keys`` that the start document has, or None."""
        return next((value for key in keys if (value := lookup(start, key)) is not None), None)


def lookup(document: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted ``path``, or None.

    >>> lookup({"tomography": {"version": 1}}, "tomography.version")
    1
    """
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def first_match(names: Sequence[str], patterns: Sequence[str]) -> str | None:
    """Return the first of ``names`` that matches; the order of ``patterns`` counts more."""
    return next((name for pattern in patterns for name in names if fnmatchcase(name, pattern)), None)


def _holds(value: Any, wanted: Any) -> bool:
    if value is None:
        return False
    options = wanted if isinstance(wanted, list) else [wanted]
    return any(value == option or fnmatchcase(str(value), str(option)) for option in options)


def shipped_rules() -> list[Rules]:
    """Return the rule sets that come with tomolive, in the order in which they are tried.

    The most telling ones come first: a start document that names its streams and keys needs no guessing.
    """
    folder = resources.files("tomolive.live.documents") / "rules"
    order = ["tomolive", "hex", "fxi", "nxtomo-image-key", "dls-step", "bluesky-tomo-plan"]
    return [_parse((folder / f"{name}.yaml").read_text(), f"{name}.yaml") for name in order]


def load_rules(path: Path) -> Rules:
    """Read one rule set.

    Raises
    ------
    SettingsError
        with the file, the key and the reason of each mistake.
    """
    try:
        return _parse(path.read_text(), str(path))
    except OSError as error:
        raise SettingsError(f"cannot read rules {path}: {error.strerror}") from None


def choose(rules: Sequence[Rules], start: Mapping[str, Any]) -> Rules | None:
    """Return the first rule set that matches the start document, or None: no tomography scan.

    What tomolive made of a scan is none, whatever the rules of a beamline match.
    """
    if is_result(start):
        return None
    return next((rule for rule in rules if rule.why(start)), None)


def _parse(text: str, where: str) -> Rules:
    try:
        values = yaml.safe_load(text)
        return Rules.model_validate(values)
    except yaml.YAMLError as error:
        raise SettingsError(f"rules {where} are not YAML: {error}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
        raise SettingsError(f"rules {where}: " + "; ".join(lines)) from None
