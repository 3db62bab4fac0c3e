"""What a look at the settings, or at what they name, finds."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tomolive.config import Settings
from tomolive.config_places import Places

Level = Literal["fine", "warning", "mistake"]


@dataclass(frozen=True)
class Finding:
    """One sentence about one setting."""

    level: Level
    key: str
    text: str
    """What is wrong and what to do; or what was looked at and found right."""
    where: str = ""
    """File and line, or variable."""

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.where, self.key) if part)
        return f"{self.level:8}{place}: {self.text}"


Check = Callable[[Settings], Iterable[Finding]]


def find(checks: Iterable[Check], settings: Settings, places: Places) -> Iterator[Finding]:
    """Make ``checks``; each finding is told where its setting stands."""
    for check in checks:
        for found in check(settings):
            yield Finding(found.level, found.key, found.text, places.of(found.key))


def mistake(key: str, text: str) -> Finding:
    """Return what must be mended."""
    return Finding("mistake", key, text)


def warning(key: str, text: str) -> Finding:
    """Return what should be looked at."""
    return Finding("warning", key, text)


def fine(key: str, text: str) -> Finding:
    """Return what was looked at and is right."""
    return Finding("fine", key, text)
