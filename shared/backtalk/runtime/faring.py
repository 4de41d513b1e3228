"""How a message fares: the limits it comes with, and what its view of the models says of it in the end."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from backtalk.runtime.settle import Outcome, Standing
from backtalk.runtime.view import Limit, View, limit_of
from backtalk.transport.envelope import Envelope
from backtalk.wire.answer import Status
from backtalk.wire.errors import BacktalkError, Closed, Code, Error, Refused, Stopped


def standing(envelope: Envelope) -> Standing:
    """Return how often and how long a message was tried."""
    age = time.time() - envelope.timestamp if envelope.timestamp else 0.0
    return Standing(envelope.attempt, age)


def limit(deadline: datetime | None, budget: float) -> Limit:
    """Return what ends a message first: the deadline of its sender, or the worker's budget in seconds."""
    left = (deadline - datetime.now(UTC)).total_seconds() if deadline else None
    return limit_of(asyncio.get_running_loop().time(), budget, left)


def check_deadline(deadline: datetime | None) -> None:
    """Raise Refused for a message that is late already."""
    if deadline is not None and deadline <= datetime.now(UTC):
        raise Refused(
            Code.DEADLINE_EXCEEDED,
            "backtalk/deadline: had passed before the work began; give more time, or start more workers",
        )


def outcome(view: View | None, status: Status = "failed") -> Outcome:
    """Return how a message fared; one without a view was never understood."""
    if view is None:
        return Outcome(unreadable=True)
    if status == "completed":
        # a call that failed on the way, or a stop that came late, asks for no other try
        return Outcome(paid=True)
    # nobody waits for another try of what was cancelled
    unavailable = None if view.cancelled else view.unavailable
    closed = isinstance(unavailable, Closed)
    return Outcome(
        paid=view.paid > 0,
        retry_after=unavailable.retry_after if unavailable else None,
        until_deadline=view.until_deadline(),
        remembered=view.record.safe,
        stopped=view.stopped,
        closed=closed,
        idle=closed and view.idle,
    )


def sent_away(error: BacktalkError) -> Outcome:
    """Return how a message fared that nobody had room for; it is not to blame, and no try of it is spent."""
    return Outcome(stopped=True) if isinstance(error, Stopped) else Outcome(retry_after=0.0, closed=True)


def internal() -> Error:
    """Return the error of a message that broke its handler."""
    message = "the worker failed on this message; a copy is in the dead queue, and the log has the cause"
    return Error(code=Code.INTERNAL, message=message, retryable=True)
