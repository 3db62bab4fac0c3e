"""The served page: API, WebSocket, who may control, and what a hostile or slow client cannot do."""

import asyncio
import collections
import gc
import io
import json
import math
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import tifffile
from prometheus_client import REGISTRY
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tomolive.errors import AddressError
from tomolive.live.controls import Controls, Wish
from tomolive.live.snapshot import Picture, Snapshot, SnapshotStore, Status
from tomolive.view.server import create_app, serve
from tomolive.view.viewers import PictureCache, Viewer

TIMEOUT = 30


PLAIN = ("xy", "xz", "yz", "projection")


@contextmanager
def watching(url: str, looks: tuple[str, ...] = PLAIN, **options: Any) -> Iterator[Any]:
    """Connect as a page does, take the greeting, and look at some pictures in full."""
    with connect(url.replace("http", "ws") + "live", max_size=None, close_timeout=1, **options) as line:
        line.hello = json.loads(line.recv(TIMEOUT))
        look(line, *looks)
        yield line


def look(line: Any, *keys: str, pixels: int = 4096) -> None:
    """Look at these pictures and no others."""
    line.send(json.dumps({"type": "view", "pictures": dict.fromkeys(keys, pixels)}))


def address_of(url: str) -> tuple[str, int]:
    """Return host and port."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def upgrade(host: str) -> bytes:
    """Return the request for a WebSocket as a browser sends it from a page of ``host``."""
    return (
        f"GET /live HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


@contextmanager
def stuck(url: str) -> Iterator[socket.socket]:
    """Connect as a page that reads no further than the greeting, with little room for more."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(TIMEOUT)
        line.connect(address_of(url))
        line.sendall(upgrade(urlsplit(url).netloc))
        assert line.recv(12) == b"HTTP/1.1 101"
        said = b'{"type":"view","pictures":{"xy":4096,"xz":4096}}'
        # A masked text frame; a mask of zeros leaves the text as it is.
        line.sendall(bytes([0x81, 0x80 | len(said), 0, 0, 0, 0]) + said)
        yield line


def next_state(line: Any, wanted: Callable[[dict], bool] = lambda state: bool(state["sending"])) -> dict:
    """Return the next state that is wanted, with its pictures read."""
    while True:
        message = line.recv(TIMEOUT)
        if isinstance(message, bytes):
            continue
        state = json.loads(message)
        if state["type"] == "state" and wanted(state := {**state["status"], **state}):
            state["bodies"] = [line.recv(TIMEOUT) for _ in state["sending"]]
            return state


def ack(line: Any, state: dict) -> None:
    """Say that the pictures of this state are drawn."""
    line.send(json.dumps({"type": "ack", "version": state["version"]}))


def answer(line: Any, message: object) -> str:
    """Send something and return the reason with which it is refused."""
    line.send(message if isinstance(message, str | bytes) else json.dumps(message))
    while True:
        said = line.recv(TIMEOUT)
        if isinstance(said, str) and json.loads(said)["type"] == "refused":
            return json.loads(said)["reason"]


def assert_closes(line: Any) -> None:
    """Read until the server closes the line; fail if it stays open."""
    with pytest.raises(ConnectionClosed):
        collections.deque(iter(lambda: line.recv(TIMEOUT), None), maxlen=0)


def test_state_has_every_field_and_forbids_inline_code(page_server: Any, scan: Any) -> None:
    """GET /api/state answers with the status; the headers allow no code but the page's own files."""
    scan.publish(40)
    reply = httpx.get(page_server.url + "api/state")
    state = reply.json()
    assert set(Status.__dataclass_fields__) <= set(state)
    assert (state["frames_received"], state["state"]) == (40, "projections")
    assert state["pictures"]["xz"]["rows"] == 128
    policy = reply.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in reply.headers


