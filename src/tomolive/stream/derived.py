"""Runs that were made of other runs: tomolive's results."""

from collections.abc import Mapping
from typing import Any


def is_result(start: Mapping[str, Any]) -> bool:
    """Whether a start document is of a result: it names the raw run that it was made of."""
    told = start.get("tomolive")
    return isinstance(told, Mapping) and told.get("raw_run") is not None
