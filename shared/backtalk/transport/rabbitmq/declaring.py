"""The topology on the broker: declared once, whole, or looked for; what is wrong is told so that one can act on it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractChannel, AbstractConnection

from backtalk.transport.envelope import TopologyMismatch
from backtalk.transport.rabbitmq.connecting import plain
from backtalk.transport.topology import Binding, Exchange, Queue, Topology


async def declare(url: str, topology: Topology, *, patience: float) -> None:
    """Declare the whole topology once, on a connection of its own.

    A robust connection would declare it again at each reconnect, and never come back if it had changed.
    Raises BrokerUnreachable and TopologyMismatch.
    """
    connection = await plain(url, "backtalk declare", patience)
    async with connection, connection.channel() as channel:
        for exchange in topology.exchanges:
            with _explained():
                await channel.declare_exchange(
                    exchange.name, type=exchange.kind, durable=True, arguments=dict(exchange.arguments)
                )
        for queue in topology.queues:
            await declare_queue(channel, queue)
        await bind(channel, topology.bindings)


async def bind(channel: AbstractChannel, bindings: Iterable[Binding]) -> None:
    for binding in bindings:
        bound = await channel.get_queue(binding.queue, ensure=False)
        with _explained():
            await bound.bind(binding.exchange, binding.key)


async def declare_queue(channel: AbstractChannel, queue: Queue) -> None:
    with _explained():
        await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))


async def check(url: str, topology: Topology, *, patience: float) -> None:
    """See that every exchange and queue is there, and declare nothing: for users who may not configure them.

    Arguments and bindings cannot be seen this way. Raises BrokerUnreachable, and TopologyMismatch that names all that
    is missing.
    """
    wanted: tuple[Exchange | Queue, ...] = (*topology.exchanges, *topology.queues)
    connection = await plain(url, "backtalk check", patience)
    async with connection:
        missing = [
            f"{type(one).__name__.lower()} {one.name}" for one in wanted if not await _exists(connection, one)
        ]
    if missing:
        raise TopologyMismatch(
            f"missing on the broker: {', '.join(missing)}. `backtalk topology apply` makes them, "
            "with the URL of a user who may configure them"
        )


async def _exists(connection: AbstractConnection, wanted: Exchange | Queue) -> bool:
    # a channel for each: what is missing closes the one it was asked for on
    async with connection.channel() as channel:
        try:
            if isinstance(wanted, Queue):
                await channel.declare_queue(wanted.name, passive=True)
            else:
                await channel.declare_exchange(wanted.name, passive=True)
        except amqp.ChannelNotFoundEntity:
            return False
        except amqp.ChannelClosed as error:
            raise _mismatch(error) from error
    return True


@contextmanager
def _explained() -> Iterator[None]:
    """Say what a refusal of the broker means for whoever runs it."""
    try:
        yield
    except amqp.ChannelClosed as error:
        raise _mismatch(error) from error


WAYS_OUT: Final = (
    "Three ways out: drain and delete it, so that it is made anew; choose another BACKTALK_NAMESPACE; "
    "or run the version of Backtalk that made it"
)
INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<what>\w+) '(?P<name>[^']+)'.*?"
    r"received (?:the value )?(?P<wanted>.+?) but current is (?:the value )?(?P<found>.+?)(?:, |$)",
    re.DOTALL,
)


def _mismatch(error: BaseException) -> TopologyMismatch:
    told = INEQUIVALENT.search(str(error))
    if "ACCESS_REFUSED" in str(error):
        return TopologyMismatch(
            f"the broker's user may not declare the topology: {error}. Let one who may run "
            "`backtalk topology apply`, and start the workers with BACKTALK_TOPOLOGY=check"
        )
    if told is None:
        return TopologyMismatch(f"the broker refused a declaration: {error}")
    return TopologyMismatch(
        f"{told['what']} {told['name']} exists with another {told['argument']}: "
        f"wanted {told['wanted']}, found {told['found']}. {WAYS_OUT}"
    )
