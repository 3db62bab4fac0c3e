"""Check documents against their event-model schemas.

jsonschema-rs does it in about a microsecond, and says what is wrong. It knows JSON only: where the schema
looks at something else, an array say, event-model's own validators have the word.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import event_model
import jsonschema
import jsonschema_rs

from tomolive.errors import DocumentError

_LONGEST_REASON = 300
_LIKE_NAN = 0.5


def check(name: str, doc: Mapping[str, Any]) -> None:
    """Return if ``doc`` is valid by event-model's schema for documents called ``name``.

    Raises
    ------
    DocumentError
        with the schema's reason and the JSON path of the value that breaks it.
    """
    validator = _validator(name)
    try:
        if validator.is_valid(doc):
            return
        error = next(validator.iter_errors(_finite(doc)), None)
    except ValueError:
        _check_with_event_model(name, doc)
    else:
        if error is not None:
            value = functools.reduce(lambda at, key: at[key], error.instance_path, doc)
            is_odd = isinstance(value, float) and not math.isfinite(value)
            reason = f"{value} does not fit" if is_odd else error.message
            raise _invalid(name, _json_path(error.instance_path), reason)


@functools.cache
def _validator(name: str) -> Any:
    try:
        schema = event_model.schemas[event_model.DocumentNames[name]]
    except KeyError:
        raise DocumentError(f"{name!r:.60} is not the name of a document") from None
    return jsonschema_rs.validator_for(schema)


def _finite(value: Any) -> Any:
    """Put another broken number for NaN: JSON has none, so jsonschema-rs takes it for null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else _LIKE_NAN
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _json_path(keys: Iterable[str | int]) -> str:
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)


def _check_with_event_model(name: str, doc: Mapping[str, Any]) -> None:
    validator = event_model.schema_validators[event_model.DocumentNames[name]]
    try:
        validator.validate(doc)
    except jsonschema.ValidationError as error:
        raise _invalid(name, error.json_path, error.message) from None
    except TypeError as error:
        # jsonschema matches keys against patterns without asking whether they are text.
        raise DocumentError(f"invalid {name} document: a key is no string ({error})") from None


def _invalid(name: str, path: str, reason: str) -> DocumentError:
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_LONGEST_REASON]}..."
    return DocumentError(f"invalid {name} document, at {path}: {reason}")
