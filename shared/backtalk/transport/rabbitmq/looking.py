"""What a broker has, seen without making anything: queues, exchanges, and whether they are as Backtalk declares them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelAccessRefused

from backtalk.transport.rabbitmq.declaring import INEQUIVALENT
from backtalk.transport.rabbitmq.visiting import visit
from backtalk.transport.topology import Exchange, Queue

Declared: TypeAlias = Exchange | Queue


@dataclass(frozen=True, slots=True)
class Difference:
    """The first argument that is not as ours; the broker tells of one at a time."""

    argument: str
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there under a name; `refused` where the broker's user may not have it compared."""

    there: bool
    differs: Difference | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages are ready in a queue, and how many consumers it has."""

    ready: int
    consumers: int


async def compare(url: str, declared: Iterable[Declared], *, patience: float) -> dict[str, Seen]:
    """Return what is there of some queues and exchanges; nothing is made. Raises BrokerUnreachable."""
    async with visit(url, patience=patience) as connection:
        return {one.name: await _seen(connection, one) for one in declared}


async def depths(url: str, queues: Iterable[str], *, patience: float) -> dict[str, Depth | None]:
    """Return how full queues are, None for those that are not there. Raises BrokerUnreachable."""
    async with visit(url, patience=patience) as connection:
        return {queue: await _depth(connection, queue) for queue in queues}


async def _seen(connection: AbstractConnection, one: Declared) -> Seen:
    # what is not as asked for closes the channel: one for each
    try:
        async with connection.channel() as channel:
            await _look(channel, one)
            await _declare(channel, one)
    except amqp.ChannelNotFoundEntity:
        return Seen(there=False)
    except amqp.ChannelPreconditionFailed as error:
        return Seen(there=True, differs=_difference(error))
    except ChannelAccessRefused:
        return Seen(there=True, refused=True)
    return Seen(there=True)


async def _look(channel: AbstractChannel, one: Declared) -> None:
    """Raise ChannelNotFoundEntity where it is not there."""
    if isinstance(one, Queue):
        await channel.declare_queue(one.name, passive=True)
    else:
        await channel.declare_exchange(one.name, passive=True)


async def _declare(channel: AbstractChannel, one: Declared) -> None:
    """Declare what is there already, by which the broker compares it with ours."""
    if isinstance(one, Queue):
        await channel.declare_queue(one.name, durable=True, arguments=dict(one.arguments))
    else:
        await channel.declare_exchange(one.name, type=one.kind, durable=True, arguments=dict(one.arguments))


def _difference(error: BaseException) -> Difference:
    told = INEQUIVALENT.search(str(error))
    if told is None:
        return Difference("declaration", "as Backtalk declares it", str(error))
    return Difference(told["argument"], told["wanted"].strip("'"), told["found"].strip("'"))


async def _depth(connection: AbstractConnection, queue: str) -> Depth | None:
    try:
        async with connection.channel() as channel:
            declared = (await channel.declare_queue(queue, passive=True)).declaration_result
    except amqp.ChannelNotFoundEntity:
        return None
    return Depth(declared.message_count or 0, declared.consumer_count or 0)
