"""The adapter that streams from an endpoint over HTTP: the same completion, heard while it is written."""

from __future__ import annotations

import asyncio
import gc
import json
import time

import pytest

from backtalk.local.simulated_model import SimulatedModel
from backtalk.runtime.openai_client import Endpoint
from backtalk.runtime.openai_model import ATTEMPTS, OpenAIModel
from backtalk.wire.errors import BacktalkError, Code, Refused, Unavailable

STREAM = "text/event-stream"
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


class Ear:
    """Hears one call: `tries` holds what each of its tries said. `wait` waits for so many chunks of the last."""

    def __init__(self):
        self.tries = []

    @property
    def chunks(self):
        return self.tries[-1]

    @property
    def text(self):
        deltas = [choice["delta"] for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)

    def begin(self):
        self.tries.append([])

    def hear(self, chunk, /):
        self.chunks.append(chunk)

    async def wait(self, chunks=1):
        async with asyncio.timeout(10):
            while not self.tries or len(self.chunks) < chunks:
                await asyncio.sleep(0.01)


@pytest.fixture
async def model():
    """Return an endpoint; no worker and no broker stand between it and the adapter."""
    async with SimulatedModel() as simulated:
        yield simulated


@pytest.fixture
def ear():
    return Ear()


@pytest.fixture
def serve(model):
    """Return the opener of an adapter to the simulated model, which takes one call at a time."""

    def opened(*, timeout=10.0, concurrency=1):
        return OpenAIModel({"openai": Endpoint("openai", model.base_url, None, concurrency, timeout)})

    return opened


@pytest.fixture
async def adapter(serve):
    async with serve() as opened:
        yield opened


def asking(content="Hello there", **fields):
    return {"model": "m", "messages": [{"role": "user", "content": content}], **fields}


def events(*values, done=True):
    """Return the body of an event stream."""
    told = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return "".join(f"data: {value}\n\n" for value in [*told, *(["[DONE]"] if done else [])])


def chunk(content="", finish=None, **fields):
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish, **fields}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}


async def failure(adapter, ear, **fields):
    with pytest.raises(BacktalkError) as caught:
        await adapter.complete("openai", asking(**fields), "owner", ear)
    return caught.value


async def gone(model):
    """Wait until the endpoint has no connection left."""
    async with asyncio.timeout(10):
        while model._runner.server.connections:
            await asyncio.sleep(0.01)


# ---- the same completion


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 2},
        {"content": "Grüße 🌍\r\nand\u2028more"},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "look_up"}}, "n": 2},
    ],
    ids=["plain", "two choices", "all kinds of characters", "a tool", "a tool in two choices"],
)
async def test_a_streamed_completion_is_the_one_that_was_not_streamed(adapter, ear, fields):
    """Choices, calls of tools, usage and all: who reads it cannot tell."""
    whole = await adapter.complete("openai", asking(**fields), "owner")
    streamed = await adapter.complete("openai", asking(**fields), "owner", ear)
    # these follow from the body, which differs in asking for a stream; nobody says "no refusal" in a stream
    for completion in (whole, streamed):
        completion.body.pop("id")
        for choice in completion.choices:
            choice["message"].pop("refusal", None)
            for call in choice["message"].get("tool_calls", ()):
                assert call.pop("id").startswith("call_")
    assert streamed == whole
    assert streamed.usage["total_tokens"] > 0
    assert len(ear.tries) == 1


async def test_chunks_are_heard_as_the_endpoint_sent_them(adapter, ear):
    """Every one of them and in order, the last with the usage."""
    completion = await adapter.complete("openai", asking(n=2), "owner", ear)
    assert {chunk["object"] for chunk in ear.chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in ear.chunks} == {completion.body["id"]}
    assert ear.chunks[-1]["usage"] == completion.usage
    assert completion.body["object"] == "chat.completion"
    alone = [c for c in ear.chunks if c["choices"] and c["choices"][0]["index"] == 1]
    spelled = "".join(c["choices"][0]["delta"].get("content") or "" for c in alone)
    assert spelled == completion.choices[1]["message"]["content"] != ""


