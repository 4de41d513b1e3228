"""The simulated model over real HTTP: what it answers, counts, and breaks on request."""

import asyncio
import io
import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from backtalk.local.simulated_model import Call, Rule, SimulatedModel

Http = aiohttp.ClientSession
Json = dict[str, Any]

PATH = "chat/completions"
HI: Json = {
    "model": "any/model",
    "messages": [{"role": "user", "content": "Hi there"}],
    "temperature": 0,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def model() -> AsyncIterator[SimulatedModel]:
    async with SimulatedModel() as model:
        yield model


@pytest.fixture
async def http(model: SimulatedModel) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(f"{model.base_url}/", timeout=timeout) as session:
        yield session


def root(model: SimulatedModel) -> str:
    return model.base_url.removesuffix("/v1")


async def ask(http: Http, body: Json = HI) -> tuple[int, Json]:
    async with http.post(PATH, json=body) as response:
        return response.status, await response.json()


async def text_of(http: Http, body: Json = HI) -> str:
    _, completion = await ask(http, body)
    return str(completion["choices"][0]["message"]["content"])


async def stream(http: Http, **arguments: Any) -> list[Any]:
    """The data of every event, decoded; the closing one as it is."""
    async with http.post(PATH, json={**HI, "stream": True, **arguments}) as response:
        assert response.content_type == "text/event-stream"
        lines = (await response.text()).split("\n\n")
    events = [line.removeprefix("data: ") for line in lines if line]
    return [event if event == "[DONE]" else json.loads(event) for event in events]


async def read_into(received: bytearray, response: aiohttp.ClientResponse) -> None:
    async for piece in response.content.iter_any():
        received += piece


def said(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks[:-1] for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


# ---- completions


async def test_a_completion_has_the_shape_of_openai_and_says_that_it_is_simulated(http: Http) -> None:
    """Everything a client reads is there, beside two marks that no real model answered."""
    async with http.post(PATH, json=HI) as response:
        completion = await response.json()
        assert response.headers["x-simulated-model"] == "true"
    assert completion["object"] == "chat.completion"
    assert completion["model"] == "any/model"
    assert completion["system_fingerprint"] == "simulated"
    assert completion["choices"][0]["message"]["content"] == "You said: Hi there"
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["usage"] == {"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7}


async def test_the_same_body_gets_the_same_completion(http: Http) -> None:
    """Neither id nor time of creation vary; another body has another id."""
    first, second = await ask(http), await ask(http)
    _, other = await ask(http, {**HI, "seed": 1})
    assert first == second
    assert first[1]["id"] != other["id"]


async def test_several_choices_are_numbered(http: Http) -> None:
    """`n` gives as many choices, in order."""
    _, completion = await ask(http, {**HI, "n": 3})
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in completion["choices"]}) == 3


async def test_a_tool_call_has_no_content(http: Http) -> None:
    """A called tool comes with an id, its name and arguments as JSON text."""
    _, completion = await ask(http, {**HI, "tools": [WEATHER], "tool_choice": "required"})
    (choice,) = completion["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Hi"}'}
    assert call["id"].startswith("call_")


async def test_models_and_health_can_be_asked(http: Http, model: SimulatedModel) -> None:
    """Both say that they belong to a simulated model."""
    async with http.get("models") as response:
        assert [entry["id"] for entry in (await response.json())["data"]] == ["simulated"]
    async with http.get(f"{root(model)}/healthz") as response:
        assert await response.json() == {"status": "ok", "simulated": True}


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"\xff", b"", b'{"model": "any"}'])
async def test_a_malformed_request_is_refused(http: Http, body: bytes) -> None:
    """What is no request gets OpenAI's error object."""
    async with http.post(PATH, data=body) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["type"] == "invalid_request_error"
    assert "simulated" in error["message"]


async def test_an_unknown_path_is_refused_with_the_right_one(http: Http, model: SimulatedModel) -> None:
    """A wrong base URL is the commonest mistake, so the refusal names the path."""
    async with http.post(f"{root(model)}/chat/completions", json=HI) as response:
        assert response.status == 404
        assert "/v1/chat/completions" in (await response.json())["error"]["message"]


async def test_a_large_request_is_taken(http: Http) -> None:
    """Messages of many megabytes are ordinary input."""
    body = {"model": "any", "messages": [{"role": "user", "content": "blue sky " * 1_000_000}]}
    async with http.post(PATH, data=io.BytesIO(json.dumps(body).encode())) as response:
        assert (await response.json())["usage"]["prompt_tokens"] == 2_250_000


# ---- streams


