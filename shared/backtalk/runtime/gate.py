"""A limit on calls at once that is fair between the messages that make them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable


class FairGate:
    """Lets `limit` callers through at once; the free place goes round-robin over the waiting owners.

    A message with a thousand calls delays one with a single call by one turn, not by a thousand.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    async def enter(self, owner: Hashable) -> None:
        """Wait for a place; whoever got one must `leave`."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(owner, deque())
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # the place was given just before the cancellation: to the next one with it
                self.leave()
            raise

    def leave(self) -> None:
        while self._waiting:
            owner = next(iter(self._waiting))
            if self._give(owner, self._waiting.pop(owner)):
                return
        self._free += 1

    def _give(self, owner: Hashable, queue: deque[asyncio.Future[None]]) -> bool:
        """Give the place to an owner's next call that still wants it, and put the owner to the back of the round."""
        while queue:
            turn = queue.popleft()
            if not turn.done():
                if queue:
                    self._waiting[owner] = queue
                turn.set_result(None)
                return True
        return False
