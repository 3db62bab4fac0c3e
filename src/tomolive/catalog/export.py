"""A run as a folder that a user takes home: documents, files, results, and how to open it there.

::

    README.md            what is here, and the three lines that open it
    export.json          the runs; written last, so that an export that was cut short is not taken for whole
    export.partial       only while the export is made; one that was killed is begun anew by the next
    documents/UID.jsonl  the documents of each run as they were, one a line
    files/...            what the documents name, under the path by which they name it
    results/...          pictures and summaries of the live reconstruction

The documents are not changed. That the files are elsewhere is said by one mount, ``/`` is ``files``.
"""

import contextlib
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomolive import __version__
from tomolive.catalog.run_documents import Runs
from tomolive.errors import SettingsError
from tomolive.files.locate import Locator
from tomolive.files.run_files import RunFiles
from tomolive.stream.recorded import Document, write_documents

MANIFEST = "export.json"
_PARTIAL = "export.partial"
_OURS = ("README.md", MANIFEST, "documents", "files", "results")
_FORMAT = 1


@dataclass
class Exported:
    """What an export holds."""

    folder: Path
    runs: list[str]
    """Uids; that of the run comes first, then those of its results."""
    files: int = 0
    size: int = 0
    """Bytes of all files."""
    problems: list[str] = field(default_factory=list)
    """What could not be taken along, one line each."""


