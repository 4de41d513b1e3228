"""Where partial output may go."""

from __future__ import annotations

import asyncio

import pytest

from backtalk.runtime import replies as module
from backtalk.runtime.replies import Replies
from backtalk.transport.envelope import Envelope, TopologyMismatch, Unconfirmed, Unroutable
from backtalk.transport.topology import Names
from backtalk.wire.chunk import CompletionChunk
from backtalk.wire.kinds import FORWARD


class Sent:
    """The outgoing side of a broker: keeps what it is given."""

    def __init__(self):
        self.messages = []

    async def publish(self, envelope, *, key, exchange="", mandatory=True, patience):
        self.messages.append((exchange, key, mandatory, envelope))


async def emitted(reply_to):
    """Return what is published of two chunks of a request with this address."""
    sent = Sent()
    emitter = Replies(sent, Names("ns"), FORWARD).emitter(to=Envelope(b"", reply_to=reply_to), id="job")
    for item in (0, 1):
        emitter(CompletionChunk(run=f"run {item}", item=item, choice=0))
    before = asyncio.all_tasks()
    await emitter.close()
    return sent.messages, before - {asyncio.current_task()}


@pytest.mark.parametrize("reply_to", [None, "", "ns.forward", "ns.results.unrouted"])
async def test_without_a_usable_address_there_is_nothing_to_do(reply_to):
    """None, or a queue of our own: nothing is published, nor tried."""
    assert await emitted(reply_to) == ([], set())


@pytest.mark.parametrize(
    ("reply_to", "mandatory"),
    [("mine", True), ("ns.replies.mine", True), ("amq.rabbitmq.reply-to.g1h2", False)],
)
async def test_partial_output_goes_to_the_address_alone(reply_to, mandatory):
    """By the default exchange; what the broker passes on directly is never returned."""
    messages, _ = await emitted(reply_to)
    assert [message[:3] for message in messages] == [("", reply_to, mandatory)] * 2
    first, second = (message[3] for message in messages)
    assert (first.correlation_id, first.type) == ("job", "completion.chunk.v1")
    assert first.message_id != second.message_id
    # the same chunk always has the same id: a repeat of it is known as one
    ((_, _, _, again), _), _ = await emitted(reply_to)
    assert again.message_id == first.message_id


class Bare(Sent):
    """A broker whose queues are gone until they are declared, which fails in so many ways first."""

    def __init__(self, *failures):
        super().__init__()
        self.failures = list(failures)
        self.declared = []

    async def declare(self, queue, bindings):
        if self.failures:
            raise self.failures.pop(0)
        self.declared.append(queue.name)

    async def publish(self, envelope, *, key, **options):
        if key not in self.declared:
            raise Unroutable(key)
        await super().publish(envelope, key=key, **options)


@pytest.mark.parametrize(
    "failures",
    [[], [Unconfirmed("lost")], [TopologyMismatch("may not declare"), TopologyMismatch("still not")]],
    ids=["at once", "over a lost connection", "once somebody may"],
)
async def test_a_message_for_a_queue_of_ours_that_is_gone_is_insisted_on(monkeypatch, failures):
    """It is never given up: unsettled, it would keep its place in the worker for ever."""
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)
    bare = Bare(*failures)
    async with asyncio.timeout(5):
        await Replies(bare, Names("ns"), FORWARD).rung(Envelope(b"", message_id="m"), "5s")
    assert [message[1] for message in bare.messages] == ["ns.forward.retry.5s"]
