"""Documents become frames and come back the same; whatever is no document is refused with a reason."""

import copy
import datetime as dt
import doctest
import enum
import math
import pickle
import uuid
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tomolive.errors import CodecError
from tomolive.stream import codec


def event(**data):
    """Return an event document that holds ``data``."""
    return {
        "uid": "e-1", "descriptor": "d-1", "seq_num": 1, "time": 1.5,
        "data": data, "timestamps": dict.fromkeys(data, 1.5), "filled": {},
    }  # fmt: skip


def round_trip(doc, name="event"):
    """Return ``doc`` as it comes back from frames that crossed a wire, where they become plain bytes."""
    frames = [bytes(frame) for frame in codec.encode(name, doc)]
    came_name, came = codec.decode(frames)
    assert came_name == name
    return came


ARRAYS = {
    "image": np.arange(12, dtype=np.uint16).reshape(3, 4),
    "big-endian": np.array([1, 2, 65000], dtype=">u2"),
    "big-endian float": np.array([[1.5, np.nan, -0.0]], dtype=">f8"),
    "0-d": np.array(3.25),
    "empty": np.empty((0, 5), dtype=np.int32),
    "structured": np.array([(1, 2.5, "ab"), (3, 4.5, "c")], dtype=[("n", "<i2"), ("x", ">f4"), ("t", "<U2")]),
    "nested": np.zeros(2, dtype=[("a", [("b", "<f8"), ("c", "u1", (2, 3))])]),
    "padded": np.zeros(3, dtype=np.dtype([("a", "u1"), ("b", "<f8")], align=True)),
    "titled": np.zeros(2, dtype=[(("the title", "a"), "<i4")]),
    "strided": np.arange(20)[::3],
    "reversed": np.arange(6).reshape(2, 3)[::-1, ::-1],
    "transposed": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "broadcast": np.broadcast_to(np.uint8(7), (2, 2)),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j], dtype=np.complex64),
    "dates": np.array(["2026-11-23T01:02:03"], dtype="<M8[ns]"),
    "intervals": np.array([5], dtype=">m8[25us]"),
    "text": np.array(["ä", "long text"]),
    "bytes": np.array([b"ab\0", b"c"]),
    "void": np.array([b"\x00\xff\x00"], dtype="V3"),
    "long double": np.array([1 / 3], dtype=np.longdouble),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_array_comes_back_to_the_bit(array):
    """An array keeps its dtype with byte order and fields, its shape and every bit of its values."""
    came = round_trip(event(image=array))["data"]["image"]
    assert came.dtype == array.dtype
    assert came.dtype.descr == array.dtype.descr
    assert came.shape == array.shape
    assert came.tobytes() == array.tobytes()
    assert came.flags.aligned
    assert not came.flags.writeable


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    hnp.arrays(
        dtype=st.one_of(
            hnp.scalar_dtypes(),
            hnp.byte_string_dtypes(min_len=1),
            hnp.unicode_string_dtypes(min_len=1),
            hnp.array_dtypes(hnp.scalar_dtypes()),
        ),
        shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_any_array_comes_back_to_the_bit(array):
    """Whatever the dtype and shape, values come back to the bit."""
    came = round_trip(event(image=array))["data"]["image"]
    assert (came.dtype, came.shape, came.tobytes()) == (array.dtype, array.shape, array.tobytes())


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.binary()
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)  # fmt: skip


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(plain_values)
def test_plain_data_comes_back_equal(value):
    """Whatever a document holds that is plain data comes back equal, with equal types and order of keys."""
    came = round_trip(event(x=value))["data"]["x"]
    assert came == value
    assert repr(came) == repr(value)


def test_contiguous_array_is_not_copied():
    """The frame of a contiguous array shares its memory, so that a megabyte costs microseconds."""
    image = np.zeros((500, 1000), dtype=np.uint16)
    _, frame = codec.encode("event", event(image=image))
    assert np.shares_memory(np.frombuffer(frame, np.uint16), image)


def test_decoded_array_is_a_view_of_the_frame():
    """Decoding an array does not copy it either."""
    frames = [bytes(frame) for frame in codec.encode("event", event(image=np.arange(5)))]
    _, doc = codec.decode(frames)
    assert np.shares_memory(doc["data"]["image"], np.frombuffer(frames[1], np.uint8))


def test_array_in_the_middle_of_a_buffer_is_aligned():
    """A frame that begins at an odd place of a larger buffer gives an aligned array all the same."""
    head, frame = codec.encode("event", event(image=np.arange(5.0)))
    odd = memoryview(b"x" + bytes(frame))[1:]
    _, doc = codec.decode([head, odd])
    assert doc["data"]["image"].flags.aligned
    assert not doc["data"]["image"].flags.writeable
    assert doc["data"]["image"].tolist() == [0, 1, 2, 3, 4]


