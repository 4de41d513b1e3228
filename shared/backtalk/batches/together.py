"""Several pieces of work at once, of which the first that fails says why."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from backtalk.transport.ending import ended


async def together(*work: Coroutine[Any, Any, None], within: float | None = None) -> None:
    """Return when all is done, or after so many seconds; where one fails, it is raised. The others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_EXCEPTION)
        for task in filter(asyncio.Task.done, tasks):
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            await ended(task)
            if not task.cancelled():
                # a second one that failed has been seen as well
                task.exception()
