"""Everything that runs on a beamline, in one table: state, lag, last error."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tomolive.config import Settings
from tomolive.operations.services import fetch, service_urls

_NAMES = {
    "hub.http": "hub",
    "page.listen": "live",
    "archive.http": "archive",
    "catalog.uri": "catalog",
    "catalog.listen": "catalog",
}


_VERBS = {"no answer": ("does not answer", "do not answer"), "not well": ("is not well", "are not well")}


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
    """Return how far a service, or those who read from it, are behind: a line for each."""
    lines = [f"{cursor}: {_documents(behind)}" for cursor, behind in (told.get("lag") or {}).items()]
    if told.get("behind") is not None:
        lines.append(_documents(told["behind"]))
    if told.get("lag_s") is not None:
        lines.append(f"picture {told['lag_s']:.1f} s after the camera")
    if told.get("journal_full"):
        lines.append("the journal is full")
    return "\n".join(lines)


def _documents(behind: int) -> str:
    return f"{behind:,} documents behind" if behind else "up to date"


def _since(text: str, age: float | None) -> str:
    return f"{text} ({age:.0f} s ago)" if text and age is not None else text


def in_rows(statuses: Iterable[ServiceStatus]) -> list[tuple[str, ...]]:
    """Return the table's cells: service and where it is, state, up, behind, last error."""
    return [
        (
            f"{s.name}\n{urlsplit(s.address).netloc}",
            s.state,
            "" if s.up_s is None else _time(s.up_s),
            s.lag,
            s.last_error,
        )
        for s in statuses
    ]


def in_words(statuses: Sequence[ServiceStatus]) -> str:
    """Return what there is to do, in a sentence or two.

    >>> in_words([ServiceStatus("hub", "", "well", "0.1"), ServiceStatus("live", "", "no answer")])
    'live does not answer.'
    """
    said = []
    for state, (one, several) in _VERBS.items():
        if names := [s.name for s in statuses if s.state == state]:
            said.append(f"{' and '.join(names)} {one if len(names) == 1 else several}.")
    versions = {s.version for s in statuses if s.version}
    if len(versions) > 1:
        said.append(f"Versions differ: {', '.join(sorted(versions))}.")
    return " ".join(said) or "All is well."


def _time(seconds: float) -> str:
    """Return a time in its largest unit.

    >>> _time(42), _time(7200), _time(900000)
    ('42 s', '2.0 h', '10.4 d')
    """
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit != "min"):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
