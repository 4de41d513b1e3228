"""`backtalk render`: what a model would receive, without asking it."""

import json

import pytest

from backtalk.client.batchfile import BadFile
from backtalk.local.render import as_text, rendered
from backtalk.wire.errors import Refused

TOOL = {"type": "function", "function": {"name": "f"}}


def job(**fields):
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello {name}"}], **fields}
    return json.dumps(body).encode()


def test_the_body_is_the_one_that_is_sent():
    """Messages with everything filled in, and all arguments beside them."""
    body = rendered(job(inputs={"name": "Ada"}, temperature=0)).bodies[None]
    assert body == {"model": "m", "messages": [{"role": "user", "content": "Hello Ada"}], "temperature": 0}


def test_a_batch_has_a_body_for_each_item_and_one_can_be_chosen():
    """Items are named by their index."""
    batch = job(inputs={"name": ["Ada", "Bo"]})
    assert list(rendered(batch).bodies) == [0, 1]
    assert rendered(batch, item=1).bodies[1]["messages"][0]["content"] == "Hello Bo"


@pytest.mark.parametrize(
    ("inputs", "told"), [({"name": ["a", "b"]}, "items 0 to 1"), ({"name": "a"}, "no batch")]
)
def test_an_item_that_is_not_there_is_told(inputs, told):
    """The message says which items there are."""
    with pytest.raises(Refused, match=told):
        rendered(job(inputs=inputs), item=7)


def test_it_warns_when_nothing_says_how_to_call():
    """Without the call token in the prompt a model cannot call; with it there is nothing to say."""
    silent = rendered(job(tools=[TOOL], tool_templates={"function_list": {"suffix": ""}}))
    assert "!function_call:" in silent.warnings[0]
    assert not rendered(job(tools=[TOOL])).warnings
    assert not rendered(job(tools=[TOOL], tool_choice="none")).warnings


def test_parts_tools_and_calls_are_shown_as_json():
    """What is no text is printed as it would be sent."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "x"}}
    messages = [
        {"role": "user", "content": ["Look: ", image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    body = rendered(job(messages=messages, tools=[TOOL], backtalk={"tool_mode": "native"})).bodies[None]
    text = as_text(body)
    for value in (image, TOOL, {"tool_calls": [call]}):
        assert json.dumps(value, separators=(",", ":")) in text
    assert "Look: " in text


def test_a_wrong_environment_is_told(monkeypatch, tmp_path):
    """A folder that is not there, a template that is broken, a setting that is none."""
    monkeypatch.setenv("BACKTALK_TOOL_TEMPLATES", str(tmp_path / "none"))
    with pytest.raises(BadFile, match="BACKTALK_TOOL_TEMPLATES"):
        rendered(job(inputs={"name": "x"}))
    (tmp_path / "retry.jinja").write_text("{{ oops")
    monkeypatch.setenv("BACKTALK_TOOL_TEMPLATES", str(tmp_path))
    with pytest.raises(BadFile, match=r"retry\.jinja"):
        rendered(job(inputs={"name": "x"}))
    monkeypatch.setenv("BACKTALK_TOOL_MODE", "psychic")
    with pytest.raises(BadFile, match="BACKTALK_TOOL_MODE"):
        rendered(job(inputs={"name": "x"}))
