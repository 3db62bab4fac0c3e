"""What a finished scan leaves on disk: three slices, one picture for people, one summary for programs.

When they are written again with another centre, filter or corrections, the folder holds the newest, and what
it held before stays below ``earlier/``: in ``1`` what the scan ended with, the highest number is the newest.
"""

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.errors import SettingsError
from tomolive.live.results.figure import draw

PUBLISHED = "published"
"""Folder beside those of the runs: slices as they were when they were announced, which nothing replaces."""
_DRAFTS = ".writing"
_REPLACED = "replaced"
_OLD_S = 3600.0
_EARLIER = "earlier"
_MOST_EARLIER = 10
"""Of earlier results the first and the newest are kept."""
_CHOSEN = ("center", "filter", "corrections")
"""What makes results other ones."""
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def prepare_results(folder: Path) -> Path:
    """Make ``folder`` and try to write in it; return its absolute path.

    Raises
    ------
    SettingsError
        if results could not be written there when a scan ends.
    """
    folder = folder.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        _restore(folder)
        _forget_old_drafts(folder)
    except OSError as error:
        raise SettingsError(
            f"results cannot be written to {folder}: {error.strerror}; "
            "choose another folder with --results DIR"
        ) from None
    return folder


def _restore(folder: Path) -> None:
    """Put results back that a process was replacing when it was killed."""
    for was in (folder / _DRAFTS).glob(f"*/{_REPLACED}/*"):
        if not (folder / was.name).exists():
            was.rename(folder / was.name)


def _forget_old_drafts(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left; a young draft may be at work."""
    for draft in (folder / _DRAFTS).glob("*"):
        if time.time() - draft.stat().st_mtime > _OLD_S:
            shutil.rmtree(draft, ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / _DRAFTS).rmdir()


def folder_of(results: Path, run_uid: str) -> Path:
    """Return the folder of one run; no uid leads out of ``results``, or to what is not a run's."""
    if _SAFE.fullmatch(run_uid) and run_uid != PUBLISHED:
        return results / run_uid
    return results / f"run-{hashlib.sha256(run_uid.encode()).hexdigest()[:16]}"


def write_results(
    results: Path,
    summary: Mapping[str, Any],
    slices: Mapping[str, npt.NDArray[np.float32]],
    *,
    title: str = "",
) -> Path:
    """Write ``slices`` (float32; may be empty) and ``summary`` as the folder of ``summary["run_uid"]``.

    All of it appears at once: it is written beside its place and renamed. What an earlier reconstruction of
    the run left there is replaced; if it was made with another centre, filter or corrections it is kept below
    ``earlier/``, and ``summary["earlier"]`` tells of it.

    Returns
    -------
    Path
        of summary.json, which also tells where the slices are.
    """
    import tifffile

    final = folder_of(results, summary["run_uid"])
    draft = _fresh(results)
    try:
        for plane, pixels in slices.items():
            tifffile.imwrite(
                draft / f"{plane}.tif",
                np.ascontiguousarray(pixels, dtype=np.float32),
                description=_description(plane, summary),
                metadata=None,
                **_resolution(summary),
            )
        if slices:
            figure = draw(
                slices,
                summary["positions"],
                title=title,
                units=summary["units"],
                pixel_size_um=summary["pixel_size_um"],
            )
            figure.save(draft / "slices.png")
        _keep_earlier(final, draft, summary)
        earlier = [_told(folder, final) for folder in _numbered(draft / _EARLIER)]
        about = {**summary, **_places(final, slices), "earlier": earlier, "written": time.time()}
        (draft / "summary.json").write_text(json.dumps(about, indent=2) + "\n")
        _put_in_place(draft, final)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):
            draft.parent.rmdir()  # unless another process is writing
    return final / "summary.json"


def _keep_earlier(final: Path, draft: Path, summary: Mapping[str, Any]) -> None:
    """Have the draft hold what the folder that it replaces held, unless that was made in the same way."""
    was = _summary(final)
    kept = _numbered(final / _EARLIER)
    places = [(int(folder.name), folder) for folder in kept]
    if was and was.get("slices") and any(was.get(key) != summary.get(key) for key in _CHOSEN):
        places.append((places[-1][0] + 1 if places else 1, final))
    for number, folder in [*places[:1], *places[1:][-(_MOST_EARLIER - 1) :]]:
        place = draft / _EARLIER / str(number)
        place.mkdir(parents=True)
        for file in folder.iterdir():
            if file.is_file() and file.name != "summary.json":
                _link(file, place / file.name)
        told = _summary(folder) | _places(final / _EARLIER / str(number), _summary(folder).get("slices", {}))
        (place / "summary.json").write_text(json.dumps(told, indent=2) + "\n")


def _places(folder: Path, planes: Iterable[str]) -> dict[str, Any]:
    """Return the part of a summary that tells where slices are."""
    planes = list(planes)
    return {
        "slices": {plane: str(folder / f"{plane}.tif") for plane in planes},
        "slices_png": str(folder / "slices.png") if planes else None,
    }


def _link(file: Path, place: Path) -> None:
    try:
        place.hardlink_to(file)
    except OSError:  # not every file system has links
        shutil.copy2(file, place)


def _numbered(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((f for f in found if f.name.isdecimal()), key=lambda f: int(f.name))


def _summary(folder: Path) -> dict[str, Any]:
    """Return what is told of the results in a folder; nothing if there are none that can be read."""
    try:
        found = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _told(folder: Path, final: Path) -> dict[str, Any]:
    summary = _summary(folder)
    about = {key: summary.get(key) for key in (*_CHOSEN, "center_source", "written")}
    return {"folder": str(final / _EARLIER / folder.name), **about}


def _put_in_place(draft: Path, final: Path) -> None:
    if final.exists():
        old = _fresh(final.parent)
        (old / _REPLACED).mkdir()
        # Killed before the next line has been done, see _restore.
        final.rename(old / _REPLACED / final.name)
        draft.rename(final)
        shutil.rmtree(old)
    else:
        draft.rename(final)


def _description(plane: str, summary: Mapping[str, Any]) -> str:
    keys = ("run_uid", "units", "pixel_size_um", "center", "filter", "version")
    about = {"plane": plane, "position": summary["positions"][plane], **{key: summary[key] for key in keys}}
    return json.dumps(about)


def _resolution(summary: Mapping[str, Any]) -> dict[str, Any]:
    size = summary["pixel_size_um"]
    return {"resolution": (1e4 / size, 1e4 / size), "resolutionunit": "CENTIMETER"} if size else {}


def _fresh(results: Path) -> Path:
    # One level down, so that whoever looks for */summary.json never finds a draft.
    folder = results / _DRAFTS / uuid.uuid4().hex
    folder.mkdir(parents=True)
    return folder