def export(
    runs: Runs,
    folder: Path,
    locator: Locator,
    *,
    links: bool = False,
    results: Path | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Exported:
    """Write a run, its results and all their files to ``folder``.

    Parameters
    ----------
    runs
        As `tomolive.catalog.run_documents` returns them.
    locator
        Says where files are on this machine, and which may be read; others are told as problems.
    links
        Make symbolic links to the files instead of copies.
    results
        Folder of the live reconstruction's results; what it holds of this run is copied.
    say
        Called with a line now and then.

    Raises
    ------
    SettingsError
        if ``folder`` is there and not empty, or cannot be written.
    """
    exported = Exported(folder, list(runs))
    try:
        with _begun(folder):
            _write(runs, exported, locator, links=links, results=results, say=say)
    except OSError as error:
        raise SettingsError(f"cannot export to {folder}: {error.strerror or error}") from error
    return exported


def _write(
    runs: Runs,
    exported: Exported,
    locator: Locator,
    *,
    links: bool,
    results: Path | None,
    say: Callable[[str], object],
) -> None:
    """Fill the folder, and note what is in it."""
    folder, files = exported.folder, RunFiles(locator)
    (folder / "documents").mkdir()
    for uid, documents in runs.items():
        write_documents(documents_of(folder, uid), documents)
        files.take(documents)
    exported.problems = files.problems
    for number, (place, file) in enumerate(files.found.items(), 1):
        say(f"{number} of {len(files.found)}: {place}")
        _put(file, folder / "files" / place.relative_to("/"), links=links)
        exported.files += 1
        exported.size += file.stat().st_size
    kept = results / exported.runs[0] if results is not None else None
    if kept is not None and kept.is_dir():
        for file in sorted(file for file in kept.iterdir() if file.is_file()):
            _put(file, folder / "results" / file.name, links=links)
    (folder / "README.md").write_text(_readme(runs, exported, links=links), encoding="utf-8")
    manifest = {
        "format": _FORMAT,
        "tomolive": __version__,
        "time": time.time(),
        "runs": [_about(documents) for documents in runs.values()],
        "files": exported.files,
        "bytes": exported.size,
        "not_taken_along": exported.problems,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def read_export(folder: Path) -> list[str]:
    """Return the uids of the runs in an export.

    Raises
    ------
    SettingsError
        if it is none, or was cut short.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        known = manifest["format"] == _FORMAT
        uids = [str(run["uid"]) for run in manifest["runs"]]
    except (OSError, ValueError, LookupError, TypeError):
        raise SettingsError(
            f"{folder} is no whole export: it has no {MANIFEST} that can be read; export the run again"
        ) from None
    if not known:
        raise SettingsError(f"{folder} was made by a newer tomolive; this one is {__version__}")
    return uids


def documents_of(folder: Path, uid: str) -> Path:
    """Return the file that holds the documents of a run of an export."""
    return folder / "documents" / f"{_safe(uid)}.jsonl"


def mounts_of(folder: Path) -> dict[str, str]:
    """Return where the files of an export are: path prefix in documents -> path prefix on this machine."""
    return {"/": str(folder.resolve() / "files")}


def linked_folders(folder: Path) -> list[Path]:
    """Return the folders to which the links of an export lead; whoever made it wanted them read."""
    links = (path for path in (folder / "files").rglob("*") if path.is_symlink())
    return sorted({path.resolve().parent for path in links})


@contextlib.contextmanager
def _begun(folder: Path) -> Iterator[None]:
    """Make the folder, or take over that of an export that was killed; one that fails leaves nothing."""
    marker, is_new = folder / _PARTIAL, not folder.exists()
    if not is_new and (not folder.is_dir() or (any(folder.iterdir()) and not marker.exists())):
        raise SettingsError(f"{folder} is there already, and not an empty folder; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    with marker.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(f"another process exports to {folder} now") from None
        try:
            _clear(folder)
            yield
        except BaseException:
            _clear(folder)
            marker.unlink()
            if is_new:
                folder.rmdir()
            raise
        marker.unlink()


def _clear(folder: Path) -> None:
    """Remove what an export makes, and nothing else."""
    for path in (folder / name for name in _OURS):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _safe(uid: str) -> str:
    """Return the uid as part of a file name; it came over the network."""
    if not uid or not all(sign.isalnum() or sign in "-_" for sign in uid):
        raise SettingsError(f"the uid {uid!r} cannot be part of a file name")
    return uid


def _put(file: Path, place: Path, *, links: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if links:
        place.symlink_to(file.resolve())
    else:
        shutil.copy2(file, place)


def _about(documents: list[Document]) -> dict[str, Any]:
    start = documents[0][1]
    stop = next((doc for name, doc in documents if name == "stop"), {})
    return {
        "uid": start["uid"],
        "plan_name": start.get("plan_name", ""),
        "scan_id": start.get("scan_id"),
        "raw_run": start.get("raw_run"),
        "time": start.get("time"),
        "outcome": stop.get("exit_status", "no stop document"),
    }


def _readme(runs: Runs, exported: Exported, *, links: bool) -> str:
    lines = ["# A run, to take home", ""]
    lines += ["| run | plan | scan | outcome |", "|---|---|---|---|"]
    for documents in runs.values():
        about = _about(documents)
        what = f"{about['plan_name']}, a result of the first" if about["raw_run"] else about["plan_name"]
        lines.append(f"| `{about['uid']}` | {what} | {about['scan_id'] or ''} | {about['outcome']} |")
    form = "symbolic links to files" if links else "files"
    lines += [
        "",
        f"`files` holds {exported.files} {form}, {exported.size / 1e6:.1f} MB, under the paths by which the",
        "documents name them; `documents` the documents, one a line; `results`, if it is here, pictures.",
        "",
        "## Open it",
        "",
        "Without a network, after `pip install 'tomolive[catalog]'`, in this folder:",
        "",
        "```python",
        "from tomolive.catalog.exported import open_export",
        'run = open_export(".")',
        "print(run, list(run))",
        "```",
        "",
        "`run` is Tiled's client of the run, as with a catalog: `run[STREAM][KEY].read()` gives an array.",
        'A result opens with `open_export(".", UID)`. The files themselves open with h5py, tifffile or zarr.',
        "",
        "`tomolive import .` puts the runs into a catalog (`--catalog URI`) or a hub (`--hub ADDRESS`).",
    ]
    if exported.problems:
        lines += ["", "## Not taken along", "", *(f"- {problem}" for problem in exported.problems)]
    return "\n".join(lines) + "\n"
