"""What a worker tells Prometheus after real messages: read at its port, as Prometheus reads it."""

from __future__ import annotations

import asyncio
import urllib.request
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backtalk.runtime import openai_model
from backtalk.runtime.health import Heart, served
from backtalk.runtime.model import Completion
from backtalk.runtime.redis_store import RedisStore

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Told:
    """The samples of one look at a worker."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text)
        self.samples = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels, among others."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == f"backtalk_{name}" and labels.items() <= sample.labels.items()
        ]
        assert found, f"{name} {labels} is not told"
        return sum(found)


async def look(worker) -> Told:
    def read(port: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return response.read().decode()

    with served("127.0.0.1", 0, Heart(), worker.progress.conditions, worker.metrics.exposed) as port:
        return Told(await asyncio.to_thread(read, port))


async def until(worker, met) -> Told:
    """Return what a worker tells as soon as it meets what is asked: it counts after it has answered."""
    async with asyncio.timeout(10):
        while not met(told := await look(worker)):
            await asyncio.sleep(0.02)
    return told


async def test_jobs_are_counted_by_what_became_of_them(stage, job, monkeypatch):
    """One that is answered, one that nobody can read, one that is put off, and one whose sender is gone."""
    monkeypatch.setattr(openai_model, "FIRST_PAUSE", 0.01)
    worker = await stage.worker()
    assert (await stage.ask(job(model="m"))).json["status"] == "completed"
    assert (await stage.ask(b"junk")).error["code"] == "invalid_message"
    stage.model.rule(status=500, times=3)
    await stage.send(job(model="m"), reply_to=stage._inbox)
    await stage.take(stage.names.rung("forward", "5s"))
    await stage.send(job(model="m"), reply_to="nobody")
    await stage.take(stage.names.kept_results)
    told = await until(worker, lambda told: told("jobs_in_flight") == 0)

    assert told("jobs_total", queue="forward", outcome="completed", code="") == 2
    assert told("jobs_total", queue="forward", outcome="failed", code="invalid_message") == 1
    assert told("jobs_total", queue="forward", outcome="put_off", code="upstream_unavailable") == 1
    assert told("jobs_total") == 4
    assert told("retries_total", queue="forward", reason="upstream_unavailable") == 1
    assert told("dead_letters_total", queue="forward", code="invalid_message") == 1
    assert told("publish_failures_total", queue="forward") == 1
    assert told("job_duration_seconds_count", queue="forward") == 3
    assert told("job_duration_seconds_sum", queue="forward") > 0
    assert told("consumer_up", queue="forward") == 1

    calls = "model_request_duration_seconds_count"
    assert told(calls, endpoint="openai", model="m", outcome="ok") == 2
    assert told(calls, endpoint="openai", model="m", outcome="unavailable") == 3
    assert told("model_retries_total", endpoint="openai", reason="500") == 2
    assert told("model_tokens_total", endpoint="openai", model="m", kind="input") > 0
    assert told("model_tokens_total", endpoint="openai", model="m", kind="output") > 0
    assert told("model_requests_in_flight", endpoint="openai") == 0
    assert told("endpoint_open", endpoint="openai") == 1


async def test_what_goes_on_is_told_meanwhile(stage, job):
    """From a thread of its own, while the job runs; the message says when it was sent."""
    worker = await stage.worker()
    stage.model.rule(delay=0.5)
    mailbox = await stage.mailbox()
    await stage.send(job(), reply_to=mailbox, timestamp=datetime.now(UTC))
    await stage.calls(1)
    told = await look(worker)
    assert told("jobs_in_flight", queue="forward") == 1
    assert told("model_requests_in_flight", endpoint="openai") == 1
    assert told("queue_wait_seconds_count", queue="forward") == 1
    assert told("queue_wait_seconds_bucket", queue="forward", le="30.0") == 1
    assert told("jobs_total", outcome="completed") == 0
    await stage.take(mailbox)
    await until(worker, lambda told: told("jobs_total", outcome="completed") == 1)


async def test_a_call_that_two_workers_paid_for_is_counted_by_the_second(redis):
    """It finds in the store what was not there when it began; what it was told at the beginning costs nothing."""
    completion = Completion({"choices": [{"message": {"content": "paid"}}]})
    async with (
        RedisStore(redis, prefix="twice", seconds=60) as first,
        RedisStore(redis, prefix="twice", seconds=60) as second,
    ):
        one = await first.open("key", "id")
        await one.close()
        other = await second.open("key", "id")
        entry = one.entry("openai", {"model": "m"}, "place")
        await one.remember(entry, completion)
        await other.remember(entry, completion)
        await other.close()
        again = await first.open("key", "id")
        assert again.recall(entry) is not None
        assert [store.told()["calls_paid_twice"] for store in (first, second)] == [0, 1]
        assert first.told()["calls_recalled"] == 1
