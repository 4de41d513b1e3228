"""The port to the work itself: what a worker does with a request."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from backtalk.runtime.emit import Emit
from backtalk.runtime.model import Model
from backtalk.wire.answer import Answer
from backtalk.wire.feedback import Feedback
from backtalk.wire.jobs import CompletionJob
from backtalk.wire.kinds import Request

Asked = TypeVar("Asked", bound=CompletionJob | Feedback)
Answered_co = TypeVar("Answered_co", bound=Answer, covariant=True)


class Handler(Protocol[Asked, Answered_co]):
    """What a worker does with a request; it may only ask the model, emit partial output and return the answer."""

    def __call__(self, request: Request[Asked], /, *, model: Model, emit: Emit) -> Awaitable[Answered_co]: ...
