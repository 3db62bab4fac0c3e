"""Mutated messages: no crash, no error but ours, and good documents unharmed.

The suite tries hundreds of each kind; ``tomolive bench fuzz`` tries as many as it is told.
"""

import contextlib
import os
import pickle
import random

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomolive.bench import fuzz
from tomolive.errors import DocumentError, TomoliveError
from tomolive.stream import codec, messages, plain_pickle, records, stock, validate

SEED = int(os.environ.get("TOMOLIVE_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
MUTATIONS = int(os.environ.get("TOMOLIVE_TEST_MUTATIONS", "3000"))

EVENT = {
    "uid": "e-1", "descriptor": "d-1", "seq_num": 1, "time": 1.5,
    "data": {
        "image": np.arange(12, dtype=">u2").reshape(3, 4), "table": np.zeros(2, [("a", "<i2"), ("b", "<f8")]),
        "when": np.array(["2026"], "M8[ms]"), "list": [1, 2.5, "text", None, True, b"bytes"], "big": 2**60,
    },
    "timestamps": {"x": 1.5}, "filled": {"x": False},
}  # fmt: skip


@pytest.fixture
def dice():
    """Random numbers whose seed is printed when the test fails."""
    print(f"TOMOLIVE_TEST_SEED={SEED}")  # noqa: T201
    return random.Random(SEED)


def use(name, doc):
    """Do with a decoded document what a hub and a consumer do; it is valid, or refused as a document."""
    try:
        validate.check(name, doc)
        again = codec.decode([bytes(frame) for frame in codec.encode(name, doc)])
    except DocumentError:
        return
    assert again[0] == name


def test_mutated_frames_are_decoded_or_refused(dice):
    """Whatever becomes of a document's frames, they are a document that can be used, or a CodecError."""
    frames = [bytes(frame) for frame in codec.encode("event", EVENT)]
    for _ in range(MUTATIONS):
        try:
            name, doc = codec.decode(fuzz.mutated(dice, frames))
        except DocumentError:
            continue
        use(name, doc)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_mutated_stock_messages_are_decoded_or_refused(dice, protocol):
    """Whatever becomes of a stock message, it is a document that can be used, or a CodecError."""
    doc = {**EVENT, "data": {**EVENT["data"], "tuple": (1, (2,)), "set": {1}, "scalar": np.float32(1)}}
    message = b" event " + pickle.dumps(doc, protocol)
    for _ in range(MUTATIONS // 3):
        try:
            name, came = stock.decode_stock(fuzz.mutated(dice, [message])[0])
        except DocumentError:
            continue
        use(name, came)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.sampled_from(sorted(plain_pickle._OPCODES)) | st.integers(0, 255), max_size=40))
def test_any_opcodes_are_read_or_refused(opcodes):
    """Any sequence of opcodes is read as plain data or refused, whatever it does to the stack."""
    with contextlib.suppress(DocumentError):
        plain_pickle.loads(b"\x80\x04" + bytes(opcodes) + b".")


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_are_refused_in_place_of_anything(parts):
    """Random bytes in place of a document, a message or records are refused with one of our errors."""
    for understand in (codec.decode, messages.from_peer):
        with contextlib.suppress(TomoliveError):
            understand(parts)
    for part in parts:
        for read in (stock.decode_stock, lambda part: list(records.walk(part)), messages.from_hub):
            with contextlib.suppress(TomoliveError):
                read(part)


def test_mutated_messages_on_every_port_harm_nobody(tmp_path, dice):
    """Broken and hostile messages on all ports of a hub: it lives, runs nothing, good documents pass."""
    outcome = fuzz.run(tmp_path, count=MUTATIONS // 5, seed=dice.randrange(1 << 32))
    assert outcome.mutated_messages >= 3 * (MUTATIONS // 5)
    assert outcome.raw_connections > 0
    assert outcome.good_documents > 20
    assert outcome.sound, outcome


def test_command_tells_what_came_of_it(tmp_path):
    """``tomolive bench fuzz`` prints the seed and the counts, and writes them."""
    figures = tmp_path / "fuzz.json"
    result = CliRunner().invoke(
        fuzz.fuzz, ["--messages", "20", "--seed", "5", "--json", str(figures)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert "seed 5" in result.output
    assert '"hubs_ended": 0' in figures.read_text()