def test_slices_come_as_they_were_reconstructed(page_server: Any, scan: Any) -> None:
    """TIFF, npy and JSON hold the float32 pixels of the snapshot; NaN is null in JSON."""
    scan.publish(40)
    picture = scan.store.latest.pictures["xy"]
    tif = httpx.get(page_server.url + "api/slices/xy.tif")
    assert np.array_equal(tifffile.imread(io.BytesIO(tif.content)), picture.pixels)
    npy = httpx.get(page_server.url + "api/slices/xy.npy")
    assert np.array_equal(np.load(io.BytesIO(npy.content)), picture.pixels)
    body = httpx.get(page_server.url + "api/slices/xz.json").json()
    assert np.array_equal(np.float32(body["pixels"]), scan.store.latest.pictures["xz"].pixels)


def test_pictures_of_the_scan_before_are_not_given_out_as_the_next(page_server: Any, scan: Any) -> None:
    """While the next scan takes darks, files and state tell of the scan that the pixels are of."""
    scan.publish(180)
    before = scan.status
    scan.store.publish(Status(state="darks", run_uid="next", scan_id=13, center=99.0), scan.pictures)
    url = page_server.url + "api/slices/xy."
    reply = httpx.get(url + "tif")
    assert "scan-12-xy-64.tif" in reply.headers["content-disposition"]
    with tifffile.TiffFile(io.BytesIO(reply.content)) as tif:
        (metadata,) = tif.shaped_metadata
    state = httpx.get(page_server.url + "api/state").json()
    assert state["run_uid"] == "next"
    for told in (
        metadata,
        httpx.get(url + "json").json(),
        json.loads(httpx.get(url + "npy").headers["tomolive-picture"]),
        state["pictures"]["xy"]["of"],
    ):
        assert (told["run_uid"], told["scan_id"], told["sample"]) == (before.run_uid, 12, "simulated shell")
        assert (told["center"], told["coverage"], told["filter"]) == (126.4, 180, "ramp")
        assert (told["frames_received"], told["pixel_size_um"]) == (180, 1.3)


def test_a_wish_names_the_run_it_is_about(page_server: Any, scan: Any) -> None:
    """The run that a request or a command names reaches the reconstruction; without one it is empty."""
    scan.publish(40)
    wanted = {
        "center": {"center": 5},
        "filter": {"filter": "hann"},
        "corrections": {"rings": "sorting"},
        "candidates": {"step": 1},
        "volume": {"action": "start"},
        "position": {"plane": "xy", "position": 3},
    }
    for kind, body in wanted.items():
        named = httpx.post(f"{page_server.url}api/{kind}", json={**body, "run_uid": "a"})
        assert (named.status_code, httpx.post(f"{page_server.url}api/{kind}", json=body).status_code) == (
            202,
            202,
        )
    with watching(page_server.url) as line:
        for kind, body in wanted.items():
            line.send(json.dumps({"type": kind, **body, "run_uid": "b"}))
        assert "run_uid" in answer(line, {"type": "center", "center": 5, "run_uid": 7})
    assert [wish.run_uid for wish in scan.controls.take()] == ["a", ""] * 6 + ["b"] * 6


