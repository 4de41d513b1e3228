"""The topology on the broker: declared once, whole, and a contradiction told so that one can act on it."""

from __future__ import annotations

import re
from typing import Final

import aio_pika
from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractChannel

from backtalk.transport.envelope import TopologyMismatch
from backtalk.transport.rabbitmq.connecting import CONNECT_SECONDS, patiently
from backtalk.transport.topology import Queue, Topology


async def declare(url: str, topology: Topology, *, patience: float) -> None:
    """Declare the whole topology once, on a connection of its own.

    A robust connection would declare it again at each reconnect, and never come back if it had changed.
    Raises BrokerUnreachable and TopologyMismatch.
    """
    connection = await patiently(lambda: aio_pika.connect(url, timeout=CONNECT_SECONDS), patience)
    async with connection, await connection.channel() as channel:
        for exchange in topology.exchanges:
            try:
                await channel.declare_exchange(
                    exchange.name, type=exchange.kind, durable=True, arguments=dict(exchange.arguments)
                )
            except amqp.ChannelClosed as error:
                raise _mismatch(error) from error
        for queue in topology.queues:
            await declare_queue(channel, queue)
        for binding in topology.bindings:
            bound = await channel.get_queue(binding.queue, ensure=False)
            await bound.bind(binding.exchange, binding.key)


async def declare_queue(channel: AbstractChannel, queue: Queue) -> None:
    try:
        await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
    except amqp.ChannelClosed as error:
        raise _mismatch(error) from error


_INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<what>\w+) '(?P<name>[^']+)'.*?"
    r"received (?:the value )?(?P<wanted>.+?) but current is (?:the value )?(?P<found>.+?)(?:, |$)",
    re.DOTALL,
)


def _mismatch(error: BaseException) -> TopologyMismatch:
    told = _INEQUIVALENT.search(str(error))
    if told is None:
        return TopologyMismatch(f"the broker refused a declaration: {error}")
    return TopologyMismatch(
        f"{told['what']} {told['name']} exists with another {told['argument']}: "
        f"wanted {told['wanted']}, found {told['found']}. Three ways out: drain and delete it, so that it is made "
        "anew; choose another BACKTALK_NAMESPACE; or run the version of Backtalk that made it"
    )
