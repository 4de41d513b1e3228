"""Where a run takes place: a broker, an endpoint and a result store of its own, the workers and the desk."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from backtalk.local.redis_server import PrivateRedis
from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import Names, topology
from benchmarks.chaos.desk import Desk, desk
from benchmarks.chaos.endpoint import Endpoint
from benchmarks.chaos.keeper import Keeper
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.messages import Mint
from benchmarks.chaos.node import Node
from benchmarks.processes import environment

NAMES: Final = Names("chaos")

SETTINGS: Final = {
    "BACKTALK_CONCURRENCY": "8",
    "BACKTALK_DRAIN_SECONDS": "10",
    "BACKTALK_MODEL_TIMEOUT_SECONDS": "3",
    # so that nothing climbs higher than the rung of 30 seconds
    "BACKTALK_MAX_ATTEMPTS": "3",
    "BACKTALK_LOG_FORMAT": "json",
    "BACKTALK_LOG_LEVEL": "info",
}


@dataclass(frozen=True, slots=True)
class Stage:
    node: Node
    endpoint: Endpoint
    keeper: Keeper
    desk: Desk
    mint: Mint
    ledger: Ledger


@asynccontextmanager
async def staged(rng: Random, logs: Path, *, store: bool) -> AsyncIterator[Stage]:
    """Start everything; all workers consume when this returns."""
    # what the broker's clients say of lost connections is expected here
    logging.basicConfig(filename=logs / "chaos.log", level=logging.WARNING)
    ledger = Ledger()
    async with AsyncExitStack() as opened:
        node = await opened.enter_async_context(Node())
        endpoint = await opened.enter_async_context(Endpoint(Random(rng.random())))
        settings = {
            **SETTINGS,
            "BACKTALK_AMQP_URL": node.url,
            "BACKTALK_NAMESPACE": NAMES.namespace,
            "OPENAI_BASE_URL": endpoint.base_url,
        }
        if store:
            settings["BACKTALK_RESULT_STORE"] = (await opened.enter_async_context(PrivateRedis())).url
        await declare(node.url, topology(NAMES), patience=10)
        at_desk = await opened.enter_async_context(desk(node.url, NAMES, ledger))
        keeper = await opened.enter_async_context(Keeper(environment(settings), logs))
        await keeper.ready()
        yield Stage(node, endpoint, keeper, at_desk, Mint(Random(rng.random())), ledger)
