"""Tools end to end: models that have none are told of them in words, those that have some get them."""

from __future__ import annotations

import asyncio
import json

import pytest

from backtalk.client import Refused
from backtalk.runtime.settings import EndpointSettings
from backtalk.wire.chunk import CompletionChunk

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city, e.g. San Francisco"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
        },
    },
}
DATE = {
    "type": "function",
    "function": {"name": "get_current_date_utc", "description": "Get the current date, in UTC"},
}
WEATHER_LINE = json.dumps(WEATHER["function"], separators=(",", ":"))
DATE_LINE = '{"name":"get_current_date_utc","description":"Get the current date, in UTC","parameters":null}'
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
QUESTION = {"role": "user", "content": "What is the weather in Paris, and what is the date?"}
TEMPLATES = {
    "position": "bottom",
    "function_list": {
        "prefix": "testing_list_prefix",
        "suffix": "This is the end of the suffix, this is how to call the function call token: "
        "{{func_call_token}}",
    },
    "force_call": {"prefix": "testing_force_prefix", "suffix": "testing_force_suffix"},
}
PROPOSED = {
    "model": "m",
    "messages": [SYSTEM, QUESTION],
    "tools": [WEATHER, DATE],
    "tool_templates": TEMPLATES,
    "top_k": 20,
}
LIST_BLOCK = f"""testing_list_prefix
[
{WEATHER_LINE},
{DATE_LINE}
]
This is the end of the suffix, this is how to call the function call token: !function_call:"""
FORCE_BLOCK = f"""testing_force_prefix
[
{DATE_LINE}
]
testing_force_suffix"""
BLOCK = f"""You can call these functions to get what you need for your answer:
[
{WEATHER_LINE},
{DATE_LINE}
]
To call functions, write for each call one line like this, with its real name and real arguments:
!function_call:{{"name": "name_of_the_function", "arguments": {{"name_of_a_parameter": "its value"}}}}
You will be given the results in the next message. Where no function helps, answer in your own words, without such a line."""
CALLED_WEATHER = {"name": "get_current_weather", "arguments": '{"location": "Paris"}'}
CALLED_DATE = {"name": "get_current_date_utc", "arguments": "{}"}


def forced(name):
    return {"type": "function", "function": {"name": name}}


def choice_in(result, at=0):
    return result.completions[0]["choices"][at]


def functions(message):
    """Return names and arguments of the calls of a message."""
    return [call["function"] for call in message.get("tool_calls") or ()]


def line(call, token="!function_call:", **more):
    """Return a call as a model without tools writes it."""
    value = {"name": call["name"], "arguments": json.loads(call["arguments"]), **more}
    return f"{token}{json.dumps(value)}"


def variable(id, data, role):
    return {"id": id, "data": data, "role": role, "requires_grad": True}


# ---- one request


@pytest.mark.parametrize(
    ("tool_choice", "block", "called"),
    [
        ({}, LIST_BLOCK, [CALLED_WEATHER, CALLED_DATE]),
        ({"tool_choice": None}, LIST_BLOCK, [CALLED_WEATHER, CALLED_DATE]),
        ({"tool_choice": "auto"}, LIST_BLOCK, [CALLED_WEATHER, CALLED_DATE]),
        ({"tool_choice": "required"}, LIST_BLOCK, [CALLED_WEATHER, CALLED_DATE]),
        ({"tool_choice": "none"}, None, []),
        ({"tool_choice": forced("get_current_date_utc")}, FORCE_BLOCK, [CALLED_DATE]),
        ({"tool_choice": "get_current_date_utc"}, FORCE_BLOCK, [CALLED_DATE]),
    ],
    ids=["absent", "null", "auto", "required", "none", "object", "name"],
)
async def test_the_request_of_the_proposal_is_served(pair, tool_choice, block, called):
    """The endpoint gets words in the place of the tools, the caller gets calls."""
    letter = await pair.ask({**PROPOSED, **tool_choice})
    (asked,) = pair.model.calls
    told = SYSTEM if block is None else {**SYSTEM, "content": f"{SYSTEM['content']}\n\n{block}"}
    assert asked.messages == [told, QUESTION]
    assert (asked.model, asked.arguments) == ("m", {"top_k": 20})
    (choice,) = letter.json["completions"][0]["choices"]
    assert functions(choice["message"]) == called
    assert choice["finish_reason"] == ("tool_calls" if called else "stop")
    assert (choice["message"]["content"] is None) == bool(called)
    assert "tool_call_errors" not in choice


