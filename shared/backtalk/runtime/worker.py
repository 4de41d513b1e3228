"""The life of a message in either worker: join or decode, handle, answer until confirmed, then acknowledge.

Work is a task of the worker's own, keyed by work key: a lost channel cancels nothing, and a redelivery of the same
work joins it. Every delivery is answered to its own address and only then acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from structlog.contextvars import bind_contextvars

from backtalk.runtime.emit import Emit
from backtalk.runtime.model import Adapter, Model
from backtalk.runtime.opened import Opened, identify
from backtalk.runtime.replies import Replies
from backtalk.runtime.settle import Action, HandBack, Outcome, Patience, Reply, Rung, Standing, decide
from backtalk.runtime.store import Store, finish, finished
from backtalk.runtime.telemetry import log
from backtalk.runtime.view import Limit, View, limit_of
from backtalk.runtime.works import Work, Works
from backtalk.transport.envelope import ATTEMPT, Delivery, Envelope
from backtalk.wire.answer import Answer, Status
from backtalk.wire.codec import decode, unpack
from backtalk.wire.errors import BacktalkError, Code, Error, Refused
from backtalk.wire.feedback import Feedback
from backtalk.wire.jobs import CompletionJob
from backtalk.wire.kinds import AnswerT, Kind, Request, RequestT, check_type

LAST_WORDS_SECONDS: Final = 5.0

Asked = TypeVar("Asked", bound=CompletionJob | Feedback)
Answered_co = TypeVar("Answered_co", bound=Answer, covariant=True)


class Handler(Protocol[Asked, Answered_co]):
    """What a worker does with a request; it may only ask the model, emit partial output and return the answer."""

    def __call__(self, request: Request[Asked], /, *, model: Model, emit: Emit) -> Awaitable[Answered_co]: ...


class Worker(Generic[RequestT, AnswerT]):
    """Turns deliveries of one kind into answers. `deliver` is the only way in, `drain` the only way out."""

    def __init__(
        self,
        kind: Kind[RequestT, AnswerT],
        handle: Handler[RequestT, AnswerT],
        *,
        adapter: Adapter,
        store: Store,
        replies: Replies,
        budget: float,
        patience: Patience,
    ) -> None:
        self._kind = kind
        self._handle = handle
        self._adapter = adapter
        self._store = store
        self._replies = replies
        self._budget = budget
        self._patience = patience
        self._works: Works[AnswerT] = Works()
        self._views: set[View] = set()
        self._deliveries: set[asyncio.Task[None]] = set()

    def deliver(self, delivery: Delivery) -> None:
        """Take a delivery in; everything after happens in a task of the worker's own."""
        task = asyncio.get_running_loop().create_task(self._settle(delivery))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def drain(self, seconds: float) -> None:
        """Finish what is going on; what is not done in time is handed back, or answered as far as it is paid."""
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=seconds)
        for view in self._views:
            view.stop()
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=LAST_WORDS_SECONDS)

    async def _settle(self, delivery: Delivery) -> None:
        began = time.monotonic()
        opened = identify(delivery)
        # this task is the delivery's own, so what is bound to its context ends with it
        bind_contextvars(job=opened.id, attempt=delivery.envelope.attempt, queue=delivery.queue)
        work = self._join(opened)
        action: Action | None = None
        acked = False
        try:
            answer, outcome = await self._result(opened, work)
            action = decide(outcome, _standing(delivery.envelope), self._patience)
            await self._execute_once(action, opened, work, answer)
            acked = await delivery.ack()
        except Exception:  # noqa: BLE001
            # not acknowledged: the broker gives it to somebody again, at the latest when this worker ends
            log.exception("settling failed")
            return
        finally:
            # what was put off or handed back comes again as a message of its own, to be worked on anew
            self._works.leave(opened.key, work, keep=not acked and not isinstance(action, Rung | HandBack))
        log.info(
            _TOLD[type(action)],
            status=answer.status,
            code=answer.error and answer.error.code.value,
            acked=acked,
            seconds=round(time.monotonic() - began, 4),
        )

    def _join(self, opened: Opened) -> Work[AnswerT]:
        """Return the work that a delivery belongs to; an envelope that is wrong belongs to none but its own."""
        refused = self._refusal(opened.delivery.envelope)
        if refused is None:
            return self._works.join(opened.key)
        failed = self._kind.answer.failed(opened.id, refused.error)
        return self._works.apart((failed, Outcome(unreadable=True)))

    def _refusal(self, envelope: Envelope) -> Refused | None:
        """Return what is wrong with the properties of a message: they are the sender's own, not the work's."""
        try:
            check_type(envelope.type, self._kind)
            self._replies.check(envelope.reply_to)
        except Refused as refused:
            return refused
        return None

    async def _result(self, opened: Opened, work: Work[AnswerT]) -> tuple[AnswerT, Outcome]:
        """Do the work for the first delivery of it; the others wait for what comes out."""
        if work.waiting > 1 or work.done.done():
            return await asyncio.shield(work.done)
        result = await self._work(opened)
        work.done.set_result(result)
        return result

    async def _work(self, opened: Opened) -> tuple[AnswerT, Outcome]:
        """Return the answer and how it came about; never raises."""
        metadata: dict[str, Any] | None = None
        view: View | None = None
        try:
            request = self._decode(opened)
            metadata = request.body.backtalk.metadata
            view = View(self._adapter, _limit(request.body.backtalk.deadline, self._budget))
            self._views.add(view)
            answer = await self._answer(request, view, opened.delivery.envelope)
            return answer, _outcome(view, answer.status)
        except BacktalkError as error:
            return self._kind.answer.failed(opened.id, error.error, metadata), _outcome(view)
        except Exception:  # noqa: BLE001  whatever happens to a message, its sender waits for an answer
            log.exception("handler failed")
            return self._kind.answer.failed(opened.id, _internal(), metadata), Outcome(unreadable=True)
        finally:
            if view is not None:
                self._views.discard(view)

    async def _answer(self, request: Request[RequestT], view: View, to: Envelope) -> AnswerT:
        _check_deadline(request.body.backtalk.deadline)
        async with view.waiting("another worker had the same message and was not done"):
            view.record = await self._store.open(request.key)
        try:
            return finished(view.record, self._kind) or await self._handled(request, view, to)
        finally:
            # before the message is put off or handed back, so that whoever gets it need not wait
            await view.record.close()

    async def _handled(self, request: Request[RequestT], view: View, to: Envelope) -> AnswerT:
        emitter = self._replies.emitter(to=to, id=request.id)
        try:
            answer = await self._handle(request, model=view, emit=emitter)
        finally:
            # before the answer, which is the last that its sender hears
            await emitter.close()
        if view.undisturbed:
            await finish(view.record, answer)
        return answer

    def _decode(self, opened: Opened) -> Request[RequestT]:
        envelope = opened.delivery.envelope
        body = unpack(envelope.body, envelope.content_encoding)
        return Request(opened.id, opened.key, decode(body, self._kind.request))

    async def _execute_once(
        self, action: Action, opened: Opened, work: Work[AnswerT], answer: AnswerT
    ) -> None:
        """Settle each message once: one that was redelivered meanwhile is the same, one that was sent again is not."""
        envelope = opened.delivery.envelope
        address = (envelope.reply_to, envelope.correlation_id)
        async with work.settling:
            if not (opened.delivery.redelivered and address in work.settled):
                await self._execute(action, opened, answer)
                work.settled.add(address)

    async def _execute(self, action: Action, opened: Opened, answer: AnswerT) -> None:
        envelope = opened.delivery.envelope
        match action:
            case Reply(file=file):
                await self._replies.answer(answer, to=envelope, id=opened.id, key=opened.key)
                if file and answer.error is not None:
                    await self._replies.file(envelope.republished(opened.id), answer.error)
            case Rung(name=name):
                again = {ATTEMPT: envelope.attempt + 1}
                await self._replies.rung(envelope.republished(opened.id, **again), name)
            case HandBack():
                await self._replies.hand_back(envelope.republished(opened.id))


