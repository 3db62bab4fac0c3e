"""Documents in a file of JSON lines, and the runs among them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tomolive.errors import DocumentError, SettingsError

Document = tuple[str, dict[str, Any]]


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a file of JSON lines: ``[name, doc]`` or ``{"name": name, "doc": doc}`` each.

    Raises
    ------
    SettingsError
        if the file cannot be read.
    DocumentError
        with the line, if one is no document.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parse(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _parse(line: str, where: str) -> Document:
    try:
        match json.loads(line):
            case [str(name), dict(doc)] | {"name": str(name), "doc": dict(doc)}:
                return name, doc
    except json.JSONDecodeError as error:
        raise DocumentError(f"{where}: not JSON: {error}") from None
    raise DocumentError(f'{where}: expected ["start", {{...}}] or {{"name": "start", "doc": {{...}}}}')


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write a file that `read_documents` and bluesky's own readers of JSON lines understand."""
    with path.open("w", encoding="utf-8") as lines:
        for name, doc in documents:
            lines.write(json.dumps({"name": name, "doc": doc}, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """Return what JSON has for an array or a number of numpy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


class RunOf:
    """Tells of which run the documents of a stream are, which come one after the other."""

    def __init__(self) -> None:
        self._newest = ""
        self._known: dict[str, str] = {}

    def __call__(self, name: str, doc: dict[str, Any]) -> str:
        """Return the uid of a document's run; empty if that is not known."""
        if name == "start":
            self._newest = doc["uid"]
            return self._newest
        if name == "resource" and "run_start" not in doc:  # producers may leave it out; then it is the newest
            uid = self._newest
        else:
            owner = doc.get("descriptor") or doc.get("resource") or ""
            uid = doc.get("run_start") or self._known.get(owner, "")
        if name in {"descriptor", "resource"}:
            self._known[doc["uid"]] = uid
        return uid


def split_runs(documents: Iterable[Document]) -> dict[str, list[Document]]:
    """Return the documents of each run by its uid, in the order in which they began; others are left out."""
    runs: dict[str, list[Document]] = {}
    run_of = RunOf()
    for name, doc in documents:
        uid = run_of(name, doc)
        if name == "start":
            runs.setdefault(uid, [])
        if uid in runs:
            runs[uid].append((name, doc))
    return runs
