"""More work than a worker can do at once waits at the broker, not in its memory."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aio_pika

JOBS = 2_500
MIB = 1024


def memory(pid: int, line: str) -> int:
    """Return a line of what the kernel says of the memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(told.split()[1]) for told in status if told.startswith(line)) // MIB


async def test_a_flood_of_jobs_is_answered_in_bounded_memory(names, model, spawn, channel) -> None:
    """Thousands of jobs wait when the worker starts; it holds as many at once as it is told to, and all are answered."""
    worker = await spawn("forward", BACKTALK_CONCURRENCY="50")
    idle = memory(worker.pid, "VmRSS")
    replies = await channel.declare_queue(exclusive=True)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    await asyncio.gather(
        *(
            channel.default_exchange.publish(
                aio_pika.Message(body, message_id=str(at), reply_to=replies.name),
                routing_key=names.work("forward"),
            )
            for at in range(JOBS)
        )
    )
    answered = set()
    async with asyncio.timeout(60), replies.iterator(no_ack=True) as answers:
        async for answer in answers:
            answered.add(answer.message_id)
            if len(answered) == JOBS:
                break
    assert model.total == JOBS
    assert memory(worker.pid, "VmHWM") < idle + 15
