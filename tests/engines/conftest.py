"""Brokers and runs for the contract of the engines."""

import importlib.util
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tomolive.bench.brokers import ENGINES, AbsentError, Broker, is_required
from tomolive.stream.publisher import Publisher

TIMEOUT = 60.0


def started(kind: type[Broker], folder, **options) -> Broker:
    """Start a broker; one that is not installed skips the test, in continuous integration it fails it."""
    try:
        return kind(folder, **options)
    except (AbsentError, ModuleNotFoundError) as error:
        if is_required() and kind.required:
            raise
        pytest.skip(str(error))


def _tested() -> list[str]:
    """Return the brokers of the contract: the mock cluster stands in where there is no broker of Kafka's."""
    stand_in = "kafka-mock" if importlib.util.find_spec("noida_db") is None else "kafka"
    return [name for name in ENGINES if not name.startswith("kafka") or name == stand_in]


@pytest.fixture(scope="module", params=_tested())
def broker(request, tmp_path_factory) -> Iterator[Broker]:
    """Each kind of broker in turn, for all tests of a module."""
    with started(ENGINES[request.param], tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="session")
def start_broker() -> Callable[..., Broker]:
    """Start a broker of a kind, skipping where it is not installed."""
    return started


@pytest.fixture
def address(broker, request) -> str:
    """An address of the broker with a place of its own for each test, where it has places."""
    return getattr(broker, "place", lambda _name: broker.address)(uuid.uuid4().hex[:12])


@pytest.fixture
def publish(tmp_path) -> Iterator[Callable[..., Publisher]]:
    """Publish documents and wait until the broker has them; return the Publisher, which is closed later."""
    publishers: list[Publisher] = []

    def give(address: str, documents=(), *, wait: bool = True) -> Publisher:
        publishers.append(Publisher(address, spool=tmp_path / "spool"))
        for name, doc in documents:
            publishers[-1](name, doc)
        assert not wait or publishers[-1].flush(TIMEOUT)
        return publishers[-1]

    yield give
    for publisher in publishers:
        publisher.close(0)


@pytest.fixture
def make_run() -> Callable[..., list[tuple[str, dict]]]:
    """Make the documents of a valid run with so many events."""

    def make(events: int, uid: str | None = None, data=None, **start) -> list[tuple[str, dict]]:
        run, descriptor, now = uid or str(uuid.uuid4()), str(uuid.uuid4()), time.time()
        data = {"value": 1.5} if data is None else data
        keys = {key: {"source": "SIM", "dtype": "number", "shape": []} for key in data}
        stamps = dict.fromkeys(data, now)
        of = {"run_start": run, "time": now}
        events_of = [
            {
                "uid": str(uuid.uuid4()), "descriptor": descriptor, "time": now, "seq_num": number + 1,
                "data": data, "timestamps": stamps, "filled": {},
            }
            for number in range(events)
        ]  # fmt: skip
        return [
            ("start", {"uid": run, "time": now, "scan_id": 1, **start}),
            ("descriptor", {"uid": descriptor, **of, "name": "primary", "data_keys": keys}),
            *(("event", doc) for doc in events_of),
            ("stop", {"uid": str(uuid.uuid4()), **of, "exit_status": "success"}),
        ]

    return make
