"""bluesky's own wire format is understood without running what it holds, and bluesky understands ours."""

import collections
import datetime as dt
import json
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tomolive.errors import CodecError
from tomolive.stream import plain_pickle
from tomolive.stream.stock import decode_stock, encode_stock

EVENT = {
    "uid": "e-1", "descriptor": "d-1", "seq_num": 1, "time": 1.5,
    "data": {"x": 1.25, "n": -3, "long": 2**63, "text": "ä" * 300, "none": None, "yes": True, "bytes": b"ab"},
    "timestamps": {"x": 1.5}, "filled": {},
}  # fmt: skip


def stock_message(name, doc, protocol=pickle.DEFAULT_PROTOCOL):
    """Return the bytes that ``bluesky.callbacks.zmq.Publisher`` sends."""
    return b" ".join([b"", name.encode(), pickle.dumps(doc, protocol)])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_document_of_a_stock_publisher_is_read(protocol):
    """Plain documents come back equal, whatever protocol of pickle a Publisher was given."""
    assert decode_stock(stock_message("event", EVENT, protocol)) == ("event", EVENT)


ARRAYS = {
    "image": np.arange(12, dtype=np.uint16).reshape(3, 4),
    "big-endian": np.array([1, 65000], dtype=">u2"),
    "0-d": np.array(3.25),
    "empty": np.empty((0, 5)),
    "structured": np.array([(1, 2.5, "ab")], dtype=[("n", "<i2"), ("x", ">f4"), ("t", "<U2")]),
    "nested": np.zeros(2, dtype=[("a", [("b", "<f8"), ("c", "u1", (2, 3))])]),
    "padded": np.zeros(3, dtype=np.dtype([("a", "u1"), ("b", "<f8")], align=True)),
    "titled": np.zeros(2, dtype=[(("the title", "a"), "<i4")]),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(20)[::3],
    "dates": np.array(["2026-11-23T01:02:03"], dtype="<M8[ns]"),
    "intervals": np.array([5], dtype=">m8[25us]"),
    "text": np.array(["ä", "long"]),
    "bytes": np.array([b"ab", b"c"]),
    "complex": np.array([1 + 2j]),
    "bool": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_of_a_stock_publisher_are_read(array, protocol):
    """Arrays come back with dtype, shape and values, also where the same one is named twice."""
    doc = {**EVENT, "data": {"a": array, "again": [array]}}
    _, came = decode_stock(stock_message("event", doc, protocol))
    for value in (came["data"]["a"], came["data"]["again"][0]):
        assert value.dtype == array.dtype
        assert value.shape == array.shape
        assert value.tobytes() == array.tobytes()


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    hnp.arrays(
        dtype=st.one_of(hnp.scalar_dtypes(), hnp.array_dtypes(hnp.scalar_dtypes())),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ),
    st.sampled_from([2, 4, 5]),
)
def test_any_array_of_a_stock_publisher_is_read(array, protocol):
    """Whatever the dtype and shape, values come back to the bit."""
    came = plain_pickle.loads(pickle.dumps([array], protocol))[0]
    assert (came.dtype, came.shape, came.tobytes()) == (array.dtype, array.shape, array.tobytes())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.dates()
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text("abc"), inner),
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(PLAIN, st.sampled_from([2, 3, 4, 5]))
def test_any_plain_data_is_read(value, protocol):
    """Whatever plain data a document holds comes back equal, with equal types."""
    came = plain_pickle.loads(pickle.dumps(value, protocol))
    assert came == value
    assert repr(came) == repr(value)


ALIKE = {
    "set": ({4}, [4]),
    "frozen set": (frozenset([4]), [4]),
    "tuple": ((1, 2, 3, 4), (1, 2, 3, 4)),
    "ordered": (collections.OrderedDict(a=1), {"a": 1}),
    "complex": (1 + 2j, 1 + 2j),
    "numpy float": (np.float64(1.5), np.float64(1.5)),
    "numpy integer": (np.uint8(7), np.uint8(7)),
    "numpy bool": (np.bool_(True), np.bool_(True)),
    "date": (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, tzinfo=dt.UTC)),
    "interval": (dt.timedelta(1, 2, 3), dt.timedelta(1, 2, 3)),
    "path": (Path("/data/a.h5"), "/data/a.h5"),
    "bytearray": (bytearray(b"ab"), b"ab"),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(("value", "expected"), ALIKE.values(), ids=ALIKE)
def test_values_beside_plain_data_are_read(value, expected, protocol):
    """The few other values that documents hold come back as they are, sets as lists and paths as text."""
    came = plain_pickle.loads(pickle.dumps({"x": value}, protocol))["x"]
    assert came == expected
    assert type(came) is type(expected)


