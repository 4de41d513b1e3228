"""The sample that needs nothing but Python; tests/extra has the others."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import topology

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLE = Path(__file__).parents[2] / "examples" / "python_pika" / "sample.py"


@pytest.fixture
def run(stage):
    """Return what runs the sample on the stage of this test, and gives its exit code, output and errors."""

    async def one(seconds="20"):
        told = {
            "BACKTALK_AMQP_URL": stage.url,
            "BACKTALK_NAMESPACE": stage.names.namespace,
            "SAMPLE_SECONDS": seconds,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(SAMPLE)),
            env={**os.environ, **told},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode, output.decode(), errors.decode()

    return one


async def test_pika_sends_a_job_and_feedback_and_gets_a_response_and_a_gradient(stage, run) -> None:
    """The script prints what both workers answered."""
    await stage.worker("forward")
    await stage.worker("backward")
    code, output, errors = await run()
    assert (code, errors) == (0, "")
    response, gradient = output.splitlines()
    assert response == "response: Ciao"
    assert gradient.startswith("gradient: ")
    assert "capital letters" in gradient


async def test_pika_says_what_failed(stage, run) -> None:
    """A job that the endpoint refused ends the script with the error of the answer."""
    stage.model.rule(status=400)
    await stage.worker("forward")
    code, output, errors = await run()
    assert (code, output) == (1, "")
    assert errors.startswith("forward worker: failed: ")
    assert "upstream_rejected" in errors


async def test_pika_gives_up_where_no_worker_runs(stage, run) -> None:
    """Nobody answers in the time given; before any worker ran there is not even a queue."""
    assert await run() == (
        1,
        "",
        f"no queue {stage.names.work('forward')}: the workers make their queues when they start\n",
    )
    await declare(stage.url, topology(stage.names), patience=10)
    assert await run("0.2") == (1, "", "no answer of a forward worker within 0.2 s\n")
