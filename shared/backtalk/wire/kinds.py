"""The two conversations a worker can have, as data: which request, which answer, under which type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from backtalk.wire.answer import Answer
from backtalk.wire.errors import Code, Refused, invalid
from backtalk.wire.feedback import Feedback, Gradients
from backtalk.wire.jobs import CompletionJob, CompletionResult

Role: TypeAlias = Literal["forward", "backward"]


RequestT = TypeVar("RequestT", bound=CompletionJob | Feedback)
AnswerT = TypeVar("AnswerT", bound=Answer)


@dataclass(frozen=True, slots=True)
class Kind(Generic[RequestT, AnswerT]):
    """One kind of work: its role names the queues."""

    role: Role
    request: type[RequestT]
    request_type: str
    answer: type[AnswerT]
    answer_type: str


FORWARD: Final = Kind("forward", CompletionJob, "completion.job.v1", CompletionResult, "completion.result.v1")
BACKWARD: Final = Kind("backward", Feedback, "feedback.v1", Gradients, "gradients.v1")


@dataclass(frozen=True, slots=True)
class Request(Generic[RequestT]):
    """A decoded request: its id, its work key, and what it asks."""

    id: str
    key: str
    body: RequestT


def check_type(stated: str | None, kind: Kind[RequestT, AnswerT]) -> None:
    """Raise Refused unless a message's `type` fits the queue it came by; none at all fits every queue."""
    if stated in (None, kind.request_type):
        return
    name, _, version = kind.request_type.rpartition(".")
    if re.fullmatch(rf"{re.escape(name)}\.v\d+", stated):
        raise Refused(
            Code.UNSUPPORTED_SCHEMA_VERSION,
            f"type: {stated!r} is not supported; this worker reads {version} ({kind.request_type})",
            supported=[kind.request_type],
        )
    raise invalid("type", f"{stated!r} does not belong here; send {kind.request_type!r}, or leave it out")
