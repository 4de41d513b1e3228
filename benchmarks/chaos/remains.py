"""What lies in the queues when everybody has gone home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from backtalk.transport.envelope import REASON
from backtalk.transport.topology import ROLES, RUNGS, Names
from benchmarks.chaos.ledger import Ledger

CONNECT_SECONDS: Final = 30.0


@asynccontextmanager
async def _channel(url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(url, timeout=CONNECT_SECONDS) as connection:
        yield await connection.channel()


def transient(names: Names) -> list[str]:
    """Return the queues that must be empty in the end."""
    return [
        queue
        for role in ROLES
        for queue in (
            names.work(role),
            names.suspect(role),
            names.crashed(role),
            *(names.rung(role, rung) for rung in RUNGS),
        )
    ]


async def depths(url: str, queues: Sequence[str]) -> dict[str, int]:
    """Return how many messages are ready in each queue that is not empty."""
    async with _channel(url) as channel:
        found = [(await channel.declare_queue(queue, passive=True)).declaration_result for queue in queues]
    return {declared.queue or "": declared.message_count for declared in found if declared.message_count}


async def file(url: str, names: Names, ledger: Ledger) -> None:
    """Take what lies in the dead queues, and the answers that had no address, into the ledger."""
    async with _channel(url) as channel:
        for role in ROLES:
            async for letter in _emptied(channel, names.dead(role)):
                ledger.filed[letter.message_id or ""] = str(letter.headers.get(REASON))
        async for letter in _emptied(channel, names.kept_results):
            ledger.filed.setdefault(letter.correlation_id or "", "answered without an address")


async def _emptied(channel: AbstractChannel, queue: str) -> AsyncIterator[AbstractIncomingMessage]:
    source = await channel.get_queue(queue, ensure=False)
    while (letter := await source.get(no_ack=True, fail=False)) is not None:
        yield letter
