"""A limit on calls at once that is fair between the messages that make them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable


class FairGate:
    """Lets `limit` callers through at once; the free place goes round-robin over the waiting owners.

    A message with a thousand calls delays one with a single call by one turn, not by a thousand.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        self.inside = 0

    async def enter(self, owner: Hashable) -> None:
        """Wait for a place; whoever got one must `leave`."""
        if self.inside < self._limit:
            self.inside += 1
            return
        turn = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(owner, deque())
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                # the place was given just before the cancellation: to the next one with it
                self.leave()
            raise

    def leave(self) -> None:
        self.inside -= 1
        self._admit()

    def resize(self, limit: int) -> None:
        """Let so many through at once from now on; those inside stay."""
        self._limit = limit
        self._admit()

    def refuse(self, error: Callable[[], Exception]) -> None:
        """Make everybody who waits for a place raise such an error."""
        waiting, self._waiting = self._waiting, {}
        for queue in waiting.values():
            for turn in queue:
                if not turn.done():
                    turn.set_exception(error())

    def _admit(self) -> None:
        while self.inside < self._limit and self._waiting:
            owner = next(iter(self._waiting))
            self._give(owner, self._waiting.pop(owner))

    def _give(self, owner: Hashable, queue: deque[asyncio.Future[None]]) -> None:
        """Give a place to an owner's next call that still wants it, and put the owner to the back of the round."""
        while queue:
            turn = queue.popleft()
            if not turn.done():
                if queue:
                    self._waiting[owner] = queue
                self.inside += 1
                turn.set_result(None)
                return
