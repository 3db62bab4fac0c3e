"""What every engine promises: the same tests on the hub, on NATS JetStream and on the Kafka protocol."""

import logging
import time
import uuid

import numpy as np
import pytest

from tomolive.errors import AddressError


def test_documents_arrive_as_they_were_in_order_and_once(address, publish, listen, make_run, wait_for):
    """A consumer that is there first gets a run's documents as they were published."""
    listener = listen(address, start="new")
    run = make_run(500)
    publish(address, run)
    wait_for(lambda: len(listener.of_run(run)) >= len(run))
    assert listener.of_run(run) == run


def test_a_late_consumer_gets_the_newest_run_from_its_start(address, publish, listen, make_run, wait_for):
    """Start "newest" gives the run that began last, whole, though half of it is over."""
    older, newer = make_run(3), make_run(10)
    publisher = publish(address, [*older, *newer[:6]])
    listener = listen(address, start="newest")
    for name, doc in newer[6:]:
        publisher(name, doc)
    wait_for(lambda: len(listener.documents) >= len(newer))
    assert listener.documents == newer


def test_results_are_not_the_newest_run(address, publish, listen, make_run, wait_for):
    """Start "newest" gives the newest scan and what came after it, also if that is results of scans."""
    old, scan = make_run(2), make_run(2)
    result = make_run(1, tomolive={"raw_run": old[0][1]["uid"]})
    again = make_run(1, tomolive={"raw_run": scan[0][1]["uid"]})
    publish(address, [*old, *scan, *result, *again])
    listener = listen(address, start="newest")
    wait_for(lambda: len(listener.documents) >= len([*scan, *result, *again]))
    assert listener.documents == [*scan, *result, *again]
    one = listen(address, start=again[0][1]["uid"])
    wait_for(lambda: len(one.documents) >= len(again))
    assert one.documents == again


def test_a_consumer_may_begin_at_a_run(address, publish, listen, make_run, wait_for):
    """Start with a run's uid gives that run and what came after it."""
    first, second, third = make_run(2), make_run(2), make_run(2)
    publish(address, [*first, *second, *third])
    listener = listen(address, start=second[0][1]["uid"])
    wait_for(lambda: len(listener.documents) >= len(second + third))
    assert listener.documents == [*second, *third]


def test_a_consumer_may_ask_for_all(address, publish, listen, make_run, wait_for):
    """Start "all" gives everything that is kept."""
    runs = [*make_run(2), *make_run(2)]
    publish(address, runs)
    listener = listen(address, start="all")
    wait_for(lambda: len(listener.of_run(runs)) >= len(runs))
    assert listener.of_run(runs) == runs


def test_an_unknown_run_is_refused_by_name(address, publish, listen, make_run):
    """A consumer that asks for a run that is not there is told so."""
    publish(address, make_run(1))
    listener = listen(address, start="no-such-run", wait=False)
    listener.join()
    assert isinstance(listener.error, AddressError)
    assert "no-such-run" in str(listener.error)


def test_a_named_consumer_goes_on_where_it_stopped(address, publish, listen, make_run, wait_for):
    """A cursor survives its consumer: the next one of its name gets what it has not had."""
    name = f"cursor-{uuid.uuid4().hex[:8]}"
    run = make_run(100)
    publisher = publish(address, run[:60])
    first = listen(address, name=name)
    wait_for(lambda: len(first.of_run(run)) >= 60)
    first.stop()
    for kind, doc in run[60:]:
        publisher(kind, doc)
    second = listen(address, name=name)
    wait_for(lambda: len(second.of_run(run)) >= 43)
    assert first.of_run(run) + second.of_run(run) == run


def test_a_position_saved_with_a_result_is_where_a_consumer_goes_on(
    address, publish, listen, make_run, wait_for
):
    """Position names the place behind each document, wherever that lies in the broker's messages."""
    run = make_run(20)
    publish(address, run)
    places = []
    first = listen(
        address,
        lambda _name, doc: places.append((doc["uid"], first.dispatcher.position)),
        start=run[0][1]["uid"],
        wait=False,
    )
    wait_for(lambda: len(places) >= len(run))
    first.stop()
    behind = [uid for uid, _ in places].index(run[7][1]["uid"])
    second = listen(address, start=places[behind][1])
    wait_for(lambda: len(second.of_run(run)) >= len(run) - 8)
    assert second.of_run(run) == run[8:]


def test_a_document_is_acknowledged_when_its_callback_has_returned(
    address, publish, listen, make_run, wait_for
):
    """What a consumer was working on when it ended comes again."""
    name = f"cursor-{uuid.uuid4().hex[:8]}"
    run = make_run(5)
    publish(address, run)

    def fail(kind: str, doc: dict) -> None:
        if doc["uid"] == run[3][1]["uid"]:
            raise RuntimeError("on purpose")

    first = listen(address, fail, name=name, on_error="stop", wait=False)
    first.join()
    second = listen(address, name=name)
    wait_for(lambda: len(second.of_run(run)) >= len(run) - 3)
    assert second.of_run(run) == run[3:]


