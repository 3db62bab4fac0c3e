"""What the stock writer gets wrong: when one of these fails, upstream has been mended and a rewrite can go.

bluesky-tiled-plugins 2.0.12 and tiled 0.2.20 were current when these were written.
"""

from typing import Any

import pytest
from bluesky_tiled_plugins import TiledWriter
from tiled.client.utils import ClientError

ROWS, COLUMNS = 5, 7
IMAGE = {"shape": [1, ROWS, COLUMNS], "external": "STREAM:"}
NUMBER = {"source": "sim", "dtype": "number", "shape": []}


def write(client: Any, run: Any, batch_size: int = 10_000) -> Any:
    """Write a run with the stock writer; return it."""
    writer = TiledWriter(client, batch_size=batch_size)
    for name, doc in run.documents:
        writer(name, doc)
    return client[run.uid]


def test_upstream_cannot_serve_a_file_that_is_ahead(client: Any, scan: type) -> None:
    """A leading 1 in the shape makes live and aborted runs unreadable: why it is dropped."""
    run = scan(20)
    descriptor = run.descriptor("primary", IMAGE)
    run.stream_datum(run.stream_resource(), descriptor, 0, 5)
    run.stop("abort")
    with pytest.raises(ClientError, match="422"):
        write(client, run)["primary"]["det"].read()


def test_upstream_misfiles_a_shared_resource(client: Any, scan: type) -> None:
    """All frames of a detector that is staged once end in its first stream: why sources are per stream."""
    run = scan(9)
    darks, flats = run.descriptor("darks", IMAGE), run.descriptor("flats", IMAGE)
    resource = run.stream_resource()
    run.stream_datum(resource, darks, 0, 4)
    run.stream_datum(resource, flats, 4, 9)
    run.stop()
    stored = write(client, run, batch_size=1)
    assert stored["darks"]["det"].shape[0] == 9
    assert "det" not in list(stored["flats"].base)


def test_upstream_takes_a_column_for_integers(client: Any, scan: type, monkeypatch: Any) -> None:
    """A number that begins at 0 loses its fractions or is refused: why numbers are made floats."""
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_TIMEOUT", 1.0)
    run = scan(1)
    descriptor = run.descriptor("primary", motor=NUMBER)
    for position in (0, 0.5):
        run.event(descriptor, motor=position)
    run.stop()
    try:
        stored = write(client, run, batch_size=1)["primary"]["motor"].read().tolist()
    except Exception:  # noqa: BLE001 - any failure will do
        stored = None
    assert stored != [0, 0.5]
