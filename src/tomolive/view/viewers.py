"""Everyone who watches: each gets the newest pictures as fast as he draws them, and waits for nobody.

One task waits for the store while there is a viewer. Each viewer has one snapshot in flight at most.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary, ref

import anyio
import anyio.to_thread
import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from tomolive import metrics
from tomolive.errors import RequestError
from tomolive.live.controls import Controls, Wish
from tomolive.live.snapshot import Picture, Snapshot, SnapshotStore, Status, Trend
from tomolive.view import protocol, requests
from tomolive.view.access import Access
from tomolive.view.places import check_key

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
"""So often a page hears something, so that it knows within seconds that the line is dead."""
_MAX_MISTAKES = 20
_WAIT_S = 0.5
_WAIT_PENDING_S = 0.1
_NUMBERS_S = 0.5
"""A state in which only numbers are new is told so often: each one has the page drawn again."""
_TRENDS_S = 1.0
"""Plots over hundreds of projections change slowly; they are told less often than pictures."""


class PictureCache:
    """Encodes each picture once, however many watch it; nothing outlives its picture."""

    def __init__(self) -> None:
        self._encoded: WeakKeyDictionary[Picture, dict[int, bytes]] = WeakKeyDictionary()
        """The message of each picture for each binning."""
        self._lock = asyncio.Lock()

    async def encode(self, wanted: Iterable[tuple[Picture, int]], snapshot_version: int) -> list[bytes]:
        """Return the binary messages of pictures, each averaged over so many pixels a side."""
        wanted = list(wanted)
        async with self._lock:
            missing = [
                (picture, binning)
                for picture, binning in wanted
                if binning not in self._encoded.setdefault(picture, {})
            ]
            if missing:
                # One thread for all: each change of threads may wait for a busy kernel.
                bodies = await anyio.to_thread.run_sync(_encode, missing, snapshot_version)
                for (picture, binning), body in zip(missing, bodies, strict=True):
                    self._encoded[picture][binning] = body
            return [self._encoded[picture][binning] for picture, binning in wanted]


def _encode(wanted: list[tuple[Picture, int]], snapshot_version: int) -> list[bytes]:
    return [protocol.encode_picture(picture, snapshot_version, binning) for picture, binning in wanted]


class StatusCache:
    """Encodes each status and its trends once, however many are told."""

    def __init__(self) -> None:
        self._status: tuple[Status | None, msgspec.Raw] = (None, msgspec.Raw())
        self._trends: tuple[tuple[Trend, ...] | None, str] = (None, "")

    def status(self, status: Status) -> msgspec.Raw:
        """Return the status as JSON."""
        if self._status[0] is not status:
            self._status = (status, protocol.encode_status(status))
        return self._status[1]

    def trends(self, status: Status) -> str:
        """Return the message of its trends."""
        if self._trends[0] is not status.trends:
            self._trends = (status.trends, protocol.encode_trends(status))
        return self._trends[1]


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
    """Keys of what he looks at, and the device pixels of the longer side of each."""
    sent: dict[str, tuple[ref[Picture], int]] = field(default_factory=dict)
    """What he has: picture and binning, for each key."""
    told: tuple[Snapshot, tuple[Wish, ...]] | None = None
    """The last state that he was told."""
    told_at: float = 0.0
    trends: tuple[Trend, ...] = ()
    """The last trends that he was told."""
    trends_at: float = 0.0

    @property
    def id(self) -> str:
        """His name among those who look at pictures."""
        return f"page-{self.number}"

    def news(self, snapshot: Snapshot) -> dict[str, tuple[Picture, int]]:
        """Return the pictures that he looks at and does not have, with their binning."""
        news = {}
        for key, pixels in self.wanted.items():
            picture = snapshot.pictures.get(key)
            if picture is None:
                continue
            binning = protocol.binning_for(picture.pixels.shape, pixels)
            had = self.sent.get(key)
            if had is None or had[0]() is not picture or had[1] != binning:
                news[key] = (picture, binning)
        return news

    def patience(self, snapshot: Snapshot, pending: tuple[Wish, ...]) -> float:
        """Return for how many seconds a state without new pictures can wait for some: numbers alone can.

        Who has not drawn the last pictures only hears, now and then, that the line is alive.
        """
        if self.told is None:
            return 0.0
        wait = HEARTBEAT_S
        if self.drawn and (snapshot, pending) != self.told:
            wait = _NUMBERS_S
            now, before = snapshot.status, self.told[0].status
            said = (now.run_uid, now.state, now.message) != (before.run_uid, before.state, before.message)
            if said or pending != self.told[1]:
                return 0.0
        return self.told_at + wait - time.monotonic()

    def look(self, wanted: Mapping[str, int]) -> None:
        """Look at other pictures; what is not looked at any more is forgotten."""
        self.wanted = dict(wanted)
        self.sent = {key: had for key, had in self.sent.items() if key in wanted}
        self.wake.set()


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
        self._statuses = StatusCache()
        self._someone = asyncio.Event()

    def __len__(self) -> int:
        return len(self._viewers)

    async def follow(self) -> None:
        """Wake the viewers when there is something new; sleeps while there is no viewer."""
        version, pending = -1, ()
        while True:
            await self._someone.wait()
            patience = _WAIT_PENDING_S if pending else _WAIT_S
            snapshot = await anyio.to_thread.run_sync(
                self._store.wait_newer, version, patience, abandon_on_cancel=True
            )
            before, pending = pending, self._controls.pending
            if snapshot is not None:
                version = snapshot.version
            if snapshot is not None or pending != before:
                self._wake_all()

    def _wake_all(self) -> None:
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
            self._controls.look(viewer.id, ())
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
        patience = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(viewer.wake.wait(), patience)
            viewer.wake.clear()
            state = (self._store.latest, self._controls.pending)
            news = viewer.news(state[0]) if viewer.drawn else {}
            patience = viewer.patience(*state)
            if news or patience <= 0:
                viewer.told = state
                await self._send(socket, viewer, *state, news)
                viewer.told_at, patience = time.monotonic(), HEARTBEAT_S

    async def _send(
        self,
        socket: WebSocket,
        viewer: Viewer,
        snapshot: Snapshot,
        pending: tuple[Wish, ...],
        news: Mapping[str, tuple[Picture, int]],
    ) -> None:
        if news:
            viewer.drawn = False
            viewer.in_flight = snapshot.version
        status = self._statuses.status(snapshot.status)
        bodies = await self._cache.encode(news.values(), snapshot.version)
        trends, now = snapshot.status.trends, time.monotonic()
        if trends is not viewer.trends and now - viewer.trends_at > _TRENDS_S:
            viewer.trends, viewer.trends_at = trends, now
            await socket.send_text(self._statuses.trends(snapshot.status))
        await socket.send_text(
            protocol.encode_state(
                snapshot, status, now=time.time(), keys=viewer.wanted, sending=news, pending=pending
            )
        )
        for (key, (picture, binning)), body in zip(news.items(), bodies, strict=True):
            await socket.send_bytes(body)
            viewer.sent[key] = (ref(picture), binning)
            metrics.PICTURES_SENT.inc()

    async def _listen(self, socket: WebSocket, viewer: Viewer) -> bool:
        """Hear what a page says until it goes (True) or has made too many mistakes (False)."""
        for _ in range(_MAX_MISTAKES):
            try:
                while (message := await socket.receive())["type"] != "websocket.disconnect":
                    text = message.get("text") or message.get("bytes") or ""
                    await self._hear(socket, viewer, requests.parse_message(text))
            except RequestError as error:
                await socket.send_json({"type": "refused", "reason": str(error)})
            else:
                return True
        log.warning("%s sent %d messages that were not understood; closing", viewer.name, _MAX_MISTAKES)
        return False

    async def _hear(self, socket: WebSocket, viewer: Viewer, message: requests.Message) -> None:
        match message:
            case requests.Ack(version=version):
                if version >= viewer.in_flight:
                    viewer.drawn = True
                    viewer.wake.set()
            case requests.View(pictures=pictures):
                await self._look(socket, viewer, pictures)
            case requests.Hello(name=name, token=token):
                client = socket.client.host if socket.client else ""
                viewer.refusal = self._access.refusal(client, socket.headers.get("host", ""), token)
                viewer.name = name.strip() or viewer.name
                await self._greet(socket, viewer)
            case _:
                await self._wish(socket, viewer, message)

    async def _look(self, socket: WebSocket, viewer: Viewer, pictures: Mapping[str, int]) -> None:
        """Let him look at what there can be, and say what there cannot."""
        wanted, reason = {}, ""
        for key, pixels in pictures.items():
            try:
                wanted[check_key(key, self._store.latest)] = pixels
            except RequestError as error:
                reason = str(error)
        viewer.look(wanted)
        self._controls.look(viewer.id, wanted)
        if reason:
            await socket.send_json({"type": "refused", "reason": reason})

    async def _wish(self, socket: WebSocket, viewer: Viewer, request: requests.Request) -> None:
        reason = f"not changed: {viewer.refusal}" if viewer.refusal else ""
        if not reason:
            try:
                snapshot, pending = self._store.latest, self._controls.pending
                self._controls.post(requests.to_wish(request, viewer.name, snapshot, self._filters, pending))
                metrics.WISHES.inc()
                self._wake_all()
            except RequestError as error:
                reason = str(error)
        if reason:
            await socket.send_json({"type": "refused", "reason": reason})
