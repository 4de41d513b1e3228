"""A queue looked through from its oldest message on, without taking anything that is not acknowledged.

What was got and is still wanted goes back in its old order. One reader at a time: what one holds, another cannot see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import Final

from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

from backtalk.transport.envelope import Delivery, TransportError
from backtalk.transport.rabbitmq.connecting import LOST
from backtalk.transport.rabbitmq.conversion import to_delivery
from backtalk.transport.rabbitmq.visiting import visit

TURN_SECONDS: Final = 10.0
_GET_SECONDS: Final = 60.0
_BACK_SECONDS: Final = 2.0
_BACK_SECONDS_EACH: Final = 0.01
_POLL_SECONDS: Final = 0.02
# a quorum queue that gets more of them at once puts them back in any order; measured: 32 are kept in order
_WINDOW: Final = 16


class NoQueue(TransportError):
    """Raised when a queue to be read is not there."""


class BeingRead(TransportError):
    """Raised when somebody else reads a queue, and goes on doing so."""


class Browser:
    """What is in one queue at this moment; `consumers` tells how many others take messages from it."""

    def __init__(
        self, channel: AbstractChannel, counting: AbstractChannel, queue: str, ready: int, consumers: int
    ) -> None:
        self.ready = ready
        self.consumers = consumers
        self._channel = channel
        self._counting = counting
        self._queue = queue
        # in the order they came
        self._held: dict[int, None] = {}
        self._unseen = ready

    async def deliveries(self) -> AsyncGenerator[Delivery, None]:
        """Yield what was there in the beginning; what is not acknowledged stays in the queue.

        What arrives meanwhile is not looked at: a letter that is sent to work may be back before the last was seen.
        """
        source = await self._channel.get_queue(self._queue, ensure=False)
        while self._unseen:
            message = await source.get(fail=False, timeout=_GET_SECONDS)
            self._unseen = self._unseen - 1 if message else 0
            if message:
                tag = message.delivery_tag or 0
                self._held[tag] = None
                yield self._releasing(to_delivery(message, self._queue), tag)

    def _releasing(self, delivery: Delivery, tag: int) -> Delivery:
        async def ack() -> bool:
            self._held.pop(tag, None)
            return await delivery.ack()

        return replace(delivery, ack=ack)

    async def put_back(self) -> None:
        """Give back what is held, and return when it can be had again in the order it was."""
        # what is given back stands behind what another reader gave back before: only the whole keeps its order
        async with aclosing(self.deliveries()) as unseen:
            async for _ in unseen:
                pass
        expected = await _ready(self._counting, self._queue)
        channel = await self._channel.get_underlay_channel()
        for window in _windows(list(self._held)):
            for tag in window:
                await channel.basic_nack(tag, requeue=True, wait=False)
            expected += len(window)
            await self._until(expected)

    async def _until(self, ready: int) -> None:
        while await _ready(self._counting, self._queue) < ready:
            pass


@asynccontextmanager
async def browse(url: str, queue: str, *, patience: float) -> AsyncIterator[Browser]:
    """Read a queue alone; raises BrokerUnreachable, NoQueue, and BeingRead when another reader does not end."""
    async with visit(url, patience=patience) as connection:
        await _turn(connection, f"{queue}.reader", patience=TURN_SECONDS)
        counting = await connection.channel()
        ready, consumers = await _counts(counting, queue)
        channel = await connection.channel()
        browser = Browser(channel, counting, queue, ready, consumers)
        try:
            yield browser
        finally:
            # whatever is not put back by then, the broker puts back, in an order of its own
            with suppress(*LOST, TimeoutError):
                async with asyncio.timeout(_BACK_SECONDS + ready * _BACK_SECONDS_EACH):
                    await browser.put_back()
            with suppress(*LOST, TimeoutError):
                await channel.close()


async def _turn(connection: AbstractConnection, lock: str, *, patience: float) -> None:
    """Wait until no other reader is there. A queue that is exclusive to a connection goes with it, however it ends."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        channel = await connection.channel()
        try:
            await channel.declare_queue(lock, exclusive=True, arguments={"x-queue-type": "classic"})
        except ChannelLockedResource as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise BeingRead(
                    f"somebody else has been reading {lock.removesuffix('.reader')} for {patience:g} s; try again when they are done"
                ) from error
            await asyncio.sleep(_POLL_SECONDS)
        except ChannelAccessRefused:
            # a user who may not declare queues may read all the same
            return
        else:
            return


async def _counts(channel: AbstractChannel, queue: str) -> tuple[int, int]:
    """Return how many messages are ready in a queue, and how many consumers it has."""
    try:
        declared = (await channel.declare_queue(queue, passive=True)).declaration_result
    except amqp.ChannelNotFoundEntity as error:
        raise NoQueue(
            f"there is no queue {queue}: start a worker once or run `backtalk topology apply`, "
            "or check BACKTALK_NAMESPACE"
        ) from error
    return declared.message_count or 0, declared.consumer_count or 0


async def _ready(channel: AbstractChannel, queue: str) -> int:
    return (await _counts(channel, queue))[0]


def _windows(tags: Sequence[int]) -> Iterator[tuple[int, ...]]:
    rest = iter(tags)
    while window := tuple(islice(rest, _WINDOW)):
        yield window
