"""Messages that have killed workers: worked on one at a time, each in a process of its own, and buried in the end."""

from __future__ import annotations

import asyncio
from typing import Final, Generic

from structlog.contextvars import bound_contextvars

from backtalk.runtime.child import Child, Ending
from backtalk.runtime.metrics import Metrics
from backtalk.runtime.opened import Opened, identify
from backtalk.runtime.replies import Replies
from backtalk.runtime.telemetry import log
from backtalk.runtime.undertaker import bury, crashed
from backtalk.transport.envelope import Delivery
from backtalk.wire.kinds import AnswerT, Kind, RequestT

# with those that made it a suspect, four: enough for bad luck
DEATHS: Final = 2
PAUSE_SECONDS: Final = 5.0


class Suspects(Generic[RequestT, AnswerT]):
    """Empties the suspect queue of one role."""

    def __init__(
        self, kind: Kind[RequestT, AnswerT], replies: Replies, child: Child, metrics: Metrics | None = None
    ) -> None:
        self._kind = kind
        self._replies = replies
        self._child = child
        self._metrics = metrics or Metrics(kind.role)
        self._stopping = asyncio.Event()
        self._works: dict[str, asyncio.Task[None]] = {}
        self._deliveries: set[asyncio.Task[None]] = set()

    def deliver(self, delivery: Delivery) -> None:
        task = asyncio.get_running_loop().create_task(self._settle(delivery))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def drain(self, seconds: float) -> None:
        """Let the process at work drain; a message that outlasts it goes back to the queue unacknowledged."""
        self._stopping.set()
        self._child.stop()
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=seconds)
        for work in self._works.values():
            work.cancel()
        if self._works:
            await asyncio.wait(self._works.values())

    async def _settle(self, delivery: Delivery) -> None:
        opened = identify(delivery)
        with bound_contextvars(job=opened.id, queue=delivery.queue):
            try:
                # a lost connection brings the message again while its process goes on
                await asyncio.shield(self._work(opened))
                acked = await delivery.ack()
            except Exception:  # noqa: BLE001
                # it must not hold up the next one: this worker takes one at a time
                log.exception("settling failed")
                await self._replies.hand_back(delivery.envelope.republished(opened.id), delivery.queue)
                acked = await delivery.ack()
            log.info("suspect settled", acked=acked)

    def _work(self, opened: Opened) -> asyncio.Task[None]:
        work = self._works.get(opened.key)
        if work is None:
            work = self._works[opened.key] = asyncio.get_running_loop().create_task(self._worked(opened))
            work.add_done_callback(lambda _: self._works.pop(opened.key, None))
        return work

    async def _worked(self, opened: Opened) -> None:
        """Have a message worked on until somebody was answered, or nobody will be."""
        envelope = opened.delivery.envelope.republished(opened.id)
        for _ in range(DEATHS):
            match Ending.NOT_BEGUN if self._stopping.is_set() else await self._child.work(envelope):
                case Ending.SETTLED:
                    return
                case Ending.NOT_BEGUN:
                    await self._pause()
                    await self._replies.hand_back(envelope, opened.delivery.queue)
                    return
        if self._stopping.is_set():
            # what ended the last one may have been our own stop
            await self._replies.hand_back(envelope, opened.delivery.queue)
        else:
            error = crashed()
            await bury(self._kind, self._replies, opened, error)
            self._metrics.buried(error)

    async def _pause(self) -> None:
        """Wait a moment, in which the next process may be able to begin."""
        try:
            await asyncio.wait_for(self._stopping.wait(), PAUSE_SECONDS)
        except TimeoutError:
            return
