"""The fast check of documents agrees with event-model's own, and says what is wrong and where."""

import copy

import event_model
import jsonschema
import numpy as np
import pytest
from event_model import DocumentNames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomolive.errors import DocumentError
from tomolive.stream import validate

GOOD = {
    "start": {
        "uid": "r", "time": 1.0, "scan_id": 1,
        "plan_args": {"num": 3}, "hints": {"dimensions": [[["x"], "primary"]]},
    },
    "descriptor": {
        "uid": "d", "run_start": "r", "time": 1.0, "name": "primary",
        "data_keys": {"x": {"source": "SIM:x", "dtype": "array", "shape": [3, 4], "external": "STREAM:"}},
        "configuration": {"det": {"data": {}, "timestamps": {}, "data_keys": {}}},
        "hints": {"det": {"fields": ["x"]}},
    },
    "event": {
        "uid": "e", "descriptor": "d", "seq_num": 1, "time": 1.0,
        "data": {"x": 1.5}, "timestamps": {"x": 1.0}, "filled": {"x": False},
    },
    "event_page": {
        "uid": ["e"], "descriptor": "d", "seq_num": [1], "time": [1.0],
        "data": {"x": [1.5]}, "timestamps": {"x": [1.0]}, "filled": {},
    },
    "resource": {
        "uid": "q", "run_start": "r", "spec": "AD_HDF5", "root": "/", "resource_path": "a.h5",
        "resource_kwargs": {}, "path_semantics": "posix",
    },
    "datum": {"datum_id": "q/0", "resource": "q", "datum_kwargs": {"point_number": 0}},
    "datum_page": {"datum_id": ["q/0"], "resource": "q", "datum_kwargs": {"point_number": [0]}},
    "stream_resource": {
        "uid": "s", "run_start": "r", "data_key": "x", "mimetype": "application/x-hdf5",
        "uri": "file://localhost/a.h5", "parameters": {"dataset": "/data"},
    },
    "stream_datum": {
        "uid": "s/0", "stream_resource": "s", "descriptor": "d",
        "indices": {"start": 0, "stop": 5}, "seq_nums": {"start": 1, "stop": 6},
    },
    "stop": {
        "uid": "z", "run_start": "r", "time": 2.0, "exit_status": "success", "num_events": {"primary": 1},
    },
}  # fmt: skip

ODD_VALUES = [
    None, True, 0, -1, 1.0, 1.5, 2**70, float("nan"), "", "text", b"bytes", [], [1], ["x"], (1, 2), {},
    {"a": 1}, {"a.b": 1}, {"x": np.ones(2)}, 1j,
    np.zeros(3), np.zeros((2, 2), "u2"), np.array(["a"]), np.float64(1.5), np.int64(3), np.bool_(True),
]  # fmt: skip


def verdicts(name, doc):
    """Return the verdicts of event-model and of ``check`` about the same document."""
    try:
        event_model.schema_validators[DocumentNames[name]].validate(copy.deepcopy(doc))
        theirs = True
    except (jsonschema.ValidationError, TypeError):
        theirs = False
    try:
        validate.check(name, doc)
        ours = True
    except DocumentError:
        ours = False
    return theirs, ours


@pytest.mark.parametrize("name", GOOD)
def test_good_document_passes(name):
    """Documents as bluesky and ophyd-async emit them are valid."""
    validate.check(name, GOOD[name])


@pytest.mark.parametrize("name", GOOD)
def test_each_key_that_is_missing_is_judged_as_event_model_does(name):
    """Without any one of its keys, a document is valid or not as event-model says."""
    for key in GOOD[name]:
        doc = {k: v for k, v in GOOD[name].items() if k != key}
        theirs, ours = verdicts(name, doc)
        assert ours == theirs, key


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("odd", ODD_VALUES, ids=repr)
def test_odd_values_are_judged_as_event_model_does(name, odd):
    """With an odd value at any key, or at an extra one, a document is valid or not as event-model says."""
    for key in [*GOOD[name], "extra"]:
        theirs, ours = verdicts(name, {**GOOD[name], key: odd})
        assert ours == theirs, key