async def test_chunks_are_heard_while_the_rest_is_still_being_written(model, adapter, ear):
    """A slow endpoint is heard from its first word."""
    model.rule(pause=0.05)
    call = asyncio.create_task(adapter.complete("openai", asking(), "owner", ear))
    await ear.wait(2)
    assert not call.done()
    completion = await call
    assert ear.text == completion.choices[0]["message"]["content"]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"include_usage": True}),
        ({"stream": False, "stream_options": None}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False, "x": 1}}, {"include_usage": True, "x": 1}),
    ],
)
async def test_the_adapter_asks_for_the_stream_and_its_usage(model, adapter, ear, given, sent):
    """Other options of a stream stay, and the caller's body is left as it was."""
    body = asking(**given, temperature=0)
    before = json.dumps(body)
    await adapter.complete("openai", body, "owner", ear)
    assert model.calls[0].arguments == {"stream": True, "stream_options": sent, "temperature": 0}
    assert json.dumps(body) == before


async def test_nobody_who_listens_means_no_stream(model, adapter):
    """What nobody hears is asked for whole."""
    await adapter.complete("openai", asking(), "owner")
    assert model.calls[0].arguments == {}


async def test_connections_are_used_again(model, adapter, ear):
    """A stream that was read to its end leaves its connection to the next call."""
    for _ in range(3):
        await adapter.complete("openai", asking(), "owner", ear)
    assert len(model._runner.server.connections) == 1


async def test_a_server_that_streams_under_a_wrong_name_is_understood(model, adapter, ear):
    """Some call their events plain text."""
    model.rule(body=events(chunk("Hi"), chunk("", "stop")), content_type="text/plain")
    completion = await adapter.complete("openai", asking(), "owner", ear)
    assert completion.choices[0]["message"] == {"role": "assistant", "content": "Hi"}


async def test_a_stream_may_end_without_the_last_word(model, adapter, ear):
    """`[DONE]` is a courtesy; what counts is that every choice came to its end. Comments are none of it."""
    body = ": keep-alive\n\n" + events(chunk("Hi", "stop"), done=False)
    model.rule(body=body, content_type=f"{STREAM}; charset=utf-8")
    completion = await adapter.complete("openai", asking(), "owner", ear)
    assert completion.body["choices"][0]["finish_reason"] == "stop"
    assert completion.usage == {}


# ---- what may pass is tried again


UNFINISHED = {
    "cut": {"cut": True},
    "ended too early": {"body": events(chunk("Hi"))},
    "ended within an event": {"body": events(chunk("Hi"), chunk("", "stop"))[:-60]},
    "empty": {"body": ""},
    "done at once": {"body": events()},
    "an error object": {"body": events(chunk("Hi"), {"error": {"message": "overloaded", "code": 529}})},
    "an error text": {"body": events(chunk("Hi"), {"error": "overloaded"})},
    "an error at once": {"body": events({"error": {"message": "overloaded"}}), "content_type": "text/plain"},
    "no JSON": {"body": events(chunk("Hi"), "{")},
    "no text": {"body": events(chunk("Hi"), "")},
    "too deep": {"body": events(chunk("Hi"), "[" * 100_000)},
    "a number that is too long": {"body": events(chunk("Hi"), "9" * 5000)},
    "an odd chunk": {"body": events(chunk("Hi"), chunk("", "stop", index=-1))},
    "a null chunk": {"body": events(chunk("Hi"), None)},
    "an event of an assistant": {"body": f"event: thread.message\n{events(chunk('Hi', 'stop'))}"},
}


