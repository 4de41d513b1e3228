"""The receiving end of a stream: each answer once, and acknowledged when its reader asks for the next."""

from __future__ import annotations

import asyncio

import pytest

from backtalk.client.inbox import Inbox
from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.codec import encode
from backtalk.wire.jobs import CompletionResult


@pytest.fixture
def acked():
    return []


@pytest.fixture
def answer(acked):
    """Return the maker of deliveries of an answer with a message id and a status."""

    def make(id, status="completed", body=None, type=None):
        async def ack():
            acked.append(id)
            return True

        content = encode(CompletionResult(id=id, status=status)) if body is None else body
        return Delivery(Envelope(content, message_id=id, type=type), "queue", redelivered=False, ack=ack)

    return make


async def first(inbox, count):
    groups = inbox.groups(1)
    async with asyncio.timeout(5):
        return [(one.id, one.status) for (one,) in [await anext(groups) for _ in range(count)]]


async def test_a_repeat_is_dropped_and_acknowledged(answer, acked):
    """The same answer under the same id is given out once."""
    inbox = Inbox()
    for delivery in (answer("a"), answer("a"), answer("b")):
        inbox.deliver(delivery)
    assert await first(inbox, 2) == [("a", "completed"), ("b", "completed")]
    assert acked == ["a", "a"]


async def test_a_job_that_was_sent_again_after_a_failure_is_heard_of_again(answer):
    """The second answer bears the id of the first, and says something else."""
    inbox = Inbox()
    for delivery in (answer("a", "failed"), answer("a", "failed"), answer("a", "completed")):
        inbox.deliver(delivery)
    assert await first(inbox, 2) == [("a", "failed"), ("a", "completed")]


async def test_what_is_no_answer_is_dropped(answer, acked):
    """Junk in a stream does not end it."""
    inbox = Inbox()
    inbox.deliver(answer("junk", body=b"junk"))
    inbox.deliver(answer("a"))
    assert await first(inbox, 1) == [("a", "completed")]
    assert acked == ["junk"]


async def test_partial_output_is_passed_over(answer, acked, caplog):
    """It is acknowledged without a word: the answer has all of it."""
    inbox = Inbox()
    inbox.deliver(answer("chunk", type="completion.chunk.v1"))
    inbox.deliver(answer("a"))
    assert await first(inbox, 1) == [("a", "completed")]
    assert (acked, caplog.text) == (["chunk"], "")
