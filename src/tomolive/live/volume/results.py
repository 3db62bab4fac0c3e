"""A volume from its request to its documents: made, announced as a result, and sent through the hub."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tomolive.errors import TomoliveError
from tomolive.live.results.documents import About, Emit, ResultFile, ResultRun
from tomolive.live.volume.request import VolumeRequest
from tomolive.live.volume.volume import CancelledError, Tell, VolumeResult, make_volume

log = logging.getLogger(__name__)

Document = tuple[str, dict[str, Any]]
_DELIVERY_S = 20.0


def make_result(
    request: VolumeRequest, tell: Tell = lambda _: None, cancelled: Callable[[], bool] = lambda: False
) -> VolumeResult:
    """Make a volume, as `tomolive.live.volume.volume.make_volume` does, and its documents.

    The documents are left beside the volume (``documents_of``), and go to ``request.publish`` if that is set.
    A volume that fails or is cancelled is a result too, without data, if there is where to send it.
    """
    try:
        result = make_volume(request, tell, cancelled)
    except (TomoliveError, CancelledError) as error:
        cancelled_ = isinstance(error, CancelledError)
        outcome, reason = ("abort", "cancelled") if cancelled_ else ("fail", str(error))
        _publish(_failed(request, outcome, reason), request)
        raise
    path = documents_of(result.path)
    if not path.exists():
        documents = _volume_documents(request, result)
        _publish(documents, request)
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(json.dumps(document) + "\n" for document in documents))
        partial.replace(path)
    return result


def documents_of(volume: Path) -> Path:
    """Return where the documents of a volume lie, as JSON lines."""
    return volume.with_name(f"{volume.name}.jsonl")


def emit_volume(emit: Emit, request: VolumeRequest, result: VolumeResult) -> str:
    """Emit the documents of a finished volume; return the uid of its run."""
    about = result.about
    run = ResultRun(emit, _about(request, about), result.uid)
    told, asset = about["parameters"], about["asset"]
    dtype = "<f4" if told["dtype"] == "float32" else "<u2"
    depth, *slice_ = told["shape"]
    path = f"{result.path}{asset['below']}"
    run.files(
        "volume",
        [
            ResultFile(
                "volume", path, asset["mimetype"], tuple(slice_), depth, dtype, told["units"],
                asset["parameters"],
            )
        ],
    )  # fmt: skip
    frames, seconds = about["frames"], about["seconds"]
    run.event(
        "quality",
        {
            "center": told["center"],
            "coverage_deg": about["coverage_deg"],
            "projections_used": frames["used"],
            "projections_missing": sum(b - a for a, b in frames["missing"]),
            "projections_without_beam": sum(b - a for a, b in frames.get("without_beam", ())),
            "values_cut": about["values_cut"],
            "seconds_reading": seconds["reading"],
            "seconds_wall": seconds["wall"],
        },
        {"coverage_deg": "deg", "center": "pixel", "seconds_reading": "s", "seconds_wall": "s"},
    )
    return run.close("success", "; ".join(about["notes"]))


def _volume_documents(request: VolumeRequest, result: VolumeResult) -> list[Document]:
    documents: list[Document] = []
    emit_volume(lambda name, doc: documents.append((name, doc)), request, result)
    return documents


def _failed(request: VolumeRequest, outcome: str, reason: str) -> list[Document]:
    documents: list[Document] = []
    parameters = {
        "center": request.center,
        "filter": request.filter,
        "corrections": request.corrections.model_dump(),
    }
    about = About("volume", request.run_uid, parameters, changes=request.changes, like=request.like)
    ResultRun(lambda name, doc: documents.append((name, doc)), about).close(outcome, reason)
    return documents


def _about(request: VolumeRequest, about: dict[str, Any]) -> About:
    return About(
        "volume",
        about["run_uid"],
        about["parameters"] | {"without_beam": about["frames"].get("without_beam", [])},
        scan_id=about["scan_id"],
        sample=about["sample"],
        plan=about["plan"],
        rules=about["rules"],
        changes=request.changes,
        like=request.like,
    )


def _publish(documents: list[Document], request: VolumeRequest) -> None:
    if request.publish is None:
        return
    from tomolive.stream.publisher import Publisher

    publisher = Publisher(request.publish, spool=Path(request.spool) if request.spool else None)
    try:
        for name, doc in documents:
            publisher(name, doc)
        if not publisher.flush(_DELIVERY_S):
            log.warning("the result's documents wait in the spool: the hub at %s is away", request.publish)
    finally:
        publisher.close(0)
