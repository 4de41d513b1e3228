"""The two connections of a process: what is published is confirmed, what is consumed goes on for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final, TypeAlias

from aio_pika import exceptions as amqp
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractRobustConnection

from backtalk.transport.ending import ended
from backtalk.transport.envelope import Delivery, Envelope, QueueFull, Unconfirmed, Unroutable
from backtalk.transport.rabbitmq.acks import Acks
from backtalk.transport.rabbitmq.connecting import LOST, patiently, robust, typed
from backtalk.transport.rabbitmq.consumer import CANCEL_SECONDS, Consumer
from backtalk.transport.rabbitmq.conversion import to_delivery, to_message
from backtalk.transport.rabbitmq.declaring import bind, declare_queue
from backtalk.transport.rabbitmq.ear import Hear, hearing
from backtalk.transport.rabbitmq.shaken import Shaken
from backtalk.transport.topology import Binding, Queue

CONFIRM_SECONDS: Final = 10.0
BLOCKED_POLL_SECONDS: Final = 1.0
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
        self._confirms: set[asyncio.Timeout] = set()
        self._shaken = Shaken(consuming)
        self._in_flight: dict[str | None, asyncio.Event] = {}

    @property
    def connected(self) -> bool:
        return self._consuming.connected.is_set() and self._publishing.connected.is_set()

    @property
    def blocked(self) -> bool:
        """Whether the broker takes no messages for now: it runs out of memory or disk."""
        transport = self._publishing.transport
        return transport is not None and self.connected and _waits(transport.connection.ready())

    async def wait_out(self) -> None:
        """Let no publish give up while the broker is blocked: what it has not read yet it would have twice."""
        while True:
            await asyncio.sleep(min(BLOCKED_POLL_SECONDS, CONFIRM_SECONDS / 3))
            if self._confirms and self.blocked:
                until = asyncio.get_running_loop().time() + CONFIRM_SECONDS
                for confirm in self._confirms:
                    if not confirm.expired():
                        confirm.reschedule(until)

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
                async with self._confirm(min(CONFIRM_SECONDS, patience)):
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

    @asynccontextmanager
    async def _confirm(self, seconds: float) -> AsyncIterator[None]:
        async with asyncio.timeout(seconds) as limit:
            self._confirms.add(limit)
            try:
                yield
            finally:
                self._confirms.discard(limit)

    async def declare(self, queue: Queue, bindings: Iterable[Binding] = ()) -> None:
        """Declare one durable queue, and bind it; raises TopologyMismatch and Unconfirmed."""
        with typed(f"declare {queue.name}"):
            async with asyncio.timeout(CONFIRM_SECONDS), self._publishing.channel() as channel:
                await declare_queue(channel, queue)
                await bind(channel, bindings)

    async def exists(self, queue: str) -> bool:
        """Tell whether there is a queue; raises Unconfirmed."""
        with typed(f"look for {queue}"):
            async with asyncio.timeout(CONFIRM_SECONDS):
                return await exists(self._publishing, queue)

    async def delete(self, name: str) -> None:
        """Delete a queue, with whatever is in it."""
        with typed(f"delete {name}"):
            async with asyncio.timeout(CONFIRM_SECONDS), self._publishing.channel() as channel:
                queue = await channel.get_queue(name, ensure=False)
                # a quorum queue answers if_unused with 540 and closes the whole connection
                await queue.delete(if_unused=False, if_empty=False)

    async def consume(
        self, queue: str, on_delivery: OnDelivery, *, prefetch: int, patience: float = CONFIRM_SECONDS
    ) -> Consumer:
        """Hand every delivery of an existing queue to a function, for ever, at most `prefetch` unsettled.

        A connection that is lost meanwhile is waited for; raises BrokerUnreachable after `patience` seconds.
        """
        return await patiently(lambda: self._consumed(queue, on_delivery, prefetch), patience)

    async def _consumed(self, queue: str, on_delivery: OnDelivery, prefetch: int) -> Consumer:
        channel = await self._consuming.channel()
        await channel.set_qos(prefetch_count=prefetch)
        # only a passive declare is restored after every kind of loss, also when arguments have changed since
        source = await channel.declare_queue(queue, passive=True)

        acks: Acks | None = None

        async def receive(message: AbstractIncomingMessage) -> None:
            nonlocal acks
            # each connection has channels of its own
            if acks is None or acks.channel is not message.channel:
                acks = Acks(message.channel, prefetch)
            on_delivery(
                replace(to_delivery(message, queue), acked=acks.arrived, deadly=self._shaken.deadly())
            )

        consumer = Consumer(channel, source, receive)
        await consumer.resume()
        return consumer

    def hearing(
        self, exchange: str, new_name: Callable[[], str], hear: Hear, *, patience: float = CONFIRM_SECONDS
    ) -> AbstractAsyncContextManager[None]:
        """Have all that is published to a fanout exchange heard, until the block ends.

        Raises TopologyMismatch, and BrokerUnreachable where the connection was lost for `patience` seconds.
        """
        return hearing(self._consuming, exchange, new_name, hear, patience)


@asynccontextmanager
async def _closed(connection: AbstractRobustConnection) -> AsyncIterator[None]:
    """Close a connection in the end, and do not wait for ever for a broker that does not answer."""
    try:
        yield
    finally:
        with suppress(*LOST, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await connection.close()


def _waits(ready: Coroutine[Any, Any, None]) -> bool:
    """Tell whether a coroutine would have to wait, without waiting for it."""
    try:
        ready.send(None)
    except StopIteration:
        return False
    ready.close()
    return True


def _unless_lost(error: BaseException) -> None:
    """Raise a cancellation that is meant for us: a connection that misses its heartbeats cancels confirms as well."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error


async def exists(connection: AbstractRobustConnection, queue: str) -> bool:
    """Tell whether there is a queue, on a channel that nothing restores: what is missing closes it."""
    if connection.transport is None:
        raise ConnectionError("the connection is being made anew")
    channel = await connection.transport.connection.channel(publisher_confirms=False)
    try:
        await channel.queue_declare(queue, passive=True)
    except amqp.ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


@asynccontextmanager
async def connect(url: str, *, name: str, patience: float) -> AsyncIterator[Broker]:
    """Connect twice and return both as a Broker; raises BrokerUnreachable after `patience` seconds."""
    consuming = await robust(url, f"{name} consume", patience)
    async with _closed(consuming):
        publishing = await robust(url, f"{name} publish", patience)
        async with _closed(publishing):
            channel = await publishing.channel(publisher_confirms=True, on_return_raises=True)
            broker = Broker(consuming, publishing, channel)
            watch = asyncio.get_running_loop().create_task(broker.wait_out())
            try:
                yield broker
            finally:
                await ended(watch)
