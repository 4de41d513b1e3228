"""The broker of a run: it can be restarted, and killed and started again on what it had on disk."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

from backtalk.local.broker import BrokerFailed, PrivateBroker
from backtalk.local.processes import listens, spawn, stop

_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0


class Node(PrivateBroker):
    """A private broker that survives what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self._again: Process | None = None

    async def __aexit__(self, *exc: object) -> None:
        if self._again is not None:
            await stop(self._again)
        await super().__aexit__(*exc)

    async def restart(self) -> None:
        """Stop the broker in order and start it again; Erlang's machine stays, unless it does not come back."""
        # a Ctrl-C ends rabbitmqctl too, and the broker must not stay away
        with suppress(BrokerFailed):
            await self.control("stop_app")
        with suppress(BrokerFailed):
            await self.control("start_app")
            return
        try:
            await self.control("start_app")
        except BrokerFailed:
            await self.crash()

    async def crash(self) -> None:
        """Kill the node, and start another one on its data."""
        told = await self.control("eval", "os:getpid().")
        machine = psutil.Process(int(told.strip().strip('"')))
        script = machine.parent()
        command, environment = script.cmdline(), script.environ()
        os.kill(machine.pid, signal.SIGKILL)
        # its port must not answer for the next one
        await asyncio.to_thread(machine.wait, _END_SECONDS)
        self._again = await spawn(command, env=environment)
        if not await listens(self._again, urlsplit(self.url).port or 0, patience=_START_SECONDS):
            raise BrokerFailed("RabbitMQ did not start again after it was killed")

    async def disconnect(self) -> None:
        """Close every connection, those of the workers and ours."""
        with suppress(BrokerFailed):
            await self.control("close_all_connections", "chaos")
