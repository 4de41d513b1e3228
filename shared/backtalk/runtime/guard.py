"""Whether the queues that a worker consumes are there: somebody may delete them, and the library waits in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from backtalk.runtime.telemetry import log
from backtalk.transport.ending import ended
from backtalk.transport.envelope import TransportError
from backtalk.transport.rabbitmq import Broker
from backtalk.transport.topology import Topology

LOOK_SECONDS: Final = 2.0


class Guard:
    """Looks for queues again and again; with `makes` it declares anew what is gone."""

    def __init__(self, broker: Broker, topology: Topology, queues: Sequence[str], *, makes: bool) -> None:
        self._broker = broker
        self._topology = topology
        self._queues = queues
        self._makes = makes
        self.complete = True

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self._watch())
        try:
            yield
        finally:
            await ended(task)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except TransportError as error:
                # a lost connection shows by itself
                log.debug("queues not looked for", problem=str(error))

    async def _look(self) -> None:
        gone = [name for name in self._queues if not await self._broker.exists(name)]
        if gone and self.complete:
            log.error("queue is gone", queues=gone, remedy="stop what deletes it; `backtalk topology apply`")
        self.complete = not gone
        if self._makes:
            for name in gone:
                await self._broker.declare(*self._topology.of(name))
                log.warning("queue made anew", queue=name)