def test_shared_parts_come_back_apart():
    """A list that a document names twice comes back twice, so that changing one leaves the other."""
    shared = [1]
    came = plain_pickle.loads(pickle.dumps({"a": shared, "b": shared}))
    assert came == {"a": [1], "b": [1]}
    assert came["a"] is not came["b"]


class Evil:
    """Something that runs a command where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_in_a_pickle_is_not_run(tmp_path, protocol):
    """A pickle that runs a command in a stock RemoteDispatcher is refused by the command's name, unrun."""
    trace = tmp_path / "was-here"
    with pytest.raises(CodecError, match=r"calls (posix|nt)\.system"):
        decode_stock(stock_message("event", {**EVENT, "data": {"x": Evil(trace)}}, protocol))
    assert not trace.exists()


class Custom:
    """A class of the acquisition side."""


def forged_dtype():
    """Return a pickle in which the bytes of an array are called object pointers."""
    array = pickle.dumps({"x": np.array([1, 2], "<u8")}, 4)
    return array.replace(b"\x8c\x02u8", b"\x8c\x02O8")


def forged_flags():
    """Return a pickle of an object dtype whose flags say that it holds no objects."""
    dtype = (np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))

    class Forged:
        def __reduce__(self):
            return dtype

    raw = struct.pack("<Q", 0xDEADBEEF)

    class Array:
        def __reduce__(self):
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), Forged(), False, raw)

    return pickle.dumps({"x": Array()}, 4)


def billion_laughs():
    """Return a small pickle of a document with more than 10**12 parts."""
    value = ["ha"]
    for _ in range(12):
        value = [value] * 10
    return pickle.dumps({"x": value})


def repeated_text():
    """Return a pickle of a document that names a long text many times."""
    text = "x" * 100_000
    return pickle.dumps({"x": [text] * 10_000})


def repeated_array():
    """Return a pickle of a document that names a large array many times."""
    array = np.zeros(100_000)
    return pickle.dumps({"x": [array] * 10_000})


def itself():
    """Return a pickle of a list that holds itself."""
    loop = []
    loop.append(loop)
    return pickle.dumps({"x": loop})