@pytest.mark.parametrize("tool_choice", ["get_weather", forced("get_weather"), {"type": "function"}])
async def test_a_function_that_does_not_exist_cannot_be_chosen(pair, tool_choice):
    """The refusal names the functions that do, and no model is asked."""
    letter = await pair.ask({**PROPOSED, "tool_choice": tool_choice})
    assert letter.error["code"] == "invalid_message"
    assert letter.error["details"]["path"] == "tool_choice"
    assert "get_current_weather, get_current_date_utc" in letter.error["message"]
    assert pair.model.total == 0


@pytest.mark.parametrize("position", ["top", "bottom"])
async def test_the_default_words_stand_at_either_end_of_the_first_message(pair, position):
    """A blank line between, and the model makes the calls."""
    body = {**PROPOSED, "tool_templates": {"position": position}, "messages": [QUESTION]}
    letter = await pair.ask(body)
    texts = [BLOCK, QUESTION["content"]]
    content = "\n\n".join(texts if position == "top" else reversed(texts))
    assert pair.model.calls[0].messages == [{"role": "user", "content": content}]
    (choice,) = letter.json["completions"][0]["choices"]
    assert functions(choice["message"]) == [CALLED_WEATHER, CALLED_DATE]


async def test_the_rest_of_the_reply_is_its_content(pair):
    """In whatever form a model writes its calls, and each choice by itself."""
    pair.model.rule(
        reply="Let me see.\n```json\n!function_call:\n"
        '[{"call": "get_current_weather", "parameters": {"location": "Zürich"}}, '
        '{"name": "get_current_date_utc", "arguments": null}]\n```\nJust a second.'
    )
    client = await pair.client()
    result = await client.complete(model="m", messages=[QUESTION], tools=[WEATHER, DATE], n=2)
    calls = []
    for at in range(2):
        message = choice_in(result, at)["message"]
        assert message["content"] == "Let me see.\nJust a second."
        assert functions(message) == [{**CALLED_WEATHER, "arguments": '{"location": "Zürich"}'}, CALLED_DATE]
        calls += message["tool_calls"]
    assert len({call["id"] for call in calls}) == 4


async def test_a_call_that_cannot_be_used_is_said_to_be_none(pair):
    """It stays in the content, and stands beside the message with the reason."""
    broken = '!function_call:{"name": "get_current_weather", "arguments": {"unit": "kelvin"}}'
    pair.model.rule(reply=f"{line(CALLED_DATE)}\n{broken}")
    client = await pair.client()
    result = await client.complete(model="m", messages=[QUESTION], tools=[WEATHER, DATE])
    choice = choice_in(result)
    assert (functions(choice["message"]), choice["message"]["content"]) == ([CALLED_DATE], broken)
    (error,) = choice["tool_call_errors"]
    assert (error["text"], error["reason"]) == (broken, "bad_arguments")


async def test_each_item_of_a_batch_has_calls_of_its_own(pair):
    """The words about tools are put together once, and are the same for all."""
    client = await pair.client()
    result = await client.complete(
        model="m",
        messages=[{"role": "user", "content": "The weather in {city}"}],
        inputs={"city": ["Rome", "Oslo", "Bern"]},
        tools=[WEATHER, DATE],
    )
    arguments = [functions(one["choices"][0]["message"])[0]["arguments"] for one in result.completions]
    assert arguments == ['{"location": "Rome"}', '{"location": "Oslo"}', '{"location": "Bern"}']
    assert len({one["choices"][0]["message"]["tool_calls"][0]["id"] for one in result.completions}) == 3
    words = {call.messages[0]["content"].rpartition("\n\n")[0] for call in pair.model.calls}
    assert len(words) == 1


