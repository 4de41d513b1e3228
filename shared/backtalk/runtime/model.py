"""The port to language models, and the view of it that one message has."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from backtalk.wire.errors import BacktalkError, Code, Refused, Stopped, Unavailable


@dataclass(frozen=True, slots=True)
class Completion:
    """A complete, paid answer of an endpoint: the ChatCompletion as it came, with at least one choice."""

    body: dict[str, Any]

    @property
    def choices(self) -> list[dict[str, Any]]:
        return self.body["choices"]  # type: ignore[no-any-return]

    @property
    def usage(self) -> dict[str, Any]:
        return self.body.get("usage") or {}


class Listener(Protocol):
    """Hears a completion while it is written."""

    def begin(self) -> None:
        """A try starts; what was heard before does not count any more."""

    def hear(self, chunk: dict[str, Any], /) -> None:
        """One chunk, as the endpoint sent it."""


class Model(Protocol):
    """What a handler may ask of language models. Raises Refused, Unavailable or Stopped."""

    def check(self, endpoint: str) -> None:
        """Raise Refused unless the endpoint is configured."""

    async def complete(
        self, endpoint: str, body: Mapping[str, Any], listener: Listener | None = None, *, place: str
    ) -> Completion:
        """Send a chat-completions body and return the completion, the same whether somebody listens or not.

        `place` tells what the call is for; no two calls of one message have the same.
        """


class Adapter(Protocol):
    """What stands behind the views: an endpoint with its gate and its retries."""

    def check(self, endpoint: str) -> None: ...

    async def complete(
        self, endpoint: str, body: Mapping[str, Any], owner: Hashable, listener: Listener | None = None
    ) -> Completion: ...


@dataclass(frozen=True, slots=True)
class Limit:
    """When a message's calls end, in event-loop seconds: at its sender's deadline, or with the worker's budget."""

    at: float
    budget: float
    by_deadline: bool

    def passed(self) -> BacktalkError:
        """Return the error that says which of the two it was."""
        if self.by_deadline:
            return Refused(
                Code.DEADLINE_EXCEEDED, "backtalk/deadline: passed before the work was done; give more time"
            )
        return Unavailable(
            Code.UPSTREAM_TIMEOUT,
            f"the endpoint did not answer within the worker's budget of {self.budget:g} s; "
            "raise BACKTALK_JOB_BUDGET_SECONDS or send less at once",
        )


def limit_of(now: float, budget: float, until_deadline: float | None) -> Limit:
    """Return what ends a message first: its sender's deadline or the worker's budget, both in seconds."""
    if until_deadline is not None and until_deadline < budget:
        return Limit(now + until_deadline, budget, by_deadline=True)
    return Limit(now + budget, budget, by_deadline=False)


class View:
    """The models as one message sees them: its limit, its share of the gate, and what it has paid."""

    def __init__(self, adapter: Adapter, limit: Limit) -> None:
        self._adapter = adapter
        self._limit = limit
        self._calls: set[asyncio.Timeout] = set()
        self.paid = 0
        self.stopped = False
        self.unavailable: Unavailable | None = None

    def check(self, endpoint: str) -> None:
        self._adapter.check(endpoint)

    async def complete(
        self,
        endpoint: str,
        body: Mapping[str, Any],
        listener: Listener | None = None,
        *,
        place: str,  # noqa: ARG002  tells equal calls apart; nothing remembers calls yet
    ) -> Completion:
        try:
            completion = await self._within_limit(endpoint, body, listener)
        except Unavailable as error:
            self.unavailable = error
            raise
        self.paid += 1
        return completion

    def until_deadline(self) -> float | None:
        """Return the seconds to the sender's deadline, None where it set none that matters."""
        if not self._limit.by_deadline:
            return None
        return self._limit.at - asyncio.get_running_loop().time()

    def stop(self) -> None:
        """Make every call of this message, now and later, raise Stopped."""
        self.stopped = True
        now = asyncio.get_running_loop().time()
        for call in self._calls:
            if not call.expired():
                call.reschedule(now)

    async def _within_limit(
        self, endpoint: str, body: Mapping[str, Any], listener: Listener | None
    ) -> Completion:
        if self.stopped:
            raise _stopped()
        call = asyncio.timeout_at(self._limit.at)
        try:
            async with call:
                self._calls.add(call)
                return await self._adapter.complete(endpoint, body, self, listener)
        except TimeoutError:
            raise self._ended() from None
        finally:
            self._calls.discard(call)

    def _ended(self) -> BacktalkError:
        return _stopped() if self.stopped else self._limit.passed()


def _stopped() -> Stopped:
    return Stopped(Code.CANCELLED, "the worker was stopped before this was done; send it again")


def total(usages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of usage objects, nested details included; what is no number is left out."""
    summed: dict[str, Any] = {}
    for usage in usages:
        for key, value in usage.items():
            known = summed.get(key)
            if isinstance(value, dict):
                summed[key] = total((known, value) if isinstance(known, dict) else (value,))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                summed[key] = value + known if isinstance(known, int | float) else value
    return summed
