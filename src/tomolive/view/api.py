"""The JSON API: everything that the page can do, for programs."""

import io
import itertools
import json
import re
import time
from collections.abc import Mapping
from functools import cached_property

import anyio
import anyio.to_thread
import numpy as np
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tomolive import __version__, metrics
from tomolive.errors import RequestError
from tomolive.live.controls import Controls
from tomolive.live.snapshot import Picture, SnapshotStore, picture_key
from tomolive.view import protocol, requests
from tomolive.view.access import Access, bearer, same_origin
from tomolive.view.openapi import describe_api
from tomolive.view.places import check_key

PATIENCE_S = 10.0
"""So long a picture that nobody has looked at yet is waited for."""
_MOST_WAITING = 100
"""Requests that wait for pictures at once; more wait for these."""
MEDIA = {"tif": "image/tiff", "npy": "application/x-npy", "json": "application/json"}
_PLACE = {"oblique": ("tilt", "turn", "offset")}


class Api:
    """The routes below ``/api``."""

    def __init__(
        self, store: SnapshotStore, controls: Controls, access: Access, filters: tuple[str, ...]
    ) -> None:
        self._store = store
        self._controls = controls
        self._access = access
        self._filters = filters
        self._numbers = itertools.count(1)

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
        return JSONResponse(describe_api(protocol.PLANES, MEDIA))

    async def state(self, _: Request) -> Response:
        """Answer with every field of the status."""
        pending = self._controls.pending
        body = protocol.describe_state(self._store.latest, pending, now=time.time())
        return Response(body, media_type="application/json")

    async def picture(self, request: Request) -> Response:
        """Answer with one picture, float32 as it was reconstructed."""
        plane, form = request.path_params["plane"], request.path_params["format"]
        if form not in MEDIA:
            return _refuse(404, f"no format {form!r}; there are {', '.join(MEDIA)}")
        if plane not in protocol.PLANES:
            return _refuse(404, f"no plane {plane!r}; there are {', '.join(protocol.PLANES)}")
        try:
            key = check_key(_key(plane, request.query_params), self._store.latest)
        except RequestError as error:
            return _refuse(422, str(error))
        snapshot = self._store.latest
        if not snapshot.pictures:
            return _refuse(404, f"no picture of {plane} yet: the state is {snapshot.status.state!r}")
        picture = snapshot.pictures.get(key) or await anyio.to_thread.run_sync(
            self._wait_for, key, abandon_on_cancel=True, limiter=self._waiting
        )
        if picture is None:
            return _refuse(504, f"no picture {key} was drawn within {PATIENCE_S:g} s; ask again")
        body = await anyio.to_thread.run_sync(_ENCODERS[form], picture)
        scan = picture.of.run_uid[:8] if picture.of.scan_id is None else picture.of.scan_id
        place = key.partition("@")[2] or f"{picture.position:g}"
        name = re.sub(r"[^A-Za-z0-9.-]", "_", f"scan-{scan}-{plane}-{place}.{form}")
        return Response(body, media_type=MEDIA[form], headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            # A .npy file has no room for it.
            "Tomolive-Picture": json.dumps(protocol.describe(picture)),
        })  # fmt: skip

    @cached_property
    def _waiting(self) -> anyio.CapacityLimiter:
        # Threads of their own: whoever waits keeps nobody from being served.
        return anyio.CapacityLimiter(_MOST_WAITING)

    def _wait_for(self, key: str) -> Picture | None:
        """Look at a picture until it is drawn, as a viewer does."""
        viewer = f"api-{next(self._numbers)}"
        deadline = time.monotonic() + PATIENCE_S
        self._controls.look(viewer, [key])
        try:
            snapshot = self._store.latest
            while key not in snapshot.pictures:
                newer = self._store.wait_newer(snapshot.version, max(0.0, deadline - time.monotonic()))
                if newer is None:
                    return None
                snapshot = newer
            return snapshot.pictures[key]
        finally:
            self._controls.look(viewer, ())

    async def wish(self, request: Request) -> Response:
        """Post a wish to the reconstruction."""
        kind = request.path_params["wish"]
        if kind not in requests.REQUESTS:
            return _refuse(404, f"no such request {kind!r}; there are {', '.join(requests.REQUESTS)}")
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
            return _refuse(413, f"at most {requests.MAX_MESSAGE} bytes are read")
        try:
            wanted = requests.REQUESTS[kind].model_validate_json(body)
            who = wanted.who or f"API at {client}"
            snapshot, pending = self._store.latest, self._controls.pending
            wish = requests.to_wish(wanted, who, snapshot, self._filters, pending)
        except ValidationError as error:
            return _refuse(422, f"request not understood: {requests.first_mistake(error)}")
        except RequestError as error:
            return _refuse(422, str(error))
        self._controls.post(wish)
        metrics.WISHES.inc()
        return JSONResponse({"accepted": wanted.model_dump(exclude={"type"})}, 202)


def _key(plane: str, query: Mapping[str, str]) -> str:
    """Return the key of the picture that a query asks for.

    Raises
    ------
    RequestError
        if what it says of the place is incomplete, or no number.
    """
    names = _PLACE.get(plane, ("position",))
    unknown = sorted(set(query) - set(names))
    if unknown:
        raise RequestError(f"unknown parameter {unknown[0][:40]!r}; {plane} takes {', '.join(names)}")
    given = [query[name] for name in names if name in query]
    if given and len(given) < len(names):
        raise RequestError(f"{plane} takes all of {', '.join(names)}")
    try:
        return picture_key(plane, *(float(value) for value in given))
    except ValueError:
        raise RequestError(f"{', '.join(names)}: expected numbers") from None


async def _read(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > requests.MAX_MESSAGE:
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
