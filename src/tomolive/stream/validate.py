"""Check documents against their event-model schemas.

jsonschema-rs says yes in about a microsecond. Where it does not, event-model's own validators have the last
word: they know arrays and numpy numbers, and theirs is the reason that is told.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import event_model
import jsonschema
import jsonschema_rs

from tomolive.errors import DocumentError

_LONGEST_REASON = 300


def check(name: str, doc: Mapping[str, Any]) -> None:
    """Return if ``doc`` is valid by event-model's schema for documents called ``name``.

    Raises
    ------
    DocumentError
        with the schema's reason and the JSON path of the value that breaks it.
    """
    is_valid = _fast(name)
    try:
        if is_valid(doc):
            return
    except ValueError:
        # A type that is no JSON, an array say, where the schema looks; event-model knows which may be there.
        pass
    _check_slowly(name, doc)


@functools.cache
def _fast(name: str) -> Callable[[Mapping[str, Any]], bool]:
    try:
        schema = event_model.schemas[event_model.DocumentNames[name]]
    except KeyError:
        raise DocumentError(f"{name!r:.60} is not the name of a document") from None
    return jsonschema_rs.validator_for(schema).is_valid


def _check_slowly(name: str, doc: Mapping[str, Any]) -> None:
    validator = event_model.schema_validators[event_model.DocumentNames[name]]
    try:
        validator.validate(doc)
    except jsonschema.ValidationError as error:
        reason = error.message
        if len(reason) > _LONGEST_REASON:
            reason = f"{reason[:_LONGEST_REASON]}..."
        raise DocumentError(f"invalid {name} document, at {error.json_path}: {reason}") from None
    except TypeError as error:
        # jsonschema matches keys against patterns without asking whether they are text.
        raise DocumentError(f"invalid {name} document: a key is no string ({error})") from None
