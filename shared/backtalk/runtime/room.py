"""Memory that messages share: whoever finds none left waits, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable

from backtalk.wire.errors import BacktalkError


class Room:
    """So many bytes for all messages together.

    Nobody knows what a message takes before it was looked into. So one at a time may look, as long as there is any room
    left, and then takes what it needs, at most all of it: never twice as much as there is has been taken.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken: dict[Hashable, int] = {}
        self._used = 0
        self._looking = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed: Callable[[], BacktalkError] | None = None

    @property
    def open(self) -> bool:
        """Whether the next may look at once; it must `take`, before it waits for anything."""
        return self._used < self.size and not self._looking and self._closed is None

    async def turn(self) -> None:
        """Wait until one may look; whoever was let in must `take`, before it waits for anything."""
        if self._closed is not None:
            raise self._closed()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # it was let in just before the cancellation: the next one is, in its place
                self._looking = False
                self._let_in()
            raise

    def take(self, owner: Hashable, amount: int) -> None:
        """Note what one that looked needs, until it leaves."""
        self._looking = False
        self._taken[owner] = self._taken.get(owner, 0) + amount
        self._used += amount
        self._let_in()

    def leave(self, owner: Hashable) -> None:
        """Give back all that an owner took, be it nothing."""
        self._used -= self._taken.pop(owner, 0)
        self._let_in()

    def close(self, error: Callable[[], BacktalkError]) -> None:
        """Send all away that wait, and whoever comes from now on, with such an error."""
        self._closed = error
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(error())
        self._waiting.clear()

    def _let_in(self) -> None:
        while self._waiting and self._used < self.size and not self._looking:
            turn = self._waiting.popleft()
            if not turn.done():
                self._looking = True
                turn.set_result(None)
