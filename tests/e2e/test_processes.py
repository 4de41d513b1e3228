"""Workers as processes: signals, deaths, exit codes, and what their logs never hold."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import aio_pika
import pytest
from fixtures.network import Network

from backtalk import Client
from backtalk.transport.topology import topology
from backtalk.wire.codec import validate
from backtalk.wire.jobs import CompletionJob

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


@pytest.mark.parametrize("named", [False, True], ids=["a call", "a stream of results"])
async def test_a_worker_killed_between_its_answer_and_the_acknowledgement_is_answered_for_once(
    broker, names, model, spawn, named
) -> None:
    """SIGKILL when the answer is confirmed and the message is not settled: its repeat is dropped by its id."""
    async with Network(broker.url) as network, Client(broker.url, namespace=names.namespace) as client:
        first = await spawn("forward", BACKTALK_AMQP_URL=network.url)
        network.lose_next_ack("worker", lambda: first.send(signal.SIGKILL))
        job = validate({"model": "m", "messages": MESSAGE}, CompletionJob)
        answers = aiter(client.results("s"))
        heard = [await (sent_by_name(client, answers, job) if named else client.call(job, id="m"))]
        await first.wait()
        await spawn("forward")
        # two of them: the repeat is answered before what was sent later
        await until(lambda: model.total == 2)
        heard.append(await (sent_by_name(client, answers, job) if named else client.call(job, id="n")))
        await answers.aclose()
        await client.forget("s")
    assert [answer.status for answer in heard] == ["completed"] * 2
    assert heard[0].id != heard[1].id
    assert model.total == 3


async def sent_by_name(client, answers, job):
    """Send a job to a stream and return the next answer that is read from it."""
    sent = await client.enqueue(job, results="s")
    answer = await anext(answers)
    assert answer.id == sent
    return answer


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
    assert all(word in told for word in (names.work("forward"), "x-delivery-limit", "100", "7"))


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
