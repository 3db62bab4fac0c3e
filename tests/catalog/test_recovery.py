"""A catalog that goes away in the middle of a request, and runs that never end."""

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
