"""The works in progress: deliveries of the same work share it, and one that comes again finds it finished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic

from backtalk.runtime.settle import Outcome
from backtalk.wire.kinds import AnswerT

# longer than a reconnection takes, so that a redelivery finds the finished work
KEPT_SECONDS: Final = 60.0


@dataclass(slots=True)
class Work(Generic[AnswerT]):
    """One piece of work in progress, how many deliveries wait for it, and whose were settled already."""

    done: asyncio.Future[tuple[AnswerT, Outcome]]
    waiting: int = 0
    kept: bool = False
    # where it is done, for those that join it
    trace: str | None = None
    settled: set[tuple[str | None, str | None]] = field(default_factory=set)
    settling: asyncio.Lock = field(default_factory=asyncio.Lock)


class Works(Generic[AnswerT]):
    """The works by their keys. Whoever takes a work leaves it in the end; `forgotten` is told which ones are gone."""

    def __init__(self, forgotten: Callable[[str], None] = lambda _: None) -> None:
        self._forgotten = forgotten
        self._works: dict[str, Work[AnswerT]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._works

    def join(self, key: str, *, again: bool = False) -> Work[AnswerT]:
        """Return the work of a key, a new one where there is none.

        Work that is done and only waits for its acknowledgement to arrive is for the same message `again`, not for
        another one of its kind.
        """
        work = self._works.get(key)
        if work is None or (work.done.done() and not (again or work.kept)):
            work = self._works[key] = Work(asyncio.get_running_loop().create_future())
        work.waiting += 1
        return work

    def apart(self, result: tuple[AnswerT, Outcome]) -> Work[AnswerT]:
        """Return a work that nobody else can join, and that is done."""
        work: Work[AnswerT] = Work(asyncio.get_running_loop().create_future(), waiting=1)
        work.done.set_result(result)
        return work

    def leave(self, key: str, work: Work[AnswerT], *, keep: bool) -> None:
        """Let go of a work; an answer whose acknowledgement was lost is kept a while: it will be delivered again."""
        if keep:
            work.kept = True
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, key, work)
        else:
            self._forget(key, work)

    def _forget(self, key: str, work: Work[AnswerT]) -> None:
        work.waiting -= 1
        if not work.waiting and self._works.get(key) is work:
            del self._works[key]
            self._forgotten(key)