@pytest.mark.parametrize("path", ["xy.exe", "ab.tif", "..%2f..%2fetc%2fpasswd.tif", "xy.tif"])
def test_pictures_that_are_not_there_are_told_in_words(page_server: Any, path: str) -> None:
    """An unknown plane or format, or no picture yet, is a 404 that says what there is."""
    reply = httpx.get(page_server.url + "api/slices/" + path)
    assert reply.status_code == 404


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("xy.npy?position=100", "xy@100"),
        ("oblique.npy?tilt=30&turn=-45&offset=2.5", "oblique@30,-45,2.5"),
        ("sinogram.npy?position=7", "sinogram@7"),
    ],
)
def test_any_place_can_be_asked_for(page_server: Any, scan: Any, beamline: Any, path: str, key: str) -> None:
    """A picture that nobody looks at is drawn for who asks, float32, and forgotten afterwards."""
    scan.publish(40)
    beamline(40).hold.set()
    reply = httpx.get(page_server.url + "api/slices/" + path, timeout=TIMEOUT)
    about = json.loads(reply.headers["tomolive-picture"])
    assert (about["key"], about["run_uid"]) == (key, scan.status.run_uid)
    pixels = np.load(io.BytesIO(reply.content))
    assert pixels.dtype == np.float32
    assert np.abs(pixels - scan.pixels(key, 40)).max() < 1
    assert scan.controls.looked_at == frozenset()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("xy.tif?position=128", "0 to 127"),
        ("xz.tif?position=-1", "0 to 255"),
        ("xy.tif?position=1.5", "0 to 127"),
        ("xy.tif?position=nan", "finite"),
        ("xy.tif?position=up", "expected numbers"),
        ("xy.tif?tilt=3", "takes position"),
        ("oblique.tif?tilt=3", "takes all of tilt, turn, offset"),
        ("oblique.tif", "takes 3"),
        ("oblique.tif?tilt=1e300&turn=0&offset=0", "-360 to 360"),
        ("projection.tif?position=3", "takes 0"),
    ],
)
def test_places_that_do_not_exist_are_refused_in_words(
    page_server: Any, scan: Any, path: str, words: str
) -> None:
    """A place outside the volume, or none, is a 422 that says what would be one; nothing is drawn for it."""
    scan.publish(40)
    reply = httpx.get(page_server.url + "api/slices/" + path)
    assert (reply.status_code, words in reply.json()["error"]) == (422, True), reply.text
    assert scan.controls.looked_at == frozenset()


def test_a_picture_that_is_never_drawn_is_not_waited_for_long(
    page_server: Any, scan: Any, monkeypatch: Any
) -> None:
    """When the reconstruction does not draw what was asked for, the answer says so."""
    monkeypatch.setattr("tomolive.view.api.PATIENCE_S", 0.2)
    scan.publish(40)
    reply = httpx.get(page_server.url + "api/slices/xy.tif?position=3", timeout=TIMEOUT)
    assert (reply.status_code, "xy@3" in reply.json()["error"]) == (504, True)
    assert scan.controls.looked_at == frozenset()


def test_each_viewer_has_planes_of_his_own(
    page_server: Any, scan: Any, beamline: Any, wait: Callable[..., Any]
) -> None:
    """Two viewers at two heights each get theirs; what nobody looks at any more is not drawn."""
    beamline(40).hold.set()
    with watching(page_server.url, ("xy@10", "projection")) as one:
        with watching(page_server.url, ("xy@90",)) as two:
            seen = {10: next_state(one, lambda s: "xy@10" in s["sending"]), 90: next_state(two)}
            for z, state in seen.items():
                body = state["bodies"][state["sending"].index(f"xy@{z}")]
                assert (body[5], np.frombuffer(body, "<f8", 1, 24)[0]) == (0, z)
            assert set(seen[90]["pictures"]) == {"xy@90"}
            assert scan.controls.looked_at == {"xy@10", "xy@90", "projection"}
        wait(lambda: scan.controls.looked_at == {"xy@10", "projection"}, "the second to be forgotten")
    wait(lambda: not scan.controls.looked_at, "both to be forgotten")


def test_places_outside_the_volume_are_not_looked_at(page_server: Any, scan: Any) -> None:
    """A viewer who asks for what there is not is told so, and gets the rest of what he asked for."""
    scan.publish(40)
    with watching(page_server.url, ()) as line:
        wrong = {"xy@128": 100, "xy": 100, "ab@3": 9_999}
        assert "no picture 'ab'" in answer(line, {"type": "view", "pictures": wrong})
        assert scan.controls.looked_at == {"xy"}
        assert "pictures" in answer(line, {"type": "view", "pictures": {f"xy@{i}": 99 for i in range(13)}})
        assert "is written 'xy@1'" in answer(line, {"type": "view", "pictures": {"xy@1.0": 99}})


