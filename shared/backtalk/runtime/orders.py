"""What all workers are told at once, as one of them follows it."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from backtalk.runtime.store import Store
from backtalk.runtime.telemetry import log
from backtalk.wire.codec import decode
from backtalk.wire.control import Control
from backtalk.wire.errors import Refused, TooLarge

MAX_BYTES: Final = 4096


class Cancels(Protocol):
    def cancel(self, id: str) -> None: ...


class Orders:
    """Hears orders and has them followed: by the worker at once, and by those that come later through the store."""

    def __init__(self, worker: Cancels, store: Store) -> None:
        self._worker = worker
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, body: bytes) -> None:
        """Follow an order; what is none is logged, there is nobody to answer to."""
        try:
            if len(body) > MAX_BYTES:
                raise TooLarge(f"{len(body)} bytes are more than {MAX_BYTES}")
            order = decode(body, Control)
        except Refused as refused:
            log.warning("order not understood", code=refused.error.code.value)
            return
        log.info("cancelling", job=order.cancel)
        self._worker.cancel(order.cancel)
        task = asyncio.get_running_loop().create_task(self._store.cancel(order.cancel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
