"""The messages between page and server, without a socket."""

import json
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tomolive.errors import RequestError
from tomolive.live.snapshot import Picture, Snapshot, Status
from tomolive.view import protocol


def decode(message: bytes) -> dict:
    """Read a binary message as the page does."""
    fields = struct.unpack_from("<4sBBHIIIIddd", message)
    names = "magic protocol plane binning version snapshot rows columns position scale offset"
    head = dict(zip(names.split(), fields, strict=True))
    q = np.frombuffer(message, "<u2", offset=48).reshape(head["rows"], head["columns"])
    head["values"] = np.where(q == 65535, np.nan, head["offset"] + head["scale"] * q)
    return head


@given(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(width=32)
    )
)
def test_every_pixel_survives_to_about_half_a_step(pixels: np.ndarray) -> None:
    """Finite pixels come back within about half a step of 1/65534 of the range, the others as not finite."""
    message = protocol.encode_picture(Picture("xz", pixels, 3, 7), 9)
    picture = decode(message)
    finite = np.isfinite(pixels)
    assert np.array_equal(np.isfinite(picture["values"]), finite)
    # The last term: float64 itself rounds where the range is that wide.
    slack = picture["scale"] * 0.51 + np.abs(pixels[finite].astype(float)) * 1e-15
    assert (np.abs(picture["values"][finite] - pixels[finite]) <= slack).all()


def test_header_says_what_the_picture_is() -> None:
    """Plane, versions, position and size stand in the header."""
    picture = decode(protocol.encode_picture(Picture("yz", np.zeros((4, 6), np.float32), 17, 3), 12))
    assert (picture["magic"], picture["plane"], picture["version"], picture["snapshot"]) == (
        b"TMLV",
        2,
        3,
        12,
    )
    assert (picture["position"], picture["rows"], picture["columns"]) == (17, 4, 6)
    assert (picture["values"] == 0).all()


def test_binning_averages_and_keeps_the_edge() -> None:
    """Blocks are averaged; a narrower block at the edge is averaged over what it has."""
    pixels = np.arange(15, dtype=np.float32).reshape(3, 5)
    binned = protocol.bin_mean(pixels, 2)
    assert binned.tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]


def test_state_is_strict_json_with_every_field_of_the_status() -> None:
    """Numbers that JSON does not know become null; no field of the status is left out."""
    status = Status(state="projections", run_uid="u", center=float("nan"), missing=((3, 5),), updated=100.0)
    message = protocol.state_message(Snapshot(4, status, {}), now=103.5)
    text = json.dumps(message, allow_nan=False)
    assert set(Status.__dataclass_fields__) <= set(json.loads(text))
    assert (message["center"], message["age_s"], message["missing"]) == (None, 3.5, [[3, 5]])


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", "{", '{"type":"launch"}', '{"type":"ack"}', '{"type":"ack","version":-1}',
        '{"type":"center","center":NaN}', '{"type":"center","center":1e999}',
        '{"type":"ack","version":1,"x":2}',
        '{"type":"position","plane":"projection","position":1}',
        '{"type":"position","plane":"xy","position":1.5}', '{"type":"view","pixels":{"xy":1000000000}}',
        '{"type":"hello","name":"<b>"}', b"\xff\xfe", "[" * 4000,
        '{"type":"ack","version":' + "1" * 5000 + "}",
    ],
)  # fmt: skip
def test_malformed_messages_are_refused_in_words(text: str) -> None:
    """Whatever is not a message of ours raises one error of one line."""
    with pytest.raises(RequestError) as refused:
        protocol.parse_message(text)
    assert "\n" not in str(refused.value)


@given(st.binary(max_size=300))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    """Any bytes are either a message or a RequestError."""
    with suppress(RequestError):
        protocol.parse_message(data)


def snapshot() -> Snapshot:
    """Return a snapshot of a volume of 10 rows and 20 columns."""
    xy = Picture("xy", np.zeros((20, 20), np.float32), 5, 1)
    xz = Picture("xz", np.zeros((10, 20), np.float32), 9, 1)
    return Snapshot(1, Status(), {"xy": xy, "xz": xz})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"type":"center","center":20}', "outside the detector"),
        ('{"type":"center","center":-0.5}', "outside the detector"),
        ('{"type":"center"}', "give a centre"),
        ('{"type":"filter","filter":"butter"}', "known are ramp, hann"),
        ('{"type":"position","plane":"xy","position":10}', "0 to 9"),
    ],
)
def test_impossible_wishes_are_refused_in_words(text: str, words: str) -> None:
    """A wish outside the volume, the detector or the known filters says what would be possible."""
    with pytest.raises(RequestError, match=words):
        protocol.to_wish(protocol.parse_message(text), "me", snapshot(), ("ramp", "hann"))


def test_wishes_reach_the_reconstruction_as_they_were_made() -> None:
    """Centre, estimate, filter and position arrive with who asked for them."""
    texts = [
        '{"type":"center","center":7.25}', '{"type":"center","estimate":true}',
        '{"type":"filter","filter":"hann"}', '{"type":"position","plane":"yz","position":19}',
    ]  # fmt: skip
    wishes = [
        protocol.to_wish(protocol.parse_message(text), "me", snapshot(), ("ramp", "hann")) for text in texts
    ]
    assert {wish.who for wish in wishes} == {"me"}
    assert (wishes[0].center, wishes[1].estimate_center, wishes[2].filter) == (7.25, True, "hann")
    assert (wishes[3].plane, wishes[3].position) == ("yz", 19)
