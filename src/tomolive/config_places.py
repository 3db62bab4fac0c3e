"""Where each setting stands, in a file or in the environment, and what is wrong with it."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from tomolive.errors import SettingsError


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a setting."""

    where: str
    """File and line, or the environment variable."""
    key: str
    reason: str

    def __str__(self) -> str:
        return ", ".join(part for part in (self.where, self.key) if part) + f": {self.reason}"


class Places:
    """Where each setting stands: a line of a file, or a variable of the environment."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.variables: dict[str, str] = {}
        self.twice: list[str] = []
        self._lines: dict[str, int] = {}

    def values(self) -> dict[str, Any]:
        """Read the file.

        Raises
        ------
        SettingsError
            if it cannot be read, or is not made of sections.
        """
        path = self.path
        assert path is not None  # noqa: S101  only asked of a file
        try:
            text = path.read_text()
            self._walk(yaml.compose(text, yaml.SafeLoader), "")
            values = yaml.safe_load(text)
        except OSError as error:
            raise SettingsError(f"cannot read settings {path}: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            said = " ".join(str(error).split()).replace('"<unicode string>"', "it")
            raise SettingsError(f"settings {path} are not YAML: {said}") from None
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise SettingsError(
                f"settings {path}: expected sections such as 'hub:', got {type(values).__name__}"
            )
        # A section whose keys are all commented out is empty, not a mistake.
        return {key: {} if value is None else value for key, value in values.items()}

    def of(self, key: str) -> str:
        """Return where a setting is given; the place of its section if it is not."""
        if key in self.variables:
            return self.variables[key]
        while key and key not in self._lines:
            key = key.rpartition(".")[0]
        line = self._lines.get(key)
        return f"{self.path}:{line}" if line else str(self.path or "the defaults")

    def _walk(self, node: yaml.Node | None, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for name, value in node.value:
            key = f"{prefix}{name.value}"
            if key in self._lines:
                self.twice.append(key)
            self._lines[key] = name.start_mark.line + 1
            self._walk(value, f"{key}.")


def mistake_in(settings: type[BaseModel], places: Places, found: Any) -> Mistake:
    """Return one of the errors that pydantic has found in ``settings``, with its place."""
    key = ".".join(map(str, found["loc"]))
    reason = found["msg"]
    if found["type"] == "extra_forbidden":
        section = settings
        for part in found["loc"][:-1]:
            if part in section.model_fields:  # else it is the name of an entry
                section = _model(section.model_fields[part].annotation) or BaseModel
        near = difflib.get_close_matches(str(found["loc"][-1]), section.model_fields, 1)
        known = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(section.model_fields)}"
        reason = f"there is no such setting; {known}"
    return Mistake(places.of(key), key, reason)


def section_of(values: dict[str, Any], section: str, path: Path | None) -> dict[str, Any]:
    """Return the keys that are given in a section, which is made if nothing is.

    Raises
    ------
    SettingsError
        if the file has something else there.
    """
    found = values.setdefault(section, {})
    if not isinstance(found, dict):
        raise SettingsError(f"settings: {path}, {section}: expected keys below it, got {found!r}")
    return found


def value_of(settings: type[BaseModel], section: str, key: str, variable: str, text: str) -> Any:
    """Return a variable's value: text where the setting is text, else YAML such as ``{/there: /here}``.

    Raises
    ------
    SettingsError
        if it is no YAML.
    """
    model = _model(settings.model_fields[section].annotation) if section in settings.model_fields else None
    fields = model.model_fields if model else {}
    if key in fields and fields[key].annotation is str:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"settings: {variable}: {text!r} is not YAML") from None


def _model(annotation: Any) -> type[BaseModel] | None:
    """Return the section that an annotation names: alone, or None, or in each entry of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for each in get_args(annotation) if (model := _model(each))), None)
