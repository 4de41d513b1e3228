"""An endpoint that takes no calls: a key that it refuses, or a load that it cannot bear."""

from __future__ import annotations

import asyncio

import pytest

from backtalk.local.simulated_model import SimulatedModel
from backtalk.runtime import openai_model, route, traffic
from backtalk.runtime.settings import EndpointSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
async def locked(stage, monkeypatch):
    """A stage whose model wants a key, which its worker has; the key is looked at again after a moment."""
    monkeypatch.setenv("TEST_KEY", "good")
    monkeypatch.setattr(route, "FIRST_PROBE_SECONDS", 0.2)
    stage.model.api_key = "good"
    return stage


def named(stage, **others):
    endpoint = EndpointSettings(base_url=stage.model.base_url, api_key_env="TEST_KEY")
    return {"endpoints": {"openai": endpoint, **others}}


async def test_a_refused_key_stops_the_worker_and_its_jobs_wait_in_the_queue(locked, job):
    """They are handed back as they came, the worker is not ready, and consumes again when the key is taken."""
    worker = await locked.worker(**named(locked))
    mailbox = await locked.mailbox()
    locked.model.api_key = "another"
    for at in range(20):
        await locked.send(job(), message_id=f"m{at}", reply_to=mailbox)
    work = locked.names.work("forward")
    await locked.until(lambda: not worker.progress.valve.open, what="a pause")
    assert worker.progress.conditions() == {
        "ready": False,
        "connected": True,
        "blocked": False,
        "consuming": False,
        "draining": False,
    }

    async def handed_back() -> bool:
        return await locked.consumers(work) == 0 and await locked.depth(work) == 20

    await locked.until(handed_back, what="all jobs back in the queue")
    assert (await locked.depth(mailbox), locked.model.total) == (0, 0)
    locked.model.api_key = "good"
    answers = [await locked.take(mailbox) for _ in range(20)]
    assert {answer.json["status"] for answer in answers} == {"completed"}
    # no attempt was spent
    assert {answer.headers["x-backtalk-attempt"] for answer in answers} == {0}
    assert worker.progress.conditions()["ready"]


async def test_a_403_for_one_job_is_that_jobs_own(locked, job):
    """The list of models is given to the key, and to nobody else: the key is good, and nobody has to wait."""
    worker = await locked.worker(**named(locked))
    locked.model.rule(match="forbidden", status=403)
    mailbox = await locked.mailbox()
    await locked.send(job(model="forbidden"), message_id="m", reply_to=mailbox)
    answer = await locked.take(mailbox)
    assert (answer.error["code"], answer.error["details"]["status"]) == ("upstream_rejected", 403)
    assert worker.progress.conditions()["ready"]
    assert (await locked.ask(job())).json["status"] == "completed"


async def test_one_closed_endpoint_of_two_puts_its_jobs_off(locked, job):
    """They wait on a rung, at no cost of their attempts; those of the other endpoint are done."""
    async with SimulatedModel(api_key="another") as strict:
        closed = EndpointSettings(base_url=strict.base_url, api_key_env="TEST_KEY")
        worker = await locked.worker(**named(locked, closed=closed))
        mailbox = await locked.mailbox()
        refused = job(backtalk={"endpoint": "closed"})
        await locked.send(refused, message_id="m", reply_to=mailbox)
        waiting = await locked.take(locked.names.rung("forward", "30s"))
        assert (waiting.id, waiting.headers["x-backtalk-attempt"]) == ("m", 0)
        assert worker.progress.conditions()["ready"]
        assert (await locked.ask(job())).json["status"] == "completed"


async def test_what_was_paid_before_the_key_was_refused_is_answered(locked, job):
    """One item of two is there; the other says why it is not."""
    await locked.worker(**named(locked))
    locked.model.rule(match="second", delay=0.5, status=401)
    batch = job(messages=[{"role": "user", "content": "{text}"}], inputs={"text": ["first", "second"]})
    mailbox = await locked.mailbox()
    await locked.send(batch, message_id="m", reply_to=mailbox)
    await locked.calls(2)
    locked.model.api_key = "another"
    answer = (await locked.take(mailbox)).json
    assert answer["status"] == "partial"
    assert "refuses the worker's key" in answer["completions"][1]["error"]["message"]


async def test_a_long_wait_that_many_are_told_stops_the_worker_for_a_while(stage, job, monkeypatch):
    """The first three wait on a rung; the others are handed back without a call, and done when the time is over."""
    for module in (traffic, openai_model):
        monkeypatch.setattr(module, "LONGEST_PAUSE", 0.5)
    worker = await stage.worker(concurrency=4)
    stage.model.rule(status=429, retry_after=1, times=3)
    mailbox = await stage.mailbox()
    for at in range(12):
        await stage.send(job(), message_id=f"m{at}", reply_to=mailbox)
    await stage.until(lambda: not worker.progress.valve.open, what="a pause")
    assert not worker.progress.conditions()["ready"]
    answers = [(await stage.take(mailbox)).json for _ in range(9)]
    assert {answer["status"] for answer in answers} == {"completed"}
    assert worker.progress.conditions()["ready"]
    assert await stage.depth(stage.names.rung("forward", "5s")) == 3
    assert stage.model.total == 12


async def test_an_endpoint_that_takes_few_calls_at_once_gets_few(stage, job):
    """Nobody waits on a rung for it, and fewer calls are refused than are answered."""
    await stage.worker(concurrency=64)
    busy = Busy(stage.model, most=4)
    mailbox = await stage.mailbox()
    for at in range(150):
        await stage.send(job(), message_id=f"m{at}", reply_to=mailbox)
    answers = [await stage.take(mailbox) for _ in range(150)]
    assert {answer.json["status"] for answer in answers} == {"completed"}
    assert {answer.headers["x-backtalk-attempt"] for answer in answers} == {0}
    assert busy.refused < 300


class Busy:
    """Lets a simulated model refuse whatever is more than so many calls at once."""

    def __init__(self, model, most: int) -> None:
        self.inside, self.refused, self._most = 0, 0, most
        self._use = model._rules.use
        model._rules.use = self.use

    def use(self, body, request):
        rule = self._use(body, request)
        if self.inside >= self._most:
            self.refused += 1
            return type(rule)(status=429)
        self.inside += 1
        asyncio.get_running_loop().call_later(0.05, self.leave)
        return type(rule)(delay=0.05)

    def leave(self) -> None:
        self.inside -= 1
