"""What every answer has in common."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias

from pydantic import Field

from backtalk.wire.base import SCHEMA_VERSION, Lenient
from backtalk.wire.errors import Error, Refused

Status: TypeAlias = Literal["completed", "partial", "failed"]


def status_of(*, anything: bool, failures: bool) -> Status:
    """Return the status of work of which something may have been done and something may have failed."""
    if not failures:
        return "completed"
    return "partial" if anything else "failed"


class Answer(Lenient):
    """A terminal answer: `failed` means that nothing was done, and `error` says why."""

    schema_version: int = SCHEMA_VERSION
    id: str
    status: Status
    usage: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] | None = None
    error: Error | None = None

    @classmethod
    def failed(cls, id: str, error: Error, metadata: dict[str, Any] | None = None) -> Self:
        """Return the answer to a request of which nothing was done."""
        return cls(id=id, status="failed", error=error, metadata=metadata)

    def lighter(self) -> Self | None:
        """Return the same answer without what may be left out of it, None when there is nothing of that kind."""
        return None

    def raise_for_status(self) -> Self:
        """Return self, or raise Refused with the error of a failed request."""
        if self.error and self.status == "failed":
            raise Refused(self.error.code, self.error.message, **self.error.details)
        return self