values = st.recursive(
    st.sampled_from(ODD_VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def mutated(draw):
    """A document with some values, at any depth, replaced, added or taken away."""
    name = draw(st.sampled_from(sorted(GOOD)))
    doc = copy.deepcopy(GOOD[name])
    for _ in range(draw(st.integers(1, 3))):
        at = doc
        while True:
            key = draw(st.sampled_from([*at, "new"]))
            if not isinstance(at.get(key), dict) or draw(st.booleans()):
                break
            at = at[key]
        if draw(st.booleans()):
            at[key] = copy.deepcopy(draw(values))  # some of them are the same object each time
        else:
            at.pop(key, None)
    return name, doc


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(mutated())
def test_mutated_documents_are_judged_as_event_model_does(named_doc):
    """Whatever is changed in a document, the fast check and event-model agree about it."""
    theirs, ours = verdicts(*named_doc)
    assert ours == theirs


def test_arrays_pass_where_event_model_lets_them():
    """An event, an event page, a start document and a configuration may hold arrays."""
    image = np.zeros((500, 1000), np.uint16)
    validate.check("event", {**GOOD["event"], "data": {"x": image}})
    validate.check("event_page", {**GOOD["event_page"], "data": {"x": image}, "time": np.array([1.0])})
    validate.check("start", {**GOOD["start"], "mask": image})
    configuration = {"det": {"data": {"flat": image}, "timestamps": {}, "data_keys": {}}}
    validate.check("descriptor", {**GOOD["descriptor"], "configuration": configuration})


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("event", {"seq_num": "one"}, r"event.*\$\.seq_num.*\"one\" is not of type \"integer\""),
        ("event", {"extra": 1}, r"event.*'extra' was unexpected"),
        ("descriptor", {"data_keys": {"x": {"source": "s", "dtype": "picture", "shape": []}}},
         r"descriptor.*\$\.data_keys\.x\.dtype.*\"picture\""),
        ("start", {"uid": None}, r"start.*\$\.uid.*null"),
        ("event", {"seq_num": float("nan")}, r"event.*\$\.seq_num: nan does not fit"),
        ("stop", {"exit_status": "great"}, r"stop.*\$\.exit_status.*\"great\""),
    ],
)  # fmt: skip
def test_reason_names_the_value_and_its_place(name, change, reason):
    """The error says which document, the path of the value, and the schema's reason."""
    with pytest.raises(DocumentError, match=reason):
        validate.check(name, {**GOOD[name], **change})


def test_not_a_number_in_a_page_is_checked_as_fast():
    """A page of many points with a NaN among the times is valid, and one with text among them is not."""
    page = {**GOOD["event_page"], "time": [float("nan"), *range(100_000)]}
    validate.check("event_page", page)
    page["time"].append("late")
    with pytest.raises(DocumentError, match=r"\$\.time\[100001\]"):
        validate.check("event_page", page)


def test_reason_stays_short():
    """A huge bad value does not make a huge message."""
    with pytest.raises(DocumentError) as caught:
        validate.check("event", {**GOOD["event"], "uid": ["x"] * 100_000})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("doc", [{1: 2}, {"a": {1: 2}}])
def test_keys_that_are_no_strings_are_refused(doc):
    """A key that is no string is an invalid document, not an error of another kind."""
    with pytest.raises(DocumentError):
        validate.check("start", {**GOOD["start"], **doc})


def test_something_else_than_a_mapping_is_refused():
    """A list is no document."""
    with pytest.raises(DocumentError, match='is not of type "object"'):
        validate.check("event", [1])


def test_unknown_name_is_refused():
    """Only the documents of event-model can be valid."""
    with pytest.raises(DocumentError, match="'foo' is not the name"):
        validate.check("foo", {})
