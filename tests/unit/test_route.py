"""The way to one endpoint: what its answers do to the calls of others. Real HTTP, and probes without pauses."""

from __future__ import annotations

import asyncio

import pytest
from pydantic_core import to_json

from backtalk.local.simulated_model import SimulatedModel
from backtalk.runtime import route as route_module
from backtalk.runtime.metrics import Metrics
from backtalk.runtime.openai_client import Endpoint
from backtalk.runtime.route import Route
from backtalk.wire.errors import Closed, Refused, Unavailable

BODY = to_json({"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
STREAMING = to_json({"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True})


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(route_module, "FIRST_PROBE_SECONDS", 0.01)
    monkeypatch.setattr(route_module, "LONGEST_PROBE_SECONDS", 0.02)


@pytest.fixture
async def model():
    async with SimulatedModel(api_key="good") as model:
        yield model


class Way:
    """A route to a model, and what it was after each change: closed or not."""

    def __init__(self, model, *, key="good", concurrency=8, timeout=5.0):
        self.changes = []
        endpoint = Endpoint("openai", model.base_url, key, concurrency, timeout)
        self.metrics = Metrics("forward")
        self.route = Route(endpoint, lambda: self.changes.append(self.route.closed), self.metrics)

    async def __aenter__(self):
        await self.route.__aenter__()
        return self

    async def __aexit__(self, *exc):
        await self.route.__aexit__(*exc)

    async def once(self, owner="owner"):
        return await self.route.once(BODY, "m", owner, None)

    async def changed(self, times):
        async with asyncio.timeout(5):
            while len(self.changes) < times:
                await asyncio.sleep(0.005)


async def test_a_completion_comes_back_as_it_was_sent(model):
    """The endpoint stays open, and nobody is told of a change."""
    async with Way(model) as way:
        assert (await way.once())["choices"][0]["message"]["content"] == "You said: Hello"
        assert way.changes == []


async def test_no_more_calls_than_allowed_are_on_the_way(model):
    """The others wait for their turn."""
    model.rule(delay=0.1)
    async with Way(model, concurrency=2) as way:
        calls = [asyncio.ensure_future(way.once(at)) for at in range(4)]
        await asyncio.sleep(0.06)
        assert model.total == 2
        await asyncio.gather(*calls)
    assert model.total == 4


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 400}], ids=str)
async def test_a_call_that_failed_leaves_its_place(model, fault):
    """Whatever came of it, the next one gets in, and nothing closes."""
    model.rule(**fault, times=3)
    async with Way(model, concurrency=1) as way:
        for _ in range(3):
            with pytest.raises((Unavailable, Refused)):
                await way.once()
        assert await asyncio.wait_for(way.once(), 5)
        assert way.changes == []


async def test_a_call_that_is_given_up_leaves_its_place(model):
    """A deadline in the middle of it costs nobody else anything."""
    model.rule(stall=True, times=1)
    async with Way(model, concurrency=1) as way:
        call = asyncio.ensure_future(way.once())
        async with asyncio.timeout(5):
            while not model.total:
                await asyncio.sleep(0.005)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await asyncio.wait_for(way.once(), 5)


async def test_a_429_lets_fewer_calls_through(model):
    """One at a time after a refusal of two; all that were sent are told what the endpoint said."""
    model.rule(delay=0.02, status=429, times=2)
    async with Way(model, concurrency=2) as way:
        ends = await asyncio.gather(way.once("a"), way.once("b"), return_exceptions=True)
        assert {end.error.details["status"] for end in ends} == {429}
        model.rule(delay=0.1)
        calls = [asyncio.ensure_future(way.once(at)) for at in range(2)]
        await asyncio.sleep(0.06)
        assert model.total == 3
        await asyncio.gather(*calls)
        assert way.changes == []


async def test_a_long_429_for_many_closes_the_way(model):
    """Who comes then is told by whom and for how long, and is no call."""
    model.rule(status=429, retry_after=50)
    async with Way(model) as way:
        for owner in "abc":
            with pytest.raises(Unavailable):
                await way.once(owner)
        assert way.changes == [True]
        with pytest.raises(
            Closed, match=r"'openai' has too much to do \(429\) and asked to wait 50 s"
        ) as caught:
            await way.once()
        assert (caught.value.retry_after, model.total) == (50, 3)


async def test_a_refused_key_closes_the_way_until_it_is_taken_again(model):
    """The call that found out, those that wait and those that come are told alike; probes open it."""
    async with Way(model, concurrency=1) as way:
        await way.once()
        model.api_key = "another"
        ends = await asyncio.gather(*(way.once(at) for at in range(5)), return_exceptions=True)
        assert {type(end) for end in ends} == {Closed}
        assert {str(end) for end in ends} == {
            "endpoint 'openai' refuses the worker's key; its operator has to check it"
        }
        assert way.changes == [True]
        refused = model.refused
        await asyncio.sleep(0.1)
        assert model.refused > refused
        assert way.changes == [True]
        model.api_key = "good"
        await way.changed(2)
        assert (await way.once())["choices"]
    assert way.changes == [True, False]
    # one more where the key turned good between the two questions of a probe
    assert model.total in {2, 3}


async def test_calls_that_are_refused_at_once_start_one_probe(model):
    """Eight of them, and the key is asked about as if it were one."""
    model.api_key = "another"
    async with Way(model) as way:
        await asyncio.gather(*(way.once(at) for at in range(8)), return_exceptions=True)
        assert way.changes == [True]
        model.api_key = "good"
        await way.changed(2)
    assert way.changes == [True, False]


async def test_a_refusal_that_is_the_jobs_own_closes_nothing(model):
    """The list of models is given to this key alone: the key is good."""
    model.rule(status=403, times=1)
    async with Way(model) as way:
        with pytest.raises(Refused, match="403"):
            await way.once()
        assert way.changes == []
        assert await way.once()


async def test_leaving_ends_the_probes(model):
    """A worker that stops asks nobody any more."""
    model.api_key = "another"
    async with Way(model) as way:
        with pytest.raises(Closed):
            await way.once()
    refused = model.refused
    await asyncio.sleep(0.05)
    assert model.refused == refused


class Listener:
    def __init__(self):
        self.heard = []

    def begin(self):
        self.heard.clear()

    def hear(self, chunk):
        self.heard.append(chunk)


async def test_a_stream_is_heard_and_returned_whole(model):
    """By the same way and under the same limits."""
    listener = Listener()
    async with Way(model) as way:
        whole = await way.route.once(STREAMING, "m", "owner", listener)
    assert whole["choices"][0]["message"]["content"] == "You said: Hello"
    assert len(listener.heard) > 1


async def test_a_stream_that_stalls_ends_with_the_endpoints_time(model):
    """However much of it came before, and its place is free again."""
    model.rule(stall=True, times=1)
    async with Way(model, timeout=0.2, concurrency=1) as way:
        with pytest.raises(Unavailable) as caught:
            await way.route.once(STREAMING, "m", "owner", Listener())
        assert caught.value.error.code == "upstream_timeout"
        assert await way.route.once(STREAMING, "m", "owner", Listener())
