"""A worker is told to stop at any moment of a job's life: the job is answered once, by it or by the next worker."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from backtalk.transport.topology import RUNGS
from forward_worker.complete import complete
from forward_worker.tools.inject import toolbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOMENTS = (
    "before the call",
    "during the call",
    "after the call",
    "while the answer is published",
)


class Watched:
    """The handler of a forward worker, which tells when a job comes to a moment, and stays there for a little."""

    def __init__(self, moment):
        self.reached = asyncio.Event()
        self._moment = moment
        self._handle = partial(complete, toolbox=toolbox(None, {}))

    async def __call__(self, request, /, *, model, emit):
        await self.at("before the call")
        answer = await self._handle(request, model=model, emit=emit)
        await self.at("after the call")
        if self._moment == MOMENTS[-1]:
            self.reached.set()
        return answer

    async def at(self, moment):
        if moment == self._moment:
            self.reached.set()
            await asyncio.sleep(0.2)


async def nothing_is_left(stage):
    """Look into every queue a job may be in: it is in none."""
    names = stage.names
    rungs = [names.rung("forward", rung) for rung in RUNGS]
    queues = (
        names.work("forward"),
        names.suspect("forward"),
        names.crashed("forward"),
        names.dead("forward"),
    )
    return {queue: depth for queue in (*queues, *rungs) if (depth := await stage.depth(queue))} == {}


@pytest.mark.parametrize("drain", [0, 5], ids=["at once", "with a drain"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_job_outlives_a_stop_at_any_moment(stage, job, moment, drain):
    """It is completed, once, and no call is made twice that could be waited for."""
    handle = Watched(moment)
    worker = await stage.worker(handle=handle, drain_seconds=drain)
    if moment == "during the call":
        stage.model.rule(delay=0.3, times=1)
    # one that refuses at first is tried again after a second
    full = moment == "while the answer is published"
    mailbox = await stage.mailbox(**({"x-max-length": 1, "x-overflow": "reject-publish"} if full else {}))
    fillers = await filled(stage, mailbox) if full else 0
    await stage.send(job(), message_id="m", reply_to=mailbox)
    await (stage.calls(1) if moment == "during the call" else handle.reached.wait())
    worker.stop()
    for _ in range(fillers):
        assert (await stage.take(mailbox)).content == b"filler"
    await worker.done()
    await stage.worker()
    answer = await stage.take(mailbox)
    assert (answer.json["id"], answer.json["status"]) == ("m", "completed")
    assert answer.headers["x-backtalk-attempt"] == 0
    assert (await stage.ask(job("after"))).json["status"] == "completed"
    assert await stage.rest(mailbox) == []
    assert await nothing_is_left(stage)
    assert stage.model.total == (3 if (moment, drain) == ("during the call", 0) else 2)


async def filled(stage, queue):
    """Fill a queue until it takes no more, and return how many it took."""
    for count in range(100):
        try:
            await stage.send(b"filler", key=queue)
        except Exception:  # noqa: BLE001
            return count
    return None


@pytest.mark.parametrize("drain", [0, 5], ids=["at once", "with a drain"])
async def test_ten_rolling_restarts_lose_isolate_and_repeat_nothing(stage, job, drain):
    """Workers come and go under load: each job is answered once, and none is taken for one that kills workers."""
    stage.model.rule(delay=0.05)
    mailbox = await stage.mailbox()
    ids = [f"job {at}" for at in range(150)]
    worker = await stage.worker(concurrency=8, drain_seconds=drain)

    async def send():
        for id in ids:
            await stage.send(job(id), message_id=id, reply_to=mailbox)

    sending = asyncio.ensure_future(send())
    for _ in range(10):
        await asyncio.sleep(0.05)
        following = await stage.worker(concurrency=8, drain_seconds=drain)
        await worker.drain()
        worker = following
    await sending
    answers = [await stage.take(mailbox) for _ in ids]
    assert sorted(answer.json["id"] for answer in answers) == sorted(ids)
    assert {answer.json["status"] for answer in answers} == {"completed"}
    assert {answer.headers["x-backtalk-attempt"] for answer in answers} == {0}
    assert await nothing_is_left(stage)
    assert await stage.rest(mailbox) == []
    if drain:
        assert stage.model.total == len(ids)
