"""The error codes of the wire, and the exceptions that carry them to the message boundary.

* BacktalkError          anything a caller may see; carries an `Error`
  x Refused              the request will never succeed as it is
    + TooLarge           because it has too many bytes
  x Unavailable          the same request may succeed later; the only class that earns a delayed retry
    + Closed             because the endpoint takes no calls of this worker for now, whosever they are
  x Stopped              the worker is going away; the request itself is fine
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from backtalk.wire.base import shortened


class Code(StrEnum):
    INVALID_MESSAGE = "invalid_message"
    UNSUPPORTED_SCHEMA_VERSION = "unsupported_schema_version"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    INVALID_TEMPLATE = "invalid_template"
    GRAPH_CONFLICT = "graph_conflict"
    INCOMPLETE_GRAPH = "incomplete_graph"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    UPSTREAM_REJECTED = "upstream_rejected"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    BUDGET_EXCEEDED = "budget_exceeded"
    WORKER_CRASHED = "worker_crashed"
    INTERNAL = "internal"


# Whether sending the very same request again may help.
RETRYABLE = frozenset(
    {
        Code.CANCELLED,
        Code.UPSTREAM_UNAVAILABLE,
        Code.UPSTREAM_TIMEOUT,
        Code.WORKER_CRASHED,
        Code.INTERNAL,
    }
)


class Error(BaseModel):
    """A failure as it crosses a queue; `message` names the field and the remedy."""

    model_config = ConfigDict(frozen=True)

    code: Code
    message: str
    retryable: bool
    details: dict[str, Any] = Field(default_factory=dict)


# what names a field may quote it, and a field may have megabytes
MAX_MESSAGE: Final = 2000


class BacktalkError(Exception):
    def __init__(self, code: Code, message: str, **details: Any) -> None:
        message = shortened(message, MAX_MESSAGE)
        super().__init__(message)
        if "path" in details:
            details = {**details, "path": shortened(details["path"], MAX_MESSAGE)}
        self.error = Error(code=code, message=message, retryable=code in RETRYABLE, details=details)


class Refused(BacktalkError):
    """Raised when the request is wrong; trying again changes nothing."""


class TooLarge(Refused):
    """Raised when a body has more bytes than the broker or a worker takes."""

    def __init__(self, problem: str) -> None:
        super().__init__(Code.PAYLOAD_TOO_LARGE, f"body: {problem}", path="body")


class Unavailable(BacktalkError):
    """Raised when an endpoint failed for now; `retry_after` is what it asked for, in seconds."""

    def __init__(self, code: Code, message: str, *, retry_after: float = 0.0, **details: Any) -> None:
        super().__init__(code, message, **details)
        self.retry_after = retry_after


class Closed(Unavailable):
    """Raised for calls to an endpoint that takes none of this worker's for now: no request is to blame."""


class Stopped(BacktalkError):
    """Raised inside a message whose worker has no time left to wait for it."""


def invalid(path: str, problem: str, **details: Any) -> Refused:
    """Return the refusal of one field, named by its JSON-pointer-like path (`messages/0/role`)."""
    return Refused(Code.INVALID_MESSAGE, f"{path}: {problem}", path=path, **details)