def test_what_is_asked_for_is_told_until_it_is_done(page_server: Any, scan: Any) -> None:
    """Everybody hears at once that a change is on its way and whose it is, and when it is done."""
    scan.publish(40)
    with watching(page_server.url, ()) as one, watching(page_server.url, ()) as other:
        one.send('{"type":"hello","name":"Ada"}')
        one.send('{"type":"center","center":100}')
        for line in (one, other):
            state = next_state(line, lambda s: bool(s["pending"]))
            assert state["pending"] == [{"about": "centre", "who": "Ada", "run_uid": ""}]
        assert httpx.get(page_server.url + "api/state").json()["pending"] == state["pending"]
        scan.obey()
        scan.publish(41)
        next_state(other, lambda s: not s["pending"])


def test_api_posts_wishes_and_refuses_what_is_wrong(page_server: Any, scan: Any) -> None:
    """A centre reaches the reconstruction; nonsense, too much and foreign sites do not."""
    scan.publish(40)
    post = f"{page_server.url}api/center"
    assert httpx.post(post, json={"center": 127.5}).status_code == 202
    assert scan.controls.take()[0].center == 127.5
    assert "outside the detector" in httpx.post(post, json={"center": 1e6}).json()["error"]
    assert httpx.post(post, json={"centre": 3}).status_code == 422
    assert httpx.post(post, content=b"{", headers={"content-type": "application/json"}).status_code == 422
    assert (
        httpx.post(post, content=b'{"center": 3}', headers={"content-type": "text/plain"}).status_code == 415
    )
    assert httpx.post(post, json={"center": 3, "x": "y" * 9000}).status_code == 413
    assert httpx.post(post, json={"center": 3}, headers={"origin": "http://evil.test"}).status_code == 403
    assert httpx.post(post, json={"center": 3}, headers={"host": "evil.test"}).status_code == 403
    assert httpx.post(f"{page_server.url}api/launch", json={}).status_code == 404
    assert scan.controls.take() == []


def test_openapi_describes_what_there_is(page_server: Any) -> None:
    """Each path of the description answers."""
    paths = httpx.get(page_server.url + "api/openapi.json").json()["paths"]
    kinds = ("center", "filter", "corrections", "candidates", "volume", "position")
    assert {"/api/state", "/api/runs", *(f"/api/{kind}" for kind in kinds)} <= set(paths)
    for path, methods in paths.items():
        if "post" in methods:
            assert httpx.post(page_server.url + path[1:], json={"?": 1}).status_code == 422


def test_health_and_metrics(page_server: Any) -> None:
    """/healthz counts viewers, /metrics speaks Prometheus."""
    with watching(page_server.url):
        assert httpx.get(page_server.url + "healthz").json()["viewers"] == 1
    assert "tomolive_page_viewers" in httpx.get(page_server.url + "metrics").text


def test_pictures_come_only_after_the_last_were_drawn(page_server: Any, scan: Any) -> None:
    """A viewer that does not acknowledge gets states but no pictures; then he gets the newest."""
    scan.publish(10)
    with watching(page_server.url) as line:
        first = next_state(line)
        assert set(first["sending"]) == {"xy", "xz", "yz", "projection"}
        for frames in range(11, 20):
            scan.publish(frames)
        beat = next_state(line, lambda state: state["frames_received"] == 19)
        assert beat["sending"] == []
        ack(line, first)
        assert next_state(line)["frames_received"] == 19


def test_who_draws_nothing_hears_that_the_line_is_alive(
    page_server: Any, scan: Any, monkeypatch: Any
) -> None:
    """A tab that nobody looks at acknowledges nothing; it is told states, however often new ones come."""
    monkeypatch.setattr("tomolive.view.viewers.HEARTBEAT_S", 0.3)
    ended = threading.Event()

    def publish() -> None:
        frames = 10
        while not ended.wait(0.02):
            scan.publish(frames := frames + 1)

    scan.publish(10)
    with watching(page_server.url) as line, ThreadPoolExecutor(1) as thread:
        first = next_state(line)
        thread.submit(publish)
        try:
            later = next_state(line, lambda state: state["frames_received"] > first["frames_received"])
        finally:
            ended.set()
        assert later["sending"] == []


