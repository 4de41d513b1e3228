"""Calls as OpenAI writes them, in the choice that made them."""

import copy
import string

import pytest

from backtalk.wire.choice import Choice
from forward_worker.tools.answer import call_id, faults, finish_reason, with_calls
from forward_worker.tools.known import anything
from forward_worker.tools.parse import read
from forward_worker.tools.reading import Call, Fault, Problem, Reading

AUTO = Choice("auto")
REQUIRED = Choice("required")
NAMED = Choice("function", "f")
PROBLEM = Problem("!call: x", Fault("not_json", "no JSON"))


def choice(content, finish="stop", **fields):
    return {
        "index": 0,
        "message": {"role": "assistant", "content": content},
        "finish_reason": finish,
        **fields,
    }


def answered(text, wanted=AUTO, *, finish="stop", place=(0, 0), key="key", **fields):
    return with_calls(choice(text, finish, **fields), read(text, "!call:", anything), wanted, key, place)


def test_calls_are_written_as_openai_has_them():
    """Apart from the text, in their order, and with an id each."""
    text = 'Let me see.\n!call:{"name": "f", "arguments": {"a": "ü"}}\n!call:{"name": "g"}'
    assert answered(text) == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": call_id("key", (0, 0), 0),
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a": "ü"}'},
                },
                {
                    "id": call_id("key", (0, 0), 1),
                    "type": "function",
                    "function": {"name": "g", "arguments": "{}"},
                },
            ],
        },
        "finish_reason": "tool_calls",
    }


def test_a_reply_of_calls_alone_has_no_content():
    """Null, not an empty text."""
    assert answered('!call:{"name": "f"}')["message"]["content"] is None


@pytest.mark.parametrize("text", ["Hello", "", " two\nlines ", "```\n!cal"])
def test_a_reply_without_calls_is_answered_as_it_came(text):
    """Nothing is added and nothing taken away."""
    assert answered(text) == choice(text)


def test_other_fields_of_a_choice_stay():
    """Log probabilities, refusals, and whatever an endpoint adds."""
    text = '!call:{"name": "f"}'
    given = choice(text, logprobs={"content": []}, odd=1)
    given["message"]["refusal"] = None
    made = with_calls(given, read(text, "!call:", anything), AUTO, "key", (0, 0))
    assert (made["logprobs"], made["odd"], made["message"]["refusal"]) == ({"content": []}, 1, None)


def test_the_choice_that_was_given_stays_as_it_was():
    """What the endpoint said is what is recorded."""
    text = '!call:{"name": "f"} !call:'
    given = choice(text)
    before = copy.deepcopy(given)
    assert with_calls(given, read(text, "!call:", anything), AUTO, "key", (0, 0)) != before
    assert given == before


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("stop", "tool_calls"),
        (None, "tool_calls"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "tool_calls"),
    ],
)
def test_a_reply_with_calls_ended_because_of_them(said, told):
    """Unless it was cut off."""
    assert finish_reason(said) == told
    assert answered('!call:{"name": "f"}', finish=said)["finish_reason"] == told
    assert answered("no call", finish=said)["finish_reason"] == said


# ---- ids


def test_the_id_of_a_call_derives_from_the_work_and_the_place():
    """So that a repeated delivery gives the same, and no two calls share one."""
    places = [
        (key, (item, choice), at)
        for key in ("a", "b")
        for item in (0, 1)
        for choice in (0, 1)
        for at in (0, 1)
    ]
    ids = [call_id(*place) for place in places]
    assert ids == [call_id(*place) for place in places]
    assert len(set(ids)) == 16


def test_the_id_of_a_call_looks_like_openais():
    """Clients may check it, and some servers bound its length."""
    id = call_id("key", (255, 127), 99)
    assert id.startswith("call_")
    assert len(id) <= 40
    assert set(id.removeprefix("call_")) <= set(string.ascii_letters + string.digits)


# ---- what is wrong


def test_what_could_not_be_taken_is_told_beside_the_choice():
    """Text, reason and detail, in order; the text stays in the content."""
    made = answered('a !call:{"name": "f"} b !call: oops !call:{"x": 1}')
    assert made["tool_call_errors"] == [
        {"text": "!call: oops", "reason": "not_json", "detail": "what follows is no complete JSON"},
        {"text": '!call:{"x": 1}', "reason": "unknown_tool", "detail": "is no call"},
    ]
    for error in made["tool_call_errors"]:
        assert error["text"] in made["message"]["content"]
    assert [call["function"]["name"] for call in made["message"]["tool_calls"]] == ["f"]
    assert made["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_reply_of_bad_calls_alone_is_text(finish):
    """It did not end for a call."""
    made = answered("a !call: oops", finish=finish)
    assert made["message"] == {"role": "assistant", "content": "a !call: oops"}
    assert made["finish_reason"] == finish
    assert len(made["tool_call_errors"]) == 1


@pytest.mark.parametrize(
    ("wanted", "told"), [(REQUIRED, "a call was demanded"), (NAMED, "a call of f was demanded")]
)
def test_a_demanded_call_that_is_not_there_is_told(wanted, told):
    """With no text, for there is none."""
    (error,) = answered("Hello", wanted)["tool_call_errors"]
    assert (error["text"], error["reason"]) == ("", "no_call")
    assert error["detail"].startswith(told)


@pytest.mark.parametrize("wanted", [AUTO, Choice("none")])
def test_a_call_that_may_be_left_out_is_not_missed(wanted):
    """The model is free to answer in its own words."""
    assert "tool_call_errors" not in answered("Hello", wanted)


@pytest.mark.parametrize("wanted", [REQUIRED, NAMED])
def test_a_demanded_call_that_was_tried_is_not_missed_as_well(wanted):
    """What is wrong with it says enough."""
    bad = Reading("!call: x", (), (PROBLEM,))
    assert faults(bad, wanted, ()) == [(PROBLEM.text, PROBLEM.fault)]
    assert faults(Reading(None, (Call("f", "{}"),), ()), wanted, ()) == []


@pytest.mark.parametrize("wanted", [AUTO, REQUIRED, NAMED])
def test_calls_that_an_endpoint_made_by_itself_stay(wanted):
    """It was not asked for them, and they are calls; those of the text follow."""
    native = [{"id": "theirs", "type": "function", "function": {"name": "h", "arguments": "{}"}}]
    for text, names in (("Well.", ["h"]), ('!call:{"name": "f"}', ["h", "f"])):
        given = choice(text)
        given["message"]["tool_calls"] = native
        made = with_calls(given, read(text, "!call:", anything), wanted, "key", (0, 0))
        assert [call["function"]["name"] for call in made["message"]["tool_calls"]] == names
        assert "tool_call_errors" not in made
    assert len(native) == 1