@pytest.mark.parametrize("fault", UNFINISHED.values(), ids=UNFINISHED)
async def test_a_stream_that_was_not_completed_is_tried_again(model, adapter, ear, fault):
    """Who listens is told to begin again, and hears a whole completion."""
    model.rule(times=1, **{"content_type": STREAM, **fault})
    completion = await adapter.complete("openai", asking(), "owner", ear)
    assert (len(ear.tries), model.total) == (2, 2)
    assert ear.text == completion.choices[0]["message"]["content"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (UNFINISHED["cut"], "cannot be reached"),
        (UNFINISHED["ended too early"], "did not complete its stream: it ended before choice 0 did"),
        (UNFINISHED["empty"], "did not complete its stream: it ended without any choice"),
        (UNFINISHED["an error object"], "sent an error in its stream: overloaded"),
        (UNFINISHED["no JSON"], "did not complete its stream: an event is not JSON"),
        (UNFINISHED["an odd chunk"], "did not complete its stream: a chunk has 1 fields"),
    ],
)
async def test_a_stream_that_is_never_completed_means_that_the_endpoint_is_unavailable(
    model, adapter, ear, fault, told
):
    """The message says how it ended, and a later try may help."""
    model.rule(**{"content_type": STREAM, **fault})
    error = await failure(adapter, ear)
    assert isinstance(error, Unavailable)
    assert error.error.code == Code.UPSTREAM_UNAVAILABLE
    assert told in str(error)
    assert error.error.details == {"endpoint": "openai"}
    assert len(ear.tries) == model.total == ATTEMPTS


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_status_that_may_pass_is_tried_again(model, adapter, ear, status):
    """It comes before the stream: nothing was heard, and the try counts all the same."""
    model.rule(times=1, status=status, retry_after=0.3)
    began = time.monotonic()
    completion = await adapter.complete("openai", asking(), "owner", ear)
    assert time.monotonic() - began >= 0.3
    assert [bool(heard) for heard in ear.tries] == [False, True]
    assert ear.text == completion.choices[0]["message"]["content"]


async def test_a_status_whose_body_breaks_off_is_tried_again(model, adapter, ear):
    """The SDK reads the body of an error by itself, and lets through what happens there."""
    model.rule(times=1, status=503, cut=True)
    await adapter.complete("openai", asking(), "owner", ear)
    assert len(ear.tries) == 2


async def test_a_long_retry_after_is_not_waited_for(model, adapter, ear):
    """It is for a rung."""
    model.rule(status=429, retry_after=30)
    error = await failure(adapter, ear)
    assert (error.retry_after, error.error.details["status"]) == (30, 429)
    assert (ear.tries, model.total) == ([[]], 1)


# ---- what will not pass


@pytest.mark.parametrize("status", [302, 304, 307, 400, 404, 422])
async def test_a_refusal_is_no_stream(model, adapter, ear, status):
    """What the endpoint rejects it will reject again; a redirect could carry the key somewhere else."""
    model.rule(status=status)
    error = await failure(adapter, ear)
    assert isinstance(error, Refused)
    assert (error.error.code, error.error.details["status"]) == (Code.UPSTREAM_REJECTED, status)
    assert (ear.tries, model.total) == ([[]], 1)


WHOLE = json.dumps({"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (WHOLE, "application/json"),
        (json.dumps(json.loads(WHOLE), indent=2), "application/json"),
        ("<html>\n\n<p>Hello</p>\n</html>", "text/html"),
        ("data: <p>Hello</p>\n\n", "text/html"),
        ("", "application/json"),
        ('{"error": {"message": "no"}}', "application/json"),
    ],
    ids=["JSON", "JSON in lines", "HTML", "HTML like an event", "nothing", "an error"],
)
async def test_an_answer_that_is_no_stream_is_told_as_such(model, adapter, ear, body, kind):
    """Once it may be a hiccup; twice the endpoint does not stream."""
    model.rule(body=body, content_type=kind)
    error = await failure(adapter, ear)
    assert isinstance(error, Refused)
    assert error.error.code == Code.UPSTREAM_REJECTED
    assert error.error.details == {"endpoint": "openai", "status": 200}
    assert f"it does not stream: asked to, it sent {kind}" in str(error)
    assert (ear.tries, model.total) == ([[], []], 2)


