"""The steady load of a run: ordinary work at an even pace, whatever happens to those who do it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.chaos.desk import Desk
from benchmarks.chaos.messages import Mint

MESSAGES_A_SECOND: Final = 12.0


@asynccontextmanager
async def load(desk: Desk, mint: Mint) -> AsyncIterator[None]:
    """Send ordinary work until the block ends, and wait until all that was sent is confirmed."""
    sender = asyncio.get_running_loop().create_task(_send(desk, mint))
    try:
        yield
    finally:
        sender.cancel()
        await asyncio.wait((sender,))
        await desk.confirmed()


async def _send(desk: Desk, mint: Mint) -> None:
    while True:
        desk.send(mint.ordinary())
        await asyncio.sleep(1 / MESSAGES_A_SECOND)
