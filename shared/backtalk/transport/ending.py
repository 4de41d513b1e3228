"""The end of a background task."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_AGAIN_SECONDS: Final = 0.5


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; one whose library swallowed the cancellation is cancelled again."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_AGAIN_SECONDS)