def test_numbers_alone_wait_for_pictures_and_news_do_not() -> None:
    """A state in which only numbers are new waits a moment for pictures; what people wait for does not."""
    before = Snapshot(status=Status(run_uid="a", state="projections"))
    viewer = Viewer(1, "", told=(before, ()), told_at=time.monotonic() + 1000)

    def patience(pending: tuple[Wish, ...] = (), **changes: Any) -> float:
        return viewer.patience(Snapshot(1, replace(before.status, **changes)), pending)

    assert patience(frames_announced=9, coverage=4.0, lag_s=0.1) > 0
    assert [patience(run_uid="b"), patience(state="failed"), patience(message="Beam lost.")] == [0, 0, 0]
    assert patience((Wish("someone", center=12.0),)) == 0
    viewer.told_at = time.monotonic() - 1000
    assert patience(frames_announced=9) < 0


def test_pictures_are_averaged_to_what_the_page_shows(page_server: Any, scan: Any) -> None:
    """A page that shows a picture small gets it small, and again in full when it grows."""
    scan.publish(10)
    with watching(page_server.url) as line:
        first = next_state(line)
        look(line, "xy", "xz", pixels=64)
        look(line, "xy", pixels=64)
        ack(line, first)
        small = next_state(line)
        assert small["sending"] == ["xy"]
        assert len(small["bodies"][0]) == 48 + 2 * 64 * 64
        look(line, "xy", pixels=400)
        ack(line, small)
        assert len(next_state(line)["bodies"][0]) == 48 + 2 * 256 * 256


def test_a_viewer_who_never_reads_delays_nobody(
    page_server: Any, scan: Any, wait: Callable[..., Any]
) -> None:
    """Beside one to whom sending is stuck and one who vanished, another gets every snapshot that he draws."""
    planes = ("xy", "xz")
    room = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
    side = 64 * math.ceil(math.sqrt((room + 1e6) / 2) / 64)
    pixels = np.zeros((side, side), np.float32)

    def publish(frames: int) -> None:
        pictures = {plane: Picture(plane, pixels, 0, frames) for plane in planes}
        scan.store.publish(Status(frames_received=frames), pictures)

    def sent() -> float:
        return REGISTRY.get_sample_value("tomolive_page_pictures_sent_total") or 0.0

    before = sent()
    publish(1)
    with stuck(page_server.url) as stalled, watching(page_server.url) as vanished:
        next_state(vanished)
        vanished.socket.shutdown(socket.SHUT_RDWR)
        with watching(page_server.url) as line:
            ack(line, next_state(line))
            for frames in range(2, 8):
                publish(frames)
                state = next_state(line)
                assert state["frames_received"] == frames
                ack(line, state)
            # The first picture is more than all buffers hold, so that the second waits for it.
            those_who_read = len(planes) * (1 + 7)
            wait(lambda: sent() - before > those_who_read, "the picture to him who is stuck")
            assert len(stalled.recv(2**20, socket.MSG_PEEK)) < 2**16
            assert httpx.get(page_server.url + "healthz", timeout=TIMEOUT).json()["viewers"] == 2
            assert sent() - before == those_who_read + 1


def test_malformed_messages_are_answered_and_end_only_their_sender(page_server: Any, scan: Any) -> None:
    """Nonsense is refused in words; a client that goes on with it is cut off, others stay."""
    scan.publish(1)
    with watching(page_server.url) as good, watching(page_server.url) as bad:
        assert "not understood" in answer(bad, "{")
        assert "not understood" in answer(bad, b"\x00\xff")
        assert "at most" in answer(bad, '{"type":"' + "x" * 5000)
        for _ in range(17):
            bad.send("nonsense")
        assert_closes(bad)
        state = next_state(good)
        assert state["frames_received"] == 1


