"""Answers for jobs that killed their worker or expired: the sender hears of it, people get the letter."""

from __future__ import annotations

import asyncio
from typing import Any, Generic

from structlog.contextvars import bound_contextvars

from backtalk.runtime.metrics import Metrics
from backtalk.runtime.opened import Opened, identify
from backtalk.runtime.replies import Replies
from backtalk.runtime.telemetry import log
from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.errors import RETRYABLE, Code, Error
from backtalk.wire.kinds import AnswerT, Kind, RequestT


class Undertaker(Generic[RequestT, AnswerT]):
    """Empties the crashed queue of one role. It parses no body: that body may be what killed the worker."""

    def __init__(
        self, kind: Kind[RequestT, AnswerT], replies: Replies, metrics: Metrics | None = None
    ) -> None:
        self._kind = kind
        self._replies = replies
        self._metrics = metrics or Metrics(kind.role)
        self._tasks: set[asyncio.Task[None]] = set()

    def deliver(self, delivery: Delivery) -> None:
        task = asyncio.get_running_loop().create_task(self._bury(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bury(self, delivery: Delivery) -> None:
        opened = identify(delivery)
        error = verdict(delivery.envelope)
        with bound_contextvars(job=opened.id, queue=delivery.queue):
            try:
                await bury(self._kind, self._replies, opened, error)
                self._metrics.buried(error)
                await delivery.ack()
            except Exception:  # noqa: BLE001
                # not acknowledged: the broker gives it to another worker
                log.exception("burial failed")
                return


async def bury(kind: Kind[RequestT, AnswerT], replies: Replies, opened: Opened, error: Error) -> None:
    """Tell the sender of a message that nobody will work on it, and people why."""
    envelope = opened.delivery.envelope
    answer = kind.answer.failed(opened.id, error)
    await replies.answer(answer, to=envelope, id=opened.id, key=opened.key)
    await replies.file(envelope.republished(opened.id), error)
    log.warning("buried", code=error.code.value)


def _last_death(deaths: Any) -> Any:
    """Return the reason of the last death; x-first-death-reason says expired for ever after the first rung."""
    match deaths:
        case [{"reason": reason}, *_]:
            return reason
    return None


def verdict(envelope: Envelope) -> Error:
    """Return why the broker gave up on a message."""
    if _last_death(envelope.headers.get("x-death")) == "expired":
        return _error(Code.DEADLINE_EXCEEDED, "the message expired in the queue; give it more time")
    return crashed()


def crashed() -> Error:
    """Return the error of a message that nobody survived."""
    return _error(
        Code.WORKER_CRASHED, "every worker that took this message died; a copy is in the dead queue"
    )


def _error(code: Code, message: str) -> Error:
    return Error(code=code, message=message, retryable=code in RETRYABLE)
