"""What an orchestrator sees of a worker: whether it lives, and whether it is ready."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.request
from urllib.error import HTTPError, URLError

import fixtures.deadly_worker
import pytest

from backtalk import Client
from backtalk.local.broker import free_ports

MESSAGE = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def asked(port: int, path: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)
    except URLError:
        return 0, {}


def metric(port: int, name: str) -> str:
    """Return the value of a metric as the worker writes it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return next(line.rpartition(" ")[2] for line in lines if line.startswith(name))


async def until(port: int, path: str, status: int) -> dict:
    async with asyncio.timeout(20):
        while True:
            code, told = await asyncio.to_thread(asked, port, path)
            if code == status:
                return told
            await asyncio.sleep(0.05)


async def test_a_worker_is_ready_until_it_drains_and_lives_until_it_ends(
    broker, names, model, spawn, port
) -> None:
    """A draining worker is not to be killed, and gets nothing more."""
    model.rule(delay=1.0)
    worker = await spawn("forward", BACKTALK_HEALTH_PORT=str(port))
    assert await until(port, "/live", 200)
    assert (await until(port, "/ready", 200))["ready"]
    assert await asyncio.to_thread(metric, port, "backtalk_consumer_up") == "1.0"
    async with Client(broker.url, namespace=names.namespace) as client:
        call = asyncio.create_task(client.complete(model="m", messages=MESSAGE))
        async with asyncio.timeout(10):
            while not model.total:
                await asyncio.sleep(0.02)
        worker.send(signal.SIGTERM)
        told = await until(port, "/ready", 503)
        assert told == {
            "ready": False,
            "connected": True,
            "blocked": False,
            "consuming": False,
            "draining": True,
        }
        assert (await asyncio.to_thread(asked, port, "/live"))[0] == 200
        assert await asyncio.to_thread(metric, port, "backtalk_consumer_up") == "0.0"
        assert await asyncio.to_thread(metric, port, "backtalk_jobs_in_flight") == "1.0"
        assert 0 <= float(await asyncio.to_thread(metric, port, "backtalk_event_loop_lag_seconds")) < 10
        assert (await call).status == "completed"
    assert await worker.wait() == 0
    assert await asyncio.to_thread(asked, port, "/live") == (0, {})


async def test_a_worker_whose_loop_hangs_ends_itself(broker, names, spawn, channel, port) -> None:
    """It tells what it was doing, by names and lines; the message goes back to the queue."""
    deadly = (sys.executable, fixtures.deadly_worker.__file__)
    worker = await spawn("forward", *deadly, BACKTALK_HANG_SECONDS="1.5", BACKTALK_HEALTH_PORT=str(port))
    async with Client(broker.url, namespace=names.namespace) as client:
        hung = asyncio.create_task(client.complete(model="m", messages=[{"role": "user", "content": "hang"}]))
        assert await worker.wait() == 1
        hung.cancel()
    told = worker.log.read_text()
    assert "Timeout (0:00:01.5" in told
    assert "complete_or_die" in told
    queue = await channel.declare_queue(names.work("forward"), passive=True)
    async with asyncio.timeout(10):
        while (message := await queue.get(no_ack=True, fail=False)) is None:
            await asyncio.sleep(0.05)
    assert message.redelivered


async def test_a_port_that_is_taken_ends_the_worker_at_its_start(broker, spawn, environment, port) -> None:
    """A worker that nobody can look at is no healthy one."""
    await spawn("forward", BACKTALK_HEALTH_PORT=str(port))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "backward_worker",
        env={**environment, "BACKTALK_HEALTH_PORT": str(port)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert "choose another BACKTALK_HEALTH_PORT" in said.decode()
