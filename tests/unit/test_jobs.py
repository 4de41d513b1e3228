"""The request of the forward worker: any OpenAI body, and what Backtalk puts on top."""

import json

import pytest

from backtalk.wire.codec import decode, encode
from backtalk.wire.errors import Refused
from backtalk.wire.jobs import CompletionJob

OPENAI = {
    "model": "org/model-1",
    "messages": [
        {"role": "developer", "content": "Be kind."},
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}], "name": "ada"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "content": "21", "tool_call_id": "1"},
        {"role": "function", "content": "old", "name": "f"},
        {"role": "assistant", "refusal": "no"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "tool_choice": "auto",
    "n": 2,
    "stream": False,
    "temperature": 0.5,
    "stop": ["x"],
    "logit_bias": {"50256": -100},
    "metadata": {"mine": "yes"},
    "user": None,
}


def job(**fields):
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return decode(json.dumps(body).encode(), CompletionJob)


def test_any_openai_body_is_a_job():
    """Nobody has to learn a new form to send what an OpenAI client sends."""
    made = decode(json.dumps(OPENAI).encode(), CompletionJob)
    assert made.model == "org/model-1"
    assert [message.role for message in made.messages] == [message["role"] for message in OPENAI["messages"]]


def test_arguments_are_all_that_backtalk_does_not_interpret():
    """They go to the endpoint as they came, an explicit null and the sender's own metadata included."""
    made = decode(json.dumps(OPENAI).encode(), CompletionJob)
    own = {"model", "messages", "tools", "tool_choice", "stream"}
    assert made.arguments == {name: value for name, value in OPENAI.items() if name not in own}


@pytest.mark.parametrize(
    "name", ["arguments", "self", "model_config", "model_extra", "copy", "json", "schema"]
)
def test_an_argument_may_have_any_name(name):
    """No name of Python's or pydantic's gets in the way of an endpoint's."""
    assert job(**{name: {"x": 1}}).arguments == {name: {"x": 1}}


def test_other_fields_of_a_message_are_kept():
    """Whatever OpenAI adds to messages passes through."""
    made = decode(json.dumps(OPENAI).encode(), CompletionJob)
    assert made.messages[3].model_extra == {"tool_calls": [{"id": "1", "type": "function"}]}
    assert made.messages[4].model_extra == {"tool_call_id": "1"}


def test_a_job_survives_the_round_trip():
    """What a client encodes is what the worker decodes."""
    made = job(
        messages=[
            {
                "role": "user",
                "content": ["a {x}", {"data": ["b", 1, None], "id": "v", "requires_grad": True}],
            },
            {"role": "user", "content": [{"type": "file", "file": {}}]},
        ],
        inputs={"x": {"data": 1.5}, "y": ["a", {"data": True}], "z": ["a"], "w": "a"},
        temperature=0,
        backtalk={
            "endpoint": "e",
            "deadline": "2026-01-31T12:00:00+01:00",
            "metadata": {"a": 1},
            "record": "never",
        },
    )
    assert decode(encode(made), CompletionJob) == made


def test_the_backtalk_object_has_the_defaults_of_the_design():
    """Version 1, the default endpoint, no deadline, and a recording when there is a Variable."""
    options = job().backtalk
    assert options.model_dump(mode="json") == {"schema_version": 1, "record": "auto"}
    assert job(backtalk={}).backtalk == options


@pytest.mark.parametrize(
    "deadline",
    ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123Z", "2026-01-31T13:00:00+01:00", "2026-01-31t12:00:00z"],
)
def test_a_deadline_is_rfc_3339(deadline):
    """A time with its offset."""
    assert job(backtalk={"deadline": deadline}).backtalk.deadline.utctimetuple()[:5] == (2026, 1, 31, 12, 0)


@pytest.mark.parametrize(
    "deadline", ["2026-01-31", "12:00", "", "1700000000", "1700000000.5", "2026-01-31T12:00:00"]
)
def test_a_deadline_that_is_not_rfc_3339_is_refused(deadline):
    """A number or a time without its offset would be guessed at."""
    with pytest.raises(Refused, match="backtalk/deadline: "):
        job(backtalk={"deadline": deadline})


@pytest.mark.parametrize("metadata", [None, {}, {"a": [1, 1.0, None, {"b": "c"}]}])
def test_metadata_is_anything_that_json_can_say(metadata):
    """It is returned unchanged, so it must be kept unchanged."""
    assert job(backtalk={"metadata": metadata}).backtalk.metadata == metadata
