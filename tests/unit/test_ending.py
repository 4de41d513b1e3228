"""The end of a background task."""

from __future__ import annotations

import asyncio

from backtalk.transport import ending
from backtalk.transport.ending import ended


async def test_a_task_that_swallows_a_cancellation_ends_all_the_same(monkeypatch):
    """A library may take it for an answer of its own: the drain of a worker would wait for ever."""
    monkeypatch.setattr(ending, "_AGAIN_SECONDS", 0.01)
    swallowed = asyncio.Event()

    async def work():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await ended(task)
    assert swallowed.is_set()
    assert task.cancelled()
