"""What one message may spend: a call that would pass the limit is not made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backtalk.wire.errors import Code, Error, Refused


@dataclass(slots=True)
class Budget:
    """Calls and tokens left; None is no limit. Tokens of calls on their way are put aside, as estimated."""

    max_calls: int | None = None
    max_tokens: int | None = None
    calls: int = 0
    tokens: int = 0

    def take(self, tokens: int) -> Error | None:
        """Put a call and its tokens aside, or return why it cannot be made."""
        if self.max_calls is not None and self.calls >= self.max_calls:
            return _exceeded("max_calls", f"all {self.max_calls} calls were made", self.calls)
        if self.max_tokens is not None and self.tokens + tokens > self.max_tokens:
            problem = f"about {tokens} tokens more would pass {self.max_tokens}; {self.tokens} are spent or under way"
            return _exceeded("max_tokens", problem, self.calls)
        self.calls += 1
        self.tokens += tokens
        return None

    def settle(self, tokens: int, used: Any) -> None:
        """Put in the place of an estimate what the endpoint says; the estimate stays where that is no number."""
        if isinstance(used, int):
            self.tokens += used - tokens


def _exceeded(field: str, problem: str, calls: int) -> Error:
    told = f"policy/{field}: {problem}; raise it, or take what is there"
    return Refused(Code.BUDGET_EXCEEDED, told, path=f"policy/{field}", calls=calls).error