HOSTILE = {
    "class": pickle.dumps({"x": Custom()}),
    "class itself": pickle.dumps({"x": Custom}),
    "function": pickle.dumps({"x": os.system}),
    "dtype": pickle.dumps({"x": np.dtype("u1")}),
    "objects": pickle.dumps({"x": np.array([{}, None])}),
    "objects in fields": pickle.dumps({"x": np.zeros(1, [("a", "O")])}),
    "masked array": pickle.dumps({"x": np.ma.array([1])}),
    "forged dtype": forged_dtype(),
    "forged flags": forged_flags(),
    "billion laughs": billion_laughs(),
    "repeated text": repeated_text(),
    "repeated array": repeated_array(),
    "itself": itself(),
    "integer keys": pickle.dumps({"x": {1: 2}}),
    "tuple keys": pickle.dumps({"x": {(1, 2): 2}}),
    "deep lists": b"\x80\x04}\x8c\x01x" + b"]" * 100_000 + b"a" * 99_999 + b"s.",
    "deep tuple as key": b"\x80\x04})" + b"\x85" * 300_000 + b"Ns.",
    "deep tuple in a set": b"\x80\x04\x8f()" + b"\x85" * 300_000 + b"\x90.",
    "deep tuple as name": b"\x80\x04)" + b"\x85" * 300_000 + b"\x8c\x01x\x93)R.",
    "memo of 16 gigabytes": b"\x80\x04}r\xff\xff\xff\x7f\x8c\x01xj\xff\xff\xff\x6fs.",
    "bytes of 16 exabytes": b"\x80\x04}\x8c\x01x\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "bytearray of 16 exabytes": b"\x80\x05}\x8c\x01x\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "text of 4 gigabytes": b"\x80\x04}\x8c\x01xX\xff\xff\xff\xffab.",
    "long integer of 4 gigabytes": b"\x80\x04}\x8c\x01x\x8b\xff\xff\xff\x7f.",
    "empty memory": b"\x80\x04cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "persistent id": b"\x80\x04\x8c\x01aQ.",
    "extension registry": b"\x80\x04\x82\x01.",
    "protocol 0": pickle.dumps(EVENT, 0),
    "nothing on the stack": b"\x80\x04.",
    "two on the stack": b"\x80\x04}}.",
    "no stop": b"\x80\x04}",
    "only a mark": b"\x80\x04(.",
    "mark without end": b"\x80\x04u.",
    "unknown memo": b"\x80\x04h\x07.",
    "unknown opcode": b"\x80\x04\xfe.",
    "calls a list": b"\x80\x04])R.",
    "state for a list": b"\x80\x04]}b.",
    "array of 8 exabytes": pickle.dumps({"x": np.zeros((3, 4))}).replace(b"K\x03K\x04", b"J\xff\xff\xff\x7f"),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickle_is_refused_cheaply(body):
    """A pickle that is anything else than plain data is refused, and takes memory only as its own size."""
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            decode_stock(b" event " + body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6 + 200 * len(body)


def test_every_cut_of_a_pickle_is_refused():
    """A pickle that ends early is refused, wherever it was cut."""
    whole = stock_message("event", {**EVENT, "data": {"a": np.arange(5), "s": {1, 2}, "f": np.float64(2)}})
    decode_stock(whole)
    for length in range(len(whole)):
        with pytest.raises(CodecError):
            decode_stock(whole[:length])


def test_values_without_end_are_refused(monkeypatch):
    """A pickle that makes a container of every byte is given up after a number of them."""
    monkeypatch.setattr(plain_pickle, "_MOST_OPCODES", 1000)
    with pytest.raises(CodecError, match="more than 1000"):
        plain_pickle.loads(b"\x80\x04" + b"}" * 2000 + b"e.")
    assert plain_pickle.loads(pickle.dumps(EVENT)) == EVENT


MALFORMED = {
    "empty": (b"", "not prefix, name and document"),
    "one word": (b"garbage", "not prefix, name and document"),
    "unknown name": (b" foo " + pickle.dumps({}), "'foo' is not the name"),
    "name that is no text": (b" \xff\xfe " + pickle.dumps({}), "not the name"),
    "an integer": (b" event " + pickle.dumps(5), "int, not a mapping"),
    "a list": (b" event " + pickle.dumps([EVENT]), "list, not a mapping"),
    "no body": (b" event ", "not a document"),
    "greeting of ZMTP": (b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f a b", "not the name"),
}


@pytest.mark.parametrize(("message", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_message_is_refused(message, reason):
    """What is no stock message is refused with a reason."""
    with pytest.raises(CodecError, match=reason):
        decode_stock(message)


def test_message_beyond_the_limit_is_refused_unread():
    """The limit on a message's size is in bytes."""
    message = stock_message("event", EVENT)
    assert decode_stock(message, limit=len(message))[0] == "event"
    with pytest.raises(CodecError, match="the limit is 100"):
        decode_stock(message, limit=100)


@pytest.mark.parametrize(
    "serialise", [lambda d: json.dumps(d).encode(), msgspec.msgpack.encode], ids=["JSON", "MessagePack"]
)
def test_other_serialisers_are_read(serialise):
    """A Publisher that was given a serialiser of JSON or MessagePack is understood too."""
    doc = {**EVENT, "data": {"x": 1.25}}
    assert decode_stock(b"prefix event " + serialise(doc)) == ("event", doc)


@pytest.mark.parametrize(
    "body", [b"{" * 100_000, b'{"a": ', b"{}x", b"\xdf\xff\xff\xff\xff", b"\x81\xa1a\xc7\x01\x05a"]
)
def test_damaged_other_serialisations_are_refused(body):
    """JSON and MessagePack that are cut, too deep or too large are refused."""
    with pytest.raises(CodecError):
        decode_stock(b" event " + body)


def test_stock_dispatcher_reads_what_we_send():
    """Our message has the parts that a stock RemoteDispatcher takes apart, with arrays it may write to."""
    image = np.arange(4)
    image.flags.writeable = False
    doc = {**EVENT, "data": {"image": image}}
    prefix, name, body = encode_stock("event", doc, prefix=b"beamline").split(b" ", 2)
    assert (prefix, name) == (b"beamline", b"event")
    came = pickle.loads(body)
    assert came["data"]["image"].tolist() == [0, 1, 2, 3]
    assert came["data"]["image"].flags.writeable
    assert came["uid"] == "e-1"


def test_names_that_end_stock_dispatchers_are_not_sent():
    """An unknown name, which ends every stock RemoteDispatcher, and a prefix with a space are refused."""
    with pytest.raises(CodecError, match="'foo' is not the name"):
        encode_stock("foo", {})
    with pytest.raises(CodecError, match="space"):
        encode_stock("event", EVENT, prefix=b"a b")


def test_pickles_use_only_opcodes_that_are_known():
    """The forged pickles above are pickles: each is wrong for its content, not for a slip in the test."""
    for body in (forged_dtype(), forged_flags(), billion_laughs(), itself()):
        assert list(pickletools.genops(body))
