"""The sender's side: publishes until the broker confirms, and reads a durable reply queue; both survive the broker."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from backtalk.transport.envelope import Delivery, TransportError
from backtalk.transport.rabbitmq import Broker, connect
from backtalk.transport.topology import Names, reply_queue
from backtalk.wire.chunk import CHUNK_TYPE
from benchmarks.chaos.ledger import Answer, Ledger
from benchmarks.chaos.messages import Message

CONNECT_SECONDS: Final = 30.0
CONFIRM_SECONDS: Final = 120.0
_PREFETCH: Final = 256
_QUEUE: Final = "chaos"


class Desk:
    """Sends messages and notes in the ledger what became of them."""

    def __init__(self, broker: Broker, names: Names, ledger: Ledger) -> None:
        self._broker = broker
        self._names = names
        self._ledger = ledger
        self._tasks: set[asyncio.Task[None]] = set()
        self._acks: set[asyncio.Task[bool]] = set()

    def send(self, message: Message) -> None:
        """Have a message published; the ledger knows when it is confirmed."""
        self._ledger.sent_again += message.id in self._ledger.sent
        self._ledger.sent[message.id] = message
        task = asyncio.get_running_loop().create_task(self._sent(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def confirmed(self) -> None:
        """Wait until nothing is being published any more."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _sent(self, message: Message) -> None:
        envelope = message.envelope(self._names.replies(_QUEUE))
        try:
            await self._broker.publish(envelope, key=self._names.work(message.role), patience=CONFIRM_SECONDS)
        except TransportError:
            # it may be in the queue all the same: answered or not, nothing was promised
            return
        self._ledger.confirmed.add(message.id)

    def receive(self, delivery: Delivery) -> None:
        envelope = delivery.envelope
        if envelope.type == CHUNK_TYPE:
            self._ledger.chunks += 1
        else:
            packed = envelope.content_encoding == "gzip"
            body = json.loads(gzip.decompress(envelope.body) if packed else envelope.body)
            code = (body["error"] or {}).get("code", "")
            answer = Answer(envelope.message_id or "", body["status"], code)
            self._ledger.answered(envelope.correlation_id or "", answer, redelivered=delivery.redelivered)
        ack = asyncio.ensure_future(delivery.ack())
        self._acks.add(ack)
        ack.add_done_callback(self._acks.discard)


@asynccontextmanager
async def desk(url: str, names: Names, ledger: Ledger) -> AsyncIterator[Desk]:
    """Open the desk, its reply queue declared."""
    queue = reply_queue(names, _QUEUE, lasting=True)
    async with connect(url, name="chaos", patience=CONNECT_SECONDS) as broker:
        await broker.declare(queue)
        opened = Desk(broker, names, ledger)
        await broker.consume(queue.name, opened.receive, prefetch=_PREFETCH)
        yield opened