def test_a_message_beyond_the_limit_ends_its_sender(page_server: Any) -> None:
    """A huge message is not read into memory; the connection ends."""
    with watching(page_server.url) as line:
        line.send("x" * 1_000_000)
        assert_closes(line)


def test_other_sites_may_not_connect(page_server: Any) -> None:
    """A WebSocket whose Origin is another site is refused before it opens."""
    with pytest.raises(InvalidStatus), watching(page_server.url, origin="http://evil.test"):
        pass
    with watching(page_server.url, origin=page_server.url.rstrip("/")) as line:
        assert line.hello["control"] is True


@pytest.mark.parametrize("host", ["evil.test", "evil.test:80", "127.0.0.1.evil.test", "10.1.2.3", "[::2]:9"])
def test_a_foreign_name_for_this_machine_reads_nothing(page_server: Any, scan: Any, host: str) -> None:
    """A page whose name was pointed at 127.0.0.1 is refused on every route and the WebSocket."""
    scan.publish(40)
    for path in ("", "api/state", "api/slices/xy.npy", "api/runs", "healthz", "metrics", "static/main.js"):
        reply = httpx.get(page_server.url + path, headers={"host": host})
        assert (reply.status_code, len(reply.content) < 300) == (403, True), path
    with socket.create_connection(address_of(page_server.url), TIMEOUT) as line:
        line.sendall(upgrade(host))
        assert line.recv(4096).split()[1] == b"403"


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
def test_a_tunnel_to_this_machine_reads(page_server: Any, scan: Any, host: str) -> None:
    """Through an SSH tunnel the port is another one; the page is served and may be controlled."""
    scan.publish(40)
    headers = {"host": host}
    assert httpx.get(page_server.url + "api/state", headers=headers).status_code == 200
    assert httpx.post(page_server.url + "api/center", json={"center": 5}, headers=headers).status_code == 202


def test_with_a_token_a_proxy_may_serve_the_page_by_its_name(serve_page: Any, scan: Any) -> None:
    """With a token, a proxy on this machine may pass on the name that it is known by."""
    url = serve_page(token="open sesame").url
    assert httpx.get(url + "api/state", headers={"host": "beamline.test"}).status_code == 200


def test_encoded_pictures_do_not_outlive_their_pixels() -> None:
    """A picture is encoded once for each size; nothing is kept of one that is replaced."""
    pictures = [Picture("xy", np.zeros((64, 64), np.float32), 0, version) for version in range(1, 30)]
    alive = [weakref.ref(picture) for picture in pictures]
    cache = PictureCache()

    async def watch() -> None:
        for binning in range(1, 30):
            picture = pictures.pop(0)
            (full,) = await cache.encode([(picture, 1)], 1)
            again, _ = await cache.encode([(picture, 1), (picture, binning)], 1)
            assert again is full

    # The browser of other tests has a loop running in this thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(watch())).result(TIMEOUT)
    gc.collect()
    assert [there() for there in alive] == [None] * 29


def test_pixels_that_are_no_numbers_reach_the_page_marked(page_server: Any, scan: Any) -> None:
    """NaN, infinity, an all-NaN and an all-zero picture are sent, and nothing breaks."""
    scan.publish(1)
    pictures = dict(scan.store.latest.pictures)
    pixels = pictures["xy"].pixels.copy()
    pixels[:3] = [[np.nan], [np.inf], [-np.inf]]
    bad = {
        "xy": pixels,
        "xz": np.full((128, 256), np.nan, np.float32),
        "yz": np.zeros((128, 256), np.float32),
    }
    for plane, values in bad.items():
        pictures[plane] = type(pictures[plane])(plane, values, 5, 99, "1/cm")
    scan.store.publish(scan.status, pictures)
    with watching(page_server.url) as line:
        bodies = dict(zip((state := next_state(line))["sending"], state["bodies"], strict=True))
        q = np.frombuffer(bodies["xy"], "<u2", offset=48).reshape(256, 256)
        assert (q[:3] == 65535).all()
        assert (q[3:] < 65535).all()
        assert (np.frombuffer(bodies["xz"], "<u2", offset=48) == 65535).all()
        assert (np.frombuffer(bodies["yz"], "<u2", offset=48) == 0).all()


