"""The calls in flight on one client: what arrives is given to the call it is for, and acknowledged in any case."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from backtalk.client.inbox import AnyAnswer, read
from backtalk.client.runs import Runs
from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.chunk import CHUNK_TYPE, CompletionChunk
from backtalk.wire.codec import decode, unpack
from backtalk.wire.errors import Refused

Heard: TypeAlias = Callable[[AnyAnswer, Envelope], None]
_log = logging.getLogger(__name__)


class Call:
    """One request in flight; its chunks are kept only for a call that streams them."""

    def __init__(self, heard: Heard, *, streams: bool) -> None:
        self._heard = heard
        # new each time, so that two calls with one id do not take each other's answer
        self.correlation_id = uuid.uuid4().hex
        self._streams = streams
        self._runs = Runs()
        self._answer: asyncio.Future[Envelope] = asyncio.get_running_loop().create_future()
        self._chunks: asyncio.Queue[Envelope | None] = asyncio.Queue()
        self._answer.add_done_callback(lambda _: self._chunks.put_nowait(None))

    def take(self, envelope: Envelope) -> None:
        """Keep what has arrived; the second answer is a repeat."""
        if envelope.type == CHUNK_TYPE:
            if self._streams:
                self._chunks.put_nowait(envelope)
        elif not self._answer.done():
            self._answer.set_result(envelope)

    def cancel(self) -> None:
        """End the wait for chunk or answer by a cancellation."""
        self._answer.cancel()

    async def answer(self) -> AnyAnswer:
        """Wait for the answer; raises Refused where what came is none."""
        envelope = await self._answer
        answer = read(envelope)
        self._heard(answer, envelope)
        return answer

    async def chunk(self) -> CompletionChunk | None:
        """Wait for the next chunk that counts; None says that there are no more."""
        while envelope := await self._chunks.get():
            chunk = _chunk_in(envelope)
            if chunk is not None and self._runs.counts(chunk):
                return chunk
        return None


class Calls:
    """The calls in flight by their correlation ids. An answer that nobody waits for is a repeat, or came too late.

    `heard` is told of each answer.
    """

    def __init__(self, heard: Heard = lambda _, __: None) -> None:
        self._heard = heard
        self._calls: dict[str, Call] = {}
        self._acks: set[asyncio.Task[bool]] = set()

    @contextmanager
    def begun(self, *, streams: bool = False) -> Iterator[Call]:
        """Begin a call, and let go of it in the end, answered or not."""
        call = Call(self._heard, streams=streams)
        self._calls[call.correlation_id] = call
        try:
            yield call
        finally:
            del self._calls[call.correlation_id]

    def receive(self, delivery: Delivery) -> None:
        """Give a message to its call."""
        if call := self._calls.get(delivery.envelope.correlation_id or ""):
            call.take(delivery.envelope)
        ack = asyncio.ensure_future(delivery.ack())
        self._acks.add(ack)
        ack.add_done_callback(self._acks.discard)

    def cancel(self) -> None:
        """Cancel every wait."""
        for call in self._calls.values():
            call.cancel()


def _chunk_in(envelope: Envelope) -> CompletionChunk | None:
    try:
        return decode(unpack(envelope.body, envelope.content_encoding), CompletionChunk)
    except Refused as refused:
        # the answer will have what it said
        _log.warning("dropped message %s, which is no chunk: %s", envelope.message_id, refused)
        return None
