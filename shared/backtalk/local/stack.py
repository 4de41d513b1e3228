"""The one-machine stack: a broker, a model, and both workers as processes, stopped in the end whatever happens."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from backtalk.local.broker import PrivateBroker, free_ports
from backtalk.local.processes import running

WORKERS: Final = ("forward", "backward")


@dataclass(frozen=True, slots=True)
class Stack:
    """Where everything is. `simulated` tells that no real model is asked, `private` that the broker is ours.

    `management_url` is None unless it was asked for and the broker is ours; `workers` are their health ports.
    """

    amqp_url: str
    namespace: str
    model_url: str
    simulated: bool
    private: bool
    logs: Path
    workers: tuple[str, ...]
    management_url: str | None = None


@asynccontextmanager
async def stack(*, namespace: str, latency: float = 0.0, management: bool = False) -> AsyncIterator[Stack]:
    """Start what is not there yet.

    The broker is BACKTALK_AMQP_URL, else a private node. The model is OPENAI_BASE_URL, else the simulated one,
    which takes `latency` seconds for an answer; a stray OPENAI_API_KEY alone decides nothing and spends nothing.
    The namespace keeps its workers away from the jobs of others on the same broker. With `management` a private
    node has RabbitMQ's HTTP API.
    """
    async with AsyncExitStack() as opened:
        logs = Path(opened.enter_context(TemporaryDirectory(prefix="backtalk-", ignore_cleanup_errors=True)))
        amqp_url = os.environ.get("BACKTALK_AMQP_URL") or None
        private = amqp_url is None
        management_url = None
        if amqp_url is None:
            broker = await opened.enter_async_context(PrivateBroker(management=management))
            amqp_url, management_url = broker.url, broker.management_url
        model_url = os.environ.get("OPENAI_BASE_URL") or None
        simulated = model_url is None
        if model_url is None:
            model_url = await opened.enter_async_context(_simulated_model(logs, latency))
        env = {
            **os.environ,
            "BACKTALK_AMQP_URL": amqp_url,
            "BACKTALK_NAMESPACE": namespace,
            "OPENAI_BASE_URL": model_url,
        }
        if simulated:
            env["OPENAI_API_KEY"] = "simulated"
        # one in the environment would be that of both
        ports = free_ports(len(WORKERS))
        for role, port in zip(WORKERS, ports, strict=True):
            own = {"BACKTALK_HEALTH_HOST": "127.0.0.1", "BACKTALK_HEALTH_PORT": str(port)}
            await opened.enter_async_context(worker(role, env | own, logs))
        workers = tuple(f"127.0.0.1:{port}" for port in ports)
        yield Stack(amqp_url, namespace, model_url, simulated, private, logs, workers, management_url)


@asynccontextmanager
async def worker(role: str, env: dict[str, str], logs: Path) -> AsyncIterator[None]:
    """Run one worker, ready to consume."""
    told = {**env, "BACKTALK_LOG_FORMAT": "json", "BACKTALK_LOG_LEVEL": "info"}
    command = [sys.executable, "-m", f"{role}_worker"]
    async with running(command, env=told, log=logs / f"{role}.log", ready='"event":"ready"'):
        yield


@asynccontextmanager
async def _simulated_model(logs: Path, latency: float) -> AsyncIterator[str]:
    (port,) = free_ports(1)
    command = [
        *(sys.executable, "-m", "backtalk.local.simulated_model"),
        *("--host", "127.0.0.1", "--port", str(port), "--latency", str(latency)),
    ]
    async with running(command, env=os.environ, log=logs / "model.log", ready="simulated model on"):
        yield f"http://127.0.0.1:{port}/v1"
