"""Whether a worker takes messages in: while there is an endpoint for them, and not while all are closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

from backtalk.runtime.telemetry import log
from backtalk.transport.ending import ended
from backtalk.transport.envelope import TransportError

RETRY_SECONDS: Final = 1.0


class Source(Protocol):
    """A queue that is consumed. Raises TransportError while its connection is lost."""

    async def resume(self) -> None: ...

    async def pause(self) -> None: ...


class Valve:
    """Lets messages in as long as they are `wanted`; call `changed` when that may be otherwise."""

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self._wanted = wanted
        self._changed = asyncio.Event()
        self.open = False

    def changed(self) -> None:
        self._changed.set()

    @asynccontextmanager
    async def on(self, sources: Sequence[Source]) -> AsyncIterator[None]:
        """Control sources that are running until the block ends; then they are paused."""
        self.open = True
        keeper = asyncio.get_running_loop().create_task(self._keep(sources))
        try:
            yield
        finally:
            await ended(keeper)
            self.open = False
            for source in sources:
                # a connection that is lost brings nothing either
                with suppress(TransportError):
                    await source.pause()

    async def _keep(self, sources: Sequence[Source]) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = self._wanted()
            if wanted != self.open:
                log.warning("consuming again" if wanted else "consuming no more: no endpoint takes calls")
            self.open = wanted
            try:
                for source in sources:
                    await (source.resume() if wanted else source.pause())
            except TransportError:
                await asyncio.sleep(RETRY_SECONDS)
                self._changed.set()