_TOLD: Final = {Reply: "answered", Rung: "put off", HandBack: "handed back"}


def _standing(envelope: Envelope) -> Standing:
    age = time.time() - envelope.timestamp if envelope.timestamp else 0.0
    return Standing(envelope.attempt, age)


def _limit(deadline: datetime | None, budget: float) -> Limit:
    left = (deadline - datetime.now(UTC)).total_seconds() if deadline else None
    return limit_of(asyncio.get_running_loop().time(), budget, left)


def _check_deadline(deadline: datetime | None) -> None:
    if deadline is not None and deadline <= datetime.now(UTC):
        raise Refused(
            Code.DEADLINE_EXCEEDED,
            "backtalk/deadline: had passed before the work began; give more time, or start more workers",
        )


def _outcome(view: View | None, status: Status = "failed") -> Outcome:
    """Return how a message fared; one without a view was never understood."""
    if view is None:
        return Outcome(unreadable=True)
    if status == "completed":
        # a call that failed on the way, or a stop that came late, asks for no other try
        return Outcome(paid=True)
    unavailable = view.unavailable
    return Outcome(
        paid=view.paid > 0,
        retry_after=unavailable.retry_after if unavailable else None,
        until_deadline=view.until_deadline(),
        remembered=view.record.safe,
        stopped=view.stopped,
    )


def _internal() -> Error:
    message = "the worker failed on this message; a copy is in the dead queue, and the log has the cause"
    return Error(code=Code.INTERNAL, message=message, retryable=True)
