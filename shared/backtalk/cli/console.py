"""What all commands share: where they speak to people, and how they are interrupted."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any, Final

import typer
from rich.console import Console

INTERRUPTED: Final = 130

console = Console(stderr=True)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine; Ctrl-C and SIGTERM end it in order."""

    async def interruptible() -> Any:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    # it would write at every try that a broker is not there, which the verbs say in the end
    logging.getLogger("aiormq").addHandler(logging.NullHandler())
    try:
        return asyncio.run(interruptible())
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