# ---- a conversation


async def conversed(client, *, tools, templates=None, **options):
    """Have the calls made, answer them, and return the results of both steps."""
    told = {} if templates is None else {"tool_templates": templates}
    messages = [SYSTEM, QUESTION]
    first = await client.complete(model="m", messages=messages, tools=tools, **told, **options)
    weather, date = first.message["tool_calls"]
    answers = [
        {"role": "tool", "tool_call_id": weather["id"], "content": "15 degrees"},
        {"role": "tool", "tool_call_id": date["id"], "content": [variable("date", "1 May", "date")]},
    ]
    second = await client.complete(model="m", messages=[*messages, first.message, *answers], **options)
    return first, second


LEARNING_WEATHER = json.loads(json.dumps(WEATHER))
LEARNING_WEATHER["function"]["description"] = variable(
    "weather", WEATHER["function"]["description"], "description of a function"
)
LEARNING_WEATHER["function"]["parameters"]["properties"]["location"]["description"] = variable(
    "location", "The city, e.g. San Francisco", "description of a parameter"
)
LEARNING_TEMPLATES = {
    **TEMPLATES,
    "function_list": {
        **TEMPLATES["function_list"],
        "prefix": variable("prefix", "testing_list_prefix", "words before the functions"),
    },
}


@pytest.mark.parametrize("said", [None, "Let me see.", "  Let me see:\n\n"], ids=["alone", "text", "spaces"])
async def test_a_conversation_goes_on_with_the_results(pair, said):
    """The model reads its own calls and their results in words, once, with the ids that the caller has."""
    if said is not None:
        pair.model.rule(times=1, reply=f"{said}\n{line(CALLED_WEATHER)}\n{line(CALLED_DATE)}\n")
    client = await pair.client()
    first, second = await conversed(client, tools=[LEARNING_WEATHER, DATE], templates=LEARNING_TEMPLATES)
    assert functions(first.message) == [CALLED_WEATHER, CALLED_DATE]
    weather, date = (call["id"] for call in first.message["tool_calls"])
    one, two = pair.model.calls
    assert one.messages == [{**SYSTEM, "content": f"{SYSTEM['content']}\n\n{LIST_BLOCK}"}, QUESTION]
    assert choice_in(first)["message"]["content"] == (said and said.rstrip())
    spoken = [line(CALLED_WEATHER, id=weather), line(CALLED_DATE, id=date)]
    assert two.messages == [
        SYSTEM,
        QUESTION,
        {"role": "assistant", "content": "\n".join([*([said.rstrip()] if said else []), *spoken])},
        {
            "role": "user",
            "content": f'Result of "get_current_weather", call {weather}:\n15 degrees\n\n'
            f'Result of "get_current_date_utc", call {date}:\n1 May',
        },
    ]
    assert (one.arguments, two.arguments) == ({}, {})
    assert second.text == "The tool answered: 1 May"
    gradients = await client.feedback([first.graph, second.graph], {second.output: "Use Fahrenheit."})
    assert (gradients.status, gradients.failures) == ("completed", ())
    assert set(gradients.gradients) == {"weather", "location", "prefix", "date"}
    for id, input in {
        "weather": "tools/0/function/description",
        "location": "tools/0/function/parameters/properties/location/description",
        "prefix": "tool_templates/function_list/prefix",
        "date": "messages/4/content/0",
    }.items():
        (entry,) = gradients.gradients[id]
        assert (entry.input, entry.how) == (input, "model")
        assert "Use Fahrenheit." in entry.text


