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
def tiled(catalog_server: Any) -> Iterator[Any]:
    """A client of its own, whose requests a test may lose."""
    client = open_catalog(catalog_server.uri)
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


@pytest.mark.parametrize(
    ("after", "catalog_server"),
    [*((after, "server") for after in range(4)), (2, "postgresql_server")],
    indirect=["catalog_server"],
)
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
    archive("start", {"name": "primary"})
    put(archive, run.documents[:1], Position("of broken", 0))
    for broken in ("descriptor", "resource"):
        archive(broken, {"name": "primary", "run_start": run.uid})
    put(archive, run.documents[1:], Position("of broken", 0))
    archive.close()
    assert client[run.uid].stop["exit_status"] == "success"
    assert [record.message.split()[1] for record in caplog.records if record.levelname == "ERROR"] == [
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


def test_a_run_that_cannot_be_written_does_not_come_again(client: Any, scan: type) -> None:
    """It is marked with the reason; coming again with others, it is left as it is."""
    bad, position = scan(3), Position("of bad", 0)
    descriptor = bad.descriptor("primary", {"shape": [None, 5, 7], "external": "STREAM:"})
    bad.stream_datum(bad.stream_resource(), descriptor, 0, 3)
    begin(client, bad, position)
    assert "variable-sized" in client[bad.uid].metadata["archived"]["given_up"]
    assert bad.uid not in unfinished(client)
    before = client[bad.uid].metadata["archived"]
    begin(client, bad, position)
    assert client[bad.uid].metadata["archived"] == before


def test_a_run_that_failed_in_tiled_several_times_is_marked(client: Any, scan: type) -> None:
    """Runs to skip are given up for good, not only until the archive is started again."""
    run, position = points(scan, 1), Position("of failed", 0)
    begin(client, run, position)
    assert run.uid in unfinished(client)
    archive = Archive(client, skip=frozenset({run.uid}))
    put(archive, run.documents, position)
    archive.close()
    assert run.uid not in unfinished(client)


def test_runs_that_never_stop_are_given_up(client: Any, scan: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than so many open runs, those go on that were heard of last; data of the others stay."""
    monkeypatch.setattr("tomolive.catalog.runs.MOST_OPEN", 2)
    first, silent, third = (points(scan, 2) for _ in range(3))
    archive = Archive(client, interval=0.1)
    put(archive, first.documents[:-1], Position("of open", 0))
    put(archive, silent.documents, Position("of open", 1))
    put(archive, first.documents[-1:], Position("of open", 0))
    put(archive, third.documents, Position("of open", 2))
    assert {first.uid, third.uid} <= set(unfinished(client))
    assert silent.uid not in unfinished(client)
    for run in (first, third):
        run.stop()
        put(archive, run.documents[-1:], Position("of open", 0))
    archive.close()
    for run in (first, silent, third):
        assert client[run.uid]["primary"]["angle"].read().tolist() == [0, 1]
        assert ("stop" in client[run.uid].metadata) == (run is not silent)
