"""The hub's memory stays bounded, whatever a peer sends without waiting."""

import numpy as np
import pytest
from bluesky.callbacks.zmq import Publisher as StockPublisher

from tomolive.bench.transport_roles import peak_memory
from tomolive.demo.processes import Services

MOST_MB = 300
ANY = "127.0.0.1:0"


@pytest.fixture
def hub_process(tmp_path):
    """A hub in a process of its own."""
    ports = [word for option in ("native", "in", "out", "http") for word in (f"--{option}", ANY)]
    with Services(tmp_path) as services:
        yield services.start("hub", ["hub", "--journal", str(tmp_path / "journal"), *ports])


def with_images(run, size):
    """Give each event an image of ``size`` bytes."""
    image = np.zeros(size, np.uint8)
    for name, doc in run:
        more = {"data": {"image": image}, "timestamps": {"image": 0.0}} if name == "event" else {}
        yield name, {**doc, **more}


def test_large_documents_of_a_publisher(hub_process, publishing, listen, make_run, wait_for):
    """120 documents of 4 MB as fast as they go, to a consumer as well."""
    run = make_run(120)
    uids = []
    listener = listen(hub_process.fields["native"])
    listener.dispatcher.subscribe(lambda _name, doc: (uids.append(doc["uid"]), listener.documents.clear()))
    with publishing(hub_process.fields["native"]) as publish:
        for name, doc in with_images(run, 4_000_000):
            publish(name, doc)
        assert publish.flush(60)
    wait_for(lambda: len(uids) >= len(run))
    assert uids == [doc["uid"] for _, doc in run]
    assert peak_memory(hub_process.process.pid) < MOST_MB


def test_large_documents_of_a_stock_publisher(hub_process, listen, make_run, wait_for):
    """400 documents of 1 MB from bluesky's own Publisher, which waits for nobody."""
    uids = []
    listener = listen(hub_process.fields["native"])
    listener.dispatcher.subscribe(lambda _name, doc: (uids.append(doc["uid"]), listener.documents.clear()))
    publisher = StockPublisher(hub_process.fields["in"].removeprefix("tcp://"))
    (start, probe), *_ = make_run(0)
    wait_for(lambda: (publisher(start, probe), probe["uid"] in uids)[1])
    run = make_run(400)
    for name, doc in with_images(run, 1_000_000):
        publisher(name, doc)
    wait_for(lambda: run[-1][1]["uid"] in uids)
    publisher.close()
    assert [uid for uid in uids if uid != probe["uid"]] == [doc["uid"] for _, doc in run]
    assert peak_memory(hub_process.process.pid) < MOST_MB