def test_a_slow_consumer_loses_nothing_and_is_not_flooded(address, publish, listen, make_run, wait_for):
    """A consumer at a few milliseconds a document gets all of a burst, while the broker keeps what waits."""
    run = make_run(1500)
    seen = []
    listen(address, lambda _name, doc: (seen.append(doc["uid"]), time.sleep(0.002)), start="new")
    publish(address, run)
    wait_for(lambda: len(seen) >= len(run))
    assert seen == [doc["uid"] for _, doc in run]


ARRAYS = {
    "big_endian": np.array([1, 2, 70000], ">u4"),
    "zero_d": np.array(2.5, "<f8"),
    "structured": np.array([(1, 2.5), (3, 4.5)], [("n", "<i4"), ("x", ">f4")]),
    "not_contiguous": np.arange(24, dtype="<u2").reshape(4, 6)[::2, 1::2],
    "empty": np.zeros((0, 3), "f4"),
    "complex": np.array([1 + 2j], "<c16"),
    "moments": np.array(["2026-01-01", "2026-01-02"], "<M8[D]"),
    "flags": np.array([True, False]),
}


def test_arrays_are_kept_to_the_bit(address, publish, listen, make_run, wait_for):
    """Byte order, shape, fields and values of numpy arrays arrive as they were."""
    run = make_run(1, data=ARRAYS)
    listener = listen(address, start="new")
    publish(address, run)
    wait_for(lambda: len(listener.of_run(run)) >= len(run))
    arrived = next(doc for name, doc in listener.of_run(run) if name == "event")["data"]
    for key, array in ARRAYS.items():
        assert isinstance(arrived[key], np.ndarray), key
        assert arrived[key].dtype == array.dtype, key
        assert arrived[key].shape == array.shape, key
        assert arrived[key].tobytes() == array.tobytes(), key


def test_an_invalid_document_is_refused_by_name_and_the_others_arrive(
    address, publish, listen, make_run, wait_for, caplog
):
    """What breaks its schema never reaches a consumer; who published it reads its name and the reason."""
    run = make_run(4)
    wrong = ("event", {**run[3][1], "uid": "the-wrong-one", "seq_num": "three"})
    listener = listen(address, start="new")
    with caplog.at_level(logging.ERROR):
        publish(address, [*run[:3], wrong, *run[3:]])
        wait_for(lambda: len(listener.of_run(run)) >= len(run))
        wait_for(lambda: "the-wrong-one" in caplog.text)
    assert [doc["uid"] for _, doc in listener.documents if doc["uid"] == "the-wrong-one"] == []
    assert "seq_num" in caplog.text


def test_two_publishers_keep_their_own_order(address, publish, listen, make_run, wait_for):
    """Runs that go on at the same time arrive whole, each in its order."""
    listener = listen(address, start="new")
    one, other = make_run(200), make_run(200)
    publishers = publish(address, wait=False), publish(address, wait=False)
    for pair in zip(one, other, strict=True):
        for publisher, document in zip(publishers, pair, strict=True):
            publisher(*document)
    wait_for(lambda: len(listener.documents) >= len(one) + len(other))
    assert listener.of_run(one) == one
    assert listener.of_run(other) == other


def test_odd_names_are_kept_apart(address, publish, listen, make_run, wait_for):
    """Uids and cursor names with dots, spaces and wildcards are names like others."""
    odd, other = make_run(1, uid=f"a.b > *{uuid.uuid4()}"), make_run(1)
    publish(address, [*odd, *other])
    listener = listen(address, name="über cursor.*", start=odd[0][1]["uid"])
    wait_for(lambda: len(listener.documents) >= len(odd) + len(other))
    assert listener.documents == [*odd, *other]


@pytest.mark.parametrize("megabytes", [3])
def test_a_big_document_arrives_or_is_refused_with_the_reason(
    address, broker, publish, listen, make_run, wait_for, caplog, megabytes
):
    """A document beyond the broker's limit goes in parts, or is refused by name with the limit."""
    run = make_run(3, data={"image": np.arange(megabytes << 19, dtype="<u2")})
    listener = listen(address, start="new")
    with caplog.at_level(logging.ERROR):
        publish(address, run)
    small = [document for document in run if document[0] != "event"]
    expected = run if broker.takes_big else small
    wait_for(lambda: len(listener.of_run(run)) >= len(expected))
    assert [doc["uid"] for _, doc in listener.of_run(run)] == [doc["uid"] for _, doc in expected]
    if expected is run:
        images = [doc["data"]["image"] for name, doc in listener.of_run(run) if name == "event"]
        assert all(np.array_equal(image, run[2][1]["data"]["image"]) for image in images)
    else:
        assert all(doc["uid"] in caplog.text for name, doc in run if name == "event")
