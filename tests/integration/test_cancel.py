"""Requests that their senders want no more: running, queued, put off, finished, unknown."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress

import pytest

from backtalk.client import Unroutable
from backtalk.runtime.redis_store import RedisStore
from backtalk.wire.codec import validate
from backtalk.wire.jobs import CompletionJob


def job_of(body):
    return validate(body, CompletionJob)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def store(redis):
    """Make a result store of its own for each worker; those of one test share what they remember."""
    prefix = uuid.uuid4().hex
    return lambda: RedisStore(redis, prefix=prefix, seconds=60)


async def test_a_running_job_is_answered_cancelled(stage, job):
    """Its call is given up at once, and it is not tried again; its neighbour goes on."""
    await stage.worker()
    client = await stage.client()
    stage.model.rule(stall=True, times=1)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="unwanted", reply_to=mailbox)
    await stage.calls(1)
    stage.model.rule(delay=0.2)
    beside = asyncio.ensure_future(client.call(job_of(job()), id="wanted"))
    await stage.calls(2)
    await client.cancel("unwanted")
    answer = await stage.take(mailbox)
    assert (answer.json["id"], answer.json["status"], answer.error["code"]) == (
        "unwanted",
        "failed",
        "cancelled",
    )
    assert (await beside).status == "completed"
    assert stage.model.total == 2


async def test_what_was_paid_before_is_answered(stage, job):
    """Two of three items are there, and the third says why it is not."""
    await stage.worker()
    client = await stage.client()
    stage.model.rule(stall=True, match="third")
    mailbox = await stage.mailbox()
    batch = job(
        messages=[{"role": "user", "content": "{text}"}], inputs={"text": ["first", "second", "third"]}
    )
    await stage.send(batch, message_id="m", reply_to=mailbox)
    await stage.calls(3)
    # the two that are not stalled
    await asyncio.sleep(0.2)
    await client.cancel("m")
    answer = (await stage.take(mailbox)).json
    assert answer["status"] == "partial"
    assert answer["completions"][2]["error"]["code"] == "cancelled"
    assert [len(one.get("choices", ())) for one in answer["completions"]] == [1, 1, 0]


async def test_a_queued_job_is_answered_when_its_turn_comes(stage, job):
    """The worker was there when it was cancelled, and makes no call for it."""
    await stage.worker(concurrency=1)
    client = await stage.client()
    stage.model.rule(delay=0.3, times=1)
    mailbox = await stage.mailbox()
    for id in ("first", "second", "third"):
        await stage.send(job(), message_id=id, reply_to=mailbox)
    await stage.calls(1)
    await client.cancel("second")
    answers = [(await stage.take(mailbox)).json for _ in range(3)]
    assert [(answer["id"], answer["status"]) for answer in answers] == [
        ("first", "completed"),
        ("second", "failed"),
        ("third", "completed"),
    ]
    assert answers[1]["error"]["code"] == "cancelled"
    assert stage.model.total == 2


async def test_with_a_store_a_worker_that_comes_later_knows(stage, job, store):
    """The worker that heard of it is gone; the job waited in the queue all the while."""
    first = await stage.worker("forward", store=store(), concurrency=1, drain_seconds=0)
    client = await stage.client()
    stage.model.rule(stall=True, times=1)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="running", reply_to=mailbox)
    await stage.calls(1)
    await stage.send(job(), message_id="queued", reply_to=mailbox)
    await client.cancel("queued")
    await asyncio.sleep(0.1)
    await first.drain()
    await stage.worker("forward", store=store())
    answers = {
        answer["id"]: answer["error"] and answer["error"]["code"]
        for answer in [(await stage.take(mailbox)).json for _ in range(2)]
    }
    assert answers == {"running": None, "queued": "cancelled"}


async def test_a_job_on_a_rung_is_answered_when_it_comes_back(stage, job):
    """It waits its time out, and is not asked for again."""
    await stage.worker()
    client = await stage.client()
    stage.model.rule(status=503)
    mailbox = await stage.mailbox()
    await stage.send(job(), message_id="m", reply_to=mailbox)
    rung = stage.names.rung("forward", "5s")
    await stage.until(lambda: stage.depth(rung), what="a job on the rung")
    asked = stage.model.total
    await client.cancel("m")
    assert (await stage.take(mailbox)).error["code"] == "cancelled"
    assert stage.model.total == asked


async def test_feedback_is_cancelled_too(stage):
    """The backward worker hears the same order."""
    await stage.worker("forward")
    await stage.worker("backward")
    client = await stage.client()
    result = await client.complete(
        model="m", messages=[{"role": "user", "content": "Hello"}], backtalk={"record": "always"}
    )
    stage.model.rule(stall=True)
    leaf = next(iter(result.graph.variables)).id
    waiting = asyncio.ensure_future(
        client.feedback(result.graph, {result.output: "Too short."}, wrt=[leaf], id="f")
    )
    await stage.calls(2)
    await client.cancel("f")
    answer = await waiting
    assert (answer.status, answer.error.code) == ("failed", "cancelled")


async def test_what_is_finished_or_unknown_is_left_alone(stage, job):
    """An answer stays an answer, and nobody is told of an id that never comes."""
    await stage.worker()
    client = await stage.client()
    first = await client.call(job_of(job()), id="done")
    await client.cancel("done")
    await client.cancel("never")
    assert first.status == "completed"
    assert (await client.call(job_of(job()), id="other")).status == "completed"


async def test_without_a_worker_the_sender_hears_so(stage, job):
    """Nobody would cancel it, so nobody pretends to."""
    worker = await stage.worker()
    client = await stage.client()
    await worker.drain()
    with pytest.raises(Unroutable, match="no worker is running"):
        await client.cancel("m")


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"cancel": 1}', b'{"pause": "x"}', b"x" * 100_000])
async def test_what_is_no_order_does_no_harm(stage, job, body):
    """It is logged and forgotten."""
    await stage.worker()
    client = await stage.client()
    await stage.send(body, exchange=stage.names.control, key="")
    assert (await client.call(job_of(job()))).status == "completed"


async def test_orders_are_heard_after_a_lost_connection(own_stage, own_broker, job):
    """The queue is a new one."""
    await own_stage.worker()
    client = await own_stage.client()
    await own_broker.control("close_all_connections", "test")
    own_stage.model.rule(stall=True)
    mailbox = await own_stage.mailbox()

    async def sent() -> bool:
        await own_stage.send(job(), message_id="m", reply_to=mailbox)
        return True

    await own_stage.until(sent)
    await own_stage.calls(1)

    async def cancelled():
        with suppress(Unroutable):
            await client.cancel("m")
        return await own_stage.depth(mailbox)

    await own_stage.until(cancelled, what="an answer")
    assert (await own_stage.take(mailbox)).error["code"] == "cancelled"
