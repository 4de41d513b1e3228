"""Partial output on its way out: published in order beside the work, and never in its way.

Handlers import this, so it knows neither transport nor log: how to publish, and whom to tell of a loss, it is given.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from backtalk.wire.chunk import CompletionChunk

# shorter than the last words of a worker that drains: the answer comes after it
CLOSE_SECONDS: Final = 3.0
# a publish that was cancelled ends at once, unless something below it swallows the cancellation
_END_SECONDS: Final = 0.5
# far from what a body may hold, and enough to catch up with any model
_MAX_JOINED: Final = 16_384

Emit: TypeAlias = Callable[[CompletionChunk], None]
Publish: TypeAlias = Callable[[CompletionChunk], Awaitable[None]]
Warn: TypeAlias = Callable[[str], None]
Place: TypeAlias = tuple[str, int, int | None]


class NotTaken(Exception):
    """Raised by `Publish` when a chunk found no taker; the message says why."""


class Emitter:
    """The way out for one message's partial output; without a `publish` it leads nowhere.

    A chunk is published when the one before it is confirmed, and texts of a choice that wait for that go out as one;
    the order holds within a choice. The first that fails is the last, and `warn` hears of it: the answer has
    everything anyway.
    """

    def __init__(self, publish: Publish | None, warn: Warn) -> None:
        self._publish = publish
        self._warn = warn
        self._closed = False
        self._pending: dict[Place, deque[CompletionChunk]] = {}
        self._next_of: dict[str, int] = {}
        self._publishing: asyncio.Task[None] | None = None

    def __call__(self, chunk: CompletionChunk, /) -> None:
        """Have a chunk published; neither waits nor raises."""
        if self._closed or self._publish is None:
            return
        self._pending.setdefault((chunk.run, chunk.item, chunk.choice), deque()).append(chunk)
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.get_running_loop().create_task(self._publish_pending())

    async def close(self) -> None:
        """Publish what is left, within three seconds; whatever is emitted from now on is nothing."""
        self._closed = True
        task = self._publishing
        if task is None or task.done():
            return
        try:
            await asyncio.wait((task,), timeout=CLOSE_SECONDS)
            if not task.done():
                self._give_up("it took too long")
        finally:
            task.cancel()
        # an answer must not overtake what is still being published
        await asyncio.wait((task,), timeout=_END_SECONDS)

    async def _publish_pending(self) -> None:
        try:
            while self._pending and self._publish is not None:
                await self._publish(self._numbered(self._next()))
        except NotTaken as problem:
            self._give_up(str(problem))

    def _next(self) -> CompletionChunk:
        """Take what has waited longest; a choice whose text all left goes to the back when it says more."""
        place, waiting = next(iter(self._pending.items()))
        chunk = _joined(waiting)
        if not waiting:
            del self._pending[place]
        return chunk

    def _numbered(self, chunk: CompletionChunk) -> CompletionChunk:
        sequence = self._next_of.get(chunk.run, 0)
        self._next_of[chunk.run] = sequence + 1
        return chunk.model_copy(update={"sequence": sequence})

    def _give_up(self, why: str) -> None:
        if self._publish is not None:
            self._publish = None
            self._pending.clear()
            self._warn(why)


def _joined(pending: deque[CompletionChunk]) -> CompletionChunk:
    """Take the first chunk of a choice, and with it all the text that waits right behind it."""
    first = pending.popleft()
    text = _only_text(first)
    if text is None:
        return first
    texts, length = [text], len(text)
    while pending and length < _MAX_JOINED:
        text = _only_text(pending[0])
        if text is None:
            break
        pending.popleft()
        texts.append(text)
        length += len(text)
    return first if len(texts) == 1 else _saying(first, "".join(texts))


def _only_text(chunk: CompletionChunk) -> str | None:
    """Return the text of a chunk that says nothing else, None where it does."""
    match chunk.choices:
        case [{"delta": {"content": str(text), **beside}, **about}] if chunk.usage is None:
            about.pop("index", None)
            says_more = any(value is not None for value in (*beside.values(), *about.values()))
            return None if says_more else text
    return None


def _saying(chunk: CompletionChunk, text: str) -> CompletionChunk:
    (choice,) = chunk.choices
    delta = {**choice["delta"], "content": text}
    return chunk.model_copy(update={"choices": [{**choice, "delta": delta}]})
