"""Whether the broker has the acknowledgements of a channel. AMQP confirms none, but keeps the order of what is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from aiormq.abc import AbstractChannel

# many are confirmed by one answer
GATHER_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 10.0


class Acks:
    """The acknowledgements written on one channel: its broker has read them when it answers what was asked behind them."""

    def __init__(self, channel: AbstractChannel, prefetch: int) -> None:
        self.channel = channel
        self._prefetch = prefetch
        self._waiting: list[asyncio.Future[bool]] = []
        self._asking: asyncio.Task[None] | None = None

    async def arrived(self) -> bool:
        """Wait until the broker has all that was acknowledged before this, and tell whether it does."""
        arrival: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(arrival)
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await arrival

    async def _ask(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_SECONDS)
                asked, self._waiting = self._waiting, []
                _settle(asked, arrived=await self._answered())
        finally:
            self._asking = None

    async def _answered(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                # what it is already: of all that can be asked, this has the least to do
                await self.channel.basic_qos(prefetch_count=self._prefetch)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001  whatever it was, nobody knows of the answer
            # a channel that is lost cancels what waits for its answers
            return False
        return True


def _settle(arrivals: Iterable[asyncio.Future[bool]], *, arrived: bool) -> None:
    for arrival in arrivals:
        if not arrival.done():
            arrival.set_result(arrived)
