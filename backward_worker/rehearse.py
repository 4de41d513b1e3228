"""What a pass would take, without a call: it is gone through with replies that are made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from backtalk.wire.errors import BacktalkError, Code, Error, Refused
from backward_worker.ask import Question
from backward_worker.gradient import TextGradient
from backward_worker.tokens import REPLY_TOKENS, estimated
from backward_worker.work import Work

# what ends it before it is done, if anything does
Over: TypeAlias = Callable[[], BacktalkError | None]

_REPLY = "word " * (REPLY_TOKENS * 4 // 5)


@dataclass(slots=True)
class Rehearsal:
    """Answers every question at once, always with a criticism of usual length, and counts.

    `named` is the model that would be asked where an operation has none of its own. With `weigh`, prompts are
    composed and weighed; without, only counted.
    """

    named: str | None
    weigh: bool = False
    over: Over = lambda: None
    ended: BacktalkError | None = None
    tokens: int = 0
    at_depth: Counter[int] = field(default_factory=Counter)

    async def text(self, question: Question) -> TextGradient | Error:
        return self._counted(question, 1) or TextGradient(_REPLY, "model")

    async def map(self, question: Question, count: int) -> Sequence[TextGradient | None] | Error:
        return self._counted(question, count) or [TextGradient(_REPLY, "model")] * count

    def _counted(self, question: Question, replies: int) -> Error | None:
        # told as an answer, so that the pass comes to its end in order, and soon
        self.ended = self.ended or self.over()
        if self.ended is not None:
            return self.ended.error
        if self.named is None and question.own is None:
            return Refused(Code.INVALID_MESSAGE, "model: no model to ask").error
        if self.weigh:
            try:
                messages = question.compose()
            except Refused as refused:
                return refused.error
            self.tokens += sum(estimated(message["content"]) for message in messages) + replies * REPLY_TOKENS
        self.at_depth[question.depth] += 1
        return None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a pass takes: calls, how many of them one after another, how many at once, and tokens, estimated."""

    calls: int
    depth: int
    width: int
    tokens: int


async def cost_of(work: Work, named: str | None, *, weigh: bool = False, over: Over = lambda: None) -> Cost:
    """Return what a pass takes if every question brings a criticism of usual length at once. Raises Refused as the pass."""
    rehearsal = Rehearsal(named, weigh, over)
    await work.run(rehearsal, traces=True)
    if rehearsal.ended is not None:
        raise rehearsal.ended
    depths = rehearsal.at_depth
    return Cost(depths.total(), max(depths, default=0), max(depths.values(), default=0), rehearsal.tokens)
