"""A consumption of one queue, which can pause."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from backtalk.transport.rabbitmq.connecting import LOST, typed

CONSUME_SECONDS: Final = 10.0
CANCEL_SECONDS: Final = 5.0

Receive: TypeAlias = Callable[[AbstractIncomingMessage], Awaitable[None]]


class Consumer:
    """A consumption of one queue; while it pauses, what was delivered can still be settled."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue, receive: Receive) -> None:
        self._channel = channel
        self._queue = queue
        self._receive = receive
        self._tag: str | None = None

    async def resume(self) -> None:
        """Ask for deliveries. Raises Unconfirmed."""
        if self._tag is None:
            with typed(f"let {self._queue.name} be consumed"):
                async with asyncio.timeout(CONSUME_SECONDS):
                    self._tag = await self._queue.consume(self._receive)

    async def pause(self) -> None:
        """Ask for no more deliveries; one that failed is asked again, or the next connection brings some. Raises Unconfirmed."""
        if self._tag is not None:
            with typed(f"end the consumption of {self._queue.name}"):
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self._queue.cancel(self._tag)
            self._tag = None

    async def close(self) -> None:
        """Close the channel; what is not settled goes back to the queue."""
        with suppress(*LOST, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._channel.close()
