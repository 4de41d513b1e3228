"""Several pieces of work at once, of which the first that fails says why."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

# a call that is cancelled while its channel opens may not end by itself
_END_SECONDS: Final = 5.0


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Return when all is done; where one fails, the others are cancelled, and it is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        for done in asyncio.as_completed(tasks):
            await done
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SECONDS)
