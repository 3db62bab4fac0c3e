"""A catalog that goes away in the middle of a request, and runs that never end."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tomolive.catalog.archive import Archive, unfinished
from tomolive.catalog.open import open_catalog
from tomolive.errors import CatalogUnavailableError
from tomolive.stream.messages import Position

NUMBER = {"source": "sim", "dtype": "number", "shape": []}
Loss = Callable[[Any, int], None]


@pytest.fixture
def tiled(server: Any) -> Iterator[Any]:
    """A client of its own, whose requests a test may lose."""
    client = open_catalog(server.uri)
    yield client
    client.context.close()


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Loss:
    """Lose all requests of a client that change something, after so many."""
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)

    def lose(client: Any, after: int) -> None:
        http, changes = client.context.http_client, []
        send = http.send

        def lossy(request: httpx.Request, **options: Any) -> httpx.Response:
            if request.method != "GET":
                changes.append(request)
                if len(changes) > after:
                    raise httpx.ConnectError("gone", request=request)
            return send(request, **options)

        monkeypatch.setattr(http, "send", lossy)

    return lose


def points(scan: type, number: int) -> Any:
    """Return a run of scalars without its stop document."""
    run = scan(1)
    descriptor = run.descriptor("primary", angle=NUMBER)
    for point in range(number):
        run.event(descriptor, angle=float(point))
    return run


def begin(client: Any, run: Any, position: Position) -> None:
    """Write ``run`` as an archive does that ends before the run."""
    archive = Archive(client, interval=0.1)
    put(archive, run.documents, position)
    archive.close()


def put(archive: Archive, documents: list[tuple[str, dict[str, Any]]], position: Position) -> None:
    """Give the archive documents of a run that begins at ``position``."""
    for name, doc in documents:
        archive(name, doc, position)


@pytest.mark.parametrize("after", range(4))
def test_a_run_is_not_lost_while_it_is_written_anew(
    after: int, client: Any, tiled: Any, lose: Loss, scan: type
) -> None:
    """Wherever Tiled goes away, the catalog still knows the run, and from where it must come again."""
    run, position = points(scan, 3), Position(f"of {after}", after)
    begin(client, run, position)
    lose(tiled, after)
    archive = Archive(tiled, interval=0.1)
    with pytest.raises(CatalogUnavailableError):
        put(archive, [*run.documents, ("stop", {"uid": "s", "run_start": run.uid, "time": 1.0})], position)
    assert unfinished(client)[run.uid] == position

    run.stop()
    begin(client, run, position)
    assert client[run.uid]["primary"]["angle"].read().tolist() == [0, 1, 2]
    assert client[run.uid].stop["exit_status"] == "success"
    assert run.uid not in unfinished(client)


def test_a_document_without_its_uid_is_named(
    client: Any, scan: type, caplog: pytest.LogCaptureFixture
) -> None:
    """It belongs to no run; the log says so, and the runs around it are written."""
    run = points(scan, 1)
    run.stop()
    archive = Archive(client)
    for broken in ("start", "descriptor", "resource"):
        archive(broken, {"name": "primary"})
    put(archive, run.documents, Position("of broken", 0))
    archive.close()
    assert client[run.uid].stop["exit_status"] == "success"
    assert [record.args[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "start", "descriptor", "resource",
    ]  # fmt: skip


def test_an_archive_that_fails_says_so(
    client: Any, scan: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ends the writing thread ends the source too, and is raised by the next call."""
    told = threading.Event()
    archive = Archive(client, on_failure=told.set)
    monkeypatch.setattr(archive._runs, "take", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        archive(*points(scan, 0).documents[0])
    assert told.wait(60)
    with pytest.raises(ZeroDivisionError):
        archive.close()
    assert "must end" in caplog.text
