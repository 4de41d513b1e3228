"""Workers as processes: signals, deaths, exit codes, and what their logs never hold."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import aio_pika
import pytest

from backtalk import Client
from backtalk.transport.topology import topology

MESSAGE = [{"role": "user", "content": "Say hello."}]


async def until(condition, seconds=20.0):
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_worker_killed_in_the_middle_of_a_job_costs_no_answer(broker, names, model, spawn) -> None:
    """SIGKILL while the model is being asked: another worker answers, once."""
    model.rule(delay=2.0, times=1)
    first = await spawn("forward")
    async with Client(broker.url, namespace=names.namespace) as client:
        call = asyncio.create_task(client.complete(model="m", messages=MESSAGE))
        await until(lambda: model.total == 1)
        first.send(signal.SIGKILL)
        await first.wait()
        await spawn("forward")
        result = await call
    assert result.status == "completed"
    assert model.total == 2


async def test_sigterm_lets_a_running_job_finish(broker, names, model, spawn) -> None:
    """SIGTERM in the middle of a job: the job is answered, then the process ends with code 0."""
    model.rule(delay=1.0)
    worker = await spawn("forward")
    async with Client(broker.url, namespace=names.namespace) as client:
        call = asyncio.create_task(client.complete(model="m", messages=MESSAGE))
        await until(lambda: model.total == 1)
        worker.send(signal.SIGTERM)
        result = await call
        assert await worker.wait() == 0
    assert (result.status, model.total) == ("completed", 1)


async def test_a_second_signal_stops_at_once_and_the_job_goes_back(broker, names, model, spawn) -> None:
    """What was not acknowledged is delivered to the next worker."""
    model.rule(stall=True, times=1)
    worker = await spawn("forward")
    async with Client(broker.url, namespace=names.namespace) as client:
        call = asyncio.create_task(client.complete(model="m", messages=MESSAGE))
        await until(lambda: model.total == 1)
        worker.send(signal.SIGTERM)
        await until(lambda: '"event":"draining"' in worker.log.read_text())
        worker.send(signal.SIGTERM)
        assert await worker.wait() == 128 + signal.SIGTERM
        await spawn("forward")
        assert (await call).status == "completed"


async def test_rolling_restarts_lose_nothing(broker, names, model, spawn) -> None:
    """Workers come and go under load; every job is answered once."""
    model.rule(delay=0.05)
    async with Client(broker.url, namespace=names.namespace) as client:
        worker = await spawn("forward", BACKTALK_CONCURRENCY="8")
        calls = [
            asyncio.create_task(
                client.complete(model="m", messages=[{"role": "user", "content": f"job {at}"}])
            )
            for at in range(150)
        ]
        for _ in range(3):
            await asyncio.sleep(0.2)
            following = await spawn("forward", BACKTALK_CONCURRENCY="8")
            worker.send(signal.SIGTERM)
            worker = following
        results = await asyncio.gather(*calls)
    assert {result.status for result in results} == {"completed"}
    assert model.total == 150


async def run(environment, *command) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


async def test_a_queue_with_other_arguments_ends_the_worker_with_code_3(environment, names, channel) -> None:
    """It says which queue, which argument, wanted and found."""
    work = next(queue for queue in topology(names).queues if queue.name == names.work("forward"))
    await channel.declare_queue(work.name, durable=True, arguments={**work.arguments, "x-delivery-limit": 7})
    code, said = await run(environment, script("forward-worker"))
    assert code == 3
    told = json.loads(said.splitlines()[-1])["problem"]
    assert all(word in told for word in (names.work("forward"), "x-delivery-limit", "10", "7"))


@pytest.mark.parametrize("url", ["amqp://guest:guest@127.0.0.1:1/", "amqp://nobody:canary-secret@{host}/"])
async def test_no_broker_ends_the_worker_with_code_4(environment, broker, url) -> None:
    """A broker that is away, or refuses us, is said plainly, without the password."""
    host = broker.url.split("@")[1].rstrip("/")
    variables = {"BACKTALK_AMQP_URL": url.format(host=host), "BACKTALK_CONNECT_SECONDS": "0.5"}
    code, said = await run({**environment, **variables}, script("backward-worker"))
    assert code == 4
    assert "canary-secret" not in said


async def test_bad_settings_end_the_worker_with_code_2(environment) -> None:
    """The message names the variable."""
    code, said = await run({**environment, "BACKTALK_CONCURRENCY": "many"}, script("forward-worker"))
    assert code == 2
    assert "BACKTALK_CONCURRENCY" in said


@pytest.mark.parametrize("name", ["forward-worker", "backward-worker", "backtalk"])
async def test_help_has_an_example(environment, name) -> None:
    """Every command explains itself."""
    code, said = await run(environment, script(name), "--help")
    assert code == 0
    assert "worker" in said


async def test_a_job_that_kills_every_worker_is_answered_and_filed(names, channel, spawn) -> None:
    """What the broker gives up on reaches its sender as worker_crashed, and people in the dead queue."""
    await spawn("forward")
    replies = await channel.declare_queue(exclusive=True)
    dead = aio_pika.Message(b"{}", message_id="deadly", reply_to=replies.name, correlation_id="c")
    exchange = await channel.get_exchange(names.dlx)
    await exchange.publish(dead, routing_key="forward")
    async with asyncio.timeout(20):
        async with replies.iterator(no_ack=True) as answers:
            answer = await anext(answers)
    told = json.loads(answer.body)
    assert (told["id"], told["status"], told["error"]["code"]) == ("deadly", "failed", "worker_crashed")
    assert answer.correlation_id == "c"
    filed = await channel.declare_queue(names.dead("forward"), passive=True)
    async with asyncio.timeout(20), filed.iterator() as letters:
        letter = await anext(letters)
    assert letter.headers["x-backtalk-reason"] == "worker_crashed"
    await letter.ack()


async def test_logs_hold_neither_prompts_nor_keys(broker, names, model, spawn) -> None:
    """One line for each outcome, with the job's id; never a body, never a secret."""
    model.rule(status=500, times=1, body="canary-answer")
    worker = await spawn("forward", OPENAI_API_KEY="canary-key", BACKTALK_LOG_LEVEL="info")
    async with Client(broker.url, namespace=names.namespace) as client:
        secret = [{"role": "user", "content": "canary-prompt"}]
        await client.complete(model="m", messages=secret, id="job-17")
        await client.complete(model="m", messages=secret, inputs={"unused": "canary-input"})
    await until(lambda: worker.log.read_text().count('"event":"answered"') == 2)
    told = worker.log.read_text()
    assert "job-17" in told
    assert "canary" not in told
