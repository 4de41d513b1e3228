"""The calls in flight on a client: each message to its call, and an acknowledgement for all of them."""

from __future__ import annotations

import asyncio

import pytest

from backtalk.client.calls import Calls
from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.chunk import CompletionChunk
from backtalk.wire.codec import encode
from backtalk.wire.jobs import CompletionResult

CHUNK = "completion.chunk.v1"


@pytest.fixture
def acked():
    return []


@pytest.fixture
def arrives(acked):
    """Return what lets a message arrive: `arrives(calls, call, body)`."""

    def arrive(calls, call, body, *, type=None):
        async def ack():
            acked.append(type)
            return True

        envelope = Envelope(encode(body), correlation_id=call.correlation_id, type=type)
        calls.receive(Delivery(envelope, "queue", redelivered=False, ack=ack))

    return arrive


def result(id="job"):
    return CompletionResult(id=id, status="completed")


def chunk(sequence=0):
    return CompletionChunk(run="r", item=0, choice=0, sequence=sequence)


async def test_a_call_has_its_first_answer(arrives, acked):
    """A second one is a repeat, and one that comes after the call is nobody's."""
    calls = Calls()
    with calls.begun() as call, calls.begun() as other:
        for id in ("first", "second"):
            arrives(calls, call, result(id))
        arrives(calls, other, result("other"))
        assert [(await one.answer()).id for one in (call, other)] == ["first", "other"]
    arrives(calls, call, result("late"))
    await asyncio.sleep(0)
    assert len(acked) == 4


async def test_only_a_call_that_streams_keeps_chunks(arrives, acked):
    """They are acknowledged either way."""
    calls = Calls()
    with calls.begun() as plain, calls.begun(streams=True) as streaming:
        for call in (plain, streaming):
            for sequence in (0, 1, 1):
                arrives(calls, call, chunk(sequence), type=CHUNK)
            arrives(calls, call, result())
        assert await plain.chunk() is None
        assert [(await streaming.chunk()).sequence for _ in range(2)] == [0, 1]
        assert await streaming.chunk() is None
        assert (await streaming.answer()).id == "job"
    assert len(acked) == 8


async def test_cancelling_ends_every_wait():
    """Also the one for the next chunk, after which there is no answer."""
    calls = Calls()
    with calls.begun() as plain, calls.begun(streams=True) as streaming:
        waits = [asyncio.ensure_future(plain.answer()), asyncio.ensure_future(streaming.chunk())]
        await asyncio.sleep(0)
        calls.cancel()
        await asyncio.wait_for(asyncio.wait(waits), 5)
        assert waits[0].cancelled()
        assert waits[1].result() is None
        with pytest.raises(asyncio.CancelledError):
            await streaming.answer()
