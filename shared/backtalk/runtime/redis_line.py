"""The line to Redis: the one module that imports redis. It knows commands and their failures, and nothing of work.

All that is asked at the same time travels together, on one connection: a third of the CPU of a pipeline for each. What
may be long is read on others.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import Future, Task
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from backtalk.runtime.telemetry import log

Command: TypeAlias = tuple[str | bytes | int, ...]
_Question: TypeAlias = tuple[tuple[Command, ...], Future[list[Any]]]

ANSWER_SECONDS: Final = 0.1
# what is sent takes time as well; so much at once, and no slower than this
BYTES_AT_ONCE: Final = 4 * 1024 * 1024
BYTES_PER_SECOND: Final = 20_000_000
CONNECT_SECONDS: Final = 2.0
RETURN_SECONDS: Final = 0.5
READ_SECONDS: Final = 5.0
READS_AT_ONCE: Final = 8
QUIET_SECONDS: Final = 10.0
_MOST_TOLD: Final = 200
# a server that is none of Redis's confuses the parser
_TROUBLE: Final = (RedisError, OSError, ValueError, EOFError)


class Away(Exception):
    """Raised when Redis did not do what it was asked; it is logged and counted already."""


class Line:
    """Asks Redis and waits a moment. A Redis that is away is not asked again before `connect` has found it."""

    def __init__(self, url: str) -> None:
        self._redis = _redis(url)
        # of its own, or a pipeline would have to connect while something long is read
        self._reader = _redis(url)
        self._finding = asyncio.Lock()
        self._searches = 0
        self._due: list[_Question] = []
        self._under_way: list[_Question] = []
        self._travelling: Task[None] | None = None
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._quiet_until = 0.0
        self._told = False
        self.up = False
        self.failures = 0

    async def back(self) -> bool:
        """Look once for a Redis that did not answer, all who wait for it together, and tell whether it is there."""
        seen = self._searches
        async with self._finding:
            if not self.up and self._searches == seen:
                await self.connect(RETURN_SECONDS)
        return self.up

    async def connect(self, seconds: float = CONNECT_SECONDS) -> None:
        """Find Redis, with more time than a question has: names are resolved, and keys exchanged."""
        self._searches += 1
        try:
            async with asyncio.timeout(seconds):
                await self._redis.connection_pool.disconnect(inuse_connections=False)
                await self._redis.execute_command("PING")  # type: ignore[no-untyped-call]
        except _TROUBLE as error:
            self._complain(error)
        else:
            self.up = True
            if self._told:
                self._told = False
                log.info("result store is back", failures=self.failures)

    async def close(self) -> None:
        self.up = False
        if self._travelling is not None:
            self._travelling.cancel()
        await self._redis.aclose()
        await self._reader.aclose()

    async def ask(self, *commands: Command) -> list[Any]:
        """Return the replies to commands that are sent in this order, in one round trip. Raises Away."""
        if not self.up:
            raise self._away()
        replies: Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._due.append((commands, replies))
        if self._travelling is None:
            # what it logs is not about the message that happens to be the first
            self._travelling = asyncio.get_running_loop().create_task(self._travel(), context=Context())
        return await replies

    async def read(self, *command: str) -> Any:
        """Return the reply to one command that may be long. Raises Away."""
        async with self._reads:
            if not self.up:
                raise self._away()
            try:
                async with asyncio.timeout(READ_SECONDS):
                    return await self._reader.execute_command(*command)  # type: ignore[no-untyped-call]
            except _TROUBLE as error:
                # those behind it need not find out for themselves
                self.up = False
                self._complain(error)
                raise self._away() from error

    async def _travel(self) -> None:
        try:
            while self._due:
                count, size = _fitting(self._due)
                self._under_way, self._due = self._due[:count], self._due[count:]
                sent = [command for commands, _ in self._under_way for command in commands]
                answered = iter(await self._sent(sent, ANSWER_SECONDS + size / BYTES_PER_SECOND))
                for commands, replies in self._under_way:
                    self._settle(replies, [next(answered) for _ in commands])
        except _TROUBLE as error:
            self.up = False
            self._complain(error)
        finally:
            self._travelling = None
            self._give_up()

    async def _sent(self, commands: list[Command], seconds: float) -> list[Any]:
        pipeline: Pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await _in_time(pipeline.execute(raise_on_error=False), seconds)

    def _settle(self, replies: Future[list[Any]], answered: list[Any]) -> None:
        if replies.done():
            return
        error = next((one for one in answered if isinstance(one, Exception)), None)
        if error is None:
            replies.set_result(answered)
            return
        self._complain(error)
        replies.set_exception(self._away())

    def _give_up(self) -> None:
        """Let whoever still waits for a reply, or is in line, hear that there is none."""
        waiting = [*self._under_way, *self._due]
        self._under_way, self._due = [], []
        for _, replies in waiting:
            if not replies.done():
                replies.set_exception(self._away())

    def _away(self) -> Away:
        self.failures += 1
        return Away()

    def _complain(self, error: Exception) -> None:
        """Log a failure, and then no other for a while."""
        if time.monotonic() < self._quiet_until:
            return
        self._quiet_until = time.monotonic() + QUIET_SECONDS
        self._told = True
        log.warning(
            "result store failed",
            reason=_reason(error),
            failures=self.failures,
            remedy="check BACKTALK_RESULT_STORE and its Redis; until then calls may be paid twice",
        )


def _redis(url: str) -> Redis:
    # retried by whoever sends the message again; the time limits are ours
    return Redis.from_url(
        url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=None, socket_connect_timeout=None
    )


def _fitting(due: list[_Question]) -> tuple[int, int]:
    """Return how many questions travel at once, at least one, and how many bytes they are."""
    size = 0
    for count, (commands, _) in enumerate(due):
        more = sum(len(part) for command in commands for part in command if isinstance(part, str | bytes))
        if count and size + more > BYTES_AT_ONCE:
            return count, size
        size += more
    return len(due), size


async def _in_time(work: Coroutine[Any, Any, list[Any]], seconds: float) -> list[Any]:
    """Return what comes within the limit. Raises TimeoutError."""
    task = asyncio.ensure_future(work)
    try:
        # in two halves: where the event loop itself was late, the answer is there before the second ends
        for _ in range(2):
            await asyncio.wait((task,), timeout=seconds / 2)
            if task.done():
                return task.result()
    finally:
        task.cancel()
    raise TimeoutError(f"no answer within {seconds:.3g} s")


def _reason(error: Exception) -> str:
    """Return what went wrong; without the words of a server, which may repeat what it was sent."""
    name = type(error).__name__
    quiet = isinstance(error, ResponseError | InvalidResponse) or not str(error)
    return name if quiet else f"{name}: {error}"[:_MOST_TOLD]
