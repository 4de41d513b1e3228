"""The pair as its users run it: console scripts in processes of their own, a private namespace, a counted model."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from backtalk.local.processes import running


@dataclass(frozen=True)
class WorkerProcess:
    """A worker in a process of its own."""

    pid: int
    wait: Callable[[], Awaitable[int]]
    log: Path

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


@pytest.fixture
def environment(broker, names, model) -> dict[str, str]:
    """The environment of a process that belongs to this test."""
    own = {
        "BACKTALK_AMQP_URL": broker.url,
        "BACKTALK_NAMESPACE": names.namespace,
        "OPENAI_BASE_URL": model.base_url,
        "OPENAI_API_KEY": "test-key",
        "PYTHONWARNINGS": "error",
    }
    return {**os.environ, **own}


@pytest.fixture
async def spawn(environment, tmp_path) -> AsyncIterator[Callable[..., Awaitable[WorkerProcess]]]:
    """Start a worker process, `await spawn("forward", BACKTALK_CONCURRENCY="4")`; all are stopped in the end."""
    async with AsyncExitStack() as processes:
        count = iter(range(100))

        async def one(role: str, *command: str, **variables: str) -> WorkerProcess:
            log = tmp_path / f"{role}-{next(count)}.log"
            usual = (str(Path(sys.executable).with_name(f"{role}-worker")),)
            process = await processes.enter_async_context(
                running(command or usual, env={**environment, **variables}, log=log, ready='"event":"ready"')
            )
            return WorkerProcess(process.pid, process.wait, log)

        yield one