async def test_the_block_and_the_calls_are_shown_where_gradients_are_asked_for(pair):
    """What the backward model reads is what the model read."""
    client = await pair.client()
    first, second = await conversed(client, tools=[LEARNING_WEATHER, DATE], templates=LEARNING_TEMPLATES)
    _, two = pair.model.calls
    await client.feedback([first.graph, second.graph], {second.output: "Use Fahrenheit."}, wrt=["location"])
    prompts = [call.messages[-1]["content"] for call in pair.model.calls[2:]]
    assert [LIST_BLOCK in prompt for prompt in prompts] == [False, True]
    for message in two.messages:
        assert message["content"] in prompts[0]


async def test_a_third_step_may_bring_the_tools_again(pair):
    """The words stand in the first message, the earlier calls in theirs, and new calls have new ids."""
    client = await pair.client()
    tools = {"model": "m", "tools": [WEATHER, DATE]}
    first = await client.complete(messages=[QUESTION], **tools)
    ids = [call["id"] for call in first.message["tool_calls"]]
    answers = [{"role": "tool", "tool_call_id": id, "content": "It depends."} for id in ids]
    messages = [QUESTION, first.message, *answers]
    second = await client.complete(messages=messages, **tools)
    assert second.text == "The tool answered: It depends."
    again = {"role": "user", "content": "And the weather in Rome?"}
    third = await client.complete(messages=[*messages, second.message, again], **tools)
    assert functions(third.message) == [{**CALLED_WEATHER, "arguments": '{"location": "Rome"}'}]
    sent = pair.model.calls[2].messages
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert sent[0]["content"] == f"{BLOCK}\n\n{QUESTION['content']}"
    assert [BLOCK in message["content"] for message in sent] == [True, False, False, False, False]
    assert len({*ids, third.message["tool_calls"][0]["id"]}) == 3


async def test_calls_that_were_not_recorded_go_on_as_well(pair):
    """Without a Variable nobody wants a graph, and a message is its text and its calls."""
    client = await pair.client()
    first = await client.complete(model="m", messages=[QUESTION], tools=[WEATHER])
    (call,) = first.message["tool_calls"]
    answer = {"role": "tool", "tool_call_id": call["id"], "content": "15 degrees"}
    second = await client.complete(model="m", messages=[QUESTION, first.message, answer])
    assert pair.model.calls[1].messages[1:] == [
        {"role": "assistant", "content": line(CALLED_WEATHER, id=call["id"])},
        {"role": "user", "content": f'Result of "get_current_weather", call {call["id"]}:\n15 degrees'},
    ]
    assert (first.graph, second.text) == (None, "The tool answered: 15 degrees")


# ---- endpoints that have tools


async def native(stage, **tool_mode):
    """Start workers whose endpoint has tools of its own, and return a client."""
    endpoint = EndpointSettings(base_url=stage.model.base_url, **tool_mode)
    await stage.worker("forward", endpoints={"openai": endpoint})
    await stage.worker("backward")
    return await stage.client()


@pytest.mark.parametrize(
    ("configured", "asked"),
    [({"tool_mode": "native"}, {}), ({}, {"backtalk": {"tool_mode": "native"}})],
    ids=["endpoint", "job"],
)
async def test_an_endpoint_with_tools_gets_them(stage, configured, asked):
    """Descriptions as text, the choice in OpenAI's form; calls and results go as they are, and once."""
    client = await native(stage, **configured)
    tools = [LEARNING_WEATHER]
    first = await client.complete(
        model="m",
        messages=[SYSTEM, QUESTION],
        tools=tools,
        tool_choice="get_current_weather",
        parallel_tool_calls=False,
        **asked,
    )
    (one,) = stage.model.calls
    assert one.messages == [SYSTEM, QUESTION]
    assert one.arguments == {
        "tools": [WEATHER],
        "tool_choice": forced("get_current_weather"),
        "parallel_tool_calls": False,
    }
    assert functions(first.message) == [CALLED_WEATHER]
    (call,) = first.message["tool_calls"]
    answer = {"role": "tool", "tool_call_id": call["id"], "content": "15 degrees"}
    second = await client.complete(
        model="m", messages=[SYSTEM, QUESTION, first.message, answer], tools=tools, **asked
    )
    assert second.text == "The tool answered: 15 degrees"
    two = stage.model.calls[1]
    assert two.messages == [
        SYSTEM,
        QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        answer,
    ]
    assert two.arguments == {"tools": [WEATHER]}
    gradients = await client.feedback([first.graph, second.graph], {second.output: "Use Fahrenheit."})
    assert (gradients.status, set(gradients.gradients)) == ("completed", {"weather", "location"})
    # both steps had the tools
    assert [len(gradients.gradients[id]) for id in ("weather", "location")] == [2, 2]


