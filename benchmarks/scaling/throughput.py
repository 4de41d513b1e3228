"""What a broker takes: messages published with confirmation into a quorum queue, and taken out of it, by size."""

import asyncio
import time

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.broker import Stage, request
from benchmarks.scaling.report import table

KILOBYTES = (2, 16, 128, 1024)
MOST_BYTES = 64 * 1024 * 1024
MOST_MESSAGES = 4000
HEAD = ("message", "published/s", "MB/s", "taken and acknowledged/s", "MB/s")


async def throughput(stage: Stage) -> str:
    """A row for each size; 500 are on their way to be confirmed at once, and 256 are taken at once."""
    return table([HEAD, *[await row(stage, kilobytes) for kilobytes in KILOBYTES]])


async def row(stage: Stage, kilobytes: int) -> tuple[str, ...]:
    count = min(MOST_MESSAGES, MOST_BYTES // (kilobytes * 1024))
    namespace = await stage.declared("throughput")
    async with stage.replies(namespace) as queue:
        messages = [request(bytes(kilobytes * 1024), "completion.job.v1", queue.name) for _ in range(count)]
        began = time.perf_counter()
        await stage.send(queue.name, messages)
        published = count / (time.perf_counter() - began)
        taken = count / await emptied(stage, queue.name, count)
    rates = (f"{rate:,.0f} {rate * kilobytes / 1000:.1f}".split() for rate in (published, taken))
    return f"{kilobytes:,} KB", *(cell for pair in rates for cell in pair)


async def emptied(stage: Stage, queue: str, count: int) -> float:
    """The seconds until all are taken and acknowledged."""
    channel = await stage.connection.channel()
    await channel.set_qos(prefetch_count=256)
    left, done = count, asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        nonlocal left
        await message.ack()
        left -= 1
        if not left:
            done.set()

    began = time.perf_counter()
    consumed: aio_pika.abc.AbstractQueue = await channel.get_queue(queue)
    await consumed.consume(take)
    await done.wait()
    lasted = time.perf_counter() - began
    await channel.close()
    return lasted
