"""Any body: it decodes, or it is refused with a path that is really there; nothing else ever happens."""

import asyncio
import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtalk.wire.codec import decode, encode, pack, unpack
from backtalk.wire.errors import Refused
from backtalk.wire.feedback import Feedback
from backtalk.wire.jobs import CompletionJob
from backtalk.wire.kinds import Request
from backward_worker.differentiate import differentiate
from forward_worker.complete import complete

JOB = {
    "model": "m",
    "messages": [
        {
            "role": "system",
            "content": [{"id": "sys", "data": "Be {tone}.", "role": "r", "requires_grad": True}],
        },
        {
            "role": "user",
            "content": ["a", {"type": "image_url", "image_url": {"url": "{word}"}}, {"data": ["b", None]}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "look_up", "arguments": '{"word": "x"}'}}],
        },
        {"role": "tool", "content": "x", "tool_call_id": "1"},
    ],
    "inputs": {"tone": "kind", "word": ["c", {"data": 2, "id": "v"}]},
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "look_up",
                "description": {"data": ["d", "e"], "id": "about", "requires_grad": True},
                "parameters": {
                    "type": "object",
                    "properties": {"word": {"type": "string", "description": {"data": "what"}}},
                    "required": ["word"],
                },
            },
        }
    ],
    "tool_choice": "auto",
    "tool_templates": {
        "function_list": {"prefix": {"data": "first"}, "suffix": "{{func_call_token}}"},
        "force_call": {"prefix": None},
        "position": "bottom",
    },
    "n": 2,
    "temperature": 0.5,
    "backtalk": {
        "schema_version": 1,
        "deadline": "2026-01-31T12:00:00Z",
        "metadata": {"k": 1},
        "record": "always",
        "tool_mode": "inject",
        "tool_retries": 1,
    },
}
FEEDBACK = {
    "graph": [
        {
            "schema_version": 1,
            "variables": [
                {"id": "sys", "data": "Be {tone}.", "role": "r", "requires_grad": True},
                {"id": "q", "data": ["x", None], "role": "r"},
                {"id": "t", "data": "kind", "role": "r"},
                {"id": "mid", "data": ["y", None], "role": "r", "producer": "one"},
                {"id": "out", "data": ["z", None], "role": "r", "requires_grad": True, "producer": "two"},
            ],
            "operations": [
                {
                    "id": "one",
                    "op": "chat_completion",
                    "endpoint": "openai",
                    "model": "m",
                    "arguments": {"seed": 1},
                    "messages": [
                        {"role": "system", "content": ["sys", {"part": "p"}]},
                        {"role": "user", "content": ["q"], "name": "ada"},
                    ],
                    "inputs": {"tone": ["t", "t"]},
                    "outputs": ["mid"],
                },
                {
                    "id": "two",
                    "op": "chat_completion",
                    "endpoint": "openai",
                    "model": "m",
                    "messages": [{"role": "user", "content": ["mid"]}],
                    "inputs": {"tone": "t"},
                    "outputs": ["out"],
                },
            ],
            "parts": {"p": {"type": "image_url", "image_url": {"url": "{tone}"}}},
        }
    ],
    "feedback": [{"variable": "out", "text": ["a", ""], "id": "f", "score": 0.5, "source": "s"}],
    "wrt": ["sys"],
    "model": "critic",
    "arguments": {"temperature": 0},
    "backtalk": {"schema_version": 1, "metadata": {"k": 1}},
}
KNOWN = [
    "look_up",
    "required",
    "native",
    "object",
    "sys",
    "q",
    "t",
    "mid",
    "out",
    "one",
    "two",
    "p",
    "x",
    "",
    "{tone}",
    "{word}",
    "auto",
    "user",
    "assistant",
    "text",
]
SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS | st.sampled_from(KNOWN) | st.text(st.characters(codec="utf-8"), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*KNOWN, "data", "id", "type", "role", "content", "part"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def places(value, path=()):
    """Yield the path of every value in a JSON document."""
    yield path
    for key, item in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(item, (*path, key))


def there(path, value):
    """Tell whether a path leads to something, or to something that is missing from something that is there."""
    steps = path.split("/") if path != "body" else []
    if steps[:2] == ["graph", "0"] and not isinstance(value["graph"], list):
        # a single graph counts as a list of one; the unit tests say what its path is
        del steps[1]
    for at, step in enumerate(steps):
        if isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return at == len(steps) - 1
    return True


@st.composite
def mutations(draw, document):
    """Draw the document with one or two of its values replaced, removed, or put elsewhere."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.sampled_from([path for path in places(changed) if path]))
        target = changed
        for step in at[:-1]:
            target = target[step]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "copy"]))
        if kind == "remove":
            del target[at[-1]]
        elif kind == "copy":
            other = draw(
                st.sampled_from(
                    [path for path in places(changed) if path and path != at[: len(path)]] or [at]
                )
            )
            value = changed
            for step in other:
                value = value[step]
            target[at[-1]] = copy.deepcopy(value)
        else:
            target[at[-1]] = draw(JSON)
    return changed


def outcome(call):
    """Return what a call returns, or the refusal it raises; anything else is a defect."""
    try:
        return call()
    except Refused as refused:
        return refused


def decoded(document, model):
    """Return the model, or None when it was refused with a path that is really there."""
    made = outcome(lambda: decode(json.dumps(document).encode(), model))
    if not isinstance(made, Refused):
        return made
    path = made.error.details["path"]
    assert str(made).startswith(f"{path}: ")
    assert there(path, document), path
    return None


def check_answer(answer):
    """See that an answer can be sent, or that the refusal says something."""
    if isinstance(answer, Refused):
        assert str(answer)
    else:
        assert decode(encode(answer), type(answer)) == answer


@given(body=st.binary(max_size=40))
def test_any_bytes_are_refused_or_decoded(body):
    """Whatever arrives, the worker goes on."""
    for model in (CompletionJob, Feedback):
        made = outcome(lambda model=model: decode(body, model))
        assert isinstance(made, model) or made.error.details["path"]


@given(document=mutations(JOB))
def test_any_job_is_refused_by_path_or_decodes_and_survives_the_round_trip(document):
    """A job that is nearly right is either right or told what is wrong."""
    job = decoded(document, CompletionJob)
    assert job is None or decode(encode(job), CompletionJob) == job


@given(document=mutations(FEEDBACK))
def test_any_feedback_is_refused_by_path_or_decodes_and_survives_the_round_trip(document):
    """Feedback that is nearly right is either right or told what is wrong."""
    feedback = decoded(document, Feedback)
    assert feedback is None or decode(encode(feedback), Feedback) == feedback


@given(document=mutations(JOB))
def test_any_job_that_decodes_is_answered_or_refused(scripted, toolbox, document):
    """Whatever its contents, nothing unexpected is raised, and the answer can be sent."""
    job = decoded(document, CompletionJob)
    if job is not None:
        replies = ['!function_call:{"name": "look_up", "arguments": {"word": "x"}}', "!function_call: b"]
        work = complete(
            Request("1", "k", job), model=scripted(replies, "c"), emit=lambda _: None, toolbox=toolbox
        )
        check_answer(outcome(lambda: asyncio.run(work)))


@given(document=mutations(FEEDBACK))
def test_any_feedback_that_decodes_is_answered_or_refused(scripted, document):
    """Whatever its contents, nothing unexpected is raised, and the answer can be sent."""
    feedback = decoded(document, Feedback)
    if feedback is not None:
        work = differentiate(Request("1", "k", feedback), model=scripted("Shorten it."), emit=pytest.fail)
        check_answer(outcome(lambda: asyncio.run(work)))


@given(body=st.binary(max_size=200), repeat=st.sampled_from([1, 1000]), compress=st.booleans())
def test_what_is_packed_is_what_is_unpacked(body, repeat, compress):
    """Compression loses nothing."""
    packed, encoding = pack(body * repeat, compress=compress)
    assert unpack(packed, encoding) == body * repeat
