"""One question to the backward model: which model, what its reply means, and when to ask again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from backtalk.asking import aloud
from backtalk.runtime.model import Completion, Model
from backtalk.wire.errors import BacktalkError, Code, Error, Refused, invalid
from backtalk.wire.jobs import DEFAULT_ENDPOINT
from backward_worker.gradient import EMPTY, TextGradient

NOTHING: Final = "NO FEEDBACK"
ASKED_AT_MOST: Final = 2
ASKED_AT_ONCE: Final = 256


class Own(NamedTuple):
    """The model that an operation ran on."""

    endpoint: str
    model: str


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one message's questions; `spent` collects the usage of every paid call.

    `named` is the model that the feedback or the settings name; without it an operation's own model is asked.
    """

    model: Model
    endpoint: str | None
    named: str | None
    arguments: Mapping[str, Any]
    spent: list[dict[str, Any]] = field(default_factory=list)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ASKED_AT_ONCE))

    async def ask(
        self, own: Own | None, messages: Sequence[dict[str, Any]], place: str
    ) -> TextGradient | Error:
        """Return the gradient in the model's reply, or why there is none; `own` is None where no model ran."""
        asked = Own(DEFAULT_ENDPOINT, self.named) if self.named else own
        if asked is None:
            return invalid(
                "model",
                "is not given, and a function has no model of its own to ask; "
                "name one in `model` or in BACKTALK_BACKWARD_MODEL",
            ).error
        body = {"model": asked.model, "messages": messages, **self.arguments}
        problem = ""
        for attempt in range(ASKED_AT_MOST):
            try:
                completion = await self.model.complete(
                    self.endpoint or asked.endpoint, body, place=f"{place}/{attempt}"
                )
            except BacktalkError as failed:
                return failed.error
            self.spent.append(completion.usage)
            problem = unusable(completion)
            if not problem:
                return read(completion)
        return Refused(
            Code.UPSTREAM_REJECTED,
            f"the backward model gave no usable reply ({problem}, {ASKED_AT_MOST} times); "
            "name another one in `model`, or give it more room in `arguments`",
            reason=problem,
        ).error


def unusable(completion: Completion) -> str:
    """Return why a reply cannot be taken as a gradient, or nothing if it can."""
    choice = completion.choices[0]
    if choice.get("finish_reason") in ("length", "content_filter"):
        return f"cut off: {choice['finish_reason']}"
    if choice["message"].get("refusal"):
        return "refused"
    return "" if _said(completion) else "empty"


def read(completion: Completion) -> TextGradient:
    """Return the gradient that a usable reply is."""
    said = _said(completion)
    return EMPTY if said == NOTHING else TextGradient(said, "model")


def _said(completion: Completion) -> str:
    return aloud(completion.choices[0]["message"].get("content") or "")
