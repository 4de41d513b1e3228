"""Workers as processes with words of their operator's for tools: what the endpoint reads, and what ends the start."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from backtalk import Client
from forward_worker.tools.inject import toolbox
from forward_worker.tools.words import BadTemplate

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
LIST = """\
{% if prefix is none %}
{{ "You have" if required else "You may have" }} to call {{ "one or more" if parallel else "one" }} of these:
{% else %}
{{ prefix }}
{% endif %}
[
{% for tool in tools %}
{{ tool | tojson }}{{ "," if not loop.last }}
{% endfor %}
]
{% if suffix is none %}
Like so:
{{ call_token }} {"name": "a function", "arguments": {}}
{%- else %}
{{ suffix }}
{%- endif %}
"""
TOLD = """\
You may have to call one or more of these:
[
{"name":"get_weather","description":null,"parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}
]
Like so:
<< CALL >> {"name": "a function", "arguments": {}}"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder with some of the templates; the others stay the default ones."""
    made = tmp_path / "templates"
    made.mkdir()
    (made / "call_token.jinja").write_text("<< CALL >>\n")
    (made / "function_list.jinja").write_text(LIST)
    (made / "roles.jinja").write_text('{{ {"tool": "user", "system": "user"}.get(role, role) }}')
    return made


async def exit_of(environment) -> tuple[int, str]:
    """Return the exit code of a forward worker that does not start, and what it said."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("forward-worker")),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, said.decode()


async def test_a_worker_uses_the_words_of_its_operator(broker, names, model, spawn, folder) -> None:
    """Call token, list of functions and roles are the folder's, what is not in it is the default."""
    await spawn("forward", BACKTALK_TOOL_TEMPLATES=str(folder))
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "The weather in Paris?"},
    ]
    async with Client(broker.url, namespace=names.namespace) as client:
        first = await client.complete(model="m", messages=messages, tools=[TOOL])
        (call,) = first.message["tool_calls"]
        answer = {"role": "tool", "tool_call_id": call["id"], "content": "Sunny."}
        second = await client.complete(model="m", messages=[*messages, first.message, answer])
    one, two = model.calls
    assert one.messages == [{"role": "user", "content": f"{TOLD}\n\nBe brief."}, messages[1]]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    spoken = f'<< CALL >>{{"name": "get_weather", "arguments": {{"city": "Paris"}}, "id": "{call["id"]}"}}'
    assert two.messages[2:] == [
        {"role": "assistant", "content": spoken},
        {"role": "user", "content": f'Result of "get_weather", call {call["id"]}:\nSunny.'},
    ]
    assert second.text == "The tool answered: Sunny."


async def test_a_request_brings_its_words_into_those_of_the_operator(
    broker, names, model, spawn, folder
) -> None:
    """The call token in them is the operator's."""
    await spawn("forward", BACKTALK_TOOL_TEMPLATES=str(folder))
    words = {"prefix": "My functions", "suffix": "{{func_call_token}}, then JSON"}
    templates = {"function_list": words}
    model.rule(reply='Well: << CALL >>{"name": "get_weather", "arguments": {"city": "Rome"}}')
    async with Client(broker.url, namespace=names.namespace) as client:
        question = [{"role": "user", "content": "The weather?"}]
        result = await client.complete(model="m", messages=question, tools=[TOOL], tool_templates=templates)
    (asked,) = model.calls
    text = asked.messages[0]["content"]
    assert text.startswith("My functions\n[\n{")
    assert text.endswith("}\n]\n<< CALL >>, then JSON\n\nThe weather?")
    message = result.completions[0]["choices"][0]["message"]
    assert (message["content"], len(message["tool_calls"])) == ("Well:", 1)


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("function_list.jinja", "{% for tool in tools %}", "Unexpected end of template"),
        ("function_list.jinja", "{{ tool }}", "'tool' is undefined"),
        ("force_call.jinja", "{{ tool.description | urlencode }}", "print it as it is, or with tojson"),
        ("tool_response.jinja", "The function answered.", "should print `content` once, as it is"),
        ("earlier_calls.jinja", "{% include 'secrets' %}", "secrets"),
        ("retry.jinja", "{{ problems.__class__.mro() }}", "unsafe"),
        ("roles.jinja", "robot", "'robot'"),
        ("call_token.jinja", " \n", "is empty"),
    ],
)
def test_a_mistake_in_a_template_is_told_by_its_file(folder, file, text, problem) -> None:
    """In one line, with what is wrong with it; the next test sees that it ends the worker."""
    (folder / file).write_text(text)
    with pytest.raises(BadTemplate) as raised:
        toolbox(folder, {})
    said = str(raised.value)
    assert said.startswith("BACKTALK_TOOL_TEMPLATES: ")
    assert file in said
    assert problem in said
    assert len(said.splitlines()) == 1


async def test_a_template_that_is_no_text_ends_the_worker_at_its_start(environment, folder) -> None:
    """As any other mistake does."""
    (folder / "retry.jinja").write_bytes(b"\xff\xfe")
    code, said = await exit_of({**environment, "BACKTALK_TOOL_TEMPLATES": str(folder)})
    assert (code, "BACKTALK_TOOL_TEMPLATES: retry.jinja" in said) == (2, True)


async def test_a_folder_that_does_not_exist_ends_the_worker_at_its_start(environment, tmp_path) -> None:
    """A misspelt path does not pass for one without templates."""
    missing = tmp_path / "nowhere"
    code, said = await exit_of({**environment, "BACKTALK_TOOL_TEMPLATES": str(missing)})
    assert (code, said) == (2, f"BACKTALK_TOOL_TEMPLATES: {missing} is no folder\n")
