"""The two connections of a process: what is published is confirmed, what is consumed goes on for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue, AbstractRobustConnection

from backtalk.transport.envelope import Delivery, Envelope, QueueFull, Unconfirmed, Unroutable
from backtalk.transport.rabbitmq.connecting import LOST, robust
from backtalk.transport.rabbitmq.conversion import to_delivery, to_message
from backtalk.transport.rabbitmq.declaring import declare_queue
from backtalk.transport.topology import Queue

CONFIRM_SECONDS: Final = 10.0
CANCEL_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.2

OnDelivery: TypeAlias = Callable[[Delivery], None]


class Broker:
    """Two connections to RabbitMQ that come back by themselves: one consumes, one publishes.

    They are two because RabbitMQ blocks publishers' connections on an alarm, and acks must go on.
    """

    def __init__(
        self,
        consuming: AbstractRobustConnection,
        publishing: AbstractRobustConnection,
        channel: AbstractChannel,
    ) -> None:
        self._consuming = consuming
        self._publishing = publishing
        self._channel = channel
        self._in_flight: dict[str | None, asyncio.Event] = {}

    @property
    def connected(self) -> bool:
        return self._consuming.connected.is_set() and self._publishing.connected.is_set()

    async def publish(
        self,
        envelope: Envelope,
        *,
        key: str,
        exchange: str = "",
        mandatory: bool = True,
        patience: float = 60.0,
    ) -> None:
        """Publish persistently and return when the broker has confirmed.

        A lost connection is waited for, up to `patience` seconds, and the message sent again under its id.
        Raises Unroutable, QueueFull, or Unconfirmed.
        """
        message = to_message(envelope)
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            # aiormq tells returned messages apart by their id: one of each id at a time
            while turn := self._in_flight.get(envelope.message_id):
                await turn.wait()
            gone = self._in_flight[envelope.message_id] = asyncio.Event()
            try:
                async with asyncio.timeout(min(CONFIRM_SECONDS, patience)):
                    channel = await self._channel.get_underlay_channel()
                    await channel.basic_publish(  # type: ignore[call-arg]  # the abstract class lags behind
                        message.body,
                        exchange=exchange,
                        routing_key=key,
                        properties=message.properties,
                        mandatory=mandatory,
                        wait=False,  # the confirmation says more than a drained socket
                    )
            except amqp.PublishError as error:
                raise Unroutable(
                    f"no queue takes messages for {key!r} of exchange {exchange!r}; "
                    "start a worker once, it declares the queues, or check the namespace"
                ) from error
            except amqp.DeliveryError as error:
                raise QueueFull(f"the broker refused a message for {key!r}: the queue is full") from error
            except (*LOST, TimeoutError, asyncio.CancelledError) as error:
                _unless_lost(error)
                if asyncio.get_running_loop().time() + _RETRY_SECONDS >= deadline:
                    raise Unconfirmed(f"the broker did not confirm a message for {key!r}") from error
            else:
                return
            finally:
                del self._in_flight[envelope.message_id]
                gone.set()
            await asyncio.sleep(_RETRY_SECONDS)

    async def declare(self, queue: Queue) -> None:
        """Declare one durable queue; raises TopologyMismatch."""
        with _typed(f"declare {queue.name}"):
            async with asyncio.timeout(CONFIRM_SECONDS), self._publishing.channel() as channel:
                await declare_queue(channel, queue)

    async def delete(self, name: str) -> None:
        """Delete a queue, with whatever is in it."""
        with _typed(f"delete {name}"):
            async with asyncio.timeout(CONFIRM_SECONDS), self._publishing.channel() as channel:
                queue = await channel.get_queue(name, ensure=False)
                # a quorum queue answers if_unused with 540 and closes the whole connection
                await queue.delete(if_unused=False, if_empty=False)

    async def consume(self, queue: str, on_delivery: OnDelivery, *, prefetch: int) -> Consumer:
        """Hand every delivery of an existing queue to a function, for ever, at most `prefetch` unsettled."""
        channel = await self._consuming.channel()
        await channel.set_qos(prefetch_count=prefetch)
        # only a passive declare is restored after every kind of loss, also when arguments have changed since
        source = await channel.declare_queue(queue, passive=True)

        async def receive(message: AbstractIncomingMessage) -> None:
            on_delivery(to_delivery(message, queue))

        return Consumer(channel, source, await source.consume(receive))


@dataclass(frozen=True, slots=True)
class Consumer:
    """A running consumption; its channel stays open so that what was delivered can still be settled."""

    channel: AbstractChannel
    queue: AbstractQueue
    tag: str

    async def cancel(self) -> None:
        """Ask for no more deliveries."""
        with suppress(*LOST, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self.queue.cancel(self.tag)

    async def close(self) -> None:
        """Close the channel; what is not settled goes back to the queue."""
        with suppress(*LOST, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self.channel.close()


@asynccontextmanager
async def _closed(connection: AbstractRobustConnection) -> AsyncIterator[None]:
    """Close a connection in the end, and do not wait for ever for a broker that does not answer."""
    try:
        yield
    finally:
        with suppress(*LOST, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await connection.close()


def _unless_lost(error: BaseException) -> None:
    """Raise a cancellation that is meant for us: a connection that misses its heartbeats cancels confirms as well."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error


@contextmanager
def _typed(what: str) -> Iterator[None]:
    """Name a lost connection by a type of ours."""
    try:
        yield
    except (*LOST, TimeoutError) as error:
        raise Unconfirmed(f"the broker did not {what}: {type(error).__name__}") from error


@asynccontextmanager
async def connect(url: str, *, name: str, patience: float) -> AsyncIterator[Broker]:
    """Connect twice and return both as a Broker; raises BrokerUnreachable after `patience` seconds."""
    consuming = await robust(url, f"{name} consume", patience)
    async with _closed(consuming):
        publishing = await robust(url, f"{name} publish", patience)
        async with _closed(publishing):
            channel = await publishing.channel(publisher_confirms=True, on_return_raises=True)
            yield Broker(consuming, publishing, channel)