def test_several_arrays_keep_their_places():
    """Each of several arrays of a document comes back under its own key, in lists too."""
    doc = event(a=np.zeros(2), b=[np.ones(3), {"c": np.arange(4)}], d=np.array(5))
    came = round_trip(doc)["data"]
    assert came["a"].tolist() == [0, 0]
    assert came["b"][0].tolist() == [1, 1, 1]
    assert came["b"][1]["c"].tolist() == [0, 1, 2, 3]
    assert came["d"] == 5


class Colour(enum.Enum):
    """An enumeration as devices have them."""

    RED = "red"


class Name(str):
    """Text with a class of its own."""

    __slots__ = ()


LIKE_PLAIN = {
    "tuple": ((1, (2, 3)), [1, [2, 3]]),
    "set": ({4}, [4]),
    "numpy float": (np.float32(0.1), float(np.float32(0.1))),
    "numpy integer": (np.uint64(2**64 - 1), 2**64 - 1),
    "numpy bool": (np.bool_(True), True),
    "numpy text": (np.str_("ab"), "ab"),
    "numpy bytes": (np.bytes_(b"ab"), b"ab"),
    "enumeration": (Colour.RED, "red"),
    "subclass of str": (Name("x"), "x"),
    "ordered mapping": (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "mapping proxy": (MappingProxyType({"a": (1,)}), {"a": [1]}),
    "bytearray": (bytearray(b"ab"), b"ab"),
    "date": (dt.datetime(2026, 11, 23, 1, 2, 3), "2026-11-23T01:02:03"),  # noqa: DTZ001
    "date with zone": (dt.datetime(2026, 11, 23, tzinfo=dt.UTC), "2026-11-23T00:00:00+00:00"),
    "path": (Path("/data/scan.h5"), "/data/scan.h5"),
    "UUID": (uuid.UUID(int=5), str(uuid.UUID(int=5))),
    "complex": (1 + 2j, np.complex128(1 + 2j)),
    "numpy complex": (np.complex64(1j), np.complex64(1j)),
    "numpy date": (np.datetime64("2026-11-23"), np.datetime64("2026-11-23")),
    "long double": (np.longdouble(1) / 3, np.longdouble(1) / 3),
}


@pytest.mark.parametrize(("value", "expected"), LIKE_PLAIN.values(), ids=LIKE_PLAIN)
def test_what_is_like_plain_data_becomes_it(value, expected):
    """Values that are plain data by another class travel as what they stand for."""
    came = round_trip(event(x=value, y=[value]))["data"]
    assert came["x"] == expected
    assert came["y"] == [expected]
    assert type(came["x"]) is type(expected)


def test_not_a_number_travels():
    """NaN and the infinities are ordinary floats."""
    came = round_trip(event(x=math.nan, y=-math.inf))["data"]
    assert math.isnan(came["x"])
    assert came["y"] == -math.inf


def test_encoding_leaves_the_document_as_it_was():
    """The caller's document, which other callbacks share, is not changed by encoding it."""
    doc = event(x=(1, 2), t=dt.datetime(2026, 1, 1), a=np.float64(3))  # noqa: DTZ001
    before = copy.deepcopy(doc)
    codec.encode("event", doc)
    assert doc == before


def itself():
    """Return a list that contains itself."""
    loop = []
    loop.append(loop)
    return loop


def deep():
    """Return mappings in mappings, deeper than any guard of the C stack would survive."""
    doc = {}
    for _ in range(100_000):
        doc = {"a": doc}
    return doc


REFUSED = {
    "objects": (np.array([None, {}]), r"event\.data\.x.*object"),
    "objects in fields": (np.zeros(1, dtype=[("a", "O")]), r"event\.data\.x.*object"),
    "masked": (np.ma.masked_array([1, 2], mask=[True, False]), r"event\.data\.x.*masked"),
    "new strings": (np.array(["a"], dtype=np.dtypes.StringDType()), r"event\.data\.x.*StringDType"),
    "zero bytes each": (np.zeros(3, dtype="V0"), r"event\.data\.x.*zero"),
    "overlapping fields": (
        np.zeros(1, np.dtype({"names": ["a", "b"], "formats": ["<u4", "<u2"], "offsets": [0, 2]})),
        r"event\.data\.x.*overlap",
    ),
    "huge integer": ([1, {"deep": 2**64}], r"event\.data\.x\[1\]\.deep.*64 bits"),
    "very negative integer": (-(2**63) - 1, r"event\.data\.x.*64 bits"),
    "integer key": ({"a": {3: 1}}, r"event\.data\.x\.a.*3"),
    "bytes key": ({b"nd": 1}, r"event\.data\.x.*b'nd'"),
    "key in a list": ([{None: 1}], r"event\.data\.x\[0\].*None"),
    "object": (object(), r"event\.data\.x.*builtins\.object"),
    "function": (print, r"event\.data\.x.*builtin_function"),
    "itself": (itself(), r"event\.data\.x.*contains itself"),
    "deep": (deep(), r"event\.data\.x.*nested too deeply"),
    "half a character": ("\ud800", r"event\.data\.x.*UTF-8"),
    "half a character in a key": ({"\ud800": 1}, r"event\.data\.x.*UTF-8"),
}


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_travel_is_refused_with_its_path(value, reason):
    """A value that cannot travel is refused where it is made, by its path in the document."""
    with pytest.raises(CodecError, match=reason):
        codec.encode("event", event(x=value))


@pytest.mark.parametrize("name", ["events", "", "START", "__class__"])
def test_unknown_name_is_refused(name):
    """Only the documents of event-model have names."""
    with pytest.raises(CodecError, match="not the name of a document"):
        codec.encode(name, {})
    with pytest.raises(CodecError, match="not the name of a document"):
        codec.decode([msgspec.msgpack.encode((codec.VERSION, name, {}))])


def message(*values):
    """Return the first frame of a message that holds ``values``."""
    return msgspec.msgpack.encode(values)


def array_of(descr, shape, code=1):
    """Return a first frame with one array of this dtype and shape, as a hostile peer may claim it."""
    payload = msgspec.msgpack.encode((descr, shape))
    return message(1, "event", {"x": msgspec.msgpack.Ext(code, payload)})


MALFORMED = {
    "no frames": [],
    "empty frame": [b""],
    "no MessagePack": [b"\xc1"],
    "pickle": [pickle.dumps({"uid": "x"})],
    "more after the end": [message(1, "stop", {}) + b"\x01"],
    "not a list": [message({"a": 1})[1:]],
    "too short a list": [message(1, "event")],
    "newer format": [message(2, "event", {})],
    "text as format": [message("1", "event", {})],
    "a list as name": [message(1, ["event"], {})],
    "a list as document": [message(1, "event", [])],
    "integer keys": [message(1, "event", {1: 2})],
    "nested integer keys": [message(1, "event", {"data": [{"a": {1: 2}}]})],
    "a date": [message(1, "event", {"time": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)})],
    "deeper than any document": [b"\x93\x01\xa5event" + b"\x91" * 100_000],
    "a list of four billion": [b"\x93\x01\xa5event\xdd\xff\xff\xff\xff"],
    "bytes of four gigabytes": [b"\x93\x01\xa5event\xc6\xff\xff\xff\xff"],
    "bad UTF-8": [b"\x93\x01\xa5event\x81\xa1\xff\x01"],
    "a frame too many": [message(1, "event", {}), b"abc"],
    "a frame too few": [array_of("<u2", [1])],
    "a short frame": [array_of("<u2", [2]), b"abc"],
    "a long frame": [array_of("<u2", [1]), b"abcd"],
    "negative shape": [array_of("<u2", [-1, -1]), b"ab"],
    "shape beyond memory": [array_of("<u2", [2**62, 2**62]), b"ab"],
    "too many dimensions": [array_of("u1", [1] * 100), b"a"],
    "objects": [array_of("|O", [1]), bytes(8)],
    "objects in fields": [array_of([["a", "|O"]], [1]), bytes(8)],
    "objects by another name": [array_of("object", [1]), bytes(8)],
    "many types in one text": [array_of("i4,O", [1]), bytes(12)],
    "zero bytes each": [array_of("V0", [2**40]), b""],
    "no dtype": [array_of({"a": 1}, [1]), b"a"],
    "unknown dtype": [array_of("<q9", [1]), bytes(9)],
    "no shape": [message(1, "event", {"x": msgspec.msgpack.Ext(1, b"\x90")}), b"a"],
    "twice the same field": [array_of([["a", "u1"], ["a", "u1"]], [1]), b"ab"],
    "deep dtype": [array_of(msgspec.Raw(b"\x91\x92\xa1a" * 1000 + b"\xa2u1"), [1]), b"a"],
    "extension of unknown kind": [array_of("<u2", [1], code=9), b"ab"],
    "array as scalar": [array_of("<u2", [1], code=2), b"ab"],
}


@pytest.mark.parametrize("frames", MALFORMED.values(), ids=MALFORMED)
def test_malformed_message_is_refused(frames):
    """Whatever comes in place of a document is refused as such, without any other error."""
    with pytest.raises(CodecError):
        codec.decode(frames)


def test_example_of_the_reference_page_is_right():
    """The bytes that the reference shows are those that the encoder makes."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "document-encoding.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted >= 3
    assert result.failed == 0
