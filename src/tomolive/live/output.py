"""What a finished scan leaves on disk: three slices, one picture for people, one summary for programs."""

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomolive.errors import SettingsError
from tomolive.live.figure import draw

_DRAFTS = ".writing"
_REPLACED = "replaced"
_OLD_S = 3600.0
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
    """Return the folder of one run; a uid that is no plain name cannot lead out of ``results``."""
    if _SAFE.fullmatch(run_uid):
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
    the run left there is replaced.

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
        where = {
            "slices": {plane: str(final / f"{plane}.tif") for plane in slices},
            "slices_png": str(final / "slices.png") if slices else None,
        }
        (draft / "summary.json").write_text(json.dumps({**summary, **where}, indent=2) + "\n")
        _put_in_place(draft, final)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):
            draft.parent.rmdir()  # unless another process is writing
    return final / "summary.json"


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
