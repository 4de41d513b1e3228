"""The view that one message has of the models: its limit, its end with the drain, what was paid and is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from backtalk.runtime.model import Adapter, Completion, Listener
from backtalk.runtime.store import NOTHING, Record
from backtalk.runtime.tracing import NO_TRACING, Tracing
from backtalk.wire.errors import BacktalkError, Code, Refused, Stopped, Unavailable


@dataclass(frozen=True, slots=True)
class Limit:
    """When a message's waiting ends, in event-loop seconds: at its sender's deadline, or with the worker's budget."""

    at: float
    budget: float
    by_deadline: bool

    def passed(self, waited: str) -> BacktalkError:
        """Return the error that says which of the two it was; `waited` says for what there was too little time."""
        if self.by_deadline:
            return Refused(
                Code.DEADLINE_EXCEEDED, "backtalk/deadline: passed before the work was done; give more time"
            )
        return Unavailable(
            Code.UPSTREAM_TIMEOUT,
            f"{waited} within the worker's budget of {self.budget:g} s; "
            "raise BACKTALK_JOB_BUDGET_SECONDS or send less at once",
        )


def limit_of(now: float, budget: float, until_deadline: float | None) -> Limit:
    """Return what ends a message first: its sender's deadline or the worker's budget, both in seconds."""
    if until_deadline is not None and until_deadline < budget:
        return Limit(now + until_deadline, budget, by_deadline=True)
    return Limit(now + budget, budget, by_deadline=False)


class View:
    """The models as one message sees them: its limit, its share of the gate, and what it has paid.

    What `record` has of an earlier try is not asked again; it counts as paid.
    """

    def __init__(self, adapter: Adapter, limit: Limit, tracing: Tracing = NO_TRACING) -> None:
        self._adapter = adapter
        self._tracing = tracing
        self._limit = limit
        self._waits: set[asyncio.Timeout] = set()
        self.record: Record = NOTHING
        self.paid = 0
        self._ended_by: Callable[[], BacktalkError] | None = None
        self.unavailable: Unavailable | None = None

    def check(self, endpoint: str) -> None:
        self._adapter.check(endpoint)

    async def complete(
        self, endpoint: str, body: Mapping[str, Any], listener: Listener | None = None, *, place: str
    ) -> Completion:
        entry = self.record.entry(endpoint, body, place)
        if recalled := self.record.recall(entry):
            self.paid += 1
            return recalled
        with self._tracing.calling(endpoint, body, place, streams=listener is not None) as told:
            async with self.waiting("the endpoint did not answer"):
                completion = await self._adapter.complete(endpoint, body, self, listener)
            told(completion.body)
        self.paid += 1
        # not under the limit: what was paid a moment before it is remembered as well
        await self.record.remember(entry, completion)
        return completion

    @property
    def undisturbed(self) -> bool:
        """Whether nothing failed for now: what a stop or an endpoint left out on the way may come the next time."""
        return self._ended_by is None and self.unavailable is None

    @property
    def stopped(self) -> bool:
        """Whether the drain ended it."""
        return self._ended_by is stopped

    @property
    def cancelled(self) -> bool:
        """Whether its sender ended it."""
        return self._ended_by is not None and not self.stopped

    @property
    def idle(self) -> bool:
        """Whether no endpoint takes calls for now."""
        return self._adapter.closed

    def until_deadline(self) -> float | None:
        """Return the seconds to the sender's deadline, None where it set none that matters."""
        if not self._limit.by_deadline:
            return None
        return self._limit.at - asyncio.get_running_loop().time()

    def end(self, error: Callable[[], BacktalkError]) -> None:
        """Make whatever this message waits for, now and later, raise that error."""
        self._ended_by = self._ended_by or error
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(now)

    def over(self, waited: str) -> BacktalkError | None:
        """Return what a wait would end with now, None where it would not."""
        if self._ended_by is None and asyncio.get_running_loop().time() < self._limit.at:
            return None
        return self._noted(self._ended(waited))

    @asynccontextmanager
    async def waiting(self, waited: str) -> AsyncIterator[None]:
        """Let what is inside end at the message's limit and with the drain; `waited` becomes part of the error."""
        if self._ended_by is not None:
            raise self._ended_by()
        wait = asyncio.timeout_at(self._limit.at)
        try:
            async with wait:
                self._waits.add(wait)
                yield
        except TimeoutError:
            raise self._noted(self._ended(waited)) from None
        except Unavailable as error:
            self._noted(error)
            raise
        finally:
            self._waits.discard(wait)

    def _ended(self, waited: str) -> BacktalkError:
        return self._ended_by() if self._ended_by else self._limit.passed(waited)

    def _noted(self, error: BacktalkError) -> BacktalkError:
        """Keep what may earn the message a later try."""
        if isinstance(error, Unavailable):
            self.unavailable = error
        return error


def stopped() -> Stopped:
    """Return what ends a message whose worker has no time left for it."""
    return Stopped(Code.CANCELLED, "the worker was stopped before this was done; send it again")
