"""One question to the backward model: whom it goes to, what it may cost, and when it is asked again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from backtalk.runtime.model import Completion, Model
from backtalk.wire.errors import BacktalkError, Code, Error, Refused, invalid
from backtalk.wire.feedback import Purpose
from backtalk.wire.jobs import DEFAULT_ENDPOINT
from backward_worker.budget import Budget
from backward_worker.gradient import TextGradient
from backward_worker.replies import Unusable, read_map, read_text
from backward_worker.tokens import REPLY_TOKENS, estimated

ASKED_AT_MOST: Final = 2
ASKED_AT_ONCE: Final = 256

T = TypeVar("T")
Messages: TypeAlias = Sequence[dict[str, Any]]


class Own(NamedTuple):
    """The model that an operation ran on."""

    endpoint: str
    model: str


@dataclass(frozen=True, slots=True)
class Place:
    """What a question is about; no two questions of one message have the same.

    `inputs` are positions of the operation, for a summary the variable; `part` counts the questions of a step, or of a
    merger, that took more than one.
    """

    purpose: Purpose
    operation: str | None
    inputs: tuple[str, ...]
    sample: int | None = None
    part: int | None = None

    def __str__(self) -> str:
        return json.dumps([self.purpose, self.operation, self.inputs, self.sample, self.part])


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of whom (`own` is None where no model ran), and after how many others, itself included.

    Its words are put together when its turn comes. Composing may raise Refused.
    """

    place: Place
    own: Own | None
    depth: int
    compose: Callable[[], Messages]


class Asker(Protocol):
    """Who answers questions: the backward model, or a rehearsal of it."""

    async def text(self, question: Question) -> TextGradient | Error:
        """Return the gradient in the reply, or why there is none."""

    async def map(self, question: Question, count: int) -> Sequence[TextGradient | None] | Error:
        """Return the gradients of `count` texts in one reply, None for those that it lacks."""


@dataclass(frozen=True, slots=True)
class Paid:
    """A call that was paid: what it was for and what it used."""

    place: Place
    usage: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelAsker:
    """Asks one message's questions; `paid` collects its paid calls, in the order of the replies.

    `named` is the model that the feedback or the settings name; without it an operation's own model is asked.
    """

    model: Model
    endpoint: str | None
    named: str | None
    arguments: Mapping[str, Any]
    budget: Budget = field(default_factory=Budget)
    paid: list[Paid] = field(default_factory=list)
    # a prompt holds a whole step: no more of them than can be asked about at once
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ASKED_AT_ONCE))

    async def text(self, question: Question) -> TextGradient | Error:
        try:
            return await self._asked(question, read_text, 1)
        except Unusable as unusable:
            return Refused(
                Code.UPSTREAM_REJECTED,
                f"the backward model gave no usable reply ({unusable}, {ASKED_AT_MOST} times); "
                "name another one in `model`, or give it more room in `arguments`",
                reason=str(unusable),
            ).error

    async def map(self, question: Question, count: int) -> Sequence[TextGradient | None] | Error:
        try:
            return await self._asked(question, partial(read_map, count=count), count)
        except Unusable:
            # whoever cannot answer for all may still answer for each
            return [None] * count

    async def _asked(self, question: Question, read: Callable[[Completion], T], count: int) -> T | Error:
        """Ask, once more where the reply is of no use, and return what was read out of it. Raises Unusable."""
        asked = Own(DEFAULT_ENDPOINT, self.named) if self.named else question.own
        if asked is None:
            return invalid(
                "model",
                "is not given, and a function has no model of its own to ask; "
                "name one in `model` or in BACKTALK_BACKWARD_MODEL",
            ).error
        async with self.room:
            try:
                body = {"model": asked.model, "messages": question.compose(), **self.arguments}
                tokens = self._tokens(body["messages"], count)
                return await self._tried(self.endpoint or asked.endpoint, body, question.place, read, tokens)
            except BacktalkError as failed:
                return failed.error

    async def _tried(
        self,
        endpoint: str,
        body: Mapping[str, Any],
        place: Place,
        read: Callable[[Completion], T],
        tokens: int,
    ) -> T | Error:
        for attempt in range(ASKED_AT_MOST):
            if exceeded := await self.budget.take(tokens):
                return exceeded
            try:
                completion = await self.model.complete(endpoint, body, place=f"{place} {attempt}")
            except BaseException:
                self.budget.settle(tokens, 0)
                raise
            self.budget.settle(tokens, completion.usage.get("total_tokens"))
            self.paid.append(Paid(place, completion.usage))
            try:
                return read(completion)
            except Unusable:
                if attempt + 1 == ASKED_AT_MOST:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _tokens(self, messages: Messages, count: int) -> int:
        """Return what a call will take, as far as that can be known; without a limit nobody wants to know."""
        if self.budget.max_tokens is None:
            return 0
        longest = self.arguments.get("max_completion_tokens") or self.arguments.get("max_tokens")
        reply = longest if isinstance(longest, int) else count * REPLY_TOKENS
        return sum(estimated(message["content"]) for message in messages) + reply
