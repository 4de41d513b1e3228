"""A batch through the queues: sent in order, collected in groups, ended. Any step may be the last before a crash.

send       the lines after the first `sent`, many at once; `sent` is noted when the broker has confirmed them
collect    a group of answers: written, flushed, noted in one step, then acknowledged
withdraw   of a batch that is cancelled: orders for what was sent and is not answered, a bounded number ahead
end        what no answer will come for is written as expired or cancelled; files in order; the reply queue goes
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from backtalk.batches.ledger import Ledger, request_id
from backtalk.batches.outputs import order, put_in_order
from backtalk.batches.requests import Requests
from backtalk.batches.state import Facts, Line, Status
from backtalk.batches.store import Store
from backtalk.batches.together import together
from backtalk.client import Client, QueueFull, Unroutable
from backtalk.wire.jobs import CompletionJob

AT_ONCE: Final = 256
# a worker remembers the last 10,000 orders, and some are others'
ORDERS_AHEAD: Final = 4000
FULL_PAUSE: Final = 1.0
LOOK_SECONDS: Final = 0.5
# what arrives meanwhile is written down together
GATHER_SECONDS: Final = 0.02
IDLE_SECONDS: Final = 1.0
# what runs at the deadline is answered after it, with what was paid
GRACE_SECONDS: Final = 10.0

OnFacts = Callable[[Facts], None]


def nobody(_facts: Facts) -> None:
    """Tell nobody how far a batch has come."""


@dataclass(slots=True)
class Engine:
    """One batch at work, in one process at a time; others may note in the store that it is to be cancelled.

    Nothing waits where no answer came for `idle` seconds; `grace` is how long after the deadline answers may come.
    """

    client: Client
    store: Store
    ledger: Ledger
    on_facts: OnFacts = nobody
    idle: float = IDLE_SECONDS
    grace: float = GRACE_SECONDS
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _outstanding: int = 0

    async def follow(self) -> None:
        """Do all that is left of a batch, until it has ended."""
        facts = self.store.facts()
        if facts.status.ended:
            return
        left = None if facts.expires_at is None else facts.expires_at + self.grace - time.time()
        if facts.open and (left is None or left > 0):
            await together(self._steer(), self.collect(), within=left)
        await self.look()

    async def look(self) -> None:
        """Collect the answers that wait now, and end the batch if those were the last."""
        await self.collect(idle=self.idle)
        facts = self.store.facts()
        late = facts.expires_at is not None and time.time() >= facts.expires_at + self.grace
        if not facts.status.ended and (late or not facts.open):
            await self.end()

    async def send(self) -> None:
        """Send what was not sent yet, as much at once as may be in flight."""
        facts = self.store.facts()
        self._outstanding = self.store.outstanding(facts.sent)
        if not self._may_send(facts):
            return
        with Requests(self.store) as requests:
            # the first one alone: it tells whether anybody is there, while nothing else is under way
            most = 1
            while self._may_send(facts := self.store.facts()):
                await self._send_some(requests, facts, self.store.open_lines(facts.sent, most))
                most = await self._free()

    async def collect(self, *, idle: float | None = None) -> None:
        """Write answers down until every line has one, or for `idle` seconds none has come."""
        facts = self.store.facts()
        if facts.status.ended or not facts.open:
            return
        stream = self.store.plan.stream
        async with aclosing(self.client.groups(stream, most=AT_ONCE, remembered=0, idle=idle)) as groups:
            async for answers in groups:
                self._outstanding -= self.ledger.take(answers)
                self._room.set()
                self.on_facts(self.store.facts())
                if not self._open():
                    return
                await asyncio.sleep(GATHER_SECONDS)

    async def withdraw(self, *, wait: bool = True) -> None:
        """Have every line cancelled that was sent and has no answer; lines that never went out are given up.

        With `wait`, orders go out no faster than they are answered. Raises Unroutable where no worker runs.
        """
        sent = self.store.facts().sent
        self._give_up(sent, expired=False)
        at = 0
        while lines := [line for line in self.store.open_lines(at, AT_ONCE) if line.number < sent]:
            await together(*(self.client.cancel(self._id(line)) for line in lines))
            at = lines[-1].number + 1
            while wait and self.store.outstanding(at) > ORDERS_AHEAD:
                await self._pause()

    async def leave(self) -> None:
        """End a batch that was cancelled at once: with the answers that wait now, and no others."""
        with suppress(Unroutable):
            await self.withdraw(wait=False)
        await self.collect(idle=self.idle)
        await self.end()

    async def end(self) -> None:
        """Give up on what has no answer, put the files in order, and let go of the reply queue."""
        cancelling = self.store.facts().cancelling_at is not None
        self._give_up(0, expired=not cancelling)
        self.store.note(status=Status.FINALIZING, finalizing_at=time.time())
        order(self.store)
        await self.client.forget(self.store.plan.stream)
        expired = self.store.facts().expired > 0
        last = Status.CANCELLED if cancelling else Status.EXPIRED if expired else Status.COMPLETED
        self.store.note(status=last, ended_at=time.time())
        put_in_order(self.store)
        self.on_facts(self.store.facts())

    async def _steer(self) -> None:
        """Send, and withdraw where the batch is cancelled meanwhile; ends with the last answer."""
        await self.send()
        while self._open():
            if self.store.facts().status is Status.CANCELLING:
                await self.withdraw()
                return
            await self._pause()

    def _give_up(self, start: int, *, expired: bool) -> None:
        while lines := self.store.open_lines(start):
            self.ledger.give_up(lines, expired=expired)
            self.on_facts(self.store.facts())

    async def _send_some(self, requests: Requests, facts: Facts, lines: Sequence[Line]) -> None:
        self._outstanding += len(lines)
        refused: list[Line] = []
        await together(*(self._enqueue(requests.job(line), facts, line, refused) for line in lines))
        if refused:
            self._outstanding -= len(refused)
            cancelled = self.store.facts().cancelling_at is not None
            self.ledger.give_up(sorted(refused, key=lambda line: line.number), expired=not cancelled)
        # those that had a result already were passed over
        self.store.note(sent=lines[-1].number + 1 if lines else facts.total)
        self.on_facts(self.store.facts())

    async def _enqueue(self, job: CompletionJob, facts: Facts, line: Line, refused: list[Line]) -> None:
        """Send a line when there is room for it, or have it among the `refused` where it may be sent no more."""
        due, stream, id = _due(job, facts), self.store.plan.stream, self._id(line)
        while True:
            try:
                await self.client.enqueue(due, results=stream, id=id)
            except QueueFull:
                await asyncio.sleep(FULL_PAUSE)
            else:
                return
            if not self._may_send(self.store.facts()):
                refused.append(line)
                return

    async def _free(self) -> int:
        """Wait until there is room, or nothing may be sent any more; returns for how many lines."""
        while self._may_send(facts := self.store.facts()):
            if facts.in_flight is None:
                break
            free = min(facts.in_flight - self._outstanding, AT_ONCE)
            # not one by one: each time costs a write to disk
            if free >= min(facts.in_flight // 4 + 1, AT_ONCE):
                return free
            await self._pause()
        return AT_ONCE

    async def _pause(self) -> None:
        """Wait for the next answers, or a moment."""
        self._room.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._room.wait()

    def _may_send(self, facts: Facts) -> bool:
        in_time = facts.expires_at is None or time.time() < facts.expires_at
        return facts.status is Status.IN_PROGRESS and facts.sent < facts.total and in_time

    def _open(self) -> bool:
        return self.store.facts().open

    def _id(self, line: Line) -> str:
        return request_id(self.store.plan.id, line.number)


def _due(job: CompletionJob, facts: Facts) -> CompletionJob:
    """Return a job that is due when its batch expires, or before, as it says itself."""
    if facts.expires_at is None:
        return job
    expires, own = datetime.fromtimestamp(facts.expires_at, UTC), job.backtalk.deadline
    due = expires if own is None else min(own, expires)
    return job.model_copy(update={"backtalk": job.backtalk.model_copy(update={"deadline": due})})