async def test_a_job_may_have_its_tools_injected_all_the_same(stage):
    """Its own words say so, or its mode."""
    client = await native(stage, tool_mode="native")
    for more in ({"tool_templates": {}}, {"backtalk": {"tool_mode": "inject"}}):
        result = await client.complete(model="m", messages=[QUESTION], tools=[WEATHER, DATE], **more)
        assert functions(result.message) == [CALLED_WEATHER, CALLED_DATE]
        assert stage.model.calls[-1].messages[0]["content"] == f"{BLOCK}\n\n{QUESTION['content']}"
        assert stage.model.calls[-1].arguments == {}


async def test_what_only_words_can_do_is_refused_in_native_mode(stage):
    """By the caller where the job shows it, else by the worker."""
    client = await native(stage, tool_mode="native")
    job = {"model": "m", "messages": [QUESTION], "tools": [WEATHER]}
    result = await client.complete(**job, backtalk={"tool_retries": 1})
    assert (result.error.code, result.error.details["path"]) == ("invalid_message", "backtalk/tool_retries")
    with pytest.raises(Refused, match="tool_templates"):
        await client.complete(**job, tool_templates=TEMPLATES, backtalk={"tool_mode": "native"})
    assert stage.model.total == 0


# ---- streams


async def streamed(client, **fields):
    """Return the chunks of a stream and its result."""
    async with asyncio.timeout(20):
        *chunks, result = [part async for part in client.stream(model="m", **fields)]
    assert all(isinstance(chunk, CompletionChunk) for chunk in chunks)
    return chunks, result


def spelled(chunks, item=0, choice=0):
    """Return text, calls and reason to finish that the last run of an item spells."""
    run = [chunk.run for chunk in chunks if chunk.item == item][-1]
    mine = [chunk for chunk in chunks if (chunk.item, chunk.run, chunk.choice) == (item, run, choice)]
    assert [chunk.sequence for chunk in mine] == sorted({chunk.sequence for chunk in mine})
    text, calls, reason = "", {}, None
    for chunk in mine:
        (told,) = chunk.choices
        text += told["delta"].get("content") or ""
        reason = told["finish_reason"] or reason
        for call in told["delta"].get("tool_calls") or ():
            known = calls.setdefault(call["index"], {**call, "function": {}})["function"]
            said = call["function"]
            known |= {**said, "arguments": known.get("arguments", "") + said.get("arguments", "")}
    return text or None, [calls[at] for at in sorted(calls)], reason


def stated(result, item=0, choice=0):
    """Return the same of a result."""
    told = result.completions[item]["choices"][choice]
    calls = [{"index": at, **call} for at, call in enumerate(told["message"].get("tool_calls") or ())]
    return told["message"]["content"], calls, told["finish_reason"]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        "It is warm.",
        f"Let me see.\n{line(CALLED_WEATHER)}\nAnd then\n```\n{line(CALLED_DATE)}\n```\nJust a second.",
        f"{line(CALLED_DATE)} !function_call:{{ or so, ```no``` !function",
        f"{line(CALLED_WEATHER)}\n!function_call:{{",
    ],
    ids=["calls", "text", "both", "broken", "cut off"],
)
@pytest.mark.parametrize("n", [1, 2])
async def test_what_is_streamed_is_the_result(pair, reply, n):
    """Text and calls of every choice, and nothing of a call in the text."""
    if reply is not None:
        pair.model.rule(reply=reply)
    client = await pair.client()
    chunks, result = await streamed(client, messages=[QUESTION], tools=[WEATHER, DATE], n=n)
    assert result.status == "completed"
    for choice in range(n):
        assert spelled(chunks, choice=choice) == stated(result, choice=choice)
    assert {chunk.choice for chunk in chunks} == set(range(n))
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)


