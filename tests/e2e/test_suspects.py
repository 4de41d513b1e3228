"""Jobs that kill their worker: they end in processes of their own, and nobody else suffers."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import fixtures.deadly_worker
import pytest

from backtalk import Client
from backtalk.local.processes import ProcessFailed

DEADLY = (sys.executable, fixtures.deadly_worker.__file__)


def said(text: str):
    return [{"role": "user", "content": text}]


@pytest.fixture
async def immortal(spawn):
    """Keep a deadly worker running: one that died is started again."""
    running = []
    begun = asyncio.Event()

    async def keep() -> None:
        while True:
            # one that finds the job at once dies before it says that it is ready
            with suppress(ProcessFailed):
                running.append(await spawn("forward", *DEADLY, BACKTALK_CONCURRENCY="8"))
                begun.set()
                await running[-1].wait()

    keeper = asyncio.ensure_future(keep())
    await begun.wait()
    yield running
    keeper.cancel()
    with suppress(asyncio.CancelledError):
        await keeper


async def test_a_job_that_kills_its_worker_is_answered_and_takes_nobody_with_it(
    broker, names, model, immortal, channel
) -> None:
    """Workers die of it twice, then two processes of its own; its neighbours are all completed."""
    model.rule(delay=0.5)
    async with Client(broker.url, namespace=names.namespace) as client:
        deadly = asyncio.ensure_future(client.complete(model="m", messages=said("die"), id="deadly"))
        others = [
            asyncio.ensure_future(client.complete(model="m", messages=said(f"job {at}"))) for at in range(2)
        ]
        results = await asyncio.gather(*others)
        failed = await deadly
    assert {result.status for result in results} == {"completed"}
    assert failed.error.code == "worker_crashed"
    told = immortal[-1].log.read_text()
    assert told.count("process of a suspect ended") == 2
    assert told.count('"event":"isolated"') >= 1
    dead = await channel.declare_queue(names.dead("forward"), passive=True)
    letter = await dead.get(no_ack=True)
    assert (letter.message_id, letter.headers["x-backtalk-reason"]) == ("deadly", "worker_crashed")
