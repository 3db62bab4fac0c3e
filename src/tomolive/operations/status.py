"""Everything that runs on a beamline, in one table: state, lag, last error."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tomolive.config import Settings
from tomolive.operations.services import fetch, service_urls

_NAMES = {
    "hub.http": "hub",
    "page.listen": "live",
    "archive.http": "archive",
    "catalog.uri": "catalog",
    "catalog.listen": "catalog",
}


@dataclass(frozen=True)
class ServiceStatus:
    """One line of the table."""

    name: str
    address: str
    state: str
    """'well', 'not well' or 'no answer'."""
    version: str = ""
    up_s: float | None = None
    lag: str = ""
    """How far it is behind, in words."""
    last_error: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it answered that all is well."""
        return self.state == "well"


def ask_all(settings: Settings) -> list[ServiceStatus]:
    """Ask every service of the settings how it is."""
    return [_ask(_NAMES[key], url) for key, url in service_urls(settings).items()]


def _ask(name: str, url: str) -> ServiceStatus:
    answer = fetch(url)
    if isinstance(answer, str):
        return ServiceStatus(name, url, "no answer", last_error=answer)
    code, _, body = answer
    try:
        told = json.loads(body)
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    age = told.get("last_error_age_s")
    return ServiceStatus(
        name=name,
        address=url,
        state="well" if code < 400 and told.get("ok", True) else "not well",
        version=str(told.get("version", "")),
        up_s=told.get("up_s"),
        lag=_lag(told),
        last_error=told.get("waiting") or _since(told.get("last_error", ""), age),
    )


def _lag(told: dict[str, Any]) -> str:
    words = [f"{cursor} {behind:,} documents behind" for cursor, behind in (told.get("lag") or {}).items()]
    if told.get("behind") is not None:
        words.append(f"{told['behind']:,} documents behind")
    if told.get("lag_s") is not None:
        words.append(f"picture {told['lag_s']:.1f} s behind the camera")
    if told.get("journal_full"):
        words.append("the journal is full")
    return ", ".join(words)


def _since(text: str, age: float | None) -> str:
    return f"{text} ({age:.0f} s ago)" if text and age is not None else text


def in_rows(statuses: Iterable[ServiceStatus]) -> list[tuple[str, ...]]:
    """Return the table's cells: service, state, version, up, lag, last error, address."""
    return [
        (s.name, s.state, s.version, "" if s.up_s is None else _time(s.up_s), s.lag, s.last_error, s.address)
        for s in statuses
    ]


def _time(seconds: float) -> str:
    """Return a time in its largest unit.

    >>> _time(42), _time(7200), _time(900000)
    ('42 s', '2.0 h', '10.4 d')
    """
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit != "min"):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