async def test_text_is_streamed_while_the_model_writes_it(pair):
    """Whatever comes after it, be it a call."""
    pair.model.rule(reply=f"{'Let me see. ' * 10}{line(CALLED_DATE)}", pause=0.02)
    client = await pair.client()
    chunks, result = await streamed(client, messages=[QUESTION], tools=[WEATHER, DATE])
    assert len([chunk for chunk in chunks if chunk.text]) > 1
    assert spelled(chunks) == stated(result)


async def test_a_native_call_is_streamed_in_its_pieces(stage):
    """As the endpoint spells it."""
    client = await native(stage, tool_mode="native")
    stage.model.rule(pause=0.01)
    chunks, result = await streamed(client, messages=[QUESTION], tools=[WEATHER])
    text, calls, reason = spelled(chunks)
    assert (text, calls, reason) == stated(result)
    assert len(chunks) > 4


@pytest.mark.parametrize("fields", [{}, {"inputs": {"city": ["Rome", "Oslo"]}}], ids=["one", "a batch"])
async def test_the_usage_is_streamed_to_those_who_ask(pair, fields):
    """Once for each item, in a chunk of its own."""
    client = await pair.client()
    message = {"role": "user", "content": "The weather in {city}"}
    chunks, result = await streamed(
        client, messages=[message], tools=[WEATHER], stream_options={"include_usage": True}, **fields
    )
    told = {chunk.item: chunk for chunk in chunks if chunk.usage is not None}
    assert len([chunk for chunk in chunks if chunk.usage is not None]) == len(told)
    assert [told[at].usage for at in sorted(told)] == [one["usage"] for one in result.completions]
    assert all((chunk.choice, chunk.choices) == (None, []) for chunk in told.values())
    assert [call.arguments["stream_options"] for call in pair.model.calls] == [{"include_usage": True}] * len(
        told
    )


async def test_a_stream_that_is_cut_off_starts_again(pair):
    """The next try is another run, and what the first one said does not count."""
    pair.model.rule(times=1, cut=True, pause=0.2, reply=f"{'Never mind. ' * 20}{line(CALLED_DATE)}")
    client = await pair.client()
    chunks, result = await streamed(client, messages=[QUESTION], tools=[WEATHER, DATE])
    runs = list(dict.fromkeys(chunk.run for chunk in chunks))
    assert len(runs) == 2
    assert "Never mind." in "".join(chunk.text for chunk in chunks if chunk.run == runs[0])
    text, calls, _ = spelled(chunks)
    assert (text, [call["function"] for call in calls]) == (None, [CALLED_WEATHER, CALLED_DATE])
    assert spelled(chunks) == stated(result)
    assert pair.model.total == 2


async def test_a_batch_is_streamed_side_by_side(pair):
    """Each chunk says of which item it is; an item that fails has none."""
    pair.model.rule(match="Oslo", status=400)
    client = await pair.client()
    chunks, result = await streamed(
        client,
        messages=[{"role": "user", "content": "The weather in {city}"}],
        inputs={"city": ["Rome", "Oslo", "Bern"]},
        tools=[WEATHER],
    )
    assert result.status == "partial"
    assert {chunk.item for chunk in chunks} == {0, 2}
    assert len({chunk.run for chunk in chunks}) == 2
    for item, city in ((0, "Rome"), (2, "Bern")):
        text, calls, reason = spelled(chunks, item)
        assert (text, calls, reason) == stated(result, item)
        assert [json.loads(call["function"]["arguments"])["location"] for call in calls] == [city]


