"""The JSON API: everything that the page can do, for programs."""

import io
import json
import re
import time
from typing import Any

import anyio.to_thread
import numpy as np
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tomolive import __version__, metrics
from tomolive.errors import RequestError
from tomolive.live.controls import Controls
from tomolive.live.snapshot import Picture, SnapshotStore
from tomolive.view import protocol
from tomolive.view.access import Access, bearer, same_origin

REQUESTS: dict[str, type[protocol.Request]] = {
    "center": protocol.CenterRequest,
    "filter": protocol.FilterRequest,
    "position": protocol.PositionRequest,
}
_MEDIA = {"tif": "image/tiff", "npy": "application/x-npy", "json": "application/json"}


class Api:
    """The routes below ``/api``."""

    def __init__(
        self, store: SnapshotStore, controls: Controls, access: Access, filters: tuple[str, ...]
    ) -> None:
        self._store = store
        self._controls = controls
        self._access = access
        self._filters = filters

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/openapi.json", self.openapi),
            Route("/api/state", self.state),
            Route("/api/slices/{plane}.{format}", self.picture),
            Route("/api/{wish:str}", self.wish, methods=["POST"]),
        ]

    async def openapi(self, _: Request) -> Response:
        """Describe the API."""
        return JSONResponse(_describe())

    async def state(self, _: Request) -> Response:
        """Answer with every field of the status."""
        state = protocol.state_message(self._store.latest, now=time.time())
        del state["type"], state["sending"]
        return JSONResponse(state)

    async def picture(self, request: Request) -> Response:
        """Answer with one picture, float32 as it was reconstructed."""
        plane, form = request.path_params["plane"], request.path_params["format"]
        snapshot = self._store.latest
        if form not in _MEDIA:
            return _refuse(404, f"no format {form!r}; there are {', '.join(_MEDIA)}")
        if plane not in protocol.PLANES:
            return _refuse(404, f"no plane {plane!r}; there are {', '.join(protocol.PLANES)}")
        picture = snapshot.pictures.get(plane)
        if picture is None:
            return _refuse(404, f"no picture of {plane} yet: the state is {snapshot.status.state!r}")
        body = await anyio.to_thread.run_sync(_ENCODERS[form], picture)
        scan = picture.of.run_uid[:8] if picture.of.scan_id is None else picture.of.scan_id
        name = re.sub(r"[^A-Za-z0-9.-]", "_", f"scan-{scan}-{plane}-{picture.position:g}.{form}")
        return Response(body, media_type=_MEDIA[form], headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            # A .npy file has no room for it.
            "Tomolive-Picture": json.dumps(protocol.describe(picture)),
        })  # fmt: skip

    async def wish(self, request: Request) -> Response:
        """Post a wish to the reconstruction."""
        kind = request.path_params["wish"]
        if kind not in REQUESTS:
            return _refuse(404, f"no such request {kind!r}; there are {', '.join(REQUESTS)}")
        if not same_origin(request.headers):
            return _refuse(403, "requests from other sites are refused")
        client = request.client.host if request.client else ""
        reason = self._access.refusal(client, request.headers.get("host", ""), bearer(request.headers))
        if reason:
            return _refuse(403, reason)
        # A form of another site can send text/plain without asking the browser; JSON it cannot.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _refuse(415, "send application/json")
        body = await _read(request)
        if body is None:
            return _refuse(413, f"at most {protocol.MAX_MESSAGE} bytes are read")
        try:
            wanted = REQUESTS[kind].model_validate_json(body)
            wish = protocol.to_wish(wanted, f"API at {client}", self._store.latest, self._filters)
        except ValidationError as error:
            return _refuse(422, f"request not understood: {protocol.first_mistake(error)}")
        except RequestError as error:
            return _refuse(422, str(error))
        self._controls.post(wish)
        metrics.WISHES.inc()
        return JSONResponse({"accepted": wanted.model_dump(exclude={"type"})}, 202)


async def _read(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > protocol.MAX_MESSAGE:
            return None
    return body


def _refuse(code: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, code)


def _tif(picture: Picture) -> bytes:
    import tifffile

    file = io.BytesIO()
    metadata = {**protocol.describe(picture), "tomolive": __version__}
    tifffile.imwrite(file, picture.pixels, metadata=metadata)
    return file.getvalue()


def _npy(picture: Picture) -> bytes:
    file = io.BytesIO()
    np.save(file, picture.pixels, allow_pickle=False)
    return file.getvalue()


def _json(picture: Picture) -> bytes:
    import msgspec

    # NaN becomes null: JSON has no other word for it.
    return msgspec.json.encode({
        **protocol.describe(picture), "version": picture.version, "pixels": picture.pixels.tolist(),
    })  # fmt: skip


_ENCODERS = {"tif": _tif, "npy": _npy, "json": _json}


def _describe() -> dict[str, Any]:
    error = {"description": "refused, and why", "content": {"application/json": {"schema": {
        "type": "object", "properties": {"error": {"type": "string"}}}}}}  # fmt: skip
    paths: dict[str, Any] = {
        "/api/state": {"get": {
            "summary": "The state: every field of the status, and which pictures there are",
            "responses": {"200": {"description": "the state", "content": {"application/json": {}}}},
        }},
        "/api/slices/{plane}.{format}": {"get": {
            "summary": "One picture, float32 as it was reconstructed",
            "parameters": [
                {"name": "plane", "in": "path", "required": True, "schema": {"enum": list(protocol.PLANES)}},
                {"name": "format", "in": "path", "required": True, "schema": {"enum": list(_MEDIA)}},
            ],
            "responses": {"200": {"description": "the picture; the header Tomolive-Picture tells in JSON of "
                                                 "which scan it is, and how it was made",
                                  "content": {m: {} for m in _MEDIA.values()}},
                          "404": error},
        }},
    }  # fmt: skip
    for name, model in REQUESTS.items():
        schema = model.model_json_schema()
        schema["properties"].pop("type")
        paths[f"/api/{name}"] = {"post": {
            "summary": (model.__doc__ or "").strip(),
            "security": [{}, {"token": []}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {"202": {"description": "on its way"}, "403": error, "422": error},
        }}  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "tomolive page", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }
