"""The request of the forward worker: any OpenAI body, and what Backtalk puts on top."""

import json

import pytest

from backtalk.wire.choice import Choice
from backtalk.wire.codec import decode, encode
from backtalk.wire.errors import Code, Refused
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


# ---- tools

LOOK = {"type": "function", "function": {"name": "look"}}
NATIVE = {"tool_mode": "native"}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [LOOK], "tool_choice": "look"},
        {
            "tools": [LOOK],
            "tool_templates": {"function_list": {"prefix": {"data": "x"}}, "position": "bottom"},
        },
        {"tools": None, "tool_choice": None, "tool_templates": None},
        {"tools": [], "tool_choice": "auto", "tool_templates": {}},
        {"tools": [{"type": "custom", "custom": {}}], "tool_choice": {"type": "custom"}, "backtalk": NATIVE},
        {"stream": True, "backtalk": {"tool_mode": "inject"}},
        {"backtalk": {"tool_retries": 10}},
        {"stream": False, "backtalk": {"tool_retries": 1, "tool_mode": "inject"}},
    ],
    ids=str,
)
def test_a_job_may_bring_tools_and_say_what_becomes_of_them(fields):
    """And it survives the round trip."""
    made = job(**fields)
    assert decode(encode(made), CompletionJob) == made


def test_what_is_said_of_tools_is_no_argument():
    """Backtalk serves it; the endpoint gets what becomes of it."""
    made = job(tools=[LOOK], tool_choice="look", tool_templates={}, stream=True, parallel_tool_calls=False)
    assert made.arguments == {"parallel_tool_calls": False}
    assert made.choice == Choice("function", "look")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"tools": [LOOK], "tool_choice": "lok"},
            "tool_choice: names no function of `tools`; known are look",
        ),
        ({"tool_choice": "required"}, "tool_choice: there are no tools"),
        (
            {"tools": [{"type": "custom", "function": {}}], "tool_choice": "x"},
            "tool_choice: names no function",
        ),
        ({"tools": [LOOK, LOOK]}, "tools/1/function/name: 'look' stands twice"),
        ({"tools": [{}]}, "tools/0/function: is missing"),
        ({"tool_templates": {}, "backtalk": NATIVE}, "tool_templates: nothing is injected in native mode"),
        ({"backtalk": {"tool_retries": 1}, "stream": True}, "backtalk/tool_retries: what was streamed"),
        ({"backtalk": {"tool_retries": 1, **NATIVE}}, "backtalk/tool_retries: native calls are not read"),
        ({"backtalk": {"tool_retries": -1}}, "backtalk/tool_retries: "),
        ({"backtalk": {"tool_retries": 11}}, "backtalk/tool_retries: "),
        ({"backtalk": {"tool_retries": "1"}}, "backtalk/tool_retries: "),
        ({"backtalk": {"tool_mode": "both"}}, "backtalk/tool_mode: "),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_refused_with_its_path(fields, told):
    """Before anybody is asked."""
    with pytest.raises(Refused) as caught:
        job(**fields)
    assert caught.value.error.code == Code.INVALID_MESSAGE
    assert caught.value.error.message.startswith(told)
