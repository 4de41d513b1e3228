"""The life of a message in either worker: join or decode, handle, answer until confirmed, then acknowledge.

Work is a task of the worker's own, keyed by work key: a lost channel cancels nothing, and a redelivery of the same
work joins it. Every delivery is answered to its own address and only then acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Generic

from structlog.contextvars import bind_contextvars

from backtalk.runtime.cancelled import Cancelled, cancelled
from backtalk.runtime.faring import check_deadline, internal, limit, outcome, sent_away, standing
from backtalk.runtime.handler import Handler
from backtalk.runtime.intake import Intake
from backtalk.runtime.metrics import Metrics
from backtalk.runtime.model import Adapter
from backtalk.runtime.opened import Opened, identify
from backtalk.runtime.replies import Replies
from backtalk.runtime.settle import TOLD, Action, HandBack, Outcome, Patience, Reply, Rung, decide
from backtalk.runtime.store import Store, finish, finished
from backtalk.runtime.telemetry import log
from backtalk.runtime.tracing import NO_TRACING, Tracing
from backtalk.runtime.view import View, stopped
from backtalk.runtime.works import Work, Works
from backtalk.transport.envelope import ATTEMPT, Delivery, Envelope
from backtalk.wire.errors import BacktalkError, Refused
from backtalk.wire.kinds import AnswerT, Kind, Request, RequestT, check_type

LAST_WORDS_SECONDS: Final = 5.0


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
        intake: Intake[RequestT, AnswerT] | None = None,
        metrics: Metrics | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._kind = kind
        self._handle = handle
        self._adapter = adapter
        self._store = store
        self._replies = replies
        self._budget = budget
        self._patience = patience
        self._intake = intake or Intake(kind)
        self._tracing = tracing
        self._works: Works[AnswerT] = Works(self._intake.room.leave)
        self._views: dict[View, str] = {}
        self._cancelled = Cancelled()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._metrics = metrics or Metrics(kind.role)
        self._metrics.watch_jobs(self._deliveries.__len__)

    def deliver(self, delivery: Delivery) -> None:
        """Take a delivery in; everything after happens in a task of the worker's own."""
        task = asyncio.get_running_loop().create_task(self._traced(delivery))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def drain(self, seconds: float) -> None:
        """Finish what is going on; what is not done in time is handed back, or answered as far as it is paid."""
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=seconds)
        self._intake.room.close(stopped)
        for view in self._views:
            view.end(stopped)
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=LAST_WORDS_SECONDS)

    def cancel(self, id: str) -> None:
        """End the work of a request, now or when it comes; what was paid by then is answered."""
        self._cancelled.add(id)
        for view, worked_on in self._views.items():
            if worked_on == id:
                view.end(cancelled)

    async def _traced(self, delivery: Delivery) -> None:
        with self._tracing.processing(delivery):
            await self._settle(delivery)

    async def _settle(self, delivery: Delivery) -> None:
        began = self._metrics.took(delivery)
        opened = identify(delivery)
        # this task is the delivery's own, so what is bound to its context ends with it
        told = {"job": opened.id, "attempt": delivery.envelope.attempt, "queue": delivery.queue}
        bind_contextvars(**told, **self._tracing.ids())
        if opened.key not in self._works and self._replies.isolates(delivery):
            await self._isolate(opened)
            return
        work = self._join(opened)
        action: Action | None = None
        acked = False
        try:
            answer, ended = await self._result(opened, work)
            action = decide(ended, standing(delivery.envelope), self._patience)
            await self._execute_once(action, opened, work, answer, began)
            self._tracing.settled(TOLD[type(action)], answer)
            seconds = time.monotonic() - began
            acked = await delivery.ack() and await delivery.acked()
        except Exception:  # noqa: BLE001
            # not acknowledged: the broker gives it to somebody again, at the latest when this worker ends
            log.exception("settling failed")
            return
        finally:
            # what was put off or handed back comes again as a message of its own, to be worked on anew
            self._works.leave(opened.key, work, keep=not acked and not isinstance(action, Rung | HandBack))
        log.info(
            TOLD[type(action)],
            status=answer.status,
            code=answer.error and answer.error.code.value,
            acked=acked,
            seconds=round(seconds, 4),
        )

    async def _isolate(self, opened: Opened) -> None:
        """Pass a message on that may kill us, before anybody looks into it."""
        try:
            await self._replies.isolate(opened.delivery.envelope.republished(opened.id))
            acked = await opened.delivery.ack()
        except Exception:  # noqa: BLE001
            log.exception("isolating failed")
            return
        self._metrics.isolated()
        self._tracing.settled("isolated")
        log.warning("isolated", acked=acked)

    def _join(self, opened: Opened) -> Work[AnswerT]:
        """Return the work that a delivery belongs to; an envelope that is wrong belongs to none but its own."""
        refused = self._refusal(opened.delivery.envelope)
        if refused is None:
            return self._works.join(opened.key, again=opened.delivery.redelivered)
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
            self._tracing.joined(work.trace)
            return await asyncio.shield(work.done)
        work.trace = self._tracing.here()
        result = await self._work(opened)
        work.done.set_result(result)
        return result

    async def _work(self, opened: Opened) -> tuple[AnswerT, Outcome]:
        """Return the answer and how it came about; never raises."""
        try:
            budget = self._budget - await self._intake.turn(self._budget)
        except BacktalkError as error:
            return self._kind.answer.failed(opened.id, error.error), sent_away(error)
        return await self._worked(opened, budget)

    async def _worked(self, opened: Opened, budget: float) -> tuple[AnswerT, Outcome]:
        metadata: dict[str, Any] | None = None
        view: View | None = None
        try:
            request = self._intake.request(opened)
            metadata = request.body.backtalk.metadata
            view = View(self._adapter, limit(request.body.backtalk.deadline, budget), self._tracing)
            self._views[view] = request.id
            answer = await self._answer(request, view, opened.delivery.envelope)
            return answer, outcome(view, answer.status)
        except BacktalkError as error:
            return self._kind.answer.failed(opened.id, error.error, metadata), outcome(view)
        except Exception:  # noqa: BLE001  whatever happens to a message, its sender waits for an answer
            log.exception("handler failed")
            return self._kind.answer.failed(opened.id, internal(), metadata), Outcome(unreadable=True)
        finally:
            if view is not None:
                del self._views[view]

    async def _answer(self, request: Request[RequestT], view: View, to: Envelope) -> AnswerT:
        check_deadline(request.body.backtalk.deadline)
        async with view.waiting("another worker had the same message and was not done"):
            view.record = await self._store.open(request.key, request.id)
        try:
            if answer := finished(view.record, self._kind):
                return answer
            if view.record.cancelled or request.id in self._cancelled:
                raise cancelled()
            return await self._handled(request, view, to)
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

    async def _execute_once(
        self, action: Action, opened: Opened, work: Work[AnswerT], answer: AnswerT, began: float
    ) -> None:
        """Settle each message once: one that was redelivered meanwhile is the same, one that was sent again is not."""
        address = (opened.delivery.envelope.reply_to, opened.delivery.envelope.correlation_id)
        async with work.settling:
            if not (opened.delivery.redelivered and address in work.settled):
                await self._execute(action, opened, answer)
                work.settled.add(address)
                self._metrics.settled(action, answer, began)

    async def _execute(self, action: Action, opened: Opened, answer: AnswerT) -> None:
        envelope = opened.delivery.envelope
        match action:
            case Reply(file=file):
                await self._replies.answer(answer, to=envelope, id=opened.id, key=opened.key)
                if file and answer.error is not None:
                    await self._replies.file(envelope.republished(opened.id), answer.error)
            case Rung(name=name, counts=counts):
                again = {ATTEMPT: envelope.attempt + counts}
                await self._replies.rung(envelope.republished(opened.id, **again), name)
            case HandBack():
                await self._replies.hand_back(envelope.republished(opened.id), opened.delivery.queue)
