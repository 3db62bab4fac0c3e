"""What a page or a program may ask for, Sans-IO: text in, wishes for the reconstruction out."""

import math
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tomolive.config import CorrectionSettings, PaganinSettings
from tomolive.errors import RequestError
from tomolive.live.controls import Wish
from tomolive.live.snapshot import Snapshot
from tomolive.view.places import volume_size

MAX_MESSAGE = 4096
"""Bytes of a message from the page; more is a mistake or an attack."""
MAX_PICTURES = 12
"""Pictures that one viewer may look at."""
_NAME = r"^[^\x00-\x1f<>]*$"


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Request(_Message):
    run_uid: str = Field("", max_length=200, description="the run to change; empty: the one that is shown")
    who: str = Field("", max_length=40, pattern=_NAME, description="your name; told with what you change")


class Hello(_Message):
    """Who is watching, and the token that lets them control."""

    type: Literal["hello"]
    name: str = Field("", max_length=40, pattern=_NAME)
    token: str = Field("", max_length=200)


class Ack(_Message):
    """The pictures of this snapshot are on the screen."""

    type: Literal["ack"]
    version: int = Field(ge=0)


class View(_Message):
    """The pictures that are looked at, and how many device pixels the longer side of each fills."""

    type: Literal["view"]
    pictures: dict[Annotated[str, Field(max_length=60)], Annotated[int, Field(ge=16, le=16384)]] = Field(
        max_length=MAX_PICTURES
    )


class CenterRequest(_Request):
    """Set the rotation centre, or ask for an estimate."""

    type: Literal["center"] = "center"
    center: float | None = Field(None, description="detector column, may lie between two")
    estimate: bool = Field(False, description="let the reconstruction find it")


class FilterRequest(_Request):
    """Choose the reconstruction filter."""

    type: Literal["filter"] = "filter"
    filter: str = Field(max_length=40)


class CorrectionsRequest(_Request):
    """Change what is done to projections beside darks and flats; what is left out stays as it is."""

    type: Literal["corrections"] = "corrections"
    zingers: bool | None = Field(None, description="replace single pixels that a stray photon hit")
    rings: Literal["none", "sorting", "combined", "fourier-wavelet"] | None = Field(
        None, description="method of stripe removal"
    )
    paganin: PaganinSettings | None = Field(None, description="phase retrieval; null: none")
    binning: Literal[1, 2, 4, 8] | None = Field(None, description="pixels a side that are averaged")
    half_acquisition: bool | None = Field(
        None, description="widen slices about an axis near the edge; null: where turn and centre show it"
    )
    least_beam: float | None = Field(
        None, ge=0, lt=1, description="leave out projections darker than this part of the usual one"
    )


class CandidatesRequest(_Request):
    """Draw a strip of slices, each with another rotation centre."""

    type: Literal["candidates"] = "candidates"
    center: float | None = Field(None, description="the middle one; default: the centre in force")
    step: float = Field(0.5, gt=0, le=100, description="columns from one to the next")
    count: int = Field(7, ge=3, le=15, description="how many")


class VolumeRequest(_Request):
    """Reconstruct the full volume, or stop doing so."""

    type: Literal["volume"] = "volume"
    action: Literal["start", "cancel"]


class CameraRequest(_Request):
    """Show the pictures of another camera, where workers reconstruct several."""

    type: Literal["camera"] = "camera"
    camera: str = Field(max_length=200, description="its data key")


class PositionRequest(_Request):
    """Move a plane of the results; a viewer's own planes are moved by what he looks at."""

    type: Literal["position"] = "position"
    plane: Literal["xy", "xz", "yz"]
    position: int = Field(ge=0, description="z for xy, y for xz, x for yz, in pixels")


Request = (
    CenterRequest
    | FilterRequest
    | CorrectionsRequest
    | CandidatesRequest
    | VolumeRequest
    | CameraRequest
    | PositionRequest
)
Message = Hello | Ack | View | Request

REQUESTS: dict[str, type[Request]] = {
    model.model_fields["type"].default: model
    for model in (
        CenterRequest, FilterRequest, CorrectionsRequest, CandidatesRequest, VolumeRequest, CameraRequest,
        PositionRequest,
    )
}  # fmt: skip
"""By their names, which are also their paths below ``/api``."""

_MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


def parse_message(text: str | bytes) -> Message:
    """Understand a JSON message from a page.

    Raises
    ------
    RequestError
        in words that the page can show.
    """
    if len(text) > MAX_MESSAGE:
        raise RequestError(f"message of {len(text)} bytes; at most {MAX_MESSAGE} are read")
    try:
        return _MESSAGES.validate_json(text)
    except ValidationError as error:
        raise RequestError(f"message not understood: {first_mistake(error)}") from None


def first_mistake(error: ValidationError) -> str:
    """Return one line: where the first mistake is, and what it is."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def to_wish(
    request: Request, who: str, snapshot: Snapshot, filters: tuple[str, ...], pending: Iterable[Wish] = ()
) -> Wish:
    """Turn a request into a wish for the reconstruction, after a look at what is possible now.

    Raises
    ------
    RequestError
        if the centre lies outside the detector, the plane outside the volume, or the filter is unknown.
    """
    run = request.run_uid
    match request:
        case FilterRequest(filter=name):
            if name not in filters:
                raise RequestError(f"unknown filter {name[:40]!r}; known are {', '.join(filters)}")
            return Wish(who, run, filter=name)
        case PositionRequest(plane=plane, position=position):
            size = volume_size(snapshot).get(plane)
            if size is not None and position >= size:
                raise RequestError(f"plane {plane} has positions 0 to {size - 1}, not {position}")
            return Wish(who, run, plane=plane, position=position)
        case CorrectionsRequest():
            return Wish(who, run, corrections=_corrections(request, snapshot, pending))
        case CandidatesRequest(center=center, step=step, count=count):
            middle = snapshot.status.center if center is None else center
            if middle is None:
                raise RequestError("no rotation centre is known yet; give the middle of the candidates")
            return Wish(who, run, candidates=(_on_detector(middle, snapshot), step, count))
        case CameraRequest(camera=camera):
            if camera not in snapshot.status.cameras:
                known = ", ".join(snapshot.status.cameras) or "only the one that is shown"
                raise RequestError(f"no camera {camera[:40]!r}; there is {known}")
            return Wish(who, run, camera=camera)
        case VolumeRequest(action=action):
            return Wish(who, run, volume=action)
        case CenterRequest(estimate=True):
            return Wish(who, run, estimate_center=True)
        case CenterRequest(center=center):
            if center is None:
                raise RequestError("give a centre, a detector column, or ask for an estimate")
            return Wish(who, run, center=_on_detector(center, snapshot))


def _on_detector(center: float, snapshot: Snapshot) -> float:
    columns = _columns(snapshot)
    if columns is not None and not 0 <= center <= columns - 1:
        raise RequestError(f"rotation centre {center:g} lies outside the detector, 0 to {columns - 1}")
    return center


def _columns(snapshot: Snapshot) -> int | None:
    """Return the detector's columns, of which a slice shows fewer when pixels are binned."""
    side = volume_size(snapshot).get("yz")
    return side and side * snapshot.status.corrections.binning


_MAY_BE_NONE = ("paganin", "half_acquisition")


def _corrections(
    request: CorrectionsRequest, snapshot: Snapshot, pending: Iterable[Wish]
) -> CorrectionSettings:
    """Return all corrections as they shall be, on top of what was asked for and is not done yet."""
    asked = [wish.corrections for wish in pending if wish.corrections and wish.run_uid == request.run_uid]
    base = asked[-1] if asked else snapshot.status.corrections
    given = {name: getattr(request, name) for name in request.model_fields_set - {"type", "run_uid", "who"}}
    kept = {name: value for name, value in given.items() if value is not None or name in _MAY_BE_NONE}
    if not kept:
        known = ", ".join(CorrectionSettings.model_fields)
        raise RequestError(f"nothing to change; give one of {known}")
    for name, value in request.paganin or ():
        if not math.isfinite(value):
            raise RequestError(f"paganin.{name}: expected a finite number")
    return base.model_copy(update=kept)
