"""The messages between page and server, without a socket."""

import json
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tomolive.config import CorrectionSettings, PaganinSettings
from tomolive.errors import RequestError
from tomolive.live.controls import Wish
from tomolive.live.snapshot import Picture, Snapshot, Status
from tomolive.view import protocol, requests


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
    snapshot = Snapshot(4, status, {"xy@7": Picture("xy", np.zeros((2, 3), np.float32), 7, 1)})
    wishes = [Wish("Ada", center=1.0), Wish("Ben", center=2.0), Wish("Cy", filter="hann")]
    text = protocol.encode_state(
        snapshot, protocol.encode_status(status), now=103.5, keys=["xy@7", "xz"], pending=wishes
    )
    message = json.loads(text, parse_constant=pytest.fail)
    assert set(Status.__dataclass_fields__) == set(message["status"])
    assert (message["status"]["center"], message["status"]["missing"]) == (None, [[3, 5]])
    assert (message["age_s"], list(message["pictures"])) == (3.5, ["xy@7"])
    assert message["pictures"]["xy@7"]["of"]["corrections"]["rings"] == "none"
    assert [(p["about"], p["who"]) for p in message["pending"]] == [("centre", "Ben"), ("filter", "Cy")]
    assert set(message["status"]) < set(json.loads(protocol.describe_state(snapshot, wishes, now=0)))


def test_every_picture_that_follows_is_described() -> None:
    """Also one that the viewer has ceased to look at while it was encoded: his page counts on it."""
    snapshot = Snapshot(1, Status(), {key: Picture("xy", np.zeros((2, 3), np.float32), 7, 1) for key in "ab"})
    text = protocol.encode_state(
        snapshot, protocol.encode_status(snapshot.status), now=0, keys=["a"], sending=iter(["b"])
    )
    message = json.loads(text)
    assert (list(message["pictures"]), message["sending"]) == (["a", "b"], ["b"])


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", "{", '{"type":"launch"}', '{"type":"ack"}', '{"type":"ack","version":-1}',
        '{"type":"center","center":NaN}', '{"type":"center","center":1e999}',
        '{"type":"ack","version":1,"x":2}',
        '{"type":"position","plane":"projection","position":1}',
        '{"type":"position","plane":"xy","position":1.5}', '{"type":"view","pictures":{"xy":1000000000}}',
        '{"type":"corrections","binning":3}', '{"type":"corrections","paganin":{"energy_kev":-1}}',
        '{"type":"candidates","count":1000}', '{"type":"volume"}', '{"type":"volume","action":"rm"}',
        '{"type":"hello","name":"<b>"}', b"\xff\xfe", "[" * 4000,
        '{"type":"ack","version":' + "1" * 5000 + "}",
    ],
)  # fmt: skip
def test_malformed_messages_are_refused_in_words(text: str) -> None:
    """Whatever is not a message of ours raises one error of one line."""
    with pytest.raises(RequestError) as refused:
        requests.parse_message(text)
    assert "\n" not in str(refused.value)


@given(st.binary(max_size=300))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    """Any bytes are either a message or a RequestError."""
    with suppress(RequestError):
        requests.parse_message(data)


ENDLESS = (
    '{"type":"corrections","paganin":{"energy_kev":Infinity,"distance_m":1,"pixel_size_um":1,"delta_beta":1}}'
)


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
        ('{"type":"corrections"}', "nothing to change"),
        (ENDLESS, "finite"),
        ('{"type":"candidates"}', "no rotation centre is known"),
        ('{"type":"candidates","center":20}', "outside the detector"),
    ],
)
def test_impossible_wishes_are_refused_in_words(text: str, words: str) -> None:
    """A wish outside the volume, the detector or the known filters says what would be possible."""
    with pytest.raises(RequestError, match=words):
        requests.to_wish(requests.parse_message(text), "me", snapshot(), ("ramp", "hann"))


def test_wishes_reach_the_reconstruction_as_they_were_made() -> None:
    """Every kind of request arrives with its values and who asked for it."""

    def wish(**message: object) -> Wish:
        return requests.to_wish(
            requests.parse_message(json.dumps(message)), "me", snapshot(), ("ramp", "hann")
        )

    assert wish(type="center", center=7.25) == Wish("me", center=7.25)
    assert wish(type="center", estimate=True) == Wish("me", estimate_center=True)
    assert wish(type="filter", filter="hann", run_uid="u") == Wish("me", "u", filter="hann")
    assert wish(type="position", plane="yz", position=19) == Wish("me", plane="yz", position=19)
    assert wish(type="candidates", center=9, count=5) == Wish("me", candidates=(9, 0.5, 5))
    assert wish(type="volume", action="cancel") == Wish("me", volume="cancel")


def test_corrections_that_are_left_out_stay_as_they_are() -> None:
    """A change of one correction keeps the others, those among them that are still being done."""
    paganin = PaganinSettings(energy_kev=25, distance_m=0.1, pixel_size_um=1, delta_beta=200)
    before = Snapshot(1, Status(corrections=CorrectionSettings(zingers=True, paganin=paganin)))

    def change(text: str, pending: tuple[Wish, ...] = ()) -> CorrectionSettings | None:
        request = requests.parse_message('{"type":"corrections",' + text + "}")
        return requests.to_wish(request, "me", before, (), pending).corrections

    assert change('"rings":"sorting"') == CorrectionSettings(zingers=True, rings="sorting", paganin=paganin)
    assert change('"paganin":null,"zingers":null') == CorrectionSettings(zingers=True)
    half = CorrectionSettings(zingers=True, paganin=paganin, half_acquisition=True, least_beam=0)
    assert change('"half_acquisition":true,"least_beam":0') == half
    asked = Wish("you", corrections=CorrectionSettings(binning=4))
    other = Wish("you", "another run", corrections=CorrectionSettings())
    assert change('"zingers":true', (asked, other)) == CorrectionSettings(zingers=True, binning=4)
