"""Limits through a real broker: refusals that tell what to do, and messages that wait until there is room."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20
# two jobs like that, and no third one, find room in 16 MiB
LARGE = "a" * 500_000 + "{i}"


def large(job, items=8):
    return job(LARGE, inputs={"i": ["x"] * items})


@pytest.mark.parametrize(
    ("setting", "body", "path"),
    [
        ("variables", {"messages": [{"role": "user", "content": ["a", "b", "c"]}]}, "messages"),
        ("batch", {"inputs": {"i": ["a", "b", "c"]}}, "inputs/i"),
        (
            "tools",
            {"tools": [{"type": "function", "function": {"name": f"f{at}"}} for at in range(3)]},
            "tools",
        ),
        ("choices", {"n": 3}, "n"),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" not in value else "",
)
async def test_a_job_beyond_a_limit_is_refused_filed_and_costs_no_call(stage, job, setting, body, path):
    """The answer names field and setting; a copy is kept for people, who may raise the limit and have it done."""
    await stage.worker("forward", **{f"max_{setting}": 2})
    answer = await stage.ask(job("{i}") | body)
    assert (answer.error["code"], answer.error["details"]["path"]) == ("invalid_message", path)
    assert f"BACKTALK_MAX_{setting.upper()}" in answer.error["message"]
    assert (await stage.take(stage.names.dead("forward"))).json["model"] == "m"
    assert stage.model.total == 0


async def test_feedback_beyond_a_limit_is_refused(stage):
    """Graphs are counted together."""
    await stage.worker("backward", max_variables=2)
    graph = {"variables": [{"id": "a", "data": "x", "role": "r"}, {"id": "b", "data": "x", "role": "r"}]}
    answer = await stage.ask(
        {"graph": [graph, graph], "feedback": [{"variable": "a", "text": "x"}]}, role="backward"
    )
    assert answer.error["details"] == {"path": "graph/variables", "limit": 2, "found": 4}


async def test_bytes_beyond_a_limit_are_refused(stage, job):
    """As sent, and unpacked."""
    await stage.worker("forward", max_wire_bytes=1000, max_body_bytes=2000)
    for body, encoding in ((job("x" * 1000), None), (job("x" * 2000), "gzip")):
        content = json.dumps(body).encode()
        packed = content if encoding is None else gzip.compress(content)
        answer = await stage.ask(packed, content_encoding=encoding)
        assert answer.error["code"] == "payload_too_large"
    assert stage.model.total == 0


async def test_what_takes_more_memory_than_a_worker_has_is_refused(stage, job):
    """A batch of long prompts is known to be too much before the first is written."""
    await stage.worker("forward", max_bytes_at_once=16 * MIB)
    answer = await stage.ask(large(job, items=200))
    assert answer.error["code"] == "payload_too_large"
    assert "BACKTALK_MAX_BYTES_AT_ONCE" in answer.error["message"]
    assert stage.model.total == 0


async def test_messages_wait_until_there_is_room_for_them(stage, job):
    """All are done in the order in which they came, also a small one that would fit."""
    await stage.worker("forward", max_bytes_at_once=16 * MIB, concurrency=64)
    stage.model.rule(delay=0.05)
    box = await stage.mailbox()
    for at in range(4):
        await stage.send(large(job), reply_to=box, message_id=f"large-{at}")
    await stage.send(job(), reply_to=box, message_id="small")
    answers = [(await stage.take(box)).json for _ in range(5)]
    assert {answer["status"] for answer in answers} == {"completed"}
    ids = [answer["id"] for answer in answers]
    assert set(ids[:2]) == {"large-0", "large-1"}
    assert "small" in ids[3:]


async def test_a_message_that_finds_no_room_is_put_off_and_no_try_of_it_is_spent(stage, job):
    """It waits on a rung, for another worker or a better moment."""
    await stage.worker("forward", max_bytes_at_once=16 * MIB, job_budget_seconds=0.3)
    stage.model.rule(stall=True)
    box = await stage.mailbox()
    for at in range(3):
        await stage.send(large(job), reply_to=box, message_id=f"{at}")
    waiting = await stage.take(stage.names.rung("forward", "5s"))
    assert waiting.headers["x-backtalk-attempt"] in (0, 1)


async def test_a_message_that_waits_for_room_is_handed_back_at_the_drain(stage, job):
    """Nothing was done for it, so another worker starts at once."""
    worker = await stage.worker("forward", max_bytes_at_once=16 * MIB, drain_seconds=0.2)
    stage.model.rule(stall=True)
    for at in range(3):
        await stage.send(large(job), message_id=f"{at}")
    await stage.until(lambda: stage.model.total)
    await worker.drain()
    assert await stage.depth(stage.names.work("forward")) == 3


async def test_a_redelivery_finds_its_work_although_there_is_no_room(stage, job):
    """It joins the work that has room, and takes none itself."""
    await stage.worker("forward", max_bytes_at_once=16 * MIB)
    stage.model.rule(delay=0.2)
    box = await stage.mailbox()
    for _ in range(3):
        await stage.send(large(job), reply_to=box, message_id="same")
    async with asyncio.timeout(20):
        for _ in range(3):
            assert (await stage.take(box)).json["status"] == "completed"
    assert stage.model.total == 8
