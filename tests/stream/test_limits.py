"""What one message may make the hub do."""

import pickle
import time

import msgspec
import numpy as np
import pytest
import zmq

from tomolive.errors import CodecError
from tomolive.stream import limits, messages, records, stock
from tomolive.stream.codec import decode, encode

TIMEOUT = 60


def event(value) -> dict:
    """Make an event with one value."""
    data = {"data": {"x": value}, "timestamps": {"x": 1.0}, "filled": {}}
    return {"uid": "e", "descriptor": "d", "time": 1.0, "seq_num": 1, **data}


@pytest.mark.parametrize(
    "value", [[0.1] * 400_000, [1] * 4_000_000, ["äöü"] * 300_000, [{"a": [1.5, b"x"]}] * 100_000]
)
def test_long_lists_of_plain_values_pass(value):
    """Numbers whose bytes look like lists, text, and as many lists and mappings as may be."""
    doc = event(value)
    assert decode(encode("event", doc)) == ("event", doc)


def test_arrays_may_be_as_large_as_they_like():
    """They lie beside what is counted."""
    array = np.zeros(20_000_000, "u1")
    _, doc = decode(encode("event", event(array)))
    assert np.array_equal(doc["data"]["x"], array)


@pytest.mark.parametrize(
    "value",
    [[[]] * 300_000, [{}] * 300_000, {str(n): [0] for n in range(300_000)}, "x" * limits.HEAD_BYTES],
    ids=["lists", "mappings", "keys", "text"],
)
def test_what_is_beyond_the_limits_is_refused_where_it_is_made(value):
    """The Publisher's user is told what to do."""
    with pytest.raises(CodecError, match="numpy arrays"):
        encode("event", event(value))


@pytest.mark.parametrize("serialise", [pickle.dumps, msgspec.json.encode, msgspec.msgpack.encode])
def test_stock_messages_have_the_same_limits(serialise):
    """However they are serialised."""
    message = b" event " + serialise(event([[] for _ in range(300_000)]))
    with pytest.raises(CodecError, match="more than 262144 lists and mappings"):
        stock.decode_stock(message)


def test_extensions_are_looked_into():
    """The description of an array is decoded too, so what it holds counts."""
    inside = msgspec.msgpack.Ext(1, msgspec.msgpack.encode([[]] * 300_000))
    head = msgspec.msgpack.encode((1, "event", event(inside)))
    with pytest.raises(CodecError, match="lists and mappings"):
        limits.check_head(head)


@pytest.mark.parametrize("size", [0, 31, 255, 256, 70_000])
def test_text_and_bytes_are_not_mistaken_for_lists(size):
    """Every way to write a length is followed to the byte."""
    content = bytes([0x91]) * size
    values = [content, "\x91" * size, 1.5, -1, -200, -70_000, -(2**40), 200, 70_000, 2**40, True, None]
    head = msgspec.msgpack.encode(values)
    assert limits._count_containers(head) == 1


def test_a_hostile_message_is_refused_and_the_others_go_on(hub, publishing, listen, make_run, wait_for):
    """One of millions of empty lists, sent by hand, is answered by its refusal; a good run arrives."""
    listener = listen(hub.native)
    stranger = b"a stranger's id."
    head = msgspec.msgpack.encode((1, "event", event([[]] * 8_000_000)))
    context = zmq.Context()
    with context.socket(zmq.DEALER) as native, publishing(hub.native) as publish:
        native.set(zmq.LINGER, 0)
        native.connect(hub.native)
        native.send(messages.encode(messages.Hello(messages.VERSION, stranger, "stranger", 1)))
        native.send_multipart([messages.encode(messages.Publish(1, 1)), records.pack(stranger, 1, [head])])
        refused = None
        deadline = time.monotonic() + TIMEOUT
        while not isinstance(refused, messages.Refused) and time.monotonic() < deadline:
            if native.poll(100):
                refused = messages.from_hub(native.recv())
        assert isinstance(refused, messages.Refused)
        assert "beside its arrays" in refused.reason
        run = make_run(10)
        for name, doc in run:
            publish(name, doc)
        wait_for(lambda: len(listener.documents) >= len(run))
    context.term()
    assert listener.documents == run
