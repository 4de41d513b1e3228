"""What one message may spend: a call that would pass the limit is not made."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from backtalk.wire.errors import Code, Error, Refused


@dataclass(slots=True)
class Budget:
    """Calls and tokens of a message; None is no limit. Tokens of calls on their way are put aside, as estimated.

    What is put aside may come back, so a call waits for those on their way before it is given up.
    """

    max_calls: int | None = None
    max_tokens: int | None = None
    calls: int = 0
    spent: int = 0
    aside: int = 0
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, tokens: int) -> Error | None:
        """Put a call and its tokens aside, or return why it cannot be made; `settle` it in any case."""
        while self.max_tokens is not None and self.spent + self.aside + tokens > self.max_tokens:
            if not self.aside:
                problem = f"about {tokens} tokens more would pass {self.max_tokens}; {self.spent} are spent"
                return _exceeded("max_tokens", problem, self.calls)
            self.settled.clear()
            await self.settled.wait()
        if self.max_calls is not None and self.calls >= self.max_calls:
            return _exceeded("max_calls", f"all {self.max_calls} calls were made", self.calls)
        self.calls += 1
        self.aside += tokens
        return None

    def settle(self, tokens: int, used: Any) -> None:
        """Put in the place of an estimate what the endpoint says; the estimate stays where that is no number."""
        self.aside -= tokens
        self.spent += used if isinstance(used, int) else tokens
        self.settled.set()


def _exceeded(field: str, problem: str, calls: int) -> Error:
    told = f"policy/{field}: {problem}; raise it, or take what is there"
    return Refused(Code.BUDGET_EXCEEDED, told, path=f"policy/{field}", calls=calls).error
