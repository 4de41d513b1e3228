"""What is known of a batch: the facts of one moment, and the words for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Status(StrEnum):
    """The statuses of OpenAI's Batch API."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (Status.FAILED, Status.COMPLETED, Status.EXPIRED, Status.CANCELLED)


class Form(StrEnum):
    """How a result is written: as OpenAI does, or with all that Backtalk adds, graphs included."""

    OPENAI = "openai"
    BACKTALK = "backtalk"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch is from its beginning. Without a file of errors, failures stand among the results.

    `id` begins the id of every request; `stream` names the reply queue; `window_seconds` is the time that it has.
    """

    id: str
    namespace: str
    stream: str
    input: Path
    digest: str
    output: Path
    errors: Path | None
    form: Form
    window_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """How far a batch has come. Times are in seconds since the epoch; bytes are those of the two files that count.

    The first `sent` lines were confirmed by the broker. `in_flight` is how many may be sent and not answered; None is
    all. A `cost` of None is one that is not known.
    """

    in_flight: int | None
    created_at: float
    status: Status
    in_progress_at: float | None
    expires_at: float | None
    cancelling_at: float | None
    finalizing_at: float | None
    ended_at: float | None
    total: int
    sent: int
    completed: int
    failed: int
    expired: int
    output_bytes: int
    error_bytes: int
    usage: dict[str, Any]
    cost: float | None
    problems: list[dict[str, Any]]

    @property
    def open(self) -> bool:
        """Whether there are lines without a result."""
        return self.done < self.total

    @property
    def done(self) -> int:
        return self.completed + self.failed


@dataclass(frozen=True, slots=True)
class Line:
    """One request: its number from 0, and where in the input it begins, in bytes."""

    number: int
    custom_id: str
    place: int
    endpoint: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a line, as it was written: from `place` to `end`, in bytes, `aside` among the errors or not."""

    number: int
    failed: bool
    aside: bool
    place: int
    end: int
    expired: bool = False
    usage: Mapping[str, Any] = field(default_factory=dict)
    cost: float | None = 0.0
