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
            if turn.done() and not turn.cancelled():
                self.leave()
            else:
                self._forget(owner, turn)
            raise

    def leave(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        owner = next(iter(self._waiting))
        queue = self._waiting.pop(owner)
        turn = queue.popleft()
        if queue:
            # to the back of the round
            self._waiting[owner] = queue
        turn.set_result(None)

    def _forget(self, owner: Hashable, turn: asyncio.Future[None]) -> None:
        queue = self._waiting[owner]
        queue.remove(turn)
        if not queue:
            del self._waiting[owner]
