"""A broker tried out on a queue of one's own that is gone afterwards: does it confirm, and does a large message pass."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import aio_pika
from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused

from backtalk.transport.rabbitmq.visiting import visit

CONFIRM_SECONDS: Final = 5.0
LARGE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found out; None is what could not be tried, and `why` tells why something did not pass."""

    product: str
    version: str
    confirms: bool | None = None
    large: bool | None = None
    why: str = ""


async def probe(url: str, size: int, *, patience: float, confirm_seconds: float = CONFIRM_SECONDS) -> Probe:
    """Try a small message and one of so many bytes, there and back; raises BrokerUnreachable."""
    async with visit(url, patience=patience) as connection:
        properties = _properties(connection)
        known = Probe(properties.get("product", "unknown"), properties.get("version", "unknown"))
        try:
            confirms = await _passes(connection, b"?", confirm_seconds)
        except TimeoutError:
            return Probe(known.product, known.version, confirms=False)
        except ChannelAccessRefused as error:
            return Probe(known.product, known.version, why=str(error))
        try:
            large = await _passes(connection, bytes(size), LARGE_SECONDS)
        except TimeoutError:
            return Probe(
                known.product, known.version, confirms, large=False, why=f"not there in {LARGE_SECONDS:g} s"
            )
        except amqp.AMQPError as error:
            return Probe(known.product, known.version, confirms, large=False, why=str(error))
        return Probe(known.product, known.version, confirms, large)


def _properties(connection: AbstractConnection) -> dict[str, str]:
    assert connection.transport is not None
    told = connection.transport.connection.server_properties
    return {name: value for name, value in told.items() if isinstance(value, str)}


async def _passes(connection: AbstractConnection, body: bytes, seconds: float) -> bool:
    """Tell whether a message comes back as it was sent, through a queue that nobody else sees."""
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    async with asyncio.timeout(seconds):
        # its type is said, since a broker may make quorum queues of all others, and they cannot be exclusive
        queue = await channel.declare_queue(exclusive=True, arguments={"x-queue-type": "classic"})
        await channel.default_exchange.publish(aio_pika.Message(body), routing_key=queue.name)
        message = await queue.get(no_ack=True, fail=False)
        # bounded like the rest, and not in a `finally`: after an alarm it would wait for ever
        await queue.delete()
    return message is not None and message.body == body