# ---- a second chance


async def test_a_broken_call_is_asked_for_again(pair):
    """The model reads what was wrong with it; all usage counts, and the graph has the turn."""
    broken = '!function_call:{"name": "get_current_weather", "arguments": {"city": "Paris"}}'
    pair.model.rule(times=1, reply=broken)
    client = await pair.client()
    result = await client.complete(
        model="m",
        messages=[{"role": "user", "content": "The weather in Paris?"}],
        tools=[LEARNING_WEATHER],
        temperature=0,
        backtalk={"tool_retries": 1},
    )
    assert functions(result.message) == [CALLED_WEATHER]
    assert "tool_call_errors" not in choice_in(result)
    one, two = pair.model.calls
    assert two.messages[:-2] == one.messages
    assert two.messages[-2] == {"role": "assistant", "content": broken}
    told = two.messages[-1]
    assert told["role"] == "user"
    assert told["content"].startswith("Your last message could not be used:\n- the arguments of get_current")
    assert "'location' is a required property" in told["content"]
    assert (one.arguments, two.arguments) == ({"temperature": 0}, {"temperature": 0})
    (turn,) = result.graph.operations[0].injected.turns
    assert (turn.reply, turn.told) == (broken, told["content"])
    usage = result.completions[0]["usage"]
    assert usage["prompt_tokens"] > 2 * sum(len(m["content"]) for m in one.messages) // 4
    assert result.usage["prompt_tokens"] == usage["prompt_tokens"]
    gradients = await client.feedback(result.graph, {result.output: "Use Fahrenheit."})
    assert set(gradients.gradients) == {"weather", "location"}
    prompt = pair.model.calls[-1].messages[-1]["content"]
    assert broken in prompt
    assert told["content"] in prompt


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_call_that_stays_broken_is_answered_as_it_is(pair, retries):
    """After as many tries as the job allows."""
    pair.model.rule(reply="I would rather not.")
    client = await pair.client()
    result = await client.complete(
        model="m",
        messages=[QUESTION],
        tools=[WEATHER],
        tool_choice="required",
        backtalk={"tool_retries": retries},
    )
    choice = choice_in(result)
    assert (choice["message"]["content"], choice["finish_reason"]) == ("I would rather not.", "stop")
    assert [error["reason"] for error in choice["tool_call_errors"]] == ["no_call"]
    assert pair.model.total == 1 + retries


async def test_only_the_items_that_need_it_are_asked_again(pair):
    """The others stay as they are."""
    pair.model.rule(times=1, reply="!function_call:{")
    client = await pair.client()
    result = await client.complete(
        model="m",
        messages=[{"role": "user", "content": "The weather in {city}?"}],
        inputs={"city": ["Rome", "Oslo", "Bern"]},
        tools=[WEATHER],
        backtalk={"tool_retries": 3},
    )
    cities = [functions(one["choices"][0]["message"])[0]["arguments"] for one in result.completions]
    assert [json.loads(one)["location"] for one in cities] == ["Rome", "Oslo", "Bern"]
    assert pair.model.total == 4


async def test_each_choice_is_asked_again_by_itself(pair):
    """For a single choice, in a conversation of its own."""
    pair.model.rule(times=1, reply="!function_call:{")
    pair.model.rule(times=1, reply=line(CALLED_DATE))
    client = await pair.client()
    result = await client.complete(
        model="m", messages=[QUESTION], tools=[WEATHER, DATE], n=2, backtalk={"tool_retries": 1}
    )
    choices = result.completions[0]["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert sorted(len(functions(choice["message"])) for choice in choices) == [1, 2]
    assert [call.arguments for call in pair.model.calls] == [{"n": 2}, {}, {}]
    assert [len(call.messages) for call in pair.model.calls] == [1, 3, 3]
