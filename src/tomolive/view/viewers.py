"""Everyone who watches: each gets the newest pictures as fast as he draws them, and waits for nobody.

One task waits for the store while there is a viewer. Each viewer has one snapshot in flight at most.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from starlette.websockets import WebSocket, WebSocketDisconnect

from tomolive import metrics
from tomolive.errors import RequestError
from tomolive.live.controls import Controls
from tomolive.live.snapshot import Picture, Snapshot, SnapshotStore
from tomolive.view import protocol
from tomolive.view.access import Access

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
"""So often a page hears something, so that it knows within seconds that the line is dead."""
_MAX_MISTAKES = 20
_WAIT_S = 0.5


class PictureCache:
    """Encodes each picture once, however many watch it."""

    def __init__(self) -> None:
        self._encoded: dict[str, tuple[Picture, dict[int, bytes]]] = {}
        """Plane -> its newest picture, and its message for each binning."""
        self._lock = asyncio.Lock()

    async def encode(self, picture: Picture, snapshot_version: int, binning: int) -> bytes:
        """Return the binary message of ``picture``; what is kept of an older one of its plane is dropped."""
        async with self._lock:
            known, bodies = self._encoded.get(picture.plane, (None, {}))
            if known is not picture:
                bodies = {}
                self._encoded[picture.plane] = (picture, bodies)
            if binning not in bodies:
                bodies[binning] = await anyio.to_thread.run_sync(
                    protocol.encode_picture, picture, snapshot_version, binning
                )
            return bodies[binning]


@dataclass(eq=False)
class Viewer:
    """One open page."""

    number: int
    refusal: str
    """Why he may not control; empty if he may."""
    name: str = ""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    drawn: bool = True
    """Nothing is in flight."""
    in_flight: int = -1
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Device pixels of the longer side, for each plane."""
    sent: dict[str, tuple[Picture, int]] = field(default_factory=dict)
    """What he has: picture and binning, for each plane."""

    def news(self, snapshot: Snapshot) -> dict[str, tuple[Picture, int]]:
        """Return the pictures, with their binning, that he does not have."""
        news = {}
        for plane, picture in snapshot.pictures.items():
            binning = protocol.binning_for(picture.pixels.shape, self.wanted.get(plane))
            had = self.sent.get(plane)
            if had is None or had[0] is not picture or had[1] != binning:
                news[plane] = (picture, binning)
        return news


class Audience:
    """All viewers of one store."""

    def __init__(
        self, store: SnapshotStore, controls: Controls, access: Access, hello: Mapping[str, object],
        filters: tuple[str, ...], limit: int = 100,
    ) -> None:  # fmt: skip
        self._store = store
        self._controls = controls
        self._access = access
        self._hello = dict(hello)
        self._filters = filters
        self._limit = limit
        self._viewers: set[Viewer] = set()
        self._count = 0
        self._cache = PictureCache()
        self._someone = asyncio.Event()

    def __len__(self) -> int:
        return len(self._viewers)

    async def follow(self) -> None:
        """Wake the viewers when the store has something new; sleeps while there is no viewer."""
        version = -1
        while True:
            await self._someone.wait()
            snapshot = await anyio.to_thread.run_sync(
                self._store.wait_newer, version, _WAIT_S, abandon_on_cancel=True
            )
            if snapshot is not None:
                version = snapshot.version
                for viewer in self._viewers:
                    viewer.wake.set()

    async def serve(self, socket: WebSocket) -> None:
        """Talk to one page until it goes."""
        if len(self._viewers) >= self._limit:
            await socket.close(1013, "too many viewers")
            return
        await socket.accept()
        client = socket.client.host if socket.client else ""
        self._count += 1
        viewer = Viewer(self._count, self._access.refusal(client, socket.headers.get("host", ""), ""))
        viewer.name = f"viewer {viewer.number}"
        self._viewers.add(viewer)
        self._someone.set()
        metrics.VIEWERS.set(len(self._viewers))
        try:
            await self._greet(socket, viewer)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._feed, socket, viewer)
                patience_left = await self._listen(socket, viewer)
                tasks.cancel_scope.cancel()
            if not patience_left:
                await socket.close(1008, "too many mistakes")
        except* WebSocketDisconnect:
            pass
        finally:
            self._viewers.discard(viewer)
            metrics.VIEWERS.set(len(self._viewers))
            if not self._viewers:
                self._someone.clear()

    async def _greet(self, socket: WebSocket, viewer: Viewer) -> None:
        await socket.send_json({
            "type": "hello", **self._hello, "filters": self._filters,
            "name": viewer.name, "control": not viewer.refusal, "reason": viewer.refusal,
        })  # fmt: skip

    async def _feed(self, socket: WebSocket, viewer: Viewer) -> None:
        """Send the newest state; with pictures only if the last ones are drawn."""
        viewer.wake.set()
        seen: Snapshot | None = None
        while True:
            silent = False
            try:
                await asyncio.wait_for(viewer.wake.wait(), HEARTBEAT_S)
            except TimeoutError:
                silent = True
            viewer.wake.clear()
            snapshot = self._store.latest
            news = viewer.news(snapshot) if viewer.drawn else {}
            if not (silent or news or (viewer.drawn and snapshot is not seen)):
                continue
            seen = snapshot
            await self._send(socket, viewer, snapshot, news)

    async def _send(
        self, socket: WebSocket, viewer: Viewer, snapshot: Snapshot, news: Mapping[str, tuple[Picture, int]]
    ) -> None:
        if news:
            viewer.drawn = False
            viewer.in_flight = snapshot.version
        await socket.send_json(protocol.state_message(snapshot, now=time.time(), sending=tuple(news)))
        for plane, (picture, binning) in news.items():
            await socket.send_bytes(await self._cache.encode(picture, snapshot.version, binning))
            viewer.sent[plane] = (picture, binning)
            metrics.PICTURES_SENT.inc()

    async def _listen(self, socket: WebSocket, viewer: Viewer) -> bool:
        """Hear what a page says until it goes (True) or has made too many mistakes (False)."""
        for _ in range(_MAX_MISTAKES):
            try:
                while (message := await socket.receive())["type"] != "websocket.disconnect":
                    text = message.get("text") or message.get("bytes") or ""
                    await self._hear(socket, viewer, protocol.parse_message(text))
            except RequestError as error:
                await socket.send_json({"type": "refused", "reason": str(error)})
            else:
                return True
        log.warning("%s sent %d messages that were not understood; closing", viewer.name, _MAX_MISTAKES)
        return False

    async def _hear(self, socket: WebSocket, viewer: Viewer, message: protocol.Message) -> None:
        match message:
            case protocol.Ack(version=version):
                if version >= viewer.in_flight:
                    viewer.drawn = True
                    viewer.wake.set()
            case protocol.View(pixels=pixels):
                viewer.wanted = {**pixels}
                viewer.wake.set()
            case protocol.Hello(name=name, token=token):
                client = socket.client.host if socket.client else ""
                viewer.refusal = self._access.refusal(client, socket.headers.get("host", ""), token)
                viewer.name = name.strip() or viewer.name
                await self._greet(socket, viewer)
            case _:
                await self._wish(socket, viewer, message)

    async def _wish(self, socket: WebSocket, viewer: Viewer, request: protocol.Request) -> None:
        reason = f"not changed: {viewer.refusal}" if viewer.refusal else ""
        if not reason:
            try:
                self._controls.post(protocol.to_wish(request, viewer.name, self._store.latest, self._filters))
                metrics.WISHES.inc()
            except RequestError as error:
                reason = str(error)
        if reason:
            await socket.send_json({"type": "refused", "reason": reason})