async def test_a_stream_adds_up_to_the_completion(http: Http) -> None:
    """The role comes first, then pieces of the text, then the reason to finish, then the end mark."""
    *chunks, done = events = await stream(http)
    assert done == "[DONE]"
    assert said(events) == await text_of(http)
    assert len(chunks) > 4
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["system_fingerprint"] for chunk in chunks} == {"simulated"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert not any("usage" in chunk for chunk in chunks)


async def test_a_stream_ends_with_the_usage_when_asked(http: Http) -> None:
    """The usage stands in a chunk of its own without choices."""
    *chunks, last, _ = await stream(http, stream_options={"include_usage": True})
    _, completion = await ask(http)
    assert last["choices"] == []
    assert last["usage"] == completion["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)


async def test_several_choices_take_turns_in_a_stream(http: Http) -> None:
    """Pieces of different choices are mixed, and each choice adds up."""
    events = await stream(http, n=2)
    order = [chunk["choices"][0]["index"] for chunk in events[:-1]]
    assert order[:4] == [0, 1, 0, 1]
    assert (said(events, 0), said(events, 1)) == ("You said: Hi there", "You said: Hi there (variant 2)")


async def test_a_tool_call_is_streamed_in_pieces(http: Http) -> None:
    """Id and name come once, the arguments in pieces."""
    events = await stream(http, tools=[WEATHER], tool_choice="required")
    deltas = [chunk["choices"][0]["delta"] for chunk in events[:-1]]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert calls[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city": "Hi"}'
    assert [call["id"] for call in calls if "id" in call] == [calls[0]["id"]]


async def test_the_openai_client_understands_completions_and_streams(model: SimulatedModel) -> None:
    """The client that most programs use reads both without complaint."""
    async with AsyncOpenAI(base_url=model.base_url, api_key="none", max_retries=0) as client:
        completion = await client.chat.completions.create(**HI)
        chunks = [chunk async for chunk in await client.chat.completions.create(**HI, stream=True)]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert completion.choices[0].message.content == streamed == "You said: Hi there"


# ---- counting


async def test_calls_are_counted_in_order_of_arrival(http: Http, model: SimulatedModel) -> None:
    """Every request counts, also a refused one; arguments stand apart from model and messages."""
    model.rule(match="second", status=503)
    await ask(http)
    await ask(http, {"model": "second", "messages": HI["messages"]})
    await ask(http, {"model": "third"})
    assert model.calls == (
        Call("any/model", HI["messages"], {"temperature": 0}, 200),
        Call("second", HI["messages"], {}, 503),
        Call("", [], {}, 400),
    )


async def test_the_control_plane_shows_the_calls(http: Http, model: SimulatedModel) -> None:
    """Another process sees what `calls` shows in this one."""
    await ask(http)
    async with http.get(f"{root(model)}/control/calls") as response:
        shown = await response.json()
    call = {"model": "any/model", "messages": HI["messages"], "arguments": {"temperature": 0}, "status": 200}
    assert shown == {"total": 1, "calls": [call]}


async def test_the_last_thousand_calls_are_kept_and_all_are_counted(
    http: Http, model: SimulatedModel
) -> None:
    """Memory stays bounded in a long test."""
    for _ in range(11):
        await asyncio.gather(*(ask(http) for _ in range(100)))
    assert (model.total, len(model.calls)) == (1100, 1000)


async def test_a_reset_forgets_calls_and_rules(http: Http, model: SimulatedModel) -> None:
    """After a reset the model is as new."""
    model.rule(status=500)
    await ask(http)
    async with http.post(f"{root(model)}/control/reset") as response:
        assert response.status == 200
    assert (model.total, model.calls) == (0, ())
    assert (await ask(http))[0] == 200


# ---- rules


async def test_a_rule_applies_as_often_as_it_says(http: Http, model: SimulatedModel) -> None:
    """The first rule with uses left wins; then the next, then none."""
    model.rule(times=2, status=500)
    model.rule(times=1, status=429, retry_after=3, code="slow_down")
    assert [(await ask(http))[0] for _ in range(4)] == [500, 500, 429, 200]


async def test_a_rule_applies_only_to_what_it_matches(http: Http, model: SimulatedModel) -> None:
    """The match is looked for in the body and in the texts, however JSON writes them."""
    model.rule(match='says "né"', reply="matched")
    other = {"model": "any", "messages": [{"role": "user", "content": 'She says "né".'}]}
    assert await text_of(http, other) == "matched"
    assert await text_of(http) != "matched"


async def test_an_error_has_the_shape_of_openai(http: Http, model: SimulatedModel) -> None:
    """Status, kind, code and the time to wait are as a real server gives them."""
    model.rule(status=429, retry_after=1.5, code="slow_down")
    async with http.post(PATH, json=HI) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "1.5")
        assert response.headers["x-simulated-model"] == "true"
        error = (await response.json())["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "slow_down")
    assert "simulated" in error["message"]


async def test_a_stream_that_fails_at_once_fails_without_events(http: Http, model: SimulatedModel) -> None:
    """An error is answered as JSON, also when a stream was asked for."""
    model.rule(status=500)
    status, body = await ask(http, {**HI, "stream": True})
    assert (status, body["error"]["type"]) == (500, "server_error")


async def test_a_raw_body_is_sent_as_it_is(http: Http, model: SimulatedModel) -> None:
    """A proxy's page in HTML can be played."""
    model.rule(status=502, body="<html>bad gateway</html>", content_type="text/html")
    async with http.post(PATH, json=HI) as response:
        assert (response.status, response.content_type) == (502, "text/html")
        assert await response.text() == "<html>bad gateway</html>"


async def test_a_reply_can_be_dictated(http: Http, model: SimulatedModel) -> None:
    """Text and reason to finish are the rule's, also in a stream."""
    model.rule(reply="Only this", finish_reason="length")
    _, completion = await ask(http)
    events = await stream(http)
    assert completion["choices"][0]["message"]["content"] == said(events) == "Only this"
    assert completion["choices"][0]["finish_reason"] == "length"
    assert events[-2]["choices"][0]["finish_reason"] == "length"


async def test_a_delay_holds_only_its_own_request_up(http: Http, model: SimulatedModel) -> None:
    """Other requests are answered in the meantime."""
    model.rule(match="slow", delay=0.3)
    slow = asyncio.create_task(ask(http, {**HI, "user": "slow"}))
    await ask(http)
    assert not slow.done()
    started = time.monotonic()
    assert (await slow)[0] == 200
    assert time.monotonic() - started < 5


async def test_latency_holds_every_reply_up() -> None:
    """The default delay is the constructor's."""
    async with SimulatedModel(latency=0.1) as model, aiohttp.ClientSession(f"{model.base_url}/") as http:
        started = time.monotonic()
        await ask(http)
        assert time.monotonic() - started >= 0.1


async def test_a_stalled_request_is_counted_and_never_answered(http: Http, model: SimulatedModel) -> None:
    """The client gives up; the server goes on with others."""
    model.rule(times=1, stall=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await ask(http)
    assert [call.status for call in model.calls] == [0]
    assert (await ask(http))[0] == 200


async def test_the_end_does_not_wait_for_a_stalled_request() -> None:
    """Leaving the context is quick, whatever is in progress."""
    async with SimulatedModel() as model, aiohttp.ClientSession(f"{model.base_url}/") as http:
        model.rule(stall=True)
        stalled = asyncio.create_task(ask(http))
        while not model.calls:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        await model.__aexit__()
        assert time.monotonic() - started < 3
        with pytest.raises(aiohttp.ClientError):
            await stalled


@pytest.mark.parametrize("arguments", [{}, {"stream": True}])
async def test_a_cut_answer_breaks_off_in_the_middle(
    http: Http, model: SimulatedModel, arguments: Json
) -> None:
    """Half of the body arrives, then the connection is gone; the next answer is whole."""
    model.rule(times=1, cut=True)
    async with http.post(PATH, json={**HI, **arguments}) as response:
        assert response.status == 200
        received = bytearray()
        with pytest.raises(aiohttp.ClientPayloadError):
            await read_into(received, response)
    assert b"any/model" in received
    assert b"[DONE]" not in received
    assert not received.endswith(b"}")
    assert (await ask(http))[0] == 200


async def test_rules_of_the_control_plane_replace_those_in_force(http: Http, model: SimulatedModel) -> None:
    """What is sent last holds; an empty list lifts all rules."""
    model.rule(status=500)
    for rules, status in (([{"match": None, "times": None, "status": 503}], 503), ([], 200)):
        async with http.post(f"{root(model)}/control/rules", json=rules) as response:
            assert await response.json() == {"rules": len(rules)}
        assert (await ask(http))[0] == status


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"status": 500}, "rules: body"),
        ([{"statsu": 500}], "statsu"),
        ([{"status": 99}], "must be from 200 to 599"),
        ([{"code": "slow_down"}], "needs a `status`"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(
    http: Http, model: SimulatedModel, rules: object, reason: str
) -> None:
    """A misspelt rule must not pass for one that does nothing."""
    async with http.post(f"{root(model)}/control/rules", json=rules) as response:
        assert response.status == 400
        assert reason in (await response.json())["error"]["message"]


async def test_a_rule_is_returned_as_it_was_added(model: SimulatedModel) -> None:
    """Fields that are not given have their defaults."""
    assert model.rule(status=500) == Rule(status=500)


# ---- the command


async def command(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "backtalk.local.simulated_model",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_says_where_it_listens_and_ends_cleanly(number: signal.Signals) -> None:
    """One line when ready, nothing else, and exit status 0 on either signal."""
    process = await command("--port", "0", "--latency", "0.01")
    assert process.stdout
    line = (await process.stdout.readline()).decode()
    found = re.fullmatch(r"simulated model on (http://127\.0\.0\.1:\d+/v1)\n", line)
    assert found
    async with aiohttp.ClientSession(f"{found[1]}/") as http:
        assert await text_of(http) == "You said: Hi there"
        process.send_signal(number)
        assert await asyncio.wait_for(process.communicate(), 10) == (b"", b"")
    assert process.returncode == 0


async def test_the_command_says_when_the_port_is_taken(model: SimulatedModel) -> None:
    """The message names the address and the remedy."""
    port = root(model).rpartition(":")[2]
    process = await command("--port", port)
    _, errors = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}; choose another --port" in errors.decode()


async def test_the_command_refuses_a_latency_below_zero() -> None:
    """A wrong argument is a usage error."""
    process = await command("--latency", "-1")
    _, errors = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 2
    assert "-1 is no number of seconds" in errors.decode()
