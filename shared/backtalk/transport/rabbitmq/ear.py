"""What is told to all at once: an exclusive queue on a fanout exchange, a new one at each connection.

The robust layer would declare the old name again, which the broker may still hold locked for half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractRobustConnection
from aiormq.abc import AbstractChannel, DeliveredMessage

from backtalk.transport.ending import ended
from backtalk.transport.envelope import TopologyMismatch
from backtalk.transport.rabbitmq.connecting import LOST, patiently

_SUBSCRIBE_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 1.0

Hear: TypeAlias = Callable[[bytes], None]


@asynccontextmanager
async def hearing(
    connection: AbstractRobustConnection,
    exchange: str,
    new_name: Callable[[], str],
    hear: Hear,
    patience: float,
) -> AsyncIterator[None]:
    """Have the bodies of all that is published to an exchange heard, from now on until the block ends.

    What is said while a connection is lost is missed. Raises TopologyMismatch where the broker refuses the queue, and
    BrokerUnreachable where the connection was lost for `patience` seconds.
    """
    try:
        channel = await patiently(lambda: _subscribed(connection, exchange, new_name(), hear), patience)
    except amqp.ChannelClosed as error:
        raise TopologyMismatch(
            f"the broker refused a queue on exchange {exchange}: {error}. "
            "Allow the worker's user to configure, write and read it, or run `backtalk topology check`"
        ) from error
    keeper = asyncio.get_running_loop().create_task(_kept(channel, connection, exchange, new_name, hear))
    try:
        yield
    finally:
        await ended(keeper)


async def _kept(
    channel: AbstractChannel,
    connection: AbstractRobustConnection,
    exchange: str,
    new_name: Callable[[], str],
    hear: Hear,
) -> None:
    while True:
        await asyncio.wait((channel.closing,))
        await asyncio.sleep(_RETRY_SECONDS)
        with suppress(*LOST, TimeoutError):
            await connection.ready()
            channel = await _subscribed(connection, exchange, new_name(), hear)


async def _subscribed(
    connection: AbstractRobustConnection, exchange: str, name: str, hear: Hear
) -> AbstractChannel:
    async def receive(message: DeliveredMessage) -> None:
        hear(message.body)

    transport = connection.transport
    if transport is None:
        raise ConnectionError("the connection is being made anew")
    async with asyncio.timeout(_SUBSCRIBE_SECONDS):
        channel = await transport.connection.channel(publisher_confirms=False)
        await channel.queue_declare(name, exclusive=True, auto_delete=True)
        await channel.queue_bind(name, exchange)
        await channel.basic_consume(name, receive, no_ack=True)
    return channel