def test_without_a_viewer_nothing_is_encoded(page_server: Any, scan: Any, monkeypatch: Any) -> None:
    """No viewer, no work: pictures are turned into bytes only for someone."""
    calls: list[str] = []
    from tomolive.view import protocol

    encode = protocol.encode_picture
    monkeypatch.setattr(protocol, "encode_picture", lambda *a: calls.append(a[0].plane) or encode(*a))
    for frames in range(1, 20):
        scan.publish(frames)
    assert calls == []
    with watching(page_server.url) as one, watching(page_server.url) as two:
        next_state(one)
        next_state(two)
    assert sorted(calls) == ["projection", "xy", "xz", "yz"], "each picture is encoded once for both"


def test_token_allows_control_and_watching_needs_none(serve_page: Any, scan: Any) -> None:
    """Everybody sees; only who knows the token controls."""
    url = serve_page(token="correct horse").url
    scan.publish(1)
    with watching(url) as line:
        assert line.hello["control"] is False
        assert "token" in answer(line, {"type": "center", "center": 5})
        line.send('{"type":"hello","token":"wrong"}')
        assert "token" in answer(line, {"type": "filter", "filter": "hann"})
        line.send('{"type":"hello","token":"correct horse","name":"Ada"}')
        line.send('{"type":"center","center":5}')
        assert "unknown filter" in answer(line, {"type": "filter", "filter": "?"})
    assert [(wish.who, wish.center) for wish in scan.controls.take()] == [("Ada", 5)]
    assert httpx.post(url + "api/center", json={"center": 3}).status_code == 403
    allowed = httpx.post(
        url + "api/center", json={"center": 3}, headers={"authorization": "Bearer correct horse"}
    )
    assert allowed.status_code == 202


def test_read_only_refuses_everybody(serve_page: Any, scan: Any) -> None:
    """A read-only page grants no wish, token or not."""
    url = serve_page(token="t", read_only=True).url
    with watching(url) as line:
        line.send('{"type":"hello","token":"t"}')
        assert "read-only" in answer(line, {"type": "center", "estimate": True})
    assert scan.controls.take() == []


def test_a_taken_port_is_one_sentence() -> None:
    """A port that is taken is an AddressError that names it."""
    app = create_app(SnapshotStore(), Controls())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}"):
            serve(app, "127.0.0.1", port, threading.Event())


def test_serving_ends_while_pages_are_open(serve_page: Any, scan: Any) -> None:
    """The server stops within seconds although a page is connected."""
    page = serve_page()
    with watching(page.url) as line:
        page.close()
        assert_closes(line)


def test_waiting_for_pictures_keeps_nobody_from_the_page(monkeypatch):
    """However many ask for pictures that are not drawn, one that is there is sent at once."""
    monkeypatch.setattr("tomolive.view.api.PATIENCE_S", 60.0)
    store, pixels = SnapshotStore(), np.zeros((8, 8), np.float32)
    status, there = Status(volume_shape=(60, 8, 8)), Picture("xy", pixels, 4, 1, key="xy")
    store.publish(status, {"xy": there})
    controls = Controls()
    app = create_app(store, controls)
    rows = [f"xy@{row}" for row in range(60)]

    async def ask() -> tuple[int, bool, set[int]]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            places = [f"/api/slices/xy.npy?position={row}" for row in range(60)]
            waiting = [asyncio.create_task(client.get(place)) for place in places]
            while len(controls.looked_at) < 40:
                await asyncio.sleep(0.01)
            found = await asyncio.wait_for(client.get("/api/slices/xy.npy"), 30)
            early = any(task.done() for task in waiting)
            store.publish(status, dict.fromkeys(["xy", *rows], there))
            return found.status_code, early, {(await task).status_code for task in waiting}

    assert asyncio.run(ask()) == (200, False, {200})
