"""How many calls an endpoint gets at once: fewer where it says that they are too many, and none while it says so.

The limit falls by half and grows again as in TCP's congestion control: one more for each round of successes, or for
each success once the endpoint has not complained for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final, TypeAlias

from backtalk.runtime.gate import FairGate
from backtalk.wire.errors import Closed

# a shorter wait is waited out, a longer one is for the queue
LONGEST_PAUSE: Final = 5.0
# so many messages in a row that were told to wait long make it the endpoint's trouble, not that of one of them
SHARED: Final = 3
# no sender can have a whole endpoint closed for longer
LONGEST_CLOSED: Final = 60.0
CALM_SECONDS: Final = 5.0

Told: TypeAlias = Callable[[], Closed]


class Traffic:
    """The way to one endpoint; `changed` is called whenever it closes or opens."""

    def __init__(self, limit: int, changed: Callable[[], None]) -> None:
        self._most = limit
        self._limit = float(limit)
        self._gate = FairGate(limit)
        self._changed = changed
        self._cut_at = -CALM_SECONDS
        self._limited: set[Hashable] = set()
        self._wary = False
        self._opening: asyncio.TimerHandle | None = None
        self._told: Told | None = None

    @property
    def closed(self) -> bool:
        return self._told is not None

    @property
    def inside(self) -> int:
        """How many calls have a place."""
        return self._gate.inside

    async def enter(self, owner: Hashable) -> float:
        """Wait for a place and return the time of it; whoever got one must `leave`. Raises Closed."""
        if self._told is not None:
            raise self._told()
        await self._gate.enter(owner)
        return asyncio.get_running_loop().time()

    def leave(self) -> None:
        self._gate.leave()

    def succeeded(self) -> None:
        """Note that a call was answered."""
        self._limited.clear()
        self._wary = False
        if self._limit < self._most and not self.closed:
            calm = asyncio.get_running_loop().time() - self._cut_at > CALM_SECONDS
            self._resize(min(self._most, self._limit + (1 if calm else 1 / self._limit)))

    def limited(self, owner: Hashable, entered: float, retry_after: float, told: Told) -> None:
        """Note that a call was one too many, and how long to wait in seconds; `told` is what others hear of it."""
        if self.closed:
            return
        now = asyncio.get_running_loop().time()
        # those that were sent before the limit fell say nothing new
        if entered > self._cut_at:
            self._cut_at = now
            self._resize(max(1.0, min(self._limit, self._gate.inside) / 2))
        if retry_after > LONGEST_PAUSE:
            self._limited.add(owner)
            if self._wary or len(self._limited) >= SHARED:
                self.close(told, min(retry_after, LONGEST_CLOSED))
        elif retry_after:
            self._hold(retry_after)

    def close(self, told: Told, seconds: float | None = None) -> None:
        """Let nobody through, for so long or until it is opened: whoever waits or comes raises what is told."""
        self._told = told
        self._wary = True
        self._limited.clear()
        self._hold(seconds)
        self._gate.refuse(told)
        self._changed()

    def open(self) -> None:
        """Let callers through again, a few at first."""
        self._opening = None
        if self._told is not None:
            self._told = None
            self._limit = 1.0
            self._changed()
        self._resize(self._limit)

    def _hold(self, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        if self._opening is not None:
            # the longest wait that was asked for counts
            if seconds is not None and self._opening.when() >= loop.time() + seconds:
                return
            self._opening.cancel()
            self._opening = None
        self._gate.resize(0)
        if seconds is not None:
            self._opening = loop.call_later(seconds, self.open)

    def _resize(self, limit: float) -> None:
        self._limit = limit
        if self._opening is None and not self.closed:
            self._gate.resize(int(limit))
