"""How a backward pass spends, as a message says it and as a worker completes it."""

import json

import pytest

from backtalk.wire.codec import decode, encode
from backtalk.wire.errors import Code, Refused
from backtalk.wire.feedback import Feedback
from backtalk.wire.policy import TOGETHER, Policy

GRAPH = {"variables": [{"id": "a", "data": "x", "role": "r"}]}
STATED = {
    "calls": "per_operation",
    "batch": "digest",
    "gate": 0.5,
    "summary": True,
    "summary_characters": 500,
    "context": True,
    "context_tokens": 200,
    "prompt_tokens": 2000,
    "max_calls": 7,
    "max_tokens": 9000,
}


def feedback(**fields):
    body = {"graph": GRAPH, "feedback": [{"variable": "a", "text": "Shorter."}], **fields}
    return decode(json.dumps(body).encode(), Feedback)


def written(message):
    return json.loads(encode(message))


def test_without_a_policy_every_input_and_every_sample_is_asked_about_without_a_limit():
    """The defaults are what the worker did before there were policies."""
    assert Policy().model_fields_set == set()
    assert Policy().calls == "per_variable"
    assert Policy().batch == "per_sample"
    assert (Policy().gate, Policy().max_calls, Policy().max_tokens) == (None, None, None)
    assert (Policy().summary, Policy().context) == (False, False)


def test_what_is_not_stated_is_not_written():
    """A message without a policy has none; one with an empty policy has an empty one."""
    assert "policy" not in written(feedback())
    assert written(feedback(policy={}))["policy"] == {}


@pytest.mark.parametrize("name", STATED)
def test_what_is_stated_is_written_and_nothing_else(name):
    """Also where it is the default: whoever reads it may have another one."""
    assert written(feedback(policy={name: STATED[name]}))["policy"] == {name: STATED[name]}
    default = Policy.model_fields[name].default
    assert written(feedback(policy={name: default}))["policy"] == {name: default}


def test_a_policy_survives_the_round_trip_with_what_it_does_not_state():
    """What a client left open is still open behind the queue."""
    for fields in ({}, STATED, {"gate": None}, {"calls": "per_variable"}):
        once = feedback(policy=fields)
        again = decode(encode(once), Feedback)
        assert again.policy == once.policy
        assert again.policy.model_fields_set == set(fields)


def test_the_worker_decides_what_the_message_leaves_open():
    """Field by field."""
    own = Policy.model_validate(STATED)
    assert Policy().over(own) == own
    mixed = Policy(calls="per_variable", max_calls=3).over(own)
    assert mixed == own.model_copy(update={"calls": "per_variable", "max_calls": 3})


@pytest.mark.parametrize("name", ["gate", "max_calls", "max_tokens"])
def test_null_takes_a_limit_of_the_worker_away(name):
    """To say nothing and to say null are two things."""
    own = Policy.model_validate({name: STATED[name]})
    assert getattr(Policy().over(own), name) == STATED[name]
    assert getattr(Policy.model_validate({name: None}).over(own), name) is None
    assert written(feedback(policy={name: None}))["policy"] == {name: None}


@pytest.mark.parametrize(
    "fields",
    [
        {"calls": "per_edge"},
        {"calls": None},
        {"batch": "all"},
        {"gate": "0.5"},
        {"gate": True},
        {"gate": [0.5]},
        {"summary": 1},
        {"summary": None},
        {"summary_characters": 99},
        {"context_tokens": 99},
        {"context_tokens": 1000.5},
        {"prompt_tokens": 999},
        {"max_calls": -1},
        {"max_calls": True},
        {"max_tokens": "many"},
        {"max_tokens": 0.5},
        {"maxcalls": 3},
    ],
    ids=str,
)
def test_a_value_that_is_none_of_its_field_is_refused_by_the_name_of_the_field(fields):
    """Also a misspelt name."""
    with pytest.raises(Refused) as caught:
        feedback(policy=fields)
    (name,) = fields
    assert caught.value.error.code == Code.INVALID_MESSAGE
    assert caught.value.error.details["path"] == f"policy/{name}"


