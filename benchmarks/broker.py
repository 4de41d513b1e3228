"""What the benchmark does at the broker, as any service would: send, collect, and clean up."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import Names, reply_queue, topology

READY_SECONDS = 60


@dataclass(frozen=True)
class Stage:
    """The broker every measurement of a run uses; each worker has a namespace of its own there."""

    url: str
    connection: AbstractConnection
    run: str = field(default_factory=lambda: f"bench-{uuid.uuid4().hex[:8]}")
    namespaces: set[str] = field(default_factory=set)

    def namespace(self, worker: str) -> str:
        return f"{self.run}-{worker}"

    async def declared(self, worker: str) -> str:
        """A worker's namespace, its queues there before it starts, so that they can be loaded."""
        namespace = self.namespace(worker)
        if namespace not in self.namespaces:
            self.namespaces.add(namespace)
            await declare(self.url, topology(Names(namespace)), patience=10)
        return namespace

    async def clear(self) -> None:
        """Deletes all that the run has made; the broker may be somebody's own."""
        channel = await self.connection.channel()
        for made in (topology(Names(namespace)) for namespace in self.namespaces):
            for queue in made.queues:
                await channel.queue_delete(queue.name)
            for exchange in made.exchanges:
                await channel.exchange_delete(exchange.name)
        await channel.close()

    @asynccontextmanager
    async def replies(self, namespace: str) -> AsyncIterator[AbstractQueue]:
        """The queue answers are sent to, gone when the block ends."""
        channel = await self.connection.channel()
        made = reply_queue(Names(namespace), uuid.uuid4().hex[:8], lasting=True)
        queue = await channel.declare_queue(made.name, durable=True, arguments=dict(made.arguments))
        try:
            yield queue
        finally:
            await channel.close()
            await self.delete(made.name)

    async def delete(self, queue: str) -> None:
        channel = await self.connection.channel()
        await channel.queue_delete(queue)
        await channel.close()

    async def send(self, queue: str, messages: Sequence[aio_pika.Message]) -> None:
        """Publishes all of them, confirmed."""
        channel = await self.connection.channel(on_return_raises=True)
        publish = channel.default_exchange.publish
        for start in range(0, len(messages), 500):
            batch = messages[start : start + 500]
            await asyncio.gather(*(publish(message, queue, mandatory=True) for message in batch))
        await channel.close()

    async def consumed(self, queue: str) -> None:
        """Waits until somebody consumes the queue."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if await self.consumers(queue):
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"nobody consumes {queue} after {READY_SECONDS} s")

    async def consumers(self, queue: str) -> int:
        # a passive declare of a queue that is not there closes its channel, so each gets a new one
        channel = await self.connection.channel()
        try:
            declared = await channel.declare_queue(queue, passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return 0
        count = declared.declaration_result.consumer_count or 0
        await channel.close()
        return count


def request(body: bytes, message_type: str, reply_to: str) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        message_id=uuid.uuid4().hex,
        reply_to=reply_to,
        type=message_type,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


class Caller:
    """Asks one thing at a time and waits for its answer."""

    def __init__(self, channel: AbstractChannel, queue: str, replies: AbstractQueue) -> None:
        self.channel = channel
        self.queue = queue
        self.replies = replies
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(self, message: AbstractIncomingMessage) -> None:
        self.arrived.put_nowait(message.body)

    async def ask(self, body: bytes, message_type: str) -> tuple[float, bytes]:
        """The seconds from publishing the request to the arrival of the answer, and the answer."""
        message = request(body, message_type, self.replies.name)
        began = time.perf_counter()
        await self.channel.default_exchange.publish(message, self.queue, mandatory=True)
        answer = await self.arrived.get()
        return time.perf_counter() - began, answer


@asynccontextmanager
async def caller(stage: Stage, namespace: str, role: str) -> AsyncIterator[Caller]:
    async with stage.replies(namespace) as replies:
        channel = await stage.connection.channel(on_return_raises=True)
        calling = Caller(channel, f"{namespace}.{role}", replies)
        await replies.consume(calling.take, no_ack=True)
        yield calling
        await channel.close()