async def test_an_answer_that_is_no_stream_may_be_a_hiccup(model, adapter, ear):
    """The next try may be a stream."""
    model.rule(times=1, body="<html>", content_type="text/html")
    completion = await adapter.complete("openai", asking(), "owner", ear)
    assert ear.text == completion.choices[0]["message"]["content"]


# ---- time, and cancellation


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        ({"stall": True}, False),
        ({"stall": True, "cut": True}, True),
        ({"pause": 0.12}, True),
        ({"stall": True, "cut": True, "status": 500}, False),
    ],
    ids=["before it", "within it", "word by word", "in an error"],
)
async def test_the_timeout_is_for_the_whole_stream(model, serve, ear, fault, heard):
    """However lively it is: a stream takes no longer than an answer might that comes at once."""
    model.rule(**fault)
    async with serve(timeout=0.6) as adapter:
        began = time.monotonic()
        error = await failure(adapter, ear, content="Tell me a long story about " + "cats " * 30)
        assert time.monotonic() - began < 6
        assert isinstance(error, Unavailable)
        assert error.error.code == Code.UPSTREAM_TIMEOUT
        assert "did not answer in time" in str(error)
        assert [bool(chunks) for chunks in ear.tries] == [heard] * ATTEMPTS
        await gone(model)


@pytest.mark.parametrize(
    ("fault", "chunks"),
    [
        ({"stall": True}, 0),
        ({"stall": True, "cut": True}, 1),
        ({"stall": True, "cut": True, "status": 500}, 0),
    ],
    ids=["before it", "within it", "in an error"],
)
async def test_a_cancelled_call_closes_its_connection_and_leaves_the_gate(model, adapter, ear, fault, chunks):
    """Nobody pays for what nobody waits for, and the next call has its place."""
    model.rule(times=1, **fault)
    call = asyncio.create_task(adapter.complete("openai", asking(), "owner", ear))
    await ear.wait(chunks)
    while not model.total:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await gone(model)
    async with asyncio.timeout(5):
        await adapter.complete("openai", asking(), "another", ear)
    assert len(ear.tries) == 2


async def test_the_gate_is_held_as_long_as_the_stream_lasts(model, adapter, ear):
    """An endpoint that takes one call at a time gets the next one after the last chunk."""
    model.rule(times=1, pause=0.1)
    first = asyncio.create_task(adapter.complete("openai", asking(), "one", ear))
    await ear.wait()
    second = asyncio.create_task(adapter.complete("openai", asking(), "other", Ear()))
    await asyncio.sleep(0.1)
    assert (first.done(), model.total) == (False, 1)
    await asyncio.gather(first, second)
    assert model.total == 2


@pytest.mark.parametrize("fault", [{}, {"pause": 0.02}], ids=["at once", "slowly"])
async def test_a_listener_that_fails_closes_the_stream(model, adapter, fault):
    """Its own error comes through, and leaves nothing behind."""

    class Deaf(Ear):
        def hear(self, chunk, /):
            raise LookupError("no ear")

    model.rule(**fault)
    with pytest.raises(LookupError):
        await adapter.complete("openai", asking(), "owner", Deaf())
    gc.collect()
    await gone(model)
    assert (await adapter.complete("openai", asking(), "owner", Ear())).choices
    assert model.total == 2


async def test_many_streams_at_once_do_not_mix(model, serve):
    """Each listener hears its own call."""
    model.rule(pause=0.001)
    async with serve(concurrency=20) as adapter:
        ears = [Ear() for _ in range(60)]
        calls = (
            adapter.complete("openai", asking(f"Number {at}"), at % 7, ear) for at, ear in enumerate(ears)
        )
        completions = await asyncio.gather(*calls)
    said = [completion.choices[0]["message"]["content"] for completion in completions]
    assert [ear.text for ear in ears] == said
    assert all(f"Number {at}" in text for at, text in enumerate(said))
    assert len(model._runner.server.connections) <= 20