@pytest.mark.parametrize("gate", ["NaN", "Infinity", "-Infinity"])
def test_a_gate_is_a_number(gate):
    """Nothing would ever pass one that is not, or everything."""
    body = json.dumps({"graph": GRAPH, "feedback": [{"variable": "a", "text": "x"}], "policy": {"gate": 0}})
    with pytest.raises(Refused):
        decode(body.replace('"gate": 0', f'"gate": {gate}').encode(), Feedback)


@pytest.mark.parametrize(
    ("stated", "own", "path"),
    [
        ({"summary_characters": 500}, {}, "policy/summary_characters"),
        ({"summary_characters": 500, "summary": False}, {"summary": True}, "policy/summary_characters"),
        ({"context_tokens": 500}, {}, "policy/context_tokens"),
        (
            {"context": True, "context_tokens": 600, "prompt_tokens": 1000},
            {},
            "policy/context_tokens",
        ),
        ({"context": True}, {"prompt_tokens": 1000}, "policy/context_tokens"),
        ({"prompt_tokens": 1500}, {"context": True}, "policy/context_tokens"),
    ],
    ids=str,
)
def test_fields_that_do_not_go_together_are_refused_by_name(stated, own, path):
    """Whoever stated them, the message or the worker."""
    with pytest.raises(Refused) as caught:
        Policy.model_validate(stated).over(Policy.model_validate(own))
    assert (caught.value.error.code, caught.value.error.details["path"]) == (Code.INVALID_MESSAGE, path)


@pytest.mark.parametrize(
    ("stated", "own"),
    [
        ({"summary_characters": 500}, {"summary": True}),
        ({"summary": False}, {"summary": True, "summary_characters": 500}),
        ({"context_tokens": 500}, {"context": True}),
        ({"context": False}, {"context": True, "context_tokens": 500}),
        ({"context": True, "context_tokens": 500, "prompt_tokens": 1000}, {}),
        ({"max_calls": 0, "max_tokens": 0}, {}),
        ({"gate": -1}, {}),
    ],
    ids=str,
)
def test_fields_that_go_together_are_taken(stated, own):
    """A cap of the worker's own is no contradiction to a message that switches the thing off."""
    assert Policy.model_validate(stated).over(Policy.model_validate(own))


def test_every_field_says_what_it_goes_with():
    """The list that `backtalk plan` prints is complete, and in the order of the fields."""
    assert [name for name, _ in TOGETHER] == list(Policy.model_fields)


@pytest.mark.parametrize("samples", [[0, 1], [3, 9]])
def test_samples_are_a_range(samples):
    """From, and to, which is not in it."""
    assert feedback(samples=samples).samples == tuple(samples)
    assert written(feedback(samples=samples))["samples"] == samples


@pytest.mark.parametrize("samples", [[1, 1], [2, 1], [-1, 1], [0], [0, 1, 2], [0.0, 1.0], "01"], ids=str)
def test_samples_that_are_no_range_are_refused(samples):
    """There is nothing between them, or they are no places."""
    with pytest.raises(Refused, match="samples"):
        feedback(samples=samples)


@pytest.mark.parametrize("score", [True, "1", [], ["1"], [True], {"value": 1}], ids=str)
def test_a_score_is_a_number_or_a_list_of_them(score):
    """A boolean is none: whoever has one says 0 or 1."""
    with pytest.raises(Refused, match="feedback/0/score"):
        feedback(feedback=[{"variable": "a", "text": "x", "score": score}])


@pytest.mark.parametrize("score", [0, 1, 0.5, [0.5, 1], [None, 1], [None]], ids=str)
def test_scores_of_items_that_have_none_are_null(score):
    """In a list that keeps their places."""
    found = feedback(feedback=[{"variable": "a", "text": "x", "score": score}]).feedback[0].score
    assert (list(found) if isinstance(score, list) else found) == score
